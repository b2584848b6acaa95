"""Decoding against files written here: formats, channels, rates, and everything broken."""

import numpy as np
import pytest
import soundfile
import soxr

from instrument_ig.audio.decode import BadAudio, decode, fit, load, stream
from instrument_ig.config import AudioConfig
from instrument_ig.types import Note

RATE = 16_000


def tone(seconds=0.5, hz=440.0, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("f4")


# What one step of the format, or its compression, does to a sample.
FORMATS = [
    ("wav", "PCM_U8", 2**-7),
    ("wav", "PCM_16", 2**-15),
    ("wav", "PCM_24", 2**-23),
    ("wav", "PCM_32", 2**-23),  # float32 keeps 24 bits
    ("wav", "FLOAT", 0.0),
    ("wav", "DOUBLE", 0.0),
    ("flac", "PCM_16", 2**-15),
    ("flac", "PCM_24", 2**-23),
    ("aiff", "PCM_16", 2**-15),
]


@pytest.mark.parametrize(("suffix", "subtype", "step"), FORMATS)
def test_lossless_formats(tmp_path, suffix, subtype, step):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE, subtype=subtype)
    found = decode(path, RATE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tone(), rtol=0, atol=step)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE)
    found = decode(path, RATE)
    assert abs(len(found) - len(tone())) <= 1152  # one MP3 frame
    middle = slice(2_000, 6_000)
    # Compression noise: 2 % measured for OGG, 1 % for MP3.
    assert np.abs(found[middle] - tone()[middle]).max() < 0.05


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(), 0 * tone()], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decode(path, RATE), tone() / 2)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate=rate), rate, subtype="FLOAT")
    found = decode(path, RATE)
    assert len(found) == len(tone())
    # soxr's high quality passes 440 Hz within 1e-4; the ends have no neighbours to filter with.
    np.testing.assert_allclose(found[500:-500], tone()[500:-500], atol=2e-4)


def test_frequencies_above_the_new_nyquist_are_gone(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(hz=9_000, rate=48_000), 48_000, subtype="FLOAT")
    assert np.abs(decode(path, RATE)[500:-500]).max() < 1e-4  # soxr's stop band is -100 dB


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_pieces_are_those_of_the_whole(tmp_path, rate, monkeypatch):
    path = tmp_path / "a.wav"
    noise = np.random.default_rng(0).uniform(-1, 1, (rate // 2, 2)).astype(np.float32)
    soundfile.write(path, noise, rate, subtype="FLOAT")
    monkeypatch.setattr("instrument_ig.audio.decode.BLOCK", 1000)
    pieces = list(stream(path, RATE))
    assert len(pieces) == -(-len(noise) // 1000)
    whole = soxr.resample(noise.mean(axis=1), rate, RATE)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_no_more_than_needed_is_read(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(3.0, rate=44_100), 44_100, subtype="FLOAT")
    config = AudioConfig(RATE, 1.0)
    note = Note("long", "", "", "", str(path), "")
    assert len(decode(path, RATE, 1.0)) < 2 * RATE
    # The same as from the whole file: the resampler's edge lies in the margin. 1e-6: soxr sums
    # in float32.
    np.testing.assert_allclose(load(config, note), decode(path, RATE)[:RATE], atol=1e-6)


def test_short_sounds_are_padded(tmp_path):
    path = tmp_path / "one.wav"
    soundfile.write(path, np.array([0.25]), RATE, subtype="FLOAT")
    waveform = load(AudioConfig(RATE, 1.0), Note("one", "", "", "", str(path), ""))
    assert waveform.shape == (RATE,)
    assert waveform[0] == 0.25
    assert not waveform[1:].any()


def test_fit_cuts_and_pads():
    np.testing.assert_array_equal(fit(np.ones(5, np.float32), 3), np.ones(3))
    np.testing.assert_array_equal(fit(np.ones(2, np.float32), 3), [1, 1, 0])


def broken(path, kind):
    if kind == "text":
        path.write_text("this is not a sound")
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind in ("nan", "inf"):
        samples = tone()
        samples[100] = float(kind)
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "cannot be read: no such file"),
        ("text", "cannot be read"),
        ("no bytes", "cannot be read"),
        ("folder", "cannot be read"),
        ("no samples", "holds no samples"),
        ("nan", "holds NaN or infinite samples"),
        ("inf", "holds NaN or infinite samples"),
    ],
)
def test_broken_sounds(tmp_path, kind, reason):
    path = tmp_path / "a.wav"
    broken(path, kind)
    with pytest.raises(BadAudio) as caught:
        decode(path, RATE)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_truncated_sounds(tmp_path, capfd, suffix, share):
    path = tmp_path / f"a.{suffix}"
    rng = np.random.default_rng(0)  # noise: a tone compresses to almost nothing
    soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadAudio):
        decode(path, RATE)
    capfd.readouterr()  # the MP3 library complains by itself


def test_a_wav_from_a_pipe_is_whole(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # sizes unknown when the header was written
    path.write_bytes(content)
    np.testing.assert_allclose(decode(path, RATE), tone(), atol=2**-15)  # one step of 16 bits


def test_the_error_pickles():
    import pickle

    error = pickle.loads(pickle.dumps(BadAudio("a.wav", "is odd")))
    assert (error.path, error.reason, str(error)) == ("a.wav", "is odd", "a.wav: is odd")
