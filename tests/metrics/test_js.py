import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from instrument_ig.metrics import js_divergence, pairwise_js, split_js, to_distribution

LN2 = np.float32(np.log(2))


@pytest.fixture
def maps(rng):
    """Half of the cells are empty, at different places."""
    heatmaps = rng.standard_normal((5, 9, 7)).astype(np.float32)
    return to_distribution(heatmaps, "positive")


def test_single_and_all_pairs_match_scipy(maps):
    wide = np.asarray(maps, np.float64).reshape(5, -1)
    expected = np.array([[jensenshannon(p, q) ** 2 for q in wide] for p in wide])
    single = [[js_divergence(p, q) for q in maps] for p in maps]
    # float32 sum of 63 terms whose total is at most ln 2; SciPy normalises once more
    np.testing.assert_allclose(single, expected, atol=3e-7)
    np.testing.assert_allclose(pairwise_js(maps), expected, atol=3e-7)
    np.testing.assert_allclose(pairwise_js(maps[:2], maps[1:]), expected[:2, 1:], atol=3e-7)


def test_between_zero_and_ln2(maps):
    values = np.asarray(pairwise_js(maps))
    np.testing.assert_array_equal(values, values.T)
    assert (np.diag(values) == 0).all()
    assert ((values >= 0) & (values <= LN2)).all()


def test_disjoint_maps_are_ln2_apart(rng):
    shares = to_distribution(rng.uniform(size=(40, 64)).astype(np.float32))
    empty = jnp.zeros_like(shares)
    p = jnp.concatenate([shares, empty]) * (1 + 1e-6)  # sums round to above one
    q = jnp.concatenate([empty, shares]) * (1 + 1e-6)
    assert js_divergence(p, q) == LN2


def test_nothing_that_is_no_distribution_becomes_a_number(maps):
    spoiled = maps.at[1, 0, 0].set(jnp.nan).at[2].set(jnp.nan).at[4].multiply(-1)
    expected = np.zeros((5, 5), bool)
    for bad in (1, 2, 4):
        expected[bad], expected[:, bad] = True, True
    np.testing.assert_array_equal(np.isnan(pairwise_js(spoiled)), expected)
    single = [[np.isnan(js_divergence(p, q)) for q in spoiled] for p in spoiled]
    np.testing.assert_array_equal(single, expected)


def test_gradient_is_the_closed_form(rng):
    p, q = to_distribution(rng.standard_normal((2, 9, 7)).astype(np.float32), floor=1e-3)
    by_p, by_q = jax.grad(js_divergence, (0, 1))(p, q)
    middle = (p + q) / 2
    # float32 rounding of one division and one logarithm
    np.testing.assert_allclose(by_p, jnp.log(p / middle) / 2, atol=1e-5)
    np.testing.assert_allclose(by_q, jnp.log(q / middle) / 2, atol=1e-5)


def test_gradient_is_finite_everywhere(maps):
    p = maps[0].at[0, 0].set(1e-30)
    p, q = p / p.sum(), to_distribution(maps[1].at[0, 0].set(0))
    for gradient in jax.grad(js_divergence, (0, 1))(p, q):
        assert np.isfinite(gradient).all()
    by_p = jax.grad(js_divergence)(p, q)
    assert (np.asarray(by_p)[(p == 0) & (q > 0)] < -40).all(), "steep, towards more mass"
    assert (np.asarray(by_p)[(p == 0) & (q == 0)] == 0).all()


def test_jit_and_vmap_change_nothing(maps):
    plain = [js_divergence(p, q) for p, q in zip(maps[:-1], maps[1:], strict=True)]
    mapped = jax.jit(jax.vmap(js_divergence))(maps[:-1], maps[1:])
    np.testing.assert_allclose(mapped, plain, atol=2e-7)  # sums in another order


def test_parts_add_up_and_are_where_the_difference_is():
    p = jnp.zeros((6, 5)).at[1, 2].set(0.5).at[4, 3].set(0.5)
    q = jnp.zeros((6, 5)).at[1, 2].set(0.5).at[4, 0].set(0.5)
    parts = split_js(p, q)
    for part in parts:
        # float32 sums of at most 30 terms
        np.testing.assert_allclose(jnp.sum(part), js_divergence(p, q), rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(parts.frames), [4])
    np.testing.assert_array_equal(np.flatnonzero(parts.bins), [0, 3])
    # two disjoint halves: each cell has half of its 0.5 ln 2
    np.testing.assert_allclose(parts.cells[4, 3], np.log(2) / 4, rtol=1e-6)


def test_no_part_is_negative_beyond_rounding(maps):
    # the two logarithms of a cell cancel to rounding of its own mass
    assert float(jnp.min(split_js(maps[0], maps[1]).cells)) >= -1e-8


@pytest.mark.parametrize(("change", "digits"), [(1e-1, 1e-4), (1e-2, 1e-4), (1e-3, 0.05)])
def test_nearly_equal_maps_keep_their_digits(rng, change, digits):
    p = np.asarray(to_distribution(rng.standard_normal((40, 30)).astype(np.float32)))
    q = p * (1 + np.float32(change) * rng.standard_normal(p.shape).astype(np.float32))
    q = np.asarray(to_distribution(q))
    wide_p, wide_q = p.astype(np.float64), q.astype(np.float64)
    middle = (wide_p + wide_q) / 2
    expected = (wide_p * np.log(wide_p / middle) + wide_q * np.log(wide_q / middle)).sum() / 2
    # u, half of the change, enters as 1 + u, rounded to 6e-8: 1e-5 of u at 1 %, 1e-4 at .1 %; the
    # term is of the order of u^2, so that the rounding counts once more over u, less by averaging
    np.testing.assert_allclose(js_divergence(p, q), expected, rtol=digits)
    assert expected < change**2 / 5  # of the order of change^2 / 8


@pytest.mark.parametrize("change", [1e-4, 1e-5, 1e-6, 1e-7])
def test_nearer_maps_are_not_below_zero(rng, change):
    p = np.asarray(to_distribution(rng.random((30, 4, 2)).astype(np.float32)))
    q = (p * (1 + change * rng.standard_normal(p.shape))).astype(np.float32)
    found = jax.vmap(js_divergence)(p, q)
    # 1 + u and 1 - u are rounded to 6e-8 of cells whose mass is 2 in all, a quarter of which counts
    assert (found >= 0).all()
    assert (found < change**2 + 6e-8).all()
