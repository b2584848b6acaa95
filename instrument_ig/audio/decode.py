"""Sound files as waveforms: all that libsndfile reads, mono, at one sample rate, of one length."""

import math
import re
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
    samples, rate = _read(str(path), duration_s)
    if not samples.size:
        raise BadAudio(str(path), "holds no samples")
    if not np.isfinite(samples).all():
        raise BadAudio(str(path), "holds NaN or infinite samples")
    return soxr.resample(samples.mean(axis=1), rate, sample_rate)


def fit(waveform: Float32[np.ndarray, " N"], samples: int) -> Float32[np.ndarray, " samples"]:
    """Cut a waveform, or pad it with silence, to `samples`."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def length(config: AudioConfig) -> int:
    """Return the number of samples of a note."""
    return round(config.duration_s * config.sample_rate)


def load(config: AudioConfig, note: Note) -> Float32[np.ndarray, " N"]:
    """Read the file of a note, cut or padded to the configured length."""
    return fit(decode(note.source, config.sample_rate, config.duration_s), length(config))


def _read(path: str, duration_s: float | None) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(path) as file:
            frames = -1
            if duration_s is not None:
                frames = math.ceil((duration_s + MARGIN_S) * file.samplerate)
            samples = file.read(frames, dtype="float32", always_2d=True)
            if len(samples) < (file.frames if frames < 0 else min(frames, file.frames)):
                raise BadAudio(path, f"is truncated after {len(samples)} samples")
            if TRUNCATED.search(file.extra_info):
                raise BadAudio(path, "is truncated: shorter than its header says")
            return samples, file.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise BadAudio(path, f"cannot be read: {error}") from error
