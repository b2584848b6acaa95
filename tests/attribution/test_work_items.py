import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution.programs import Parts, call, result_shape
from instrument_ig.attribution.work_items import WorkItems, weighted_sums


def product(score, row, point):
    """Contribution and record of one item."""
    return score(row) * point, row.sum() + point


@pytest.fixture
def rows(rng):
    return jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)


@pytest.fixture
def items(rng):
    """Unequal numbers of points per row, in no order, and slots that are not the rows."""
    row = rng.integers(0, 4, 21)
    point = rng.normal(size=21).astype(np.float32)
    return WorkItems(row, point, rng.normal(size=21), rng.integers(0, 6, 21))


def expected(rows, items):
    sums = np.zeros((6, 3))
    for row, point, weight, slot in zip(*items, strict=True):
        sums[slot] += weight * np.square(rows[row]) * point
    return sums, np.asarray(rows)[items.row].sum(1) + items.point


@pytest.mark.parametrize("chunk", [None, 1, 5, 21, 100])
@pytest.mark.parametrize("traced", [False, True])
def test_sums_and_records_are_those_of_a_loop(rows, items, chunk, traced):
    run = lambda rows: weighted_sums(product, jnp.square, rows, items, slots=6, chunk=chunk)
    sums, records = (jax.jit(run) if traced else run)(rows)
    for found, wanted in zip((sums, records), expected(rows, items), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)  # sums of some float32 terms near 1


def test_sums_go_on_from_those_given(rows, items):
    first, second = (
        WorkItems(*(leaf[part] for leaf in items)) for part in (slice(9), slice(9, None))
    )
    sums, _ = weighted_sums(product, jnp.square, rows, first, slots=6)
    sums, _ = weighted_sums(product, jnp.square, rows, second, sums=sums)
    together, _ = weighted_sums(product, jnp.square, rows, items, slots=6)
    np.testing.assert_allclose(sums, together, atol=1e-6)  # same order of addition


def test_nan_and_infinity_stay_in_their_slot(rows, items):
    point = items.point.copy()
    point[items.slot == 2] = np.nan
    point[items.slot == 5] = np.inf
    sums, _ = weighted_sums(
        product, jnp.square, rows, items._replace(point=point), slots=6, chunk=4
    )
    finite = np.isfinite(sums).all(1)
    assert finite.tolist() == [True, True, False, True, True, False]
    np.testing.assert_allclose(
        np.asarray(sums)[finite], expected(rows, items)[0][finite], atol=1e-5
    )


def test_progress_ends_with_everything_done(rows, items):
    seen = []
    weighted_sums(
        product, jnp.square, rows, items, slots=6, chunk=8, report=lambda *c: seen.append(c)
    )
    assert seen == [(8, 21), (16, 21), (21, 21)]


def test_a_score_is_put_together_again():
    score = jax.tree_util.Partial(jnp.multiply, jnp.arange(3.0))
    parts = Parts.of(score)
    assert len(parts.arrays) == 1
    assert hash(parts.static) == hash(Parts.of(score).static)
    np.testing.assert_array_equal(parts.whole()(2.0), [0, 2, 4])
    plain = Parts.of(jnp.square)
    assert plain.arrays == ()
    assert plain.whole() is jnp.square


def test_programs_are_shared_by_scores_of_one_kind():
    traces = []

    def multiply(weight, x):
        traces.append(1)
        return weight * x

    apply = lambda score, x: score(x)
    for weight in (2.0, 3.0):
        score = jax.tree_util.Partial(multiply, jnp.float32(weight))
        assert call(apply, score, jnp.float32(5)) == 5 * weight
        assert result_shape(apply, score, jnp.float32(5)).shape == ()
    assert len(traces) == 1
