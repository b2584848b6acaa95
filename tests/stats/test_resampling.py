from types import SimpleNamespace

import numpy as np
import pytest

from instrument_ig.stats import interval, resample
from instrument_ig.stats.resampling import Resamples


def notes(label, sizes):
    """One table: a label with groups of the given sizes."""
    groups = [f"{label}-{g}" for g, size in enumerate(sizes) for _ in range(size)]
    names = [f"{group}/{k}" for k, group in enumerate(groups)]
    columns = (np.array(names), np.array([label] * len(names)), np.array(groups))
    return SimpleNamespace(**dict(zip(("names", "labels", "groups"), columns, strict=True)))


def test_first_row_is_the_sample(rng):
    assert (resample([notes("bass", [3, 2])], rng, resamples=5).weights[0] == 1).all()


def test_groups_are_drawn_whole_and_as_many_as_there_are(rng):
    drawn = resample([notes("bass", [3, 2, 4]), notes("reed", [2, 2])], rng, resamples=300)
    per_group = {g: drawn.weights[1:, drawn.groups == g].sum(1) for g in np.unique(drawn.groups)}
    copies = {g: n / (drawn.groups == g).sum() for g, n in per_group.items()}
    assert all((c == c.astype(int)).all() for c in copies.values())
    assert (sum(c for g, c in copies.items() if g.startswith("bass")) == 3).all()
    assert (sum(c for g, c in copies.items() if g.startswith("reed")) == 2).all()


def test_moments_of_the_weights(rng):
    """Two binomial stages: mean 1, variance (1 - 1/groups) + (1 - 1/notes)."""
    weights = resample([notes("bass", [5, 5, 5])], rng, resamples=20_000).weights[1:]
    # standard errors of mean and variance at 20 000 draws are 0.009 and 0.03; four of them
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.035)
    np.testing.assert_allclose(weights.var(0), (1 - 1 / 3) + (1 - 1 / 5), atol=0.12)


def test_drawn_for_sums_few_groups_vary_as_much_as_the_sample_says(rng):
    """A sum over n groups has variance n s^2; labels with one group are taken for one label."""
    tables = [
        notes("bass", [1, 1]),
        notes("reed", [1, 1, 1]),
        notes("horn", [1]),
        notes("oboe", [1]),
    ]
    drawn = resample(tables, rng, resamples=20_000, for_sums=True)
    weights = drawn.of(np.concatenate([table.names for table in tables]))[1:]
    values = np.array([3.0, 7, 1, 2, 9, 4, 6])
    variance = sum(len(own) * own.var(ddof=1) for own in (values[:2], values[2:5], values[5:]))
    # variances of 20,000 draws have a standard error of about 1 %
    assert (weights @ values).var() == pytest.approx(variance, rel=0.05)
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.035)  # four standard errors


def test_a_note_has_one_weight_in_all_tables(rng):
    table = notes("bass", [2, 2])
    part = SimpleNamespace(
        names=table.names[[3, 0]], labels=table.labels[[3, 0]], groups=table.groups[[3, 0]]
    )
    drawn = resample([table, part], rng, resamples=20)
    assert drawn.weights.shape == (21, 4)
    np.testing.assert_array_equal(drawn.of(part.names), drawn.of(table.names)[:, [3, 0]])


def test_group_counts(rng):
    drawn = resample([notes("bass", [2, 2]), notes("reed", [3])], rng, resamples=1)
    assert drawn.group_counts() == {"bass": 2, "reed": 1}


@pytest.mark.parametrize("field", ["labels", "groups"])
def test_clashing_notes_are_named(field, rng):
    table, other = notes("bass", [2]), notes("bass", [2])
    setattr(other, field, np.array(["x", "bass-0" if field == "groups" else "bass"]))
    with pytest.raises(ValueError, match=rf"bass-0/0 has more than one {field[:-1]}"):
        resample([table, other], rng)


def test_nothing_to_draw(rng):
    with pytest.raises(ValueError, match="got 0 and 1000"):
        resample([], rng)
    with pytest.raises(ValueError, match="got 1 and 0"):
        resample([notes("bass", [2])], rng, resamples=0)


def test_unknown_note():
    names = np.array(["a", "c"])
    drawn = Resamples(names, names, names, np.ones((1, 2), np.int32))
    with pytest.raises(ValueError, match="note b is not"):
        drawn.of(["a", "b"])


def test_interval_is_a_pair_of_draws():
    draws = np.arange(1.0, 1001.0)
    assert interval(draws, 0.9) == (50, 950)
    assert interval(np.concatenate([draws, [np.nan] * 500]), 0.9) == (50, 950)
    assert interval(np.where(draws > 900, np.inf, draws), 0.9) == (50, np.inf)
    assert interval(np.full(3, np.nan)) == (None, None)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        interval(draws, 1.5)
