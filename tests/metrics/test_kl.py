import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr

from instrument_ig.metrics import kl_divergence, pairwise_kl, to_distribution


@pytest.fixture
def floored(rng):
    return to_distribution(rng.standard_normal((5, 8, 6)).astype(np.float32), floor=1e-7)


@pytest.fixture
def holed(rng):
    """Maps with zeros in different places, so that some pairs are infinite and some are not."""
    maps = rng.gamma(0.5, size=(5, 8, 6)).astype(np.float32)
    maps[:3, :4] = 0
    maps[0, :6] = 0
    return to_distribution(maps)


def oracle(maps):
    wide = np.asarray(maps, np.float64)
    return np.array([[rel_entr(p, q).sum() for q in wide] for p in wide])


@pytest.mark.parametrize("maps", ["floored", "holed"])
def test_single_and_all_pairs_match_scipy(maps, request):
    maps = request.getfixturevalue(maps)
    expected = oracle(maps)
    single = [[kl_divergence(p, q) for q in maps] for p in maps]
    # float32: logarithms of size 16 rounded to 1e-6, weighted by shares that sum to one
    np.testing.assert_allclose(single, expected, atol=2e-6)
    np.testing.assert_allclose(pairwise_kl(maps), expected, atol=2e-6)
    np.testing.assert_allclose(pairwise_kl(maps[:2], maps[1:]), expected[:2, 1:], atol=2e-6)


def test_holes_give_both_kinds_of_pairs(holed):
    infinite = np.isinf(pairwise_kl(holed))
    assert infinite[3, 0], "mass where q has none"
    assert not infinite[0, 3], "no mass where q has some"
    np.testing.assert_array_equal(infinite, np.isinf(oracle(holed)))


def test_identical_maps_are_exactly_zero_apart(floored, holed):
    for maps in (floored, holed):
        assert (np.diag(pairwise_kl(maps)) == 0).all()
        assert kl_divergence(maps[1], maps[1]) == 0


def test_a_point_against_the_uniform_distribution():
    point = jnp.zeros((4, 8)).at[2, 3].set(1)
    uniform = jnp.full((4, 8), 1 / 32)
    np.testing.assert_allclose(kl_divergence(point, uniform), np.log(32), rtol=1e-6)  # float32
    assert np.isposinf(kl_divergence(uniform, point))


def test_nothing_that_is_no_distribution_becomes_a_number(holed):
    maps = holed.at[1, 0, 0].set(jnp.nan).at[2].set(jnp.nan).at[4].multiply(-1)
    found = np.isnan(pairwise_kl(maps))
    single = [[np.isnan(kl_divergence(p, q)) for q in maps] for p in maps]
    expected = np.zeros((5, 5), bool)
    for bad in (1, 2, 4):
        expected[bad], expected[:, bad] = True, True
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(single, expected)


def test_gradient_is_the_closed_form(floored):
    p, q = floored[0], floored[1]
    by_p, by_q = jax.grad(kl_divergence, (0, 1))(p, q)
    # float32 rounding of one logarithm and one division
    np.testing.assert_allclose(by_p, np.log(p / q) + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_q, -p / q, rtol=1e-5)


def test_gradient_is_finite_on_common_zeros_and_on_tiny_shares(holed):
    p, q = holed[0].at[7, 5].set(1e-30), holed[3].at[7, 5].set(1e-25)
    p, q = p / p.sum(), q / q.sum()
    by_p, by_q = jax.grad(kl_divergence, (0, 1))(p, q)
    assert np.isfinite(by_p).all()
    assert np.isfinite(by_q).all()


def test_jit_and_vmap_change_nothing(floored):
    plain = [kl_divergence(p, q) for p, q in zip(floored[:-1], floored[1:], strict=True)]
    mapped = jax.jit(jax.vmap(kl_divergence))(floored[:-1], floored[1:])
    np.testing.assert_allclose(mapped, plain, atol=2e-6)  # sums in another order
