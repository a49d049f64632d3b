"""Opening a store: what that needs, and how long it is waited for."""

from __future__ import annotations

import functools
import importlib.util
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from batchsr.display import shown
from batchsr.errors import ExtraMissing
from batchsr.remote import amazon
from batchsr.remote.address import Address

if TYPE_CHECKING:
    from obstore.store import ObjectStore

TIMEOUT_S: Final = 60.0
"""For one request that reads: some megabytes at the most, so that a store that has stopped to answer is noticed."""
_WRITING_S: Final = 500.0
"""For one that writes up to 64 MB."""
CONNECT_S: Final = 10.0
_RETRIES: Final = 3
_RETRY_S: Final = 30.0
_NEEDS: Final = {"s3": ("obstore", "boto3")}


def check_installed(address: Address) -> None:
    """Raise ExtraMissing where this URL needs what is not installed. Loads nothing."""
    needed = _NEEDS.get(address.scheme, ("obstore",))
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ExtraMissing(
            f"{shown(address.place)} needs what is not installed here: {' and '.join(missing)}",
            remedy="pip install 'batchsr[remote]'",
        )


def opened(address: Address, *, writes: bool = False) -> ObjectStore:
    """Return the store that holds an object, the same for one bucket. Raises ExtraMissing."""
    check_installed(address)
    return _opened(address.scheme, address.bucket, _WRITING_S if writes else TIMEOUT_S)


def forget() -> None:
    """Open every store anew from now on, with the settings of that moment."""
    _opened.cache_clear()
    amazon.forget()


@functools.cache
def _opened(scheme: str, bucket: str, timeout_s: float) -> ObjectStore:
    from obstore import store

    options: Any = {"timeout": timedelta(seconds=timeout_s), "connect_timeout": timedelta(seconds=CONNECT_S)}
    backoff: Any = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5)}
    retry: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S), "backoff": backoff}
    if scheme == "s3":
        with amazon.asking(Address(scheme, bucket, "")):
            found, provider = amazon.configuration(), amazon.provider()
        endpoint = found.get("endpoint", "")
        options |= {"allow_http": True} if endpoint.startswith("http://") else {}
        return store.S3Store(
            bucket,
            client_options=options,
            retry_config=retry,
            credential_provider=provider,
            copy_if_not_exists="multipart",
            **found,  # type: ignore[arg-type]
        )
    if scheme == "gs":
        return store.GCSStore(bucket, client_options=options, retry_config=retry)
    if scheme == "az":
        return store.AzureStore(bucket, client_options=options, retry_config=retry)
    options |= {"allow_http": True} if scheme == "http" else {}
    return store.HTTPStore.from_url(f"{scheme}://{bucket}", client_options=options, retry_config=retry)
