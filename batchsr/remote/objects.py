"""What a store says of its objects: one by its key, or all below a prefix, as a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from batchsr.remote import amazon, answers, stores
from batchsr.remote.address import Address

_PAGE: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What makes an object this very one."""

    size_bytes: int
    modified_ns: int
    """To the second: a listing and a look at one object say no more in common."""
    e_tag: str | None

    def identity(self, url: str) -> str:
        """Return what makes the source this very object, as the queue keeps it."""
        return f"{url}\0{self.size_bytes}\0{self.e_tag or self.modified_ns}"


def mark_of(identity: str) -> str:
    """Return the e-tag (or the time of the last change) in what `Facts.identity` gave."""
    return identity.rpartition("\0")[2]


def look(address: Address) -> Facts | None:
    """Return what the store says of one object; None where there is none. Raises StoreAway, StoreDenied.

    Where all of its bucket is gone, that is StoreAway.
    """
    import obstore

    store = stores.opened(address)
    try:
        with answers.asking(address):
            return facts_of(obstore.head(store, address.asked))
    except FileNotFoundError:
        if address.can_list:
            has_any(address.at(""))
        return None


def has_any(folder: Address) -> bool:
    """Return whether there is anything below a prefix. Raises StoreAway also where the bucket is gone."""
    return next(below(folder), None) is not None


def below(folder: Address, *, flat: bool = False) -> Iterator[tuple[str, Facts]]:
    """Yield the keys below a prefix (which ends with a slash, or is empty) and what is said of each, in order.

    `flat` leaves out what is behind a further slash. Memory does not grow with their number. Raises StoreAway,
    StoreDenied.
    """
    if folder.scheme == "s3":
        stores.check_installed(folder)
        for one in amazon.listed(folder, folder.key, flat=flat):
            yield one["Key"], Facts(one["Size"], _seconds_ns(one["LastModified"]), one.get("ETag"))
        return
    import obstore

    store = stores.opened(folder)
    try:
        with answers.asking(folder):
            if flat:
                for meta in obstore.list_with_delimiter(store, folder.key or None)["objects"]:
                    yield meta["path"], facts_of(meta)
                return
            for page in obstore.list(store, folder.key or None, chunk_size=_PAGE):
                for meta in page:
                    yield meta["path"], facts_of(meta)
    except FileNotFoundError as e:
        raise answers.away(folder, answers.NO_BUCKET, remedy=answers.CHECK_NAME) from e


def facts_of(meta: Mapping[str, Any]) -> Facts:
    """Return what a client library says of an object."""
    return Facts(meta["size"], _seconds_ns(meta["last_modified"]), meta["e_tag"])


def _seconds_ns(when: datetime) -> int:
    return int(when.timestamp()) * 10**9
