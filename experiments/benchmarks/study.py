"""The study's pieces against what a user would do otherwise; rows stand in BUILD-notes.md.

Sounds: one process that renders or calls librosa for one note after another.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import scipy.io.wavfile

from experiments.benchmarks.stopwatch import time_calls
from instrument_ig.audio import DATASETS, soundfont
from instrument_ig.audio.draw import Voice
from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.spectrograms.extraction import extract
from instrument_ig.types import Dataset, Spectrogram

AUDIO = AudioConfig()
FRAMES = SpectrogramConfig()
FILES = 320
REPEATS = 3

LIBROSA = {
    "stft": lambda y: _floored(librosa.amplitude_to_db(np.abs(librosa.stft(y)), top_db=None)),
    "logmel": lambda y: _floored(
        librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=16_000), top_db=None)
    ),
    "mfcc": lambda y: librosa.feature.mfcc(S=LIBROSA["logmel"](y), n_mfcc=40),
    "chroma": lambda y: librosa.feature.chroma_stft(y=y, sr=16_000, tuning=0.0),
    "spectral_contrast": lambda y: librosa.feature.spectral_contrast(y=y, sr=16_000),
    "tonnetz": lambda y: librosa.feature.tonnetz(
        chroma=librosa.feature.chroma_cqt(y=y, sr=16_000, tuning=0.0)
    ),
}


def measure_rendering() -> Iterator[dict]:
    """Rendered notes with their log-mel images, against rendering and librosa in a loop."""
    path = str(soundfont.bundled())
    front_ends = {"logmel": SPECTROGRAMS["logmel"](FRAMES, AUDIO)}
    with tempfile.TemporaryDirectory() as folder:
        calls = iter(range(1000))

        def ours():
            # Every call starts with an empty cache.
            dataset = DATASETS["soundfont"](AUDIO, notes=32, cache_dir=f"{folder}/{next(calls)}")
            return _extract(dataset, front_ends, Path(f"{folder}/{next(calls)}"))

        dataset = DATASETS["soundfont"](AUDIO, notes=32)
        voices = [Voice(*map(int, note.source.split())) for note in dataset.notes]

        def loop():
            return [LIBROSA["logmel"](soundfont.render(path, voice, AUDIO)) for voice in voices]

        yield _compare(ours, loop, "logmel", "notes_per_s", len(voices))


def measure_spectrograms() -> Iterator[dict]:
    """Images of WAV files, reading included, against one librosa call after another."""
    with tempfile.TemporaryDirectory() as folder:
        _write_sounds(Path(folder) / "sounds")
        dataset = DATASETS["folder"](AUDIO, data_dir=Path(folder) / "sounds")
        calls = iter(range(1000))
        for name, reference in LIBROSA.items():
            front_ends = {name: SPECTROGRAMS[name](FRAMES, AUDIO)}

            def ours(front_ends=front_ends):
                return _extract(dataset, front_ends, Path(f"{folder}/{next(calls)}"))

            def loop(reference=reference):
                return [
                    reference(librosa.load(note.source, sr=AUDIO.sample_rate)[0])
                    for note in dataset.notes
                ]

            yield {"kind": name} | _compare(ours, loop, name, "images_per_s", FILES)


def _extract(
    dataset: Dataset, front_ends: dict[str, Spectrogram], cache_dir: Path
) -> dict[str, np.ndarray]:
    return extract(dataset, dataset.notes, front_ends, cache_dir=cache_dir).images


def _compare(ours: Callable, loop: Callable, name: str, unit: str, count: int) -> dict:
    # float32 levels of 80 dB have steps of 8e-6.
    np.testing.assert_allclose(ours()[name], np.swapaxes(loop(), 1, 2), rtol=1e-5, atol=1e-4)
    seconds = time_calls({"ours": ours, "loop": loop}, REPEATS)
    rates = {side: count / timing.median_s for side, timing in seconds.items()}
    return {
        f"ours_{unit}": round(rates["ours"], 1),
        f"librosa_loop_{unit}": round(rates["loop"], 1),
        "ratio": round(rates["ours"] / rates["loop"], 2),
    }


def _write_sounds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    size = round(AUDIO.duration_s * AUDIO.sample_rate)
    for index in range(FILES):
        path = folder / f"class{index % 4}" / f"{index:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = rng.uniform(-10_000, 10_000, size).astype(np.int16)
        scipy.io.wavfile.write(path, AUDIO.sample_rate, samples)


def _floored(level_db: np.ndarray) -> np.ndarray:
    return np.maximum(level_db, FRAMES.floor_db)


ROWS = {
    "rendering": measure_rendering,
    "spectrograms": measure_spectrograms,
}
