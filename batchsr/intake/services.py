"""Unit texts that keep `batchsr watch --work` running: systemd and launchd. Pure; writing them down is the user's.

What both promise: SIGTERM asks, and there is more time to stop than a window takes; a crash restarts the
service, a mistake in the command line does not; the machine does not fall asleep while it restores.
"""

from __future__ import annotations

import plistlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from batchsr.display import printable, shown
from batchsr.errors import EXIT_NO_MODEL, EXIT_USAGE, ConfigError

STOP_TIMEOUT_S: Final = 600
"""A window takes about a minute on two CPU cores; a batch of them may be in hand."""
RESTART_S: Final = 30
SYSTEMD_AWAKE: Final = "systemd-inhibit --what=idle:sleep --who=batchsr --why=restoring --mode=block"
LAUNCHD_AWAKE: Final = "caffeinate -i"
_LAUNCHD_COMMENT: Final = """\
<!-- Written by `batchsr service print launchd`.
     For yourself:
         batchsr service print launchd DIR... > ~/Library/LaunchAgents/{label}.plist
         launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/{label}.plist
     macOS keeps what launchd starts out of Desktop, Documents, Downloads and other volumes ("Operation not permitted")
     until the program, here Python, is allowed in: System Settings, Privacy and Security, Full Disk Access. -->
"""
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


STATE_FOLDER: Final = Path("/var/lib/batchsr")
"""What systemd makes for the machine's service, and where its queue is kept."""


def systemd(command: Sequence[str], *, user: str | None = None, writable: Sequence[str] = (), nice: int = 10) -> str:
    """Return a systemd unit that runs `command` (program first, by its absolute path).

    For a user's own systemd; with `user` for the machine's, run in that name, where all of the file system is
    read-only but `writable`, absolute paths, and the service's own folders. Raises ConfigError on a word that cannot
    stand in a unit.
    """
    if user is None:
        where = """\
# For yourself:
#     batchsr service print systemd DIR... > ~/.config/systemd/user/batchsr.service
#     systemctl --user enable --now batchsr && loginctl enable-linger"""
    else:
        where = f"""\
# For the machine:
#     sudo useradd --system --home-dir {STATE_FOLDER} --shell /usr/sbin/nologin {user}
#     batchsr service print systemd --system DIR... | sudo tee /etc/systemd/system/batchsr.service
#     sudo systemctl enable --now batchsr
# {user} must be able to read the watched folders, and to write into those named in ReadWritePaths."""
    protection = "" if user is None else _protection(writable)
    arguments = " ".join(_systemd_word(word) for word in [*command, "--keep-awake", SYSTEMD_AWAKE])
    return f"""\
# Written by `batchsr service print systemd`.
{where}
[Unit]
Description=batchsr: restore what arrives in the watched folders
Documentation=man:systemd.service(5)
# A share that is mounted later is found by the watcher itself; no order of mounts is needed.
StartLimitIntervalSec=0

[Service]
Type=exec
{f"User={_systemd_word(user)}" if user is not None else "# It runs as you."}
ExecStart={arguments}
# SIGTERM goes to the watcher alone, which passes it on: a worker that gets two stops in mid-window.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={STOP_TIMEOUT_S}
Restart=on-failure
RestartSec={RESTART_S}
# {EXIT_USAGE}: a wrong option or profile. {EXIT_NO_MODEL}, no model, is tried again: the network may not be up yet.
RestartPreventExitStatus={EXIT_USAGE}
# 143 is the answer to SIGTERM.
SuccessExitStatus=143 SIGTERM
Nice={nice}
IOSchedulingClass=idle
# A worker that ran out of memory is replaced; the others and the watcher go on.
OOMPolicy=continue
NoNewPrivileges=yes
{protection}
[Install]
WantedBy={"default" if user is None else "multi-user"}.target
"""


def systemd_of_server(command: Sequence[str], *, user: str | None = None, writable: Sequence[str] = ()) -> str:
    """Return a systemd unit that runs `command`, which serves the queue to browsers. Arguments and errors as in
    `systemd`."""
    if user is None:
        where = """\
#     batchsr service print systemd --serve > ~/.config/systemd/user/batchsr-serve.service
#     systemctl --user enable --now batchsr-serve && loginctl enable-linger"""
    else:
        where = f"""\
#     batchsr service print systemd --system --serve | sudo tee /etc/systemd/system/batchsr-serve.service
#     sudo systemctl enable --now batchsr-serve
# It must be {user} who works on the queue as well: both write into the database's folder."""
    protection = "" if user is None else _protection(writable)
    return f"""\
# Written by `batchsr service print systemd --serve`.
{where}
# The link with the token, if there is one, is in the journal of the first start.
[Unit]
Description=batchsr: the queue in a browser
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
{f"User={_systemd_word(user)}" if user is not None else "# It runs as you."}
ExecStart={" ".join(_systemd_word(word) for word in command)}
Restart=on-failure
RestartSec={RESTART_S}
# {EXIT_USAGE}: a wrong option.
RestartPreventExitStatus={EXIT_USAGE}
SuccessExitStatus=143 SIGTERM
NoNewPrivileges=yes
{protection}
[Install]
WantedBy={"default" if user is None else "multi-user"}.target
"""


def _protection(writable: Sequence[str]) -> str:
    """Return what keeps the machine's service to its own folders."""
    paths = "".join(f"ReadWritePaths={_systemd_word(f'-{path}', variables=False)}\n" for path in writable)
    cache = "/var/cache/batchsr"
    return f"""\
# The whole file system is read-only but for these; a folder that is not there yet ("-") is no error.
ProtectSystem=strict
{paths}StateDirectory=batchsr
CacheDirectory=batchsr
Environment=HOME={STATE_FOLDER} XDG_CACHE_HOME={cache} HF_HOME={cache}/huggingface NUMBA_CACHE_DIR={cache}/numba
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""


def launchd(command: Sequence[str], *, label: str = "org.batchsr.watch", log: Path, nice: int = 10) -> str:
    """Return a launchd agent (a property list) that runs `command`; what it says goes to `log`.

    launchd cannot tell exit codes apart, so a shell around the program turns a usage error into success.
    Raises ConfigError on a label that cannot be one.
    """
    if not _LABEL.fullmatch(label):
        raise ConfigError(f"{label!r} is no label", remedy="labels take letters, digits, dots, dashes and underscores")
    words = shlex.join([*command, "--keep-awake", LAUNCHD_AWAKE])
    # The shell stays between, so it hands SIGTERM on; the second wait is for the end after the signal.
    script = (
        f"{words} & child=$!; trap 'kill -TERM $child' TERM; wait $child; code=$?; "
        f"while kill -0 $child 2>/dev/null; do wait $child; code=$?; done; "
        f'case "$code" in {EXIT_USAGE}|143) exit 0;; esac; exit "$code"'
    )
    document = {
        "Label": label,
        "ProgramArguments": ["/bin/sh", "-c", script],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": STOP_TIMEOUT_S,
        "Nice": nice,
        "ProcessType": "Standard",  # Background would mean the efficiency cores and throttled disks
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    text = plistlib.dumps(document, sort_keys=False).decode()
    head, mark, rest = text.partition("<plist ")
    return f"{head}{_LAUNCHD_COMMENT.format(label=label)}{mark}{rest}"


def _systemd_word(word: str, *, variables: bool = True) -> str:
    """Return a word of a setting: % doubled, $ too where `variables` are put in (ExecStart); quoted where systemd would
    split or unescape. Raises ConfigError."""
    if printable(word) != word:
        remedy = "rename the folder: it holds a control character, one that is not seen, or bytes that are no UTF-8"
        raise ConfigError(f"{shown(word)} cannot stand in a unit", remedy=remedy)
    text = word.replace("%", "%%")
    if variables:
        text = text.replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%$+=:,./-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
