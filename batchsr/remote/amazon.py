"""S3 by its own library: profiles, listings with every key as it is, and the checksums that the store keeps.

The client of the other stores (obstore) takes a whole listing for broken in which one key holds `..` or two slashes in
a row, and it knows no profiles and no checksums; what is read and written goes through it all the same.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from batchsr.errors import StoreAway
from batchsr.remote import answers
from batchsr.remote.address import Address

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CONNECT_S: Final = 10.0
_READ_S: Final = 60.0
_DENIED: Final = (400, 401, 403)
_FRESH_FOR: Final = datetime.timedelta(minutes=5)


def forget() -> None:
    """Ask for settings and credentials anew from now on."""
    _client.cache_clear()


def configuration() -> dict[str, str]:
    """Return region and endpoint where environment or profile name them."""
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if needs_profile():
        session = _session()
        region = region or session.get_config_variable("region")
        endpoint = endpoint or session.get_scoped_config().get("endpoint_url")
    found = {"region": region or "us-east-1", "endpoint": endpoint}
    return {name: value for name, value in found.items() if value}


def needs_profile() -> bool:
    """Return whether credentials for S3 stand in a profile: none in the environment, and a file of them is there."""
    environ = os.environ
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return False
    if environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE"):
        return True
    places = (
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
    )
    return any(os.path.isfile(os.path.expanduser(place)) for place in places)


def provider() -> Callable[[], Any] | None:
    """Return what asks a profile for credentials, again and again as they run out; None where none is used."""
    if not needs_profile():
        return None
    credentials = _session().get_credentials()
    if credentials is None:
        return None

    def ask() -> dict[str, Any]:
        now = credentials.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.datetime.now(datetime.UTC) + _FRESH_FOR,
        }

    return ask


def listed(address: Address, prefix: str, *, flat: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what S3 says of the objects below a prefix, a page at a time, in the order of their keys.

    `flat` leaves out what is behind a further slash. Raises StoreAway, StoreDenied.
    """
    wanted = {"Bucket": address.bucket, "Prefix": prefix} | ({"Delimiter": "/"} if flat else {})
    with asking(address):
        pages = _client().get_paginator("list_objects_v2")
        for page in pages.paginate(**wanted):
            yield from page.get("Contents", ())


def checked(address: Address) -> Callable[[Any], tuple[str, str]] | None:
    """Return what compares an open file with the store's own checksum, and gives what it has and should have.

    None where the store keeps none of the whole object that can be computed here: an object that was sent in parts, or
    that is kept encrypted with a key of its own.
    """
    try:
        with asking(address):
            said = _client().head_object(Bucket=address.bucket, Key=address.key, ChecksumMode="ENABLED")
    except (StoreAway, FileNotFoundError):
        return None
    whole = said.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    for name in ("sha256", "sha1", "crc32") if whole else ():
        kept = said.get(f"Checksum{name.upper()}")
        if kept and "-" not in kept:
            return _comparing(name, base64.b64decode(kept).hex())
    tag = said.get("ETag", "").strip('"')
    if said.get("ServerSideEncryption", "AES256") == "AES256" and not said.get("SSECustomerAlgorithm"):
        return _comparing("md5", tag) if re.fullmatch("[0-9a-f]{32}", tag) else None
    return None


def _comparing(name: str, wanted: str) -> Callable[[Any], tuple[str, str]]:
    def compare(file: Any) -> tuple[str, str]:
        if name != "crc32":
            return hashlib.file_digest(file, name).hexdigest(), wanted
        value = 0
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
        return f"{value:08x}", wanted

    return compare


def _session() -> Any:
    import botocore.session

    return botocore.session.get_session()


@functools.cache
def _client() -> Any:
    """Return a client, which threads share; to make one takes most of a second."""
    from botocore import UNSIGNED
    from botocore.config import Config

    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    found = configuration()
    return _session().create_client(
        "s3",
        region_name=found["region"],
        endpoint_url=found.get("endpoint"),
        config=Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "max_attempts": 4},
            s3={"addressing_style": "path"},
            **({"signature_version": UNSIGNED} if unsigned else {}),
        ),
    )


class asking:  # noqa: N801 - used as a function, like answers.asking
    """Turns this library's errors into ours."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from botocore import exceptions

        where = self._address
        if isinstance(error, exceptions.ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchBucket" or (status == 404 and error.operation_name == "ListObjectsV2"):
                raise answers.away(
                    where, "there is no such bucket", remedy="check its name and AWS_ENDPOINT_URL"
                ) from error
            if status == 404:
                raise FileNotFoundError(where.url) from error
            if status == 301 or code == "AuthorizationHeaderMalformed":
                raise answers.denied(where, "it lies in another region", remedy="set AWS_REGION to its own") from error
            if status in _DENIED:
                raise answers.denied(where, answers.said(error)) from error
            raise answers.away(where, answers.said(error)) from error
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            raise answers.denied(where, "no credentials were found") from error
        settings = (exceptions.ProfileNotFound, exceptions.ConfigParseError, exceptions.InvalidRegionError)
        if isinstance(error, (*settings, exceptions.CredentialRetrievalError)):
            raise answers.denied(where, answers.said(error)) from error
        if isinstance(error, ValueError):  # an endpoint that is no URL
            raise answers.denied(where, answers.said(error), remedy="set AWS_ENDPOINT_URL to a URL") from error
        if isinstance(error, exceptions.BotoCoreError):
            raise answers.away(where, answers.said(error)) from error
