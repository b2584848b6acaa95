"""Notes of a General MIDI soundfont: real sampled instruments, rendered as NSynth renders its own.

A note is held for three quarters of its duration and then released. Rendering is dry (no reverb,
no chorus) at 48 kHz, because at 16 kHz the renderer aliases, and resampled. The peak is the
velocity's share of full scale: the renderer's own levels are low and uneven.
"""

import functools
import importlib.metadata
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import midirenderer
import numpy as np
import pretty_midi
import soundfile
import soxr
from jaxtyping import Float32

from instrument_ig.audio import checks, sf2
from instrument_ig.audio.decode import BadAudio, fit, length
from instrument_ig.audio.draw import Voice, draw
from instrument_ig.config import AudioConfig
from instrument_ig.storage import cache
from instrument_ig.types import Dataset, Note

VERSION = 1  # counts changes of the rendering below: part of every digest
HELD = 0.75  # of the duration; NSynth holds three of four seconds
SILENT = 1e-3  # peak of a rendered note below which it counts as silent
REVERB, CHORUS, VOLUME = 91, 93, 7  # MIDI controllers


def open_soundfont(
    config: AudioConfig,
    *,
    soundfont: str | Path | None = None,
    table: str = "families",
    labels: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    notes: int = 96,
    seed: int = 0,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Draw notes of every class, at many pitches and velocities; nothing is rendered yet.

    Args:
      config: sample rate and duration.
      soundfont: an .sf2 file; the General MIDI bank that comes with pretty_midi if None.
      table: "families" (ten, two thirds of the notes train; test programs share no recording with
        them) or "instruments" (25 with percussion, 80-10-10, split by recording).
      labels: the classes to draw; all if empty.
      leave_out: the classes not to draw.
      notes: per class.
      seed: of the draw.
      cache_dir: where rendered notes are kept; the user's cache folder if None.

    Raises:
      FileNotFoundError: no such soundfont.
      ValueError: not a soundfont, unknown table or class, too few notes, or a class without sound.
    """
    path = Path(soundfont) if soundfont else bundled()
    if not path.is_file():
        raise FileNotFoundError(f"no such soundfont: {path}")
    drawn = draw(sf2.read(path), table, labels, leave_out, notes, seed)
    made_by = cache.digest(
        soundfont=cache.digest_file(path),
        audio=asdict(config),
        renderer=importlib.metadata.version("midirenderer"),
        resampler=importlib.metadata.version("soxr"),
        version=VERSION,
    )
    drawn = tuple(
        note._replace(digest=cache.digest(by=made_by, voice=note.source)) for note in drawn
    )
    checks.usable(drawn, f"{path.name} ({table})")
    return Dataset(
        name="soundfont",
        notes=drawn,
        load=functools.partial(_load, str(path), config, cache.folder(cache_dir) / "notes"),
        sample_rate=config.sample_rate,
        digest=cache.digest(notes=drawn),
    )


def bundled() -> Path:
    """Return the path of the General MIDI bank that comes with pretty_midi, TimGM6mb."""
    return Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")


def render(path: str, voice: Voice, config: AudioConfig) -> Float32[np.ndarray, " N"]:
    """Render one note; its peak is velocity / 127.

    Raises:
      BadAudio: the soundfont is silent there.
    """
    wave = midirenderer.render_wave_from(_content(path), _midi(voice, config.duration_s))
    stereo, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
    waveform = fit(soxr.resample(stereo.mean(axis=1), rate, config.sample_rate), length(config))
    peak = np.abs(waveform).max()
    if peak < SILENT:
        raise BadAudio(path, f"is silent at {voice}")
    return waveform * np.float32(voice.velocity / 127 / peak)


def _load(path: str, config: AudioConfig, folder: Path, note: Note) -> Float32[np.ndarray, " N"]:
    voice = Voice(*map(int, note.source.split()))
    return cache.remember(folder, note.digest, lambda: render(path, voice, config))


def _midi(voice: Voice, duration_s: float) -> bytes:
    instrument = pretty_midi.Instrument(voice.program, is_drum=voice.bank == sf2.DRUMS)
    instrument.control_changes = [
        pretty_midi.ControlChange(REVERB, 0, 0.0),
        pretty_midi.ControlChange(CHORUS, 0, 0.0),
        pretty_midi.ControlChange(VOLUME, 127, 0.0),
        # The rendered file ends with its last event.
        pretty_midi.ControlChange(VOLUME, 127, duration_s),
    ]
    instrument.pitch_bends = [pretty_midi.PitchBend(voice.bend, 0.0)]
    instrument.notes = [pretty_midi.Note(voice.velocity, voice.key, 0.0, HELD * duration_s)]
    song = pretty_midi.PrettyMIDI(resolution=960)
    song.instruments = [instrument]
    file = io.BytesIO()
    song.write(file)
    return file.getvalue()


@functools.lru_cache(maxsize=2)
def _content(path: str) -> bytes:
    return Path(path).read_bytes()
