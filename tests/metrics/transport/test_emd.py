"""OTT fails strict promotion of types and of ranks, hence the marker."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics import CIRCULAR, LINEAR, emd, pairwise_emd, to_distribution

pytestmark = pytest.mark.permissive

AXES = (LINEAR, CIRCULAR)
OPTIONS = {"axes": AXES, "epsilon": 0.02, "tolerance": 0.1}


@pytest.fixture(scope="module")
def maps():
    """Four maps with empty cells; the last one twice."""
    heatmaps = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(np.float32)
    return to_distribution(heatmaps, "positive")[jnp.array([0, 1, 2, 3, 3])]


@pytest.fixture(scope="module")
def found(maps):
    return pairwise_emd(maps, **OPTIONS)


def test_all_pairs_match_single_pairs(maps, found):
    for i, j in ((0, 1), (2, 0)):
        single = emd(maps[i], maps[j], **OPTIONS)
        # a loop of its own may stop a round earlier or later: marginals are 1e-3 off
        np.testing.assert_allclose(found.cost[i, j], single.cost, rtol=3e-3)
        assert single.lower <= found.upper[i, j]
        assert found.lower[i, j] <= single.upper


def test_symmetric_with_a_zero_diagonal(found):
    for field in found:
        np.testing.assert_array_equal(field, np.asarray(field).T)
        assert field.shape == (5, 5)
    assert (np.diag(found.upper) == 0).all()
    assert np.diag(found.converged).all()
    # equal maps: nothing is known but that it is small, a fraction of epsilon
    assert found.lower[3, 4] == 0
    assert found.upper[3, 4] < 0.02


def test_triangle_inequality_of_the_bounds(found):
    upper = np.asarray(found.upper, np.float64)
    assert (np.asarray(found.lower)[:, :, None] <= upper[:, None, :] + upper.T[None]).all()


def test_rectangles_and_little_memory_give_the_same(maps, found):
    told = []
    memory = 2 * 8 * maps[0].nbytes  # two pairs at a time
    part = pairwise_emd(
        maps[:2], maps[1:], memory=memory, report=lambda *at: told.append(at), **OPTIONS
    )
    assert part.cost.shape == (2, 4)
    np.testing.assert_allclose(part.cost[0], found.cost[0, 1:], rtol=3e-3)  # as above
    assert told[-1] == (8, 8)
    with pytest.raises(ValueError, match="memory"):
        pairwise_emd(maps, memory=100, **OPTIONS)


def test_what_is_no_distribution_is_nan_and_not_converged(maps):
    spoiled = maps.at[1, 0, 0].set(jnp.nan).at[2].set(0).at[3, 0, 0].set(-0.1)
    result = pairwise_emd(spoiled, **OPTIONS)
    bad = np.zeros((5, 5), bool)
    for row in (1, 2, 3):
        bad[row], bad[:, row] = True, True
    for field in (result.cost, result.lower, result.upper, result.marginal_error):
        np.testing.assert_array_equal(np.isnan(field), bad)
    assert not np.asarray(result.converged)[bad].any()
    for row in (1, 2, 3):
        single = emd(spoiled[0], spoiled[row], **OPTIONS)
        assert np.isnan([single.cost, single.lower, single.upper]).all()
        assert not single.converged


def test_gradient_is_that_of_the_lower_bound(maps):
    p, q = to_distribution(maps[:2], floor=0.1)
    of = lambda p, q: emd(p, q, **OPTIONS).cost
    by_p, by_q = jax.grad(of, (0, 1))(p, q)
    assert np.isfinite(by_p).all()
    np.testing.assert_array_equal(by_p, -by_q)
    # the potential is worth the lower bound, whose interval is as wide as the tolerance at most
    result = emd(p, q, **OPTIONS)
    np.testing.assert_allclose(jnp.sum(by_p * (p - q)), result.lower, rtol=1e-4)
    # moving towards q by a step: between the slopes that the two ends of the interval allow
    step = 0.2
    moved = emd(p + step * (q - p), q, **OPTIONS)
    slope = (float(moved.cost) - float(result.cost)) / step
    np.testing.assert_allclose(jnp.sum(by_p * (q - p)), slope, rtol=0.1)  # the interval's width


def test_gradient_reaches_cells_without_mass(maps):
    p, q = maps[:2]
    by_p = jax.grad(lambda p: emd(p, q, **OPTIONS).upper)(p)
    assert (p == 0).any()
    assert np.isfinite(by_p).all()
    rise = np.abs(np.diff(by_p, axis=0))
    assert (rise <= 1 / 5 * (1 + 1e-5)).all(), "1-Lipschitz along time, up to rounding"


def test_jit_vmap_and_forward_mode_agree(maps):
    of = lambda p, q: emd(p, q, **OPTIONS)
    mapped = jax.jit(jax.vmap(of))(maps[:2], maps[2:4])
    single = of(maps[0], maps[2])
    np.testing.assert_allclose(mapped.cost[0], single.cost, rtol=3e-3)  # as above
    tangent = maps[2] - maps[0]
    _, forward = jax.jvp(lambda p: of(p, maps[2]).cost, (maps[0],), (tangent,))
    backward = jnp.sum(jax.grad(lambda p: of(p, maps[2]).cost)(maps[0]) * tangent)
    np.testing.assert_allclose(forward, backward, rtol=1e-5)  # one float32 sum


def test_extents_scale_the_distance():
    p = jnp.zeros((6, 5)).at[0, 0].set(1)
    q = jnp.zeros((6, 5)).at[5, 2].set(1)
    seconds_and_octaves = emd(p, q, axes=AXES, epsilon=0.1, extents=(4.0, 7.0))
    np.testing.assert_allclose(seconds_and_octaves.cost, 4 + 7, rtol=2e-3)  # marginals 1e-3 off


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"solver": "simplex"}, "'simplex'"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"extents": (1.0, -1.0)}, "-1.0"),
    ],
)
def test_bad_choices_are_errors(wrong, message, maps):
    for call in (lambda: emd(maps[0], maps[1], **wrong), lambda: pairwise_emd(maps, **wrong)):
        with pytest.raises(ValueError, match=message):
            call()
