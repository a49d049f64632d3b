"""Python imports this at its start where PYTHONPATH names this folder: `--variant fast` is then tests/rig.py's model.

So the whole program runs, in processes of its own, with a model that takes microseconds. BATCHSR_PACE_S makes it
slower: seconds for each group of windows.
"""

import sys
import types
from pathlib import Path

from batchsr.models import hub


class FlashSR:
    @staticmethod
    def from_pretrained(variant: str, **_: object) -> object:
        import os

        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        import rig

        return rig.FastModel(pace_s=float(os.environ.get("BATCHSR_PACE_S", "0")))


_module = types.ModuleType("batchsr.models.flashsr.model")
_module.FlashSR = FlashSR  # type: ignore[attr-defined]
sys.modules["batchsr.models.flashsr.model"] = _module
hub.PACKAGED += ("fast",)
