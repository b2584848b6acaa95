"""Extraction against a plain loop; its cache, its workers, and what it says of broken sounds."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from instrument_ig.audio import DATASETS
from instrument_ig.audio.decode import BadAudio
from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS, extraction
from instrument_ig.spectrograms.extraction import BATCH, extract
from instrument_ig.types import Spectrogram
from tests.audio import layouts

AUDIO = AudioConfig(duration_s=0.3)
SAMPLES = 4800
NAMES = ("logmel", "chroma")


@pytest.fixture
def front_ends():
    return {name: SPECTROGRAMS[name](SpectrogramConfig(), AUDIO) for name in NAMES}


@pytest.fixture
def dataset(tmp_path):
    sounds = layouts.classes(tmp_path / "sounds", {"drum": 12, "harp": 11})
    return DATASETS["folder"](AUDIO, data_dir=sounds)


def loop(dataset, front_ends):
    return {
        name: np.stack([front_end.apply(dataset.load(note)) for note in dataset.notes])
        for name, front_end in front_ends.items()
    }


def assert_equal(images, expected):
    assert images.keys() == expected.keys()
    for name, array in expected.items():
        # Matrix products of batches add in another order.
        np.testing.assert_allclose(images[name], array, rtol=1e-5, atol=1e-4)


def test_equals_a_loop_and_then_comes_from_the_cache(tmp_path, dataset, front_ends):
    expected = loop(dataset, front_ends)
    first = extract(dataset, dataset.notes, front_ends, cache_dir=tmp_path / "cache")
    assert_equal(first.images, expected)
    assert first.notes == dataset.notes
    assert first.bad == ()
    assert min(first.loading_s, first.computing_s) > 0
    deaf = dataset._replace(load=None)  # nothing but the cache can answer
    again = extract(deaf, dataset.notes[::-1], front_ends, cache_dir=tmp_path / "cache")
    assert (again.loading_s, again.computing_s) == (0, 0)
    for name in NAMES:
        np.testing.assert_array_equal(again.images[name][::-1], first.images[name])


@pytest.mark.parametrize("pay_s", [0.0, np.inf], ids=["processes", "threads"])
def test_workers_change_nothing(tmp_path, front_ends, monkeypatch, pay_s):
    monkeypatch.setattr(extraction, "PROCESSES_PAY_S", pay_s)
    count = 5 * BATCH
    sounds = layouts.classes(tmp_path / "sounds", {"drum": count // 2, "harp": count // 2})
    dataset = DATASETS["folder"](AUDIO, data_dir=sounds)
    reports = []
    found = extract(
        dataset,
        dataset.notes,
        front_ends,
        cache_dir=tmp_path / "cache",
        workers=2,
        report=lambda done, total: reports.append((done, total)),
    )
    assert_equal(found.images, loop(dataset, front_ends))
    assert reports == [(done, count) for done in range(0, count + 1, BATCH)]


class Counted(NamedTuple):
    """A step that counts how often it is taken, equal to others of its name."""

    name: str
    taken: list

    def __call__(self, x):
        self.taken.append(self.name)
        return x + 1

    __hash__ = lambda self: hash(self.name)
    __eq__ = lambda self, other: self.name == other.name


def test_what_front_ends_begin_with_is_computed_once(tmp_path, dataset):
    taken = []
    front_ends = {
        names: Spectrogram(
            tuple(Counted(name, taken) for name in names), (SAMPLES,), (), digest=names
        )
        for names in ("ab", "abc", "ac", "b")
    }
    found = extract(dataset, dataset.notes[:3], front_ends, cache_dir=tmp_path / "cache")
    assert sorted(taken) == [*"abbcc"]  # b and c again where something else came before
    for names, images in found.images.items():
        waveforms = np.stack([dataset.load(note) for note in dataset.notes[:3]])
        np.testing.assert_allclose(images, waveforms + len(names), atol=1e-6)


class Counting:
    """Counts what a data set reads."""

    def __init__(self, dataset):
        self.read = []
        self.dataset = dataset._replace(load=self._load)
        self._original = dataset.load

    def _load(self, note):
        self.read.append(note.name)
        return self._original(note)


def test_only_what_is_missing_is_computed(tmp_path, dataset, front_ends):
    extract(dataset, dataset.notes[:20], front_ends, cache_dir=tmp_path / "cache")
    counting = Counting(dataset)
    extract(counting.dataset, dataset.notes, front_ends, cache_dir=tmp_path / "cache")
    assert counting.read == [note.name for note in dataset.notes[20:]]
    more = front_ends | {"mfcc": SPECTROGRAMS["mfcc"](SpectrogramConfig(), AUDIO)}
    counting.read.clear()
    extract(counting.dataset, dataset.notes[:3], more, cache_dir=tmp_path / "cache")
    assert counting.read == [note.name for note in dataset.notes[:3]]  # once for all three


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_damaged_cache_files_are_computed_again(tmp_path, dataset, front_ends, damage):
    cache = tmp_path / "cache"
    expected = extract(dataset, dataset.notes, front_ends, cache_dir=cache).images
    files = sorted(cache.rglob("*.npz"))
    assert len(files) == len(NAMES) * len(dataset.notes)
    for path in files[:5]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes({"bit": content, "cut": content[:-300], "empty": b""}[damage])
    again = extract(dataset, dataset.notes, front_ends, cache_dir=cache).images
    assert_equal(again, expected)
    deaf = dataset._replace(load=None)
    assert_equal(extract(deaf, dataset.notes, front_ends, cache_dir=cache).images, expected)


def test_another_setting_is_another_image(tmp_path, dataset):
    for floor_db in (-80.0, -20.0):
        config = SpectrogramConfig(floor_db=floor_db)
        front_end = {"logmel": SPECTROGRAMS["logmel"](config, AUDIO)}
        images = extract(dataset, dataset.notes, front_end, cache_dir=tmp_path / "cache").images
        assert images["logmel"].min() == floor_db


@pytest.fixture
def with_bad(tmp_path):
    examples = layouts.nsynth(tmp_path, [f"flute_acoustic_{i:03d}" for i in range(6)])
    names = sorted(json.loads((examples / "examples.json").read_text()))
    (examples / "audio" / f"{names[2]}.wav").write_text("noise")
    (examples / "audio" / f"{names[7]}.wav").write_bytes(b"")
    return DATASETS["nsynth"](AUDIO, data_dir=examples), {names[2], names[7]}


def test_broken_sounds_stop_the_run_and_are_listed_together(tmp_path, with_bad, front_ends):
    dataset, names = with_bad
    with pytest.raises(ValueError, match="2 of 12 sounds cannot be read") as caught:
        extract(dataset, dataset.notes, front_ends, cache_dir=tmp_path / "cache")
    assert all(name in str(caught.value) for name in names)
    assert "\n" not in str(caught.value)


def test_broken_sounds_can_be_skipped(tmp_path, with_bad, front_ends):
    dataset, names = with_bad
    for _ in range(2):  # from the cache as well
        found = extract(
            dataset, dataset.notes, front_ends, cache_dir=tmp_path / "cache", skip_bad_files=True
        )
        good = tuple(note for note in dataset.notes if note.name not in names)
        assert found.notes == good
        assert len(found.bad) == 2
        assert all(isinstance(error, BadAudio) for error in found.bad)
        expected = loop(dataset._replace(notes=good), front_ends)
        assert_equal(found.images, expected)


def test_long_lists_are_cut(tmp_path, dataset, front_ends):
    for path in (tmp_path / "sounds" / "drum").iterdir():
        path.write_text("noise")
    with pytest.raises(ValueError, match="12 of 23 sounds .*; and 2 more"):
        extract(dataset, dataset.notes, front_ends, cache_dir=tmp_path / "cache")


def test_no_notes_are_no_images(tmp_path, dataset, front_ends):
    found = extract(dataset, (), front_ends, cache_dir=tmp_path)
    assert found.images["logmel"].shape == (0, *front_ends["logmel"].shape)
