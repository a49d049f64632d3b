"""One file without a queue: what `batchsr upsample` does, and `batchsr.restore_file` for programs.

Finished windows are kept in the user's cache until the output is published. So the same call, made again after any
stop, goes on where it was.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from batchsr import storage
from batchsr.audio import blas, files
from batchsr.errors import BatchShrunk, ResourceError, TransientError
from batchsr.restoration.batcher import Batcher, run_beside_main
from batchsr.restoration.refusals import check_output
from batchsr.restoration.restore import discard_scratch, restore
from batchsr.restoration.task import Restored, Task
from batchsr.restoration.warm_up import warm_up
from batchsr.settings import extras
from batchsr.settings import profile as profiles
from batchsr.settings.outputs import with_format_of
from batchsr.settings.profile import DEFAULT_VARIANT, OUTPUT_SUFFIX, Settings

if TYPE_CHECKING:
    from batchsr.restoration.batcher import WindowModel
    from batchsr.restoration.credentials import Signing

_CLOSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def restore_file(
    source: str | Path,
    output: str | Path | None = None,
    *,
    variant: str | None = None,
    profile: str | None = None,
    overwrite: bool = False,
    model: WindowModel | None = None,
    dtype: str | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Restored:
    """Restore one file to 48 kHz, and go on where an earlier call was stopped.

    source, output: paths; without an output it stands beside the source as `<stem>_upsampled.<format>`, and an output's
    extension chooses its format. variant: a name or a bundle's folder, loaded by this call unless `model` (a loaded
    FlashSR) is given. profile and settings: the options of a restoration, as on the command line (`timestep`, `seed`,
    `overlap`, `lowpass`, `keep_band`, `format`, `subtype`, `channels`, `sidecar`...). progress(done, total) is called
    as windows are finished; what it raises stops the restoration, and finished windows are kept.

    Returns what was done, with the sidecar's content as `report`. Raises ConfigError for an option, and the InputError,
    OutputError, ModelError, ResourceError and TransientError families.

        >>> from batchsr import restore_file
        >>> done = restore_file("call.wav", "call_48k.flac", variant="tiny", keep_band=True)
        >>> done.report["output"]["sample_rate_hz"]
        48000
    """
    if output is not None:
        settings = with_format_of(Path(output), settings)
    effective = profiles.effective(profile=profile, given=settings)
    source = Path(source)
    if output is None:
        output = source.with_name(storage.fitted_name(source.stem, f"{OUTPUT_SUFFIX}.{effective.settings.format}"))

    def load() -> WindowModel:
        if model is not None:
            return model
        from batchsr.models import registry

        return registry.load(variant or effective.variant or DEFAULT_VARIANT, dtype=dtype, device=device)

    return restore_one(
        source, Path(output), effective.settings, load, overwrite=overwrite, on_windows=progress or (lambda *_: None)
    )


def restore_one(
    source: Path,
    output: Path,
    settings: Settings,
    load: Callable[[], WindowModel],
    *,
    overwrite: bool,
    on_windows: Callable[[int, int], None],
    on_notice: Callable[[str], None] = lambda _: None,
    signing: Signing | None = None,
) -> Restored:
    """`restore_file` with its choices made. The model lives in this thread, which should be the main one.

    `on_notice` is told what a person should know; `signing` puts content credentials into what is made. Raises
    TransientError while another process restores the same file.
    """
    files.check_format(settings.format, settings.subtype, 1)
    extras.check(settings)
    files.probe(
        source, accept_truncated=settings.accept_truncated
    )  # a bad file is told at once, before gigabytes are loaded, and so is an output that may not be made
    check_output(source, output, overwrite=overwrite, sidecar=settings.sidecar)

    def work(main_thread: Executor) -> Restored:
        with _checkpoints(source, output, on_notice) as scratch:
            blas.load()  # before both threads load parts of SciPy, whose modules wait for one another
            loading = main_thread.submit(load)
            warm_up()
            loaded = loading.result()
            model = Batcher(loaded, main_thread)
            task = Task(
                source=source,
                output=output,
                scratch=scratch,
                settings=settings,
                overwrite=overwrite,
                tag="0-2",  # not a first attempt: an earlier one may have left something
                provenance=dataclasses.asdict(loaded.identity),  # type: ignore[call-overload]
            )
            while True:
                try:
                    done = restore(task, model, on_windows=on_windows, before_publish=lambda _: None, signing=signing)
                except BatchShrunk as e:
                    on_notice(str(e))
                    model = model.renewed()
                else:
                    discard_scratch(scratch)
                    return done

    return run_beside_main(work)


def checkpoints_of(source: Path, output: Path) -> Path:
    """Return where the finished windows of this source and output are kept."""
    names = "\0".join(os.path.realpath(path) for path in (source, output))
    name = hashlib.sha256(os.fsencode(names)).hexdigest()[:32]
    return platformdirs.user_cache_path("batchsr") / "upsample" / f"{name}.slots"


def forget(source: Path, output: Path) -> None:
    """Remove what is kept to go on from, where nobody can name these files again."""
    for path in (kept := checkpoints_of(source, output), kept.with_suffix(".lock")):
        path.unlink(missing_ok=True)


@contextmanager
def _checkpoints(source: Path, output: Path, on_notice: Callable[[str], None]) -> Iterator[Path]:
    """Give the scratch file of this source and output, for this process alone.

    Where nothing may be written in the user's cache, it is a temporary file and goes with this call.
    """
    scratch = checkpoints_of(source, output)
    with ExitStack() as stack:
        try:
            fd = _open_lock(scratch)
        except ResourceError as e:
            if getattr(e.__cause__, "errno", None) not in _CLOSED:
                raise
            on_notice(f"if this is interrupted, it begins anew: {e}")
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchsr-"))) / scratch.name
            fd = _open_lock(scratch)
        stack.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise TransientError(f"another process is restoring {source} to {output}", remedy="wait for it") from e
        yield scratch
        if not scratch.exists():
            scratch.with_suffix(".lock").unlink(missing_ok=True)


def _open_lock(scratch: Path) -> int:
    storage.make_folder(scratch.parent)
    lock = scratch.with_suffix(".lock")
    with storage.resource_errors(lock, "open"):
        return storage.open_own(lock, os.O_RDWR)
