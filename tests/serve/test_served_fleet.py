"""A fleet's queue in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import postgres
import pytest
import rig
from person import called
from served import serving

from batchsr.queue.opening import QueueAddress


def test_a_fleet_is_shown_with_its_hosts_and_how_a_file_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchsr.cli.work.load_model", lambda *_, **__: rig.FastModel())
    address = QueueAddress(fleet=postgres.database(), host_folder=tmp_path / "host")
    variables = {**address.environment(), "BATCHSR_DB": None}
    called("fleet", "init", environment=variables)
    called("enqueue", rig.record(tmp_path / "in" / "a.wav", 1.0, seed=11), environment=variables)
    called("work", environment=variables)
    with serving(address) as served:
        assert "Table of hosts" in served.ask("/workers").text
        assert served.ask("/").status == 200
        assert "a.wav" in served.ask("/files/1").text
        status = json.loads(served.ask("/api/v1/status").text)
        assert status["database"] == address.shown
        assert served.ask("/files/1/heard.json").status == 200  # by a process of its own
        assert served.ask("/metrics").status == 200
