from collections import Counter

import numpy as np
import pytest

from instrument_ig.training import problems


@pytest.mark.parametrize("label", ["bass", "flute"])
def test_negatives_are_as_many_and_equally_drawn(label, rng):
    labels = rng.permutation(
        [name for name in ("bass", "flute", "organ", "reed") for _ in range(24)]
    )
    chosen, positive = problems.one_against_others(labels, label, rng)
    counts = Counter(labels[chosen].tolist())
    assert counts.pop(label) == 24
    assert set(counts.values()) == {8}
    assert (labels[chosen] == label).tolist() == positive.tolist()
    assert len(np.unique(chosen)) == len(chosen)


def test_small_classes_give_all_and_the_others_fill_up(rng):
    labels = np.array(["a"] * 10 + ["b"] * 1 + ["c"] * 20 + ["d"] * 20)
    chosen, _ = problems.one_against_others(labels, "a", rng)
    counts = Counter(labels[chosen].tolist())
    assert counts["b"] == 1
    assert sorted([counts["c"], counts["d"]]) == [4, 5]


def test_too_few_others_are_all_taken(rng):
    chosen, positive = problems.one_against_others(["a", "a", "a", "b"], "a", rng)
    assert chosen.tolist() == [0, 1, 2, 3]
    assert positive.tolist() == [True, True, True, False]


def test_the_draw_depends_only_on_the_generator():
    labels = ["a", "b", "c"] * 9
    first, again = (
        problems.one_against_others(labels, "b", np.random.default_rng(3))[0] for _ in range(2)
    )
    assert first.tolist() == again.tolist()


def test_notes_are_spread_over_groups(rng):
    groups = ["x"] * 10 + ["y"] * 2 + ["z"] * 10
    chosen = problems.spread_over_groups(groups, 8, rng)
    assert Counter(np.array(groups)[chosen].tolist()) == {"x": 3, "y": 2, "z": 3}
    assert problems.spread_over_groups(groups, 99, rng).tolist() == list(range(22))
    assert problems.spread_over_groups([], 4, rng).tolist() == []
