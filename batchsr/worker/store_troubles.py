"""What the matter is with a store that a job needs. It is asked, since an error alone may be about one object."""

from __future__ import annotations

import contextlib

from batchsr.errors import BatchsrError, ExtraMissing, StoreAway, StoreDenied
from batchsr.queue import Job, Side, Trouble
from batchsr.remote import objects, publish
from batchsr.remote.address import Address, is_url


def trouble_of(job: Job, error: BatchsrError | None = None) -> Trouble | None:
    """Return what the matter is with the store of a job's source; where `error` came from writing, of its output.

    The store is asked anew: what it says of one object alone is no trouble of the place.
    """
    writes = not is_url(job.source) or getattr(error, "writes", False)
    address = Address.parse(job.output if writes else job.source)
    side: Side = "output" if writes else "source"
    try:
        if writes:
            publish.want_condition(address, again=True)
        else:
            _ask(address, error)
    except ExtraMissing as e:
        return Trouble(address.place, side, "gone", e.message, e.remedy, False)
    except StoreAway as e:
        return Trouble(
            address.place, side, "denied" if isinstance(e, StoreDenied) else "gone", e.message, e.remedy, False
        )
    except BatchsrError:
        pass  # the job's own to tell
    return None


def _ask(address: Address, error: BatchsrError | None) -> None:
    """Ask a store for what tells whether it works. Raises StoreAway, StoreDenied, ExtraMissing."""
    if isinstance(error, StoreDenied) and address.can_list:
        with contextlib.suppress(StoreDenied):  # who may read all objects need not be allowed to list them
            objects.has_any(address.at(""))
            return
    objects.look(address)
