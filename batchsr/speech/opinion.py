"""What listeners would say of speech, guessed by a network: DNSMOS P.835, by its file in the package speechmos.

Three opinions from 1 to 5: of the whole (ovrl), of the speech (sig), of the noise (bak). It hears 16 kHz, so it is
blind to what lies above 8 kHz: it judges what a denoiser did, not what was added above. For music it means nothing.

Source: C. K. A. Reddy, V. Gopal, R. Cutler, DNSMOS P.835, ICASSP 2022; windows of 9.01 s and the polynomials that bring
the network's answers to the listeners' scale as in speechmos/dnsmos.py 0.0.1.1.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batchsr import storage
from batchsr.audio.resample import Downsampler
from batchsr.audio.windows import Block
from batchsr.settings import extras
from batchsr.speech import voice

WINDOW_SAMPLES: Final = 144_160
"""9.01 s at 16 kHz."""
FEWEST_SPEECH: Final = 0.5
"""Share of a recording in which somebody must speak, or an opinion of it would mean nothing."""
_SIG: Final = (-0.08397278, 1.22083953, 0.0052439)
_BAK: Final = (-0.13166888, 1.60915514, -0.39604546)
_OVRL: Final = (-0.06766283, 1.11546468, 0.04602535)


@functools.cache
def identity() -> dict[str, str]:
    """Return the network's name and the SHA-256 of its file."""
    with extras.in_use("speechmos"):
        sha256 = storage.sha256(_path())
    return {"network": "DNSMOS P.835 (sig_bak_ovr)", "network_sha256": sha256}


class Opinion:
    """Listens to a stream at 48 kHz, the mean of its channels, and has an opinion at its end."""

    def __init__(self, *, speech: bool) -> None:
        """With `speech` it also notices how much of it is speech. Raises StageFailed without the network."""
        self._network = _network()
        self._down = Downsampler(voice.RATE_HZ)
        self._held = np.zeros(0, np.float32)
        self._answers: list[NDArray[np.float64]] = []
        self._detector = voice.Detector() if speech else None

    def add(self, block: Block) -> None:
        """Take in the next (n, C)."""
        self._take(self._down.add(block.mean(axis=1, keepdims=True, dtype=np.float32))[:, 0])

    def finish(self) -> tuple[dict[str, float] | None, float]:
        """Return the opinion, None of silence, and the share of speech; nothing may be added behind it.

        What is shorter than a window is repeated to fill one, as upstream does; a rest behind whole ones is left out.
        """
        self._take(self._down.finish()[:, 0])
        if not self._answers and len(self._held) and self._held.any():
            self._answers.append(self._asked(np.resize(self._held, WINDOW_SAMPLES)))
        share = self._detector.share if self._detector is not None else 1.0
        if not self._answers:
            return None, share
        sig, bak, ovrl = np.mean(self._answers, axis=0)
        return {"ovrl": round(float(ovrl), 2), "sig": round(float(sig), 2), "bak": round(float(bak), 2)}, share

    def _take(self, samples: NDArray[np.float32]) -> None:
        if self._detector is not None:
            self._detector.add(samples)
        self._held = np.concatenate([self._held, samples])
        while len(self._held) >= WINDOW_SAMPLES:
            window, self._held = self._held[:WINDOW_SAMPLES], self._held[WINDOW_SAMPLES:]
            if window.any():
                self._answers.append(self._asked(window))

    def _asked(self, window: NDArray[np.float32]) -> NDArray[np.float64]:
        (answer,) = self._network.run(None, {"input_1": np.clip(window, -1, 1)[None]})[0]
        values = [np.polyval(scale, float(x)) for scale, x in zip((_SIG, _BAK, _OVRL), answer, strict=True)]
        return np.array(values)


def _path() -> Path:
    found = importlib.util.find_spec("speechmos")  # whose code needs librosa and pandas, so it is not imported
    return Path(str(found and found.origin)).parent / "dnsmos_models" / "sig_bak_ovr.onnx"


@functools.cache
def _network() -> Any:
    with extras.in_use("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # beside the model; more would also round in another order
    with extras.in_use("speechmos"):
        return onnxruntime.InferenceSession(_path().read_bytes(), options, providers=["CPUExecutionProvider"])
