"""What every entry of DATASETS promises, and the real data where it is at hand."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from instrument_ig.audio import DATASETS
from instrument_ig.config import AudioConfig
from instrument_ig.types import Dataset
from tests.audio import layouts

CONFIG = AudioConfig(duration_s=0.3)
FIVE = [f"{family}_acoustic_{i:03d}" for family in ("flute", "organ") for i in range(5)]
REAL = Path(__file__).parents[3] / "shared" / "data" / "nsynth"


@pytest.fixture(params=DATASETS)
def dataset(request, tmp_path):
    rows = [
        {"path": f"{label}{i}.wav", "label": label, "group": f"{label}{i // 2}"}
        for label in ("harp", "drum")
        for i in range(10)
    ]
    options = {
        "soundfont": lambda: {"notes": 6, "cache_dir": tmp_path},
        "nsynth": lambda: {"data_dir": layouts.nsynth(tmp_path, FIVE)},
        "folder": lambda: {"data_dir": layouts.classes(tmp_path, {"drum": 5, "harp": 5})},
        "csv": lambda: {"data_dir": layouts.table(tmp_path / "a.csv", rows)},
    }
    return DATASETS[request.param](CONFIG, **options[request.param]())


def test_contract(dataset):
    assert isinstance(dataset, Dataset)
    assert dataset.sample_rate == CONFIG.sample_rate
    assert len({note.name for note in dataset.notes}) == len(dataset.notes)
    assert len({note.digest for note in dataset.notes}) == len(dataset.notes)
    assert {note.split for note in dataset.notes} == {"train", "valid", "test"}


def test_train_and_test_share_no_group(dataset):
    trained, validated, tested = (
        {note.group for note in dataset.notes if note.split == side}
        for side in ("train", "valid", "test")
    )
    assert not trained & tested
    assert not validated & tested


def test_loading(dataset):
    note = dataset.notes[-1]
    waveform = pickle.loads(pickle.dumps(dataset.load))(note)
    assert waveform.dtype == np.float32
    assert waveform.shape == (round(CONFIG.duration_s * CONFIG.sample_rate),)
    assert 0.1 < np.abs(waveform).max() <= 1.0
    np.testing.assert_array_equal(dataset.load(note), waveform)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real NSynth notes beside the checkout")
def test_real_nsynth_notes():
    dataset = DATASETS["nsynth"](AudioConfig(), data_dir=REAL)
    assert len({note.label for note in dataset.notes}) == 10
    for note in dataset.notes[:5]:
        waveform = dataset.load(note)
        assert waveform.shape == (64_000,)
        assert np.abs(waveform).max() > 0.1
