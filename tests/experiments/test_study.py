"""The study's pieces on a handful of notes, one class of which cannot be tested."""

import numpy as np
import pytest

from experiments import study
from instrument_ig.types import Note

SPLITS = {"bass": ("train", "train", "valid", "test"), "flute": ("train", "valid", "test")}
SPLITS |= {"horn": ("train", "train")}


@pytest.fixture
def material(rng):
    notes = tuple(
        Note(f"{label}{number}", label, f"{label}{number}", split, "", "")
        for label, splits in SPLITS.items()
        for number, split in enumerate(splits)
    )
    images = rng.normal(size=(len(notes), 6, 4)).astype(np.float32)
    return study.Material("tonnetz", None, notes, images, None, None)


def test_a_class_without_validation_notes_is_judged_by_those_it_learns_from(material):
    learned, judged = (
        study.binary_examples(material, "horn", 0, split) for split in ("train", "valid")
    )
    assert learned.labels.sum() == 2
    np.testing.assert_array_equal(learned.images, judged.images)
    own = study.binary_examples(material, "bass", 0, "valid")
    assert own.labels.tolist() == [1, 0]


def test_a_class_without_test_notes_takes_part_in_the_choice_among_all(material, rng):
    tested = material.rows("test")
    logits = {name: rng.normal(size=len(tested)) for name in SPLITS}
    logits["horn"] = np.array([9.0, -9.0])
    predictions = study.ten_way_predictions(material, logits)
    assert predictions.predicted[0] == 2
    row = study.ten_way_row(predictions, list(logits), rng, 20)
    assert row["instrument"] == "3-way"
    assert row["accuracy"] == np.mean(predictions.predicted == predictions.truth)
    tables = {table.instrument: table for table in study.binary_predictions(material, logits, 0)}
    assert len(tables["horn"].truth) == 0
    assert tables["flute"].truth.tolist() == [0, 1]
    assert study.choose_explained(material, list(SPLITS), 4, 0).keys() == {"bass", "flute"}
