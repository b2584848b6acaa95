"""The six spectrograms against direct formulas in SciPy and NumPy, and by what they must show."""

import pickle

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal

from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS

CONFIG, AUDIO = SpectrogramConfig(), AudioConfig()
RATE, SAMPLES = 16_000, 64_000
BINS = {
    "stft": 1025,
    "logmel": 128,
    "mfcc": 40,
    "chroma": 12,
    "spectral_contrast": 7,
    "tonnetz": 6,
}
KINDS = {"chroma": "circular", "tonnetz": "categorical"}
SILENCE = {"stft": -80.0, "logmel": -80.0, "chroma": 0.0, "spectral_contrast": 0.0, "tonnetz": 0.0}


def build(name, config=CONFIG, audio=AUDIO):
    return SPECTROGRAMS[name](config, audio)


def tone(hz, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(SAMPLES) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def noises():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (3, SAMPLES)).astype(np.float32)


def scipy_magnitude(waveform):
    """Return |STFT| [F, T] in float64: periodic Hann window, centred, padded with zeros."""
    padded = np.pad(waveform.astype(np.float64), CONFIG.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, CONFIG.n_fft)[:: CONFIG.hop]
    window = scipy.signal.get_window("hann", CONFIG.n_fft)
    return np.abs(scipy.fft.rfft(frames * window, axis=1)).T


def decibels(power):
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), -80.0)


def slaney_hz(n_mels):
    """Return edges and centres, n_mels + 2, of the bands of the Slaney mel scale."""
    linear_hz, step = 1000.0, 200 / 3
    top = 15 + np.log(8000 / linear_hz) / (np.log(6.4) / 27)
    mel = np.linspace(0, top, n_mels + 2)
    return np.where(mel < 15, mel * step, linear_hz * np.exp((mel - 15) * np.log(6.4) / 27))


def slaney_mel(n_mels):
    """Return the triangles [n_mels, F] of equal area of the Slaney mel scale."""
    hz = slaney_hz(n_mels)
    bins = np.fft.rfftfreq(CONFIG.n_fft, 1 / RATE)
    low, middle, high = hz[:-2, None], hz[1:-1, None], hz[2:, None]
    rise, fall = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.maximum(0, np.minimum(rise, fall)) * 2 / (high - low)


def expected(name, waveform):
    magnitude = scipy_magnitude(waveform)
    if name == "stft":
        return decibels(magnitude**2)
    if name == "logmel":
        return decibels(slaney_mel(128) @ magnitude**2)
    if name == "mfcc":
        return scipy.fft.dct(expected("logmel", waveform), axis=0, norm="ortho")[:40]
    if name == "chroma":
        chroma = librosa.filters.chroma(sr=RATE, n_fft=CONFIG.n_fft) @ magnitude**2
        return chroma / chroma.max(axis=0)
    if name == "spectral_contrast":
        return librosa.feature.spectral_contrast(y=waveform, sr=RATE)
    chroma = librosa.feature.chroma_cqt(y=waveform, sr=RATE, tuning=0.0)
    chroma = chroma / chroma.sum(axis=0)
    turns = np.arange(12)[None] * np.array([7 / 6, 3 / 2, 2 / 3])[:, None]
    radii = np.array([1.0, 1.0, 0.5])[:, None]
    rows = [radii * np.sin(np.pi * turns), radii * np.cos(np.pi * turns)]
    return np.stack(rows, axis=1).reshape(6, 12) @ chroma


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_agrees_with_an_independent_computation(name, noises):
    image = build(name).apply(noises[0])
    # float32 against float64: levels of 80 dB have steps of 8e-6; worst measured 1.3e-5 (mfcc).
    np.testing.assert_allclose(image, expected(name, noises[0]).T, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", SPECTROGRAMS)
@pytest.mark.parametrize(("duration_s", "frames"), [(4.0, 126), (3.0, 94)])
def test_shapes_and_axes(name, noises, duration_s, frames):
    audio = AudioConfig(duration_s=duration_s)
    spectrogram = build(name, audio=audio)
    image = spectrogram.apply(noises[0, : int(duration_s * RATE)])
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert image.shape == spectrogram.shape == (frames, BINS[name])
    time, bins = spectrogram.axes
    assert (time.kind, time.unit) == ("linear", "s")
    assert time.positions == pytest.approx([0.032 * i for i in range(frames)])
    assert bins.kind == KINDS.get(name, "linear")
    assert len(set(bins.positions)) == BINS[name]
    assert bins.unit


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_many_at_once_are_as_one_by_one(name, noises):
    spectrogram = pickle.loads(pickle.dumps(build(name)))
    sounds = np.stack(
        [tone(440), 1e-3 * noises[1], np.where(np.arange(SAMPLES) < 2e4, noises[2], 0)]
    )
    together = spectrogram.apply(sounds.reshape(3, 1, SAMPLES))
    assert together.shape == (3, 1, *spectrogram.shape)
    # Matrix products of other shapes add in another order.
    for image, sound in zip(together[:, 0], sounds, strict=True):
        np.testing.assert_allclose(image, spectrogram.apply(sound), rtol=1e-5, atol=1e-4)


def impulse():
    samples = np.zeros(SAMPLES, np.float32)
    samples[0] = 1.0
    return samples


ODD = {
    "silence": np.zeros(SAMPLES, np.float32),
    "one sample": impulse(),
    "constant": np.ones(SAMPLES, np.float32),
    "clipped": np.sign(tone(220)),
    "faint": tone(440, 1e-30),
}


@pytest.mark.parametrize("sound", ODD)
@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_odd_sounds_give_finite_images(name, sound):
    image = build(name).apply(ODD[sound])
    assert np.isfinite(image).all()
    if name in ("stft", "logmel"):
        assert image.min() >= -80.0


@pytest.mark.parametrize("name", SILENCE)
def test_silence_is_a_known_constant(name):
    image = build(name).apply(ODD["silence"])
    assert (image == SILENCE[name]).all()


def test_silence_in_mfcc_is_its_mean_alone():
    image = build("mfcc").apply(ODD["silence"])
    # The first orthonormal coefficient of a constant c of n values is c sqrt(n).
    np.testing.assert_allclose(image[:, 0], -80 * np.sqrt(128), rtol=1e-5)
    assert np.abs(image[:, 1:]).max() < 1e-3


@pytest.mark.parametrize("floor_db", [-80.0, -60.0, -100.0, 0.0])
def test_the_floor_is_where_it_is_set(floor_db):
    config = SpectrogramConfig(floor_db=floor_db)
    for name in ("stft", "logmel"):
        image = build(name, config).apply(impulse())
        assert image.min() == floor_db


def test_an_impulse_is_flat_in_the_frame_it_centres():
    image = build("stft").apply(impulse())
    # The window is 1 at its centre: 0 dB in every bin; frames from 1024 samples on are silent.
    np.testing.assert_allclose(image[0], 0.0, atol=1e-4)
    assert (image[2:] == -80.0).all()


@pytest.mark.parametrize("index", [16, 100, 500, 1000])
def test_a_tone_peaks_at_its_bin_and_level(index):
    spectrogram = build("stft")
    image = spectrogram.apply(tone(index * RATE / CONFIG.n_fft, level=0.1))
    assert (image[3:-3].argmax(axis=1) == index).all()
    assert spectrogram.axes[1].positions[index] == index * RATE / CONFIG.n_fft
    # Half the amplitude times the sum of the window.
    np.testing.assert_allclose(image[3:-3, index], 20 * np.log10(0.05 * 1024), atol=1e-3)


@pytest.mark.parametrize("hz", [130.8, 440.0, 1760.0, 6000.0])
def test_a_tone_peaks_at_its_mel_band(hz):
    spectrogram = build("logmel")
    band = spectrogram.apply(tone(hz))[60].argmax()
    centres = np.array(spectrogram.axes[1].positions)
    np.testing.assert_allclose(centres, slaney_hz(128)[1:-1])
    # Low bands are narrower than a bin of 7.8 Hz is wide: the next one may win.
    assert abs(band - np.abs(centres - hz).argmin()) <= 1


@pytest.mark.parametrize(("hz", "name"), [(440.0, "A"), (261.63, "C"), (739.99, "F#")])
def test_a_tone_is_its_pitch_class(hz, name):
    spectrogram = build("chroma")
    image = spectrogram.apply(tone(hz))[5:-5]
    assert (image.argmax(axis=1) == spectrogram.axes[1].positions.index(name)).all()
    np.testing.assert_allclose(image.max(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["chroma", "tonnetz"])
def test_silence_after_a_sound_is_zero(name):
    sound = np.where(np.arange(SAMPLES) < SAMPLES // 4, tone(440), 0)
    image = build(name).apply(sound)
    assert image[10:20].any(axis=1).all()
    assert not image[90:].any()  # the longest constant-Q filter reaches 0.8 s = 25 frames


def test_octaves_are_one_place_in_the_tonnetz():
    spectrogram = build("tonnetz")
    low, high, fifth = (spectrogram.apply(tone(hz))[20:-20].mean(axis=0) for hz in (220, 440, 330))
    # The constant-Q filters of two octaves leak differently: 6e-5 measured.
    assert np.abs(low - high).max() < 1e-3
    assert np.abs(low - fifth).max() > 0.3


def test_contrast_is_high_in_the_band_of_a_tone(noises):
    spectrogram = build("spectral_contrast")
    clean, noisy = spectrogram.apply(tone(600.0)), spectrogram.apply(noises[0])
    assert spectrogram.axes[1].positions[2] == "400-800"
    assert clean[20:-20, 2].min() > noisy[:, 2].max()


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_digests_name_the_image(name):
    digests = {
        build(name).digest,
        build(name, SpectrogramConfig(hop=256)).digest,
        build(name, audio=AudioConfig(duration_s=3.0)).digest,
        build(name, audio=AudioConfig(sample_rate=22_050)).digest,
        *(build(other).digest for other in SPECTROGRAMS),
    }
    assert len(digests) == 3 + len(SPECTROGRAMS)
    assert build(name).digest == build(name).digest


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="41 MFCCs need as many mel bands, not 40"):
        build("mfcc", SpectrogramConfig(n_mels=40, n_mfcc=41))
    with pytest.raises(ValueError, match="above 12800 Hz: 8000"):
        build("spectral_contrast", audio=AudioConfig(sample_rate=8_000))
    with pytest.raises(ValueError, match="above 8372 Hz: 8000"):
        build("tonnetz", audio=AudioConfig(sample_rate=8_000))
    with pytest.raises(ValueError, match="hop that 64 divides: 500"):
        build("tonnetz", SpectrogramConfig(hop=500))
