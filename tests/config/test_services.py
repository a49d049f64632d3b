"""Service units: what the system's own checker says of them, and what they promise."""

from __future__ import annotations

import os
import plistlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchsr.errors import EXIT_USAGE, ConfigError
from batchsr.intake import services

ODD = "/srv/in box/100% $HOME \"x\" 'y' \\ é"


def test_the_systemd_unit_passes_systemds_own_check(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "batchsr.service"
    unit.write_text(services.systemd([sys.executable, "-m", "batchsr", "watch", "--work", "/srv/in", ODD]))
    result = subprocess.run([analyze, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    unit.write_text(services.systemd([sys.executable, "-m", "batchsr"], user="root", writable=["/srv/in", ODD]))
    result = subprocess.run([analyze, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\nUser=root\n" in unit.read_text()
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=mixt"))
    result = subprocess.run([analyze, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "KillMode" in result.stderr or "kill mode" in result.stderr.lower()


def test_systemd_starts_exactly_the_words_given(tmp_path: Path) -> None:
    line = next(
        line for line in services.systemd(["/usr/bin/batchsr", ODD]).splitlines() if line.startswith("ExecStart=")
    )
    # systemd's own rules (systemd.service(5), "Command lines"): C-style quotes; %% and $$ are one character.
    assert line == (
        'ExecStart=/usr/bin/batchsr "/srv/in box/100%% $$HOME \\"x\\" \'y\' \\\\ é" '
        f'--keep-awake "{services.SYSTEMD_AWAKE}"'
    )


def test_the_systemd_unit_gives_time_to_stop_and_restarts_after_a_crash_but_not_after_a_wrong_option() -> None:
    lines = services.systemd(["/usr/bin/batchsr"]).splitlines()
    assert f"RestartPreventExitStatus={EXIT_USAGE}" in lines
    assert "Restart=on-failure" in lines
    assert f"TimeoutStopSec={services.STOP_TIMEOUT_S}" in lines
    assert services.STOP_TIMEOUT_S > 60
    assert "KillMode=mixed" in lines
    assert "systemd-inhibit --what=idle:sleep" in "\n".join(lines)


def unit_of(*arguments: str) -> list[str]:
    """The machine's unit, as the program prints it."""
    command = [sys.executable, "-m", "batchsr", "service", "print", "systemd", "--system", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "BATCHSR_DB"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def writable(lines: list[str]) -> list[str]:
    return [line.removeprefix("ReadWritePaths=") for line in lines if line.startswith("ReadWritePaths=")]


def test_the_machines_unit_has_a_user_of_its_own_and_writes_only_where_it_must() -> None:
    lines = unit_of("/srv/in", "--out", "/srv/out")
    assert "User=batchsr" in lines
    for promise in ("ProtectSystem=strict", "NoNewPrivileges=yes", "OOMPolicy=continue", "StateDirectory=batchsr"):
        assert promise in lines
    assert writable(lines) == ["-/srv/out"], "the sources are read-only"
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert "--db /var/lib/batchsr/queue.db" in start
    assert writable(unit_of("/srv/in")) == ["-/srv/in"], "outputs stand beside their sources"
    assert writable(unit_of("/srv/in", "--out", "/srv/out", "--done", "/srv/done")) == [
        "-/srv/in",
        "-/srv/done",
        "-/srv/out",
    ]
    assert writable(unit_of("--user", "archive", "/srv/100% in", "--done-list", "/var/log/done.txt")) == [
        '"-/srv/100%% in"',
        "-/var/log",
    ]
    assert "User=archive" in unit_of("--user", "archive", "/srv/in")


def test_a_users_own_unit_asks_for_nothing_that_a_user_may_not() -> None:
    lines = services.systemd(["/usr/bin/batchsr"]).splitlines()
    assert "NoNewPrivileges=yes" in lines
    assert "OOMPolicy=continue" in lines
    assert not [line for line in lines if line.startswith(("Protect", "User=", "StateDirectory", "ReadWritePaths"))]


def test_a_folder_that_would_break_the_unit_is_refused() -> None:
    with pytest.raises(ConfigError, match="control character"):
        services.systemd(["/usr/bin/batchsr", "/srv/a\nExecStartPost=/bin/rm"])
    for name in ("/srv/\x1b[2J", "/srv/\u202egpj", "/srv/\udce9", "/srv/\x85", "/srv/\u2028[Install]"):
        with pytest.raises(ConfigError, match="rename the folder") as caught:
            services.systemd(["/usr/bin/batchsr", name])
        assert caught.value.message.isprintable()


def launchd_script(command: list[str]) -> list[str]:
    document = plistlib.loads(services.launchd(command, log=Path("/tmp/batchsr.log")).encode())
    arguments: list[str] = document["ProgramArguments"]
    return arguments


def test_the_launchd_agent_is_a_property_list_that_promises_the_same() -> None:
    document = plistlib.loads(services.launchd(["/usr/bin/batchsr", ODD], log=Path("/tmp/batchsr.log")).encode())
    assert document["KeepAlive"] == {"SuccessfulExit": False}
    assert document["ExitTimeOut"] == services.STOP_TIMEOUT_S
    assert "caffeinate -i" in document["ProgramArguments"][2]
    with pytest.raises(ConfigError, match="no label"):
        services.launchd(["/usr/bin/batchsr"], label="a b", log=Path("/tmp/x"))


def test_the_launchd_agent_runs_at_full_speed_and_says_what_macos_must_be_told() -> None:
    text = services.launchd(["/usr/bin/batchsr", ODD], log=Path("/tmp/batchsr.log"))
    document = plistlib.loads(text.encode())
    assert document["ProcessType"] == "Standard", "Background means the efficiency cores and throttled disks"
    assert "LowPriorityIO" not in document
    assert "Full Disk Access" in text
    comment = text[text.index("<!--") + 4 : text.index("-->")]
    assert "--" not in comment, "XML has no such comments"
    assert "launchctl bootstrap" in comment


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (EXIT_USAGE, 0), (143, 0), (69, 69), (1, 1), (75, 75)])
def test_the_launchd_agent_hides_from_launchd_what_a_restart_cannot_mend(code: int, seen: int) -> None:
    command = [sys.executable, "-c", f"import sys; sys.exit({code} if {ODD!r} in sys.argv else 99)", ODD]
    assert subprocess.run(launchd_script(command), check=False).returncode == seen


def test_the_launchd_agent_hands_sigterm_on_and_waits_for_the_end(tmp_path: Path) -> None:
    marker = tmp_path / "stopped"
    program = (
        "import pathlib, signal, sys, time\n"
        f"marker = pathlib.Path({str(marker)!r})\n"
        "def stop(*_): time.sleep(0.3); marker.write_text('cleanly'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "marker.write_text('ready')\n"
        "time.sleep(30)\n"
    )
    agent = subprocess.Popen(launchd_script([sys.executable, "-c", program]))
    deadline = time.monotonic() + 20
    while not marker.exists() or marker.read_text() != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(20) == 0
    assert marker.read_text() == "cleanly"


def test_the_servers_unit_runs_serve_with_its_options_by_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "my archive").mkdir()
    lines = unit_of("--serve", "--bind", "127.0.0.1:9000", "--root", str(tmp_path / "my archive"), "--read-only")
    (line,) = [line for line in lines if line.startswith("ExecStart=")]
    assert line == (
        f"ExecStart={sys.executable} -m batchsr --db /var/lib/batchsr/queue.db serve --bind 127.0.0.1:9000 "
        f'--root "{tmp_path / "my archive"}" --read-only'
    )
    assert "ProtectSystem=strict" in lines
    assert "User=batchsr" in lines
    if (analyze := shutil.which("systemd-analyze")) is not None:
        unit = tmp_path / "batchsr-serve.service"
        unit.write_text("\n".join(lines).replace("User=batchsr", "User=root") + "\n")
        checked = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
        assert "batchsr-serve" not in checked.stderr, checked.stderr


@pytest.mark.parametrize("words", [("systemd",), ("systemd", "--serve", "--bnd", "x"), ("launchd", "--serve")])
def test_a_unit_that_cannot_be_is_refused(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "batchsr", "service", "print", *words]
    assert subprocess.run(command, capture_output=True).returncode == 2
