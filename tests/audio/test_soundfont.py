"""Rendered notes by what can be measured of them, and how a data set is drawn from a soundfont."""

import collections
import functools
import pickle

import numpy as np
import pytest

from instrument_ig.audio import sf2, soundfont
from instrument_ig.audio.draw import Voice
from instrument_ig.audio.general_midi import FAMILIES, INSTRUMENTS
from instrument_ig.config import AudioConfig
from tests.audio import soundfonts

CONFIG = AudioConfig(duration_s=1.0)
BUNDLED = str(soundfont.bundled())


@functools.cache
def opened(table, **options):
    return soundfont.open_soundfont(CONFIG, table=table, **options)


def strongest_hz(waveform, rate):
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(power) * rate / len(waveform)


# Sounds whose fundamental is their strongest partial: recorder, ocarina, flute, celesta.
@pytest.mark.parametrize(("program", "key"), [(74, 69), (79, 76), (73, 81), (8, 72)])
def test_a_note_has_its_pitch(program, key):
    waveform = soundfont.render(BUNDLED, Voice(0, program, key, 100), CONFIG)
    expected = 440 * 2 ** ((key - 69) / 12)
    # Flutes are played a few cents beside equal temperament; a semitone is 6 %.
    assert strongest_hz(waveform, CONFIG.sample_rate) == pytest.approx(expected, rel=0.015)


def test_the_wheel_bends_two_semitones(tmp_path):
    path = str(soundfonts.write(tmp_path / "a.sf2", {(0, 0): [(0, 127, 0)]}))
    straight = soundfont.render(path, Voice(0, 0, 69, 100), CONFIG)
    bent = soundfont.render(path, Voice(0, 0, 69, 100, 8191), CONFIG)
    # Bins of the transform are 1 Hz apart.
    assert strongest_hz(straight, CONFIG.sample_rate) == pytest.approx(440, abs=1.0)
    assert strongest_hz(bent, CONFIG.sample_rate) == pytest.approx(440 * 2 ** (1 / 6), abs=1.0)


@pytest.mark.parametrize(("rate", "duration_s"), [(16_000, 1.0), (22_050, 0.7), (8_000, 1.5)])
def test_a_note_has_its_length_and_level(rate, duration_s):
    config = AudioConfig(rate, duration_s)
    waveform = soundfont.render(BUNDLED, Voice(0, 19, 60, 90), config)
    assert waveform.dtype == np.float32
    assert waveform.shape == (round(rate * duration_s),)
    # One float32 product.
    assert np.abs(waveform).max() == pytest.approx(90 / 127, rel=1e-6)


def test_a_note_is_held_for_three_quarters_and_then_dry(tmp_path):
    path = str(soundfonts.write(tmp_path / "a.sf2", {(0, 0): [(0, 127, 0)]}))
    waveform = soundfont.render(path, Voice(0, 0, 69, 127), CONFIG)
    assert np.abs(waveform[11_000:11_900]).max() > 0.9
    # This soundfont has no release; a reverb would ring on.
    assert np.abs(waveform[12_600:]).max() < 1e-3


def test_a_released_note_rings_out():
    waveform = soundfont.render(BUNDLED, Voice(0, 14, 60, 127), CONFIG)  # tubular bells
    assert np.abs(waveform[12_500:]).max() > 0.1


def test_rendering_does_not_alias():
    config = AudioConfig(duration_s=0.5)
    waveform = soundfont.render(BUNDLED, Voice(0, 73, 103, 100), config)
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    hz = np.fft.rfftfreq(len(waveform), 1 / 16_000)
    # A flute at 3136 Hz has nothing below its fundamental but breath; images of its upper
    # partials would lie there.
    assert power[hz < 2_500].sum() < 0.01 * power.sum()


@pytest.mark.parametrize("table", ["families", "instruments"])
def test_train_and_test_share_no_recording(table):
    presets = sf2.read(soundfont.bundled())
    heard = collections.defaultdict(set)
    for note in opened(table).notes:
        bank, program, key, *_ = map(int, note.source.split())
        heard[note.split] |= sf2.recordings(presets[bank, program], key)
    assert heard["train"]
    assert heard["test"]
    assert not heard["train"] & heard["test"]
    assert not heard["valid"] & heard["test"]


def test_families_use_all_their_programs_and_keep_their_sides():
    notes = opened("families").notes
    for label, family in FAMILIES.items():
        for side in ("train", "valid", "test"):
            own = [note for note in notes if (note.label, note.split) == (label, side)]
            assert len(own) == {"train": 64, "valid": 16, "test": 16}[side]
            voices = [Voice(*map(int, note.source.split())) for note in own]
            assert {voice.program for voice in voices} == set(getattr(family, side))
            assert all(family.low <= voice.key <= family.high for voice in voices)
            assert len(set(voices)) == len(voices)
        assert len(family.test) >= 2


def test_instruments_are_all_there():
    notes = opened("instruments", notes=24).notes
    counts = collections.Counter(note.label for note in notes)
    assert counts == dict.fromkeys(INSTRUMENTS, 24)
    assert {note.source.split()[0] for note in notes if note.label == "Hi-Hats"} == {"128"}


def test_a_class_is_drawn_alike_alone_and_among_others():
    alone = soundfont.open_soundfont(CONFIG, labels=["reed"]).notes
    among = opened("families").notes
    assert alone == tuple(note for note in among if note.label == "reed")


def test_the_seed_changes_the_notes():
    assert opened("families", seed=1).notes != opened("families").notes
    assert opened("families", seed=1).digest != opened("families").digest


@pytest.mark.parametrize("other", [AudioConfig(8_000, 1.0), AudioConfig(16_000, 2.0)])
def test_digests_name_the_sound(other):
    theirs = soundfont.open_soundfont(other, notes=6).notes
    ours = opened("families", notes=6).notes
    assert {note.source for note in theirs} == {note.source for note in ours}
    assert not {note.digest for note in theirs} & {note.digest for note in ours}


def test_loading_keeps_the_note(tmp_path, monkeypatch):
    dataset = soundfont.open_soundfont(CONFIG, notes=6, cache_dir=tmp_path)
    note = dataset.notes[0]
    first = pickle.loads(pickle.dumps(dataset.load))(note)
    monkeypatch.setattr(soundfont, "render", None)  # from now on only the cache can answer
    np.testing.assert_array_equal(dataset.load(note), first)
    direct_voice = Voice(*map(int, note.source.split()))
    monkeypatch.undo()
    np.testing.assert_array_equal(soundfont.render(BUNDLED, direct_voice, CONFIG), first)


def every_program(sample):
    return {(0, program): [(0, 127, sample(program))] for program in range(128)}


def test_another_soundfont_works(tmp_path):
    path = soundfonts.write(tmp_path / "a.sf2", every_program(lambda program: program))
    dataset = soundfont.open_soundfont(CONFIG, soundfont=path, notes=6, cache_dir=tmp_path)
    note = next(note for note in dataset.notes if note.label == "string")
    _, _, key, *_ = map(int, note.source.split())
    found = strongest_hz(dataset.load(note), CONFIG.sample_rate)
    # Bins of the transform are 1 Hz apart.
    assert found == pytest.approx(440 * 2 ** ((key - 69) / 12), abs=1.0)
    assert {n.digest for n in dataset.notes}.isdisjoint(n.digest for n in opened("families").notes)


def test_programs_heard_in_the_test_do_not_train(tmp_path):
    # Violin has the recording of the cello here, which is a test program.
    path = soundfonts.write(tmp_path / "a.sf2", every_program(lambda p: 42 if p == 40 else p))
    notes = soundfont.open_soundfont(CONFIG, soundfont=path, cache_dir=tmp_path).notes
    programs = {side: set() for side in ("train", "valid", "test")}
    for note in notes:
        programs[note.split].add(int(note.source.split()[1]))
    assert 40 not in programs["train"]
    assert {41, 44} <= programs["train"]
    assert 42 in programs["test"]


def test_classes_may_be_left_out():
    whole = soundfont.open_soundfont(CONFIG, table="instruments", notes=6).notes
    found = soundfont.open_soundfont(CONFIG, table="instruments", leave_out=["Piano"], notes=6)
    assert {note.name for note in whole} - {note.name for note in found.notes} == {
        note.name for note in whole if note.label == "Piano"
    }


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such soundfont: missing.sf2"):
        soundfont.open_soundfont(CONFIG, soundfont="missing.sf2")
    with pytest.raises(ValueError, match="no such class: 'theremin'; choose from bass, brass"):
        soundfont.open_soundfont(CONFIG, labels=["theremin"])
    with pytest.raises(ValueError, match="no such table: 'orchestra'"):
        soundfont.open_soundfont(CONFIG, table="orchestra")
    with pytest.raises(ValueError, match="at least 6 notes, not 5"):
        soundfont.open_soundfont(CONFIG, notes=5)
    with pytest.raises(ValueError, match="no more than 512 notes of Cowbell, not 513"):
        soundfont.open_soundfont(CONFIG, table="instruments", notes=513)
    path = soundfonts.write(tmp_path / "piano.sf2", {(0, 0): [(0, 127, 0)]})
    with pytest.raises(ValueError, match="no sound of bass train"):
        soundfont.open_soundfont(CONFIG, soundfont=path)
