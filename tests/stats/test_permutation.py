import numpy as np
import pytest
from scipy import stats

from instrument_ig.stats import (
    Distances,
    benjamini_hochberg,
    holm,
    permutation_tests,
    within_between,
)


def distances(x):
    return np.abs(x[:, None] - x)


def means_by_loop(values, labels, units, label=None):
    """Mean distance within and between, over ordered pairs both ways; None pools all labels."""
    within, between = [], []
    for i in range(len(values)):
        for j in range(len(values)):
            if label is not None and label not in (labels[i], labels[j]):
                continue
            if labels[i] != labels[j]:
                between.append(values[i, j])
            elif units[i] != units[j]:
                within.append(values[i, j])
    return np.mean(within), np.mean(between)


def test_means_against_a_loop(rng):
    labels = np.array(["a"] * 5 + ["b"] * 4 + ["c"] * 3)
    units = np.array([0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6])
    values = rng.random((12, 12))  # not symmetric
    found = within_between(values, labels, units, rng, permutations=1)
    assert found.labels == ("a", "b", "c", "all")
    assert found.units == (3, 2, 2, 7)
    for k, label in enumerate(("a", "b", "c", None)):
        expected = means_by_loop(values, labels, units, label)
        np.testing.assert_allclose((found.within[k], found.between[k]), expected, rtol=1e-12)


@pytest.mark.parametrize("label", ["a", None])
def test_p_value_against_scipy(label, rng):
    x = np.concatenate([rng.normal(size=4), 0.5 + 0.7 * rng.normal(size=5)])
    values, labels = distances(x), np.array(["a"] * 4 + ["b"] * 5)

    def gap(first, second):
        relabelled = np.empty(9, "<U1")
        relabelled[first.astype(int)], relabelled[second.astype(int)] = "a", "b"
        within, between = means_by_loop(values, relabelled, np.arange(9), label)
        return between - within

    exact = stats.permutation_test(
        (np.arange(4), np.arange(4, 9)), gap, alternative="greater", vectorized=False
    ).pvalue  # all 126 arrangements
    found = within_between(values, labels, np.arange(9), rng, permutations=20_000)
    p_value = found.p_value[found.labels.index(label or "all")]
    assert 0.02 < exact < 0.98
    # three standard errors of a share of 20 000 draws
    assert abs(p_value - exact) < 3 * np.sqrt(exact * (1 - exact) / 20_000)


def null_p_values(rng, *, by_group, studies=400):
    """Pooled p-values of two labels that differ in nothing, six groups of three notes each."""
    groups = np.repeat(np.arange(12), 3)
    labels = np.where(groups < 6, "a", "b")
    units = groups if by_group else np.arange(36)
    p_values = []
    for _ in range(studies):
        x = rng.normal(size=12)[groups] + 0.3 * rng.normal(size=36)
        found = within_between(distances(x), labels, units, rng, permutations=99)
        p_values.append(found.p_value[-1])
    return np.array(p_values)


def test_p_values_are_uniform_under_the_null(rng):
    p_values = null_p_values(rng, by_group=True)
    # multiples of 1/100, all equally likely: minus a uniform step they are uniform on [0, 1]
    smooth = p_values - rng.uniform(0, 0.01, p_values.shape)
    assert stats.kstest(smooth, "uniform").pvalue > 0.01  # one false alarm in 100 seeds


def test_dependent_notes_permuted_singly_reject_too_often(rng):
    assert (null_p_values(rng, by_group=False) <= 0.05).mean() > 0.2


def test_p_values_are_never_zero(rng):
    x = np.concatenate([rng.normal(size=10), 100 + rng.normal(size=10)])
    labels = np.repeat(["a", "b"], 10)
    found = within_between(distances(x), labels, np.arange(20), rng, permutations=50)
    np.testing.assert_allclose(found.p_value, 1 / 51)


def test_few_units_bound_the_p_value(rng):
    """Two labels of two units: the observed arrangement is one of three."""
    x, labels = np.array([0.0, 1.0, 50.0, 51.5]), np.repeat(["a", "b"], 2)
    found = within_between(distances(x), labels, np.arange(4), rng, permutations=3000)
    # three standard errors of a share of 3000 draws
    np.testing.assert_allclose(found.p_value[-1], 1 / 3, atol=0.026)


def test_rows_of_a_study(rng):
    labels = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 2)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    names = np.array([f"note{i}" for i in range(10)])
    tables = [
        Distances("stft", metric, distances(rng.normal(size=10)), names, labels, groups)
        for metric in ("kl", "js")
    ]
    rows = permutation_tests(tables, rng, permutations=200)
    assert [(row.metric, row.instrument) for row in rows] == [
        (metric, label) for metric in ("kl", "js") for label in ("a", "b", "c", "all")
    ]
    lone, tested = rows[2::4], [row for row in rows if row.instrument != "c"]
    assert all(r.within is None and r.p_holm is None and "no test" in r.status for r in lone)
    p_values = np.array([row.p_value for row in tested])
    np.testing.assert_array_equal([row.p_holm for row in tested], holm(p_values))
    np.testing.assert_array_equal([row.p_bh for row in tested], benjamini_hochberg(p_values))


def test_undefined_distances_give_no_test(rng):
    values = distances(rng.normal(size=6))
    values[0, 5] = np.nan
    labels, units = np.repeat(["a", "b"], 3), np.arange(6)
    assert np.isnan(within_between(values, labels, units, rng, permutations=9).p_value).all()


def test_corrections_by_hand():
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p_values), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p_values), [0.02, 0.04, 0.04, 0.02])
    np.testing.assert_array_equal(holm(np.array([0.6, 0.7])), [1, 1])
    assert holm(np.zeros(0)).size == benjamini_hochberg(np.zeros(0)).size == 0


def test_bad_input(rng):
    values = np.zeros((4, 4))
    with pytest.raises(ValueError, match="got 1 and 999"):
        within_between(values, np.array(["a"] * 4), np.arange(4), rng)
    with pytest.raises(ValueError, match="got 2 and 0"):
        within_between(values, np.array(list("aabb")), np.arange(4), rng, permutations=0)
    with pytest.raises(ValueError, match="unit 1 has more than one label"):
        within_between(values, np.array(list("aabb")), np.array([0, 1, 1, 2]), rng)
