"""Python imports this at its start where PYTHONPATH names this folder: `--variant fast` is then tests/rig.py's model.

So the whole program runs, in processes of its own, with a model that takes microseconds. BATCHSR_PACE_S makes it
slower: seconds for each group of windows. BATCHSR_PARTS is how many bytes of an output go into a store at once;
sources come from there in small pieces then. Where BATCHSR_BLUR names a bundle, tests/second_model.py's is there too.
"""

import os
import sys
from pathlib import Path

from batchsr.models import registry
from batchsr.models.family import WithoutWeights
from batchsr.models.identity import About
from batchsr.models.interface import WindowModel


def fast() -> WindowModel:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import rig

    if "BATCHSR_PARTS" in os.environ:
        from batchsr.remote import fetch, publish, stores

        for module, name, value in (
            (fetch, "PIECE_BYTES", 4096),
            (publish, "WHOLE_BYTES", int(os.environ["BATCHSR_PARTS"])),
            (stores, "_RETRIES", 0),
        ):
            setattr(module, name, value)
    return rig.FastModel(pace_s=float(os.environ.get("BATCHSR_PACE_S", "0")))


ABOUT = About(name="fast", says="", label="Fast", synthesises=True)
registry.MODELS["fast"] = registry.Entry(ABOUT, lambda: WithoutWeights(ABOUT, fast))
if "BATCHSR_BLUR" in os.environ:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import second_model

    registry.MODELS["blur"] = second_model.ENTRY
