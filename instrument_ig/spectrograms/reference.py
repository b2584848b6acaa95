"""The six spectrograms of the study, by librosa: waveforms to images [..., T, F], frames first.

All share the frames of one STFT (Hann window, centred, zero-padded). Levels are in dB relative to
1, and `floor_db` is the lowest, so that silence is a known constant. Every function takes any
number of waveforms at once, and none changes another's image; librosa then builds its filters once
for all of them. A front end is a row of steps; rows that begin alike share their first steps where
several are applied to the same sounds (see `extraction`). librosa is imported inside, so that the
package's pure side stays light.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.storage import cache
from instrument_ig.types import Axis, Spectrogram

VERSION = 1  # counts changes of the formulas below: part of every digest
AMIN = 1e-20  # power below which the logarithm stops; far below every floor
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
TONAL_CENTROIDS = ("fifth x", "fifth y", "minor x", "minor y", "major x", "major y")
CONTRAST_LOW_HZ = 200.0  # upper edge of the first band; six octaves follow
CONTRAST_OCTAVES = 6
CQT_OCTAVES = 7  # from C1 = 32.7 Hz, librosa's default for chroma

Transform = Callable[[np.ndarray, SpectrogramConfig, AudioConfig], np.ndarray]


class Step(NamedTuple):
    """A function of arrays; equal to another that does the same, as closures are not."""

    transform: Transform
    config: SpectrogramConfig
    audio: AudioConfig

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Transform x."""
        return self.transform(x, self.config, self.audio)


def stft(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Amplitude of the short-time Fourier transform, in dB."""
    import librosa

    hz = librosa.fft_frequencies(sr=audio.sample_rate, n_fft=config.n_fft)
    axis = Axis("linear", tuple(hz.tolist()), "Hz")
    return _spectrogram("stft", (_magnitude, _power, _decibels), config, audio, axis)


def logmel(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Power in bands of the Slaney mel scale, in dB."""
    import librosa

    edges = librosa.mel_frequencies(config.n_mels + 2, fmin=0.0, fmax=audio.sample_rate / 2)
    axis = Axis("linear", tuple(edges[1:-1].tolist()), "Hz")
    return _spectrogram("logmel", LOGMEL, config, audio, axis)


def mfcc(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Orthonormal cosine transform of the log-mel spectrogram."""
    if config.n_mfcc > config.n_mels:
        raise ValueError(f"{config.n_mfcc} MFCCs need as many mel bands, not {config.n_mels}")
    index = tuple(float(i) for i in range(config.n_mfcc))
    axis = Axis("linear", index, "coefficient")
    return _spectrogram("mfcc", (*LOGMEL, _cosines), config, audio, axis)


def chroma(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Power of each pitch class, the strongest of every frame being 1; equal temperament, A440."""
    axis = Axis("circular", PITCH_CLASSES, "pitch class")
    return _spectrogram("chroma", (_magnitude, _power, _pitch_classes), config, audio, axis)


def spectral_contrast(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Peak over valley in octave bands, in dB."""
    edges = CONTRAST_LOW_HZ * 2.0 ** np.arange(CONTRAST_OCTAVES)
    if audio.sample_rate <= 2 * edges[-1]:
        raise ValueError(
            f"spectral_contrast needs a sample rate above {2 * edges[-1]:.0f} Hz: "
            f"{audio.sample_rate}"
        )
    edges = [0.0, *edges, audio.sample_rate / 2]
    bands = tuple(f"{low:.0f}-{high:.0f}" for low, high in zip(edges, edges[1:], strict=False))
    axis = Axis("linear", bands, "Hz")
    return _spectrogram("spectral_contrast", (_magnitude, _contrast), config, audio, axis)


def tonnetz(config: SpectrogramConfig, audio: AudioConfig) -> Spectrogram:
    """Tonal centroids of the constant-Q chroma: fifths, minor and major thirds as circles.

    References:
      Harte, Sandler, Gasser, Detecting Harmonic Change in Musical Audio, 2006.
    """
    import librosa

    top_hz = librosa.note_to_hz("C1") * 2**CQT_OCTAVES
    if audio.sample_rate <= 2 * top_hz:
        raise ValueError(
            f"tonnetz needs a sample rate above {2 * top_hz:.0f} Hz: {audio.sample_rate}"
        )
    if config.hop % 2 ** (CQT_OCTAVES - 1):
        raise ValueError(f"tonnetz needs a hop that 64 divides: {config.hop}")
    axis = Axis("categorical", TONAL_CENTROIDS, "tonal centroid")
    return _spectrogram("tonnetz", (_tonal_centroids,), config, audio, axis)


def _spectrogram(
    name: str,
    transforms: tuple[Transform, ...],
    config: SpectrogramConfig,
    audio: AudioConfig,
    bins: Axis,
) -> Spectrogram:
    import librosa

    frames = 1 + round(audio.duration_s * audio.sample_rate) // config.hop
    seconds = tuple(config.hop * i / audio.sample_rate for i in range(frames))
    return Spectrogram(
        steps=tuple(Step(each, config, audio) for each in (*transforms, _frames_first)),
        shape=(frames, len(bins.positions)),
        axes=(Axis("linear", seconds, "s"), bins),
        digest=cache.digest(
            name=name,
            spectrogram=asdict(config),
            audio=asdict(audio),
            librosa=librosa.__version__,
            version=VERSION,
        ),
    )


def _frames_first(images: Float[np.ndarray, "*B F T"], *_) -> Float32[np.ndarray, "*B T F"]:
    return np.ascontiguousarray(np.swapaxes(images, -1, -2), dtype=np.float32)


def _magnitude(waveforms: Float32[np.ndarray, "*B N"], config, _) -> Float32[np.ndarray, "*B F T"]:
    import librosa

    return np.abs(librosa.stft(waveforms, n_fft=config.n_fft, hop_length=config.hop))


def _power(magnitude, *_):
    return magnitude**2


def _decibels(power, config, _):
    import librosa

    level_db = librosa.power_to_db(power, ref=1.0, amin=AMIN, top_db=None)
    return np.maximum(level_db, config.floor_db)


def _mel(power, config, audio):
    import librosa

    return librosa.feature.melspectrogram(S=power, sr=audio.sample_rate, n_mels=config.n_mels)


LOGMEL = (_magnitude, _power, _mel, _decibels)


def _cosines(logmel, config, _):
    import librosa

    return librosa.feature.mfcc(S=logmel, n_mfcc=config.n_mfcc)


def _pitch_classes(power, _, audio):
    import librosa

    return librosa.feature.chroma_stft(S=power, sr=audio.sample_rate, tuning=0.0)


def _contrast(magnitude, config, audio):
    import librosa

    # One by one: librosa clips the levels 80 dB below the loudest frame of all it is given.
    contrasts = [
        librosa.feature.spectral_contrast(
            S=one,
            sr=audio.sample_rate,
            n_fft=config.n_fft,
            fmin=CONTRAST_LOW_HZ,
            n_bands=CONTRAST_OCTAVES,
        )
        for one in magnitude.reshape(-1, *magnitude.shape[-2:])
    ]
    return np.reshape(contrasts, (*magnitude.shape[:-2], CONTRAST_OCTAVES + 1, -1))


def _tonal_centroids(waveforms, config, audio):
    import librosa

    # The threshold keeps the rounding noise of silent frames from being scaled up to full chroma.
    chroma_cqt = librosa.feature.chroma_cqt(
        y=waveforms,
        sr=audio.sample_rate,
        hop_length=config.hop,
        tuning=0.0,
        n_octaves=CQT_OCTAVES,
        threshold=10 ** (config.floor_db / 20),
    )
    return librosa.feature.tonnetz(chroma=chroma_cqt)
