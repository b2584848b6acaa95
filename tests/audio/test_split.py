"""Splits by the properties they promise, over random data sets."""

import collections

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from instrument_ig.audio import split
from instrument_ig.types import Note


def notes_of(groups):
    """Make notes from (label, group) pairs."""
    return [Note(f"note {i}", label, group, "", "", "") for i, (label, group) in enumerate(groups)]


def random_notes(rng, *, shared_groups):
    """Make classes of one to twelve groups of one to six notes."""
    pairs = []
    for label in "abcdefg":
        for index in range(rng.integers(1, 13)):
            group = f"{'' if shared_groups else label}{index}"
            pairs += [(label, group)] * rng.integers(1, 7)
    return notes_of(pairs)


def sides_by(notes, field):
    found = collections.defaultdict(set)
    for note in notes:
        found[getattr(note, field)].add(note.split)
    return found


@pytest.mark.parametrize("shared_groups", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_together_and_every_class_trains(seed, shared_groups):
    rng = np.random.default_rng([seed, shared_groups])
    notes = split.assign(random_notes(rng, shared_groups=shared_groups), seed=seed)
    assert all(len(sides) == 1 for sides in sides_by(notes, "group").values())
    assert all("train" in sides for sides in sides_by(notes, "label").values())


@pytest.mark.parametrize(
    ("groups", "sides"),
    [
        (1, {"train"}),
        (2, {"train", "test"}),
        (3, {"train", "valid", "test"}),
        (9, {"train", "valid", "test"}),
    ],
)
def test_which_sides_a_class_reaches(groups, sides):
    notes = split.assign(notes_of([("a", str(i % groups)) for i in range(27)]))
    assert sides_by(notes, "label")["a"] == sides


@pytest.mark.parametrize(("test", "valid"), [(0.2, 0.2), (0.1, 0.1), (0.25, 0.05)])
def test_shares(test, valid):
    pairs = [(label, f"{label}{i // 2}") for label in "abc" for i in range(200)]
    notes = split.assign(notes_of(pairs), test=test, valid=valid)
    for label in "abc":
        counts = collections.Counter(note.split for note in notes if note.label == label)
        # Half a group of two notes, twice because the second draw is from what the first left.
        assert counts["test"] == pytest.approx(200 * test, abs=2)
        assert counts["valid"] == pytest.approx(200 * valid, abs=2)


def test_one_large_group_does_not_swallow_the_training():
    pairs = [("a", "large")] * 50 + [("a", f"small {i}") for i in range(10)]
    for seed in range(10):
        notes = split.assign(notes_of(pairs), seed=seed)
        assert sides_by(notes, "group")["large"] == {"train"}


def test_random_splits_ignore_groups():
    notes = notes_of([("a", "one"), ("b", "two")] * 100)
    parts = split.assign(notes, test=0.1, valid=0.1, by="random")
    counts = collections.Counter((note.label, note.split) for note in parts)
    assert counts == {
        (label, side): count
        for label in "ab"
        for side, count in (("train", 80), ("valid", 10), ("test", 10))
    }
    assert [note.group for note in parts] == [note.group for note in notes]


def test_the_seed_decides():
    notes = notes_of([("a", str(i)) for i in range(50)])
    assert split.assign(notes, seed=1) == split.assign(notes, seed=1)
    assert split.assign(notes, seed=1) != split.assign(notes, seed=2)


def test_validation_is_taken_from_training_only_when_there_is_none():
    pairs = [("a", str(i)) for i in range(20)]
    notes = [
        note._replace(split="test" if i < 5 else "train") for i, note in enumerate(notes_of(pairs))
    ]
    done = split.complete(notes, seed=3)
    counts = collections.Counter(note.split for note in done)
    assert counts == {"test": 5, "valid": 3, "train": 12}
    assert all(note.split == "test" for note in done[:5])
    assert split.complete(done, seed=4) == done


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="by group or random, not 'label'"):
        split.assign([], by="label")


@pytest.mark.parametrize("shared_groups", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_three_parts_or_training_only(seed, shared_groups):
    rng = np.random.default_rng([seed, shared_groups])
    notes = random_notes(rng, shared_groups=shared_groups)
    parts = split.three_parts(notes, seed=seed)
    assert all(len(sides) == 1 for sides in sides_by(parts, "group").values())
    for label, sides in sides_by(parts, "label").items():
        groups = {note.group for note in notes if note.label == label}
        assert sides in ({"train"}, {"train", "valid", "test"})
        assert sides == {"train"} or len(groups) >= 3


def test_random_three_parts_are_as_large_as_those_of_scikit_learn():
    labels = np.repeat(["a", "b", "c"], [200, 60, 10])
    few = ["d", "d"]  # train only, and take nobody with them
    notes = notes_of([(label, "one recording") for label in [*labels, *few]])
    parts = split.three_parts(notes, by="random")
    rest, tested = train_test_split(labels, test_size=0.1, stratify=labels, random_state=0)
    _, validated = train_test_split(rest, test_size=1 / 9, stratify=rest, random_state=0)
    for side, expected in (("test", tested), ("valid", validated)):
        found = collections.Counter(note.label for note in parts if note.split == side)
        assert found == collections.Counter(expected.tolist())
