"""Sound files as waveforms: all that libsndfile reads, mono, at one sample rate, of one length."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from instrument_ig.config import AudioConfig
from instrument_ig.types import Note

# What libsndfile notes when it reads on in spite of a cut WAV, AIFF or OGG. A WAV that was written
# to a pipe declares 2^32 - 1 bytes and is whole.
TRUNCATED = re.compile(
    r"(data|SSND) *: (?!4294967295)\d+ \(should be|Ogg ?: File ended unexpectedly"
)
BLOCK = 1 << 20  # samples of each channel read at once
MARGIN_S = 0.1  # seconds read beyond the cut, so that the resampler's edge stays behind it


class BadAudio(ValueError):
    """A sound that cannot be read, and why."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def decode(
    path: str | Path, sample_rate: int, duration_s: float | None = None
) -> Float32[np.ndarray, " N"]:
    """Read a sound file as mono at `sample_rate`, channels averaged.

    Args:
      path: WAV, FLAC, OGG or MP3, 8 to 32 bits or float.
      sample_rate: Hz.
      duration_s: read no further than this, in seconds; None reads everything.

    Raises:
      BadAudio: missing, unreadable, truncated, empty, or holding NaN or infinite samples.
    """
    return np.concatenate(list(stream(path, sample_rate, duration_s)))


def stream(
    path: str | Path, sample_rate: int, duration_s: float | None = None
) -> Iterator[Float32[np.ndarray, " N"]]:
    """Yield the pieces of what `decode` returns, in the memory of one.

    Raises:
      BadAudio: as `decode`, where it is met: a truncated sound yields what it has first.
    """
    with _open(str(path)) as file:
        resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
        length = _frames(file, duration_s)
        if not length:
            raise BadAudio(str(path), "holds no samples")
        for start in range(0, length, BLOCK):
            wanted = min(BLOCK, length - start)
            samples = file.read(wanted, dtype="float32", always_2d=True)
            if len(samples) < wanted:
                raise BadAudio(str(path), f"is truncated after {start + len(samples)} samples")
            if not np.isfinite(samples).all():
                raise BadAudio(str(path), "holds NaN or infinite samples")
            is_last = start + wanted == length
            yield resampler.resample_chunk(samples.mean(axis=1), last=is_last)
        if TRUNCATED.search(file.extra_info):
            raise BadAudio(str(path), "is truncated: shorter than its header says")


def duration(path: str | Path) -> float:
    """Return how long a sound file says it is, in seconds.

    Raises:
      BadAudio: missing or unreadable.
    """
    with _open(str(path)) as file:
        return file.frames / file.samplerate


def fit(waveform: Float32[np.ndarray, " N"], samples: int) -> Float32[np.ndarray, " samples"]:
    """Cut a waveform, or pad it with silence, to `samples`."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def length(config: AudioConfig) -> int:
    """Return the number of samples of a note."""
    return round(config.duration_s * config.sample_rate)


def load(config: AudioConfig, note: Note) -> Float32[np.ndarray, " N"]:
    """Read the file of a note, cut or padded to the configured length."""
    return fit(decode(note.source, config.sample_rate, config.duration_s), length(config))


def _frames(file: soundfile.SoundFile, duration_s: float | None) -> int:
    if duration_s is None:
        return file.frames
    return min(file.frames, math.ceil((duration_s + MARGIN_S) * file.samplerate))


@contextlib.contextmanager
def _open(path: str) -> Iterator[soundfile.SoundFile]:
    if not Path(path).exists():
        raise BadAudio(path, "cannot be read: no such file")  # libsndfile says "System error"
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise BadAudio(path, f"cannot be read: {error}") from error
