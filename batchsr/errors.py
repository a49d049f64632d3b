"""Every error that batchsr raises on purpose, in one tree.

    BatchsrError                 code, failure, exit_code, remedy
    ├── UsageError               the command line is wrong
    │   └── ConfigError          a profile, a manifest or an option's value is wrong
    │       └── ExtraMissing     an option needs a package that is not installed
    ├── ModelError               no usable model
    │   ├── ModelUnavailable     neither the cache nor the hub has it
    │   ├── BundleError          a bundle's config or weights break the format
    │   ├── SelfTestFailed       this device computes a known window wrongly
    │   ├── NonFiniteOutput      the model made NaN or Inf out of a finite window
    │   └── ModelMemory          the device has too little memory for a pass
    │       └── BatchShrunk      so the passes became smaller, and the files in flight begin anew
    ├── StageFailed              a stage before the model gave nothing, or nothing that can be used
    │   └── StageUnavailable     what it computes with cannot be had, or used, on this machine just now
    ├── InputError               this source can never be restored as it is
    │   ├── InputMissing         it is not there (any more)
    │   ├── InputNotRegular      a folder, FIFO, socket or device
    │   ├── InputUnreadable      permission denied, or an I/O error of the source
    │   ├── InputFormat          not audio, or a format that cannot be decoded
    │   ├── InputTruncated       shorter than its header says, or cut in the middle
    │   ├── InputEmpty           no frame of audio in it
    │   ├── InputNotFinite       NaN, Inf, or samples too large to compute with
    │   ├── InputLevels          whole numbers written as floats: full scale is not 1
    │   ├── InputLimits          sample rate or channel count outside sane limits
    │   └── InputChanged         not the file that was enqueued (any more)
    ├── OutputError              this output can never be written as asked
    │   ├── OutputExists         something stands under its name and overwriting was not asked for
    │   │   └── SidecarForeign   what stands under the sidecar's name is no record of ours
    │   ├── OutputIsSource       in and out are the same file
    │   ├── OutputPathError      no file can stand under its name: too long, a folder, below a file
    │   ├── OutputTooLarge       larger than a file, or all of the disk, may be
    │   └── PackageError         a batch cannot be packed as it is
    ├── ResourceError            the machine cannot go on: disk full, read-only, I/O error
    ├── TransientError           may well work the next time
    │   ├── StoreAway            an object store, or a web server, cannot be reached or is overloaded
    │   │   └── StoreDenied      it refuses these credentials, or there are none
    │   └── StoreDamaged         what came from it is not what it says it holds
    └── QueueError               the database
        ├── QueueVersion         made by a newer program
        ├── QueueDamaged         it cannot be read, or only in part
        ├── QueueReplaced        removed, or another file put in its place, while it was open
        ├── QueueBusy            paused, or another process holds it too long
        │   └── QueueAway        the server that keeps it cannot be reached just now
        └── ClaimLost            this worker no longer owns the job: stop at once

`code` is stable: it is kept in the queue, and scripts may match on it. `failure` decides what the
worker does with the job (batchsr.worker.worker): `input` fails at once, `transient` waits and tries again,
`resource` pauses the queue and gives the attempt back; of StageUnavailable the job alone waits. `exit_code` is what
the process ends with when the error reaches the command line.

Longer than other modules: one tree is read in one place.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Failure = Literal["input", "transient", "resource", "crash", "interrupt"]
"""Failure classes of an attempt; `crash` and `interrupt` have no exception of their own."""

EXIT_OK = 0
EXIT_DECLINED = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_NO_MODEL = 69
EXIT_IO = 74
EXIT_BUSY = 75
EXIT_SIGHUP = 129
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class BatchsrError(Exception):
    """Base of the tree. `message` names the file or the key at fault; `remedy` says what to do about it."""

    code: ClassVar[str] = "error"
    failure: ClassVar[Failure] = "transient"
    exit_code: ClassVar[int] = EXIT_IO

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(BatchsrError):
    """The command line asks for something that makes no sense."""

    code = "usage"
    failure: ClassVar[Failure] = "input"
    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """A profile, a manifest or an option has an unknown key, a wrong type or a value out of range."""

    code = "config"


class ExtraMissing(ConfigError):
    """An option needs a package that is not installed; the remedy is the line that installs it."""

    code = "config.extra"


class StageFailed(BatchsrError):
    """A stage before the model gave nothing, or nothing that can be used."""

    code = "stage.failed"
    failure: ClassVar[Failure] = "input"


class StageUnavailable(StageFailed):
    """What a stage computes with cannot be had or used just now: the machine's trouble, so no job fails of it."""

    code = "stage.unavailable"
    failure: ClassVar[Failure] = "resource"


class ModelError(BatchsrError):
    """No usable model."""

    code = "model"
    failure: ClassVar[Failure] = "resource"
    exit_code = EXIT_NO_MODEL


class ModelUnavailable(ModelError):
    """The variant is neither in the cache nor to be had from the hub."""

    code = "model.unavailable"


class BundleError(ModelError):
    """A bundle's config.json or model.safetensors breaks the format; the message names the key or tensor."""

    code = "model.bundle"


class SelfTestFailed(ModelError):
    """The device, in the precision that was asked for, computes a known window wrongly; nothing is restored with it."""

    code = "model.self_test"


class NonFiniteOutput(ModelError):
    """The model gave NaN or Inf for a finite window: the weights or the precision are at fault, not the file."""

    code = "model.non_finite"
    failure: ClassVar[Failure] = "input"


class ModelMemory(ModelError):
    """The device has not enough memory for one pass through the networks."""

    code = "model.memory"
    failure: ClassVar[Failure] = "transient"


class BatchShrunk(ModelMemory):
    """Passes became smaller for want of memory; a file's windows are all of one size of pass, so it begins anew."""

    code = "model.batch_shrunk"


class InputError(BatchsrError):
    """The source can never be restored as it is."""

    code = "input"
    failure: ClassVar[Failure] = "input"


class InputMissing(InputError):
    """The source is not there."""

    code = "input.missing"


class InputNotRegular(InputError):
    """The source is a folder, FIFO, socket or device."""

    code = "input.not_regular"


class InputUnreadable(InputError):
    """The source may not be read."""

    code = "input.unreadable"


class InputFormat(InputError):
    """The source is not audio, or in a format that libsndfile does not decode."""

    code = "input.format"


class InputTruncated(InputError):
    """The source ends before its header says it does."""

    code = "input.truncated"


class InputEmpty(InputError):
    """The source holds no frame of audio."""

    code = "input.empty"


class InputNotFinite(InputError):
    """The source holds NaN, Inf, or samples too large to compute with."""

    code = "input.not_finite"


class InputLevels(InputError):
    """The source's samples are whole numbers written as floats, and nearly all of them would be clamped."""

    code = "input.levels"


class InputLimits(InputError):
    """The source's sample rate or channel count is outside sane limits."""

    code = "input.limits"


class InputChanged(InputError):
    """The source is no longer the file that was enqueued."""

    code = "input.changed"


class OutputError(BatchsrError):
    """The output can never be written as asked."""

    code = "output"
    failure: ClassVar[Failure] = "input"


class OutputExists(OutputError):
    """Something stands under the output's name, and overwriting was not asked for."""

    code = "output.exists"


class OutputIsSource(OutputError):
    """The output would overwrite the source."""

    code = "output.is_source"


class SidecarForeign(OutputExists):
    """What stands under the sidecar's name is not ours, or is no record that can be believed."""

    code = "output.sidecar"


class OutputPathError(OutputError):
    """No file can stand under the output's name: it is too long, a folder has it, a file is where a folder belongs."""

    code = "output.path"


class OutputTooLarge(OutputError):
    """The output, or what it takes to make it, is larger than a file or the whole disk may be."""

    code = "output.too_large"


class PackageError(OutputError):
    """A batch cannot be packed: a file of it is missing or changed, or has a name that the package cannot hold."""

    code = "output.package"


class ResourceError(BatchsrError):
    """The machine cannot go on: disk full, read-only file system, I/O error on our side."""

    code = "resource"
    failure: ClassVar[Failure] = "resource"


class TransientError(BatchsrError):
    """It may well work the next time."""

    code = "transient"


class StoreAway(TransientError):
    """An object store, or a web server, cannot be reached, is overloaded, or has no such bucket."""

    code = "store.away"
    writes: bool = False
    """Whether something was to be written to it."""


class StoreDenied(StoreAway):
    """A store refuses these credentials, or none were found."""

    code = "store.denied"


class StoreDamaged(TransientError):
    """What came from a store is not what it says it holds: another length, another checksum."""

    code = "store.damaged"


class QueueError(BatchsrError):
    """The queue's database cannot be used."""

    code = "queue"
    failure: ClassVar[Failure] = "resource"


class QueueVersion(QueueError):
    """The database was made by a newer program."""

    code = "queue.version"


class QueueDamaged(QueueError):
    """The database is empty, cut, overwritten in part, or beside the log of another one."""

    code = "queue.damaged"


class QueueReplaced(QueueError):
    """The database was removed, or another file was put in its place, while it was open."""

    code = "queue.replaced"


class QueueBusy(QueueError):
    """The queue is paused, or another process holds the database for too long."""

    code = "queue.busy"
    exit_code = EXIT_BUSY


class QueueAway(QueueBusy):
    """The server that keeps the queue cannot be reached just now."""

    code = "queue.away"

    def __init__(self, message: str, *, remedy: str = "", in_doubt: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.in_doubt = in_doubt
        """Whether what was being written may stand there all the same."""


class ClaimLost(QueueError):
    """Another worker owns the job now; whatever this one still writes must not count."""

    code = "queue.claim_lost"
