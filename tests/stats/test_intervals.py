import numpy as np
import pytest
from scipy import optimize, stats

from instrument_ig.stats import Distances, intervals, pair_quantiles, summarise

LEVELS = (0, 0.1, 0.25, 0.5, 0.9, 1)


def table(values, labels, groups, metric="js"):
    names = np.array([f"{label}{i}" for i, label in enumerate(labels)])
    return Distances("stft", metric, values, names, np.asarray(labels), np.asarray(groups))


def distances(x):
    return np.abs(x[:, None] - x)


def repeated_pairs(values, weights):
    """Every pair of different notes as often as its copies meet: a loop."""
    n = len(values)
    return [
        values[i, j]
        for i in range(n)
        for j in range(n)
        if i != j
        for _ in range(weights[i] * weights[j])
    ]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("chunk", [intervals.CHUNK, 60])
def test_quantiles_equal_those_of_repeated_pairs(symmetric, chunk, rng, monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", chunk)
    values = rng.random((7, 7))
    values = values + values.T if symmetric else values
    weights = rng.integers(0, 4, (25, 7)) + np.eye(25, 7, dtype=int)
    weights[:, 0] += 1  # with the diagonal above: at least one pair in every resample but one
    weights[0, 1] += 1
    expected = [np.quantile(repeated_pairs(values, w), LEVELS) for w in weights]
    # both interpolate linearly in float64
    np.testing.assert_allclose(pair_quantiles(values, weights, LEVELS), expected, rtol=1e-12)


def test_a_note_and_its_copy_are_no_pair():
    values = np.array([[0.0, 5.0], [5.0, 0.0]])
    weights = np.array([[3, 1], [4, 0]])
    np.testing.assert_array_equal(pair_quantiles(values, weights), [[5.0], [np.nan]])


def test_undefined_and_infinite_distances():
    values = np.array([[np.nan, 1.0, 2.0], [3.0, np.nan, 4.0], [5.0, np.inf, np.nan]])
    once = np.ones((1, 3), int)
    np.testing.assert_array_equal(pair_quantiles(values, once, (0, 0.6, 1)), [[1, 4, np.inf]])
    values[0, 1] = np.nan
    assert np.isnan(pair_quantiles(values, once)).all()


def test_one_note_has_no_pairs():
    with pytest.raises(ValueError, match="got 1"):
        pair_quantiles(np.zeros((1, 1)), np.ones((1, 1), int))


def test_summary_against_numpy(rng):
    values = rng.random((12, 12))
    labels = np.repeat(["bass", "reed"], 6)
    groups = np.tile(["a", "b", "c"], 4)
    done = []
    rows = summarise([table(values, labels, groups)], rng, report=lambda *step: done.append(step))
    assert [row.instrument for row in rows] == ["bass", "reed"]
    assert done == [(1, 1)]
    for row, own in zip(rows, (slice(0, 6), slice(6, 12)), strict=True):
        pairs = values[own, own][~np.eye(6, dtype=bool)]
        np.testing.assert_allclose(row[6:11], np.quantile(pairs, (0, 0.25, 0.5, 0.75, 1)))
        assert (row.notes, row.groups, row.pairs, row.status) == (6, 3, 30, "")
        assert row.minimum <= row.low <= row.median <= row.high <= row.maximum


@pytest.mark.parametrize(
    ("groups", "values", "numbers", "status"),
    [
        (["a"] * 4, np.ones((4, 4)), True, "no interval: one group"),
        (["a", "b"], np.ones((2, 2)), True, "no interval: one pair"),
        (["a"], np.zeros((1, 1)), False, "no pairs: one note"),
        (
            ["a", "b", "c"],
            np.array([[0, 1, 1], [1, 0, np.nan], [1, 1, 0]]),
            False,
            "NaN pairs: 1",
        ),
    ],
)
def test_what_cannot_be_said_is_said(groups, values, numbers, status, rng):
    (row,) = summarise([table(values, ["bass"] * len(groups), groups)], rng, resamples=10)
    assert row.status == status
    assert (row.median is not None) == numbers
    assert row.low is None
    assert row.high is None


def test_coverage_of_independent_notes(rng):
    """|x - y| of two normals has the median sqrt(2) z(3/4)."""
    truth = np.sqrt(2) * stats.norm.ppf(0.75)
    assert abs(coverage(rng, truth, groups=16, notes=1, between=0.0) - 0.95) < MARGIN


def test_coverage_of_dependent_notes(rng):
    """Resampling groups and then notes covers at least as often as promised."""
    truth = mixed_median(groups=5, notes=4, between=0.5)
    assert coverage(rng, truth, groups=5, notes=4, between=0.5) > 0.95 - MARGIN


def test_dependent_notes_taken_for_independent_cover_too_rarely(rng):
    truth = mixed_median(groups=5, notes=4, between=0.5)
    found = coverage(rng, truth, groups=5, notes=4, between=0.5, grouped=False)
    assert found < 0.95 - MARGIN


STUDIES = 400
MARGIN = 3 * np.sqrt(0.95 * 0.05 / STUDIES)  # three standard errors of a share of studies


def coverage(rng, truth, groups, notes, between, *, grouped=True):
    """Share of studies whose 95 % interval holds the truth."""
    group = np.repeat(np.arange(groups), notes)
    hits = 0
    for _ in range(STUDIES):
        x = rng.normal(size=groups)[group] * np.sqrt(between)
        x = x + rng.normal(size=len(group)) * np.sqrt(1 - between)
        units = group if grouped else np.arange(len(group))
        study = table(distances(x), ["bass"] * len(x), units)
        (row,) = summarise([study], rng, resamples=200)
        hits += row.low <= truth <= row.high
    return hits / STUDIES


def mixed_median(groups, notes, between):
    """Median of |x - y| over pairs of the design, some of them within a group."""
    within = (notes - 1) / (groups * notes - 1)
    folded = lambda m, variance: 2 * stats.norm.cdf(m / np.sqrt(2 * variance)) - 1
    share = lambda m: within * folded(m, 1 - between) + (1 - within) * folded(m, 1.0)
    return optimize.brentq(lambda m: share(m) - 0.5, 0, 5)
