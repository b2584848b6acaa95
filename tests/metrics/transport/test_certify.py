"""Bounds from any potential and any flow, checked in float64 NumPy and against exact transport."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics.transport.certify import (
    c_transform,
    certify,
    leftover,
    lower_bound,
    tree_sums,
    upper_bound,
)
from instrument_ig.metrics.transport.graph import differences, divergence, edge_costs, with_hubs
from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    cost_matrix,
    ground_cost,
)
from instrument_ig.metrics.transport.lipschitz import project_lipschitz
from instrument_ig.metrics.transport.pyramid import complete

GROUNDS = {
    "linear": ground_cost((7, 6)),
    "ring": ground_cost((6, 7), (LINEAR, CIRCULAR), (4.0, 1.0)),
    "star": ground_cost((5, 6), (LINEAR, CATEGORICAL)),
    "one bin": ground_cost((9, 1)),
}
grounds = pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
EPS = 2.0**-23  # of float32
lower = jax.jit(lower_bound, static_argnames="ground")
upper = jax.jit(upper_bound, static_argnames="ground")
certified = jax.jit(partial(certify, tolerance=0.1), static_argnames="ground")


def distances(ground):
    time, frequency = map(cost_matrix, ground)
    cells = len(time) * len(frequency)
    return (time[:, None, :, None] + frequency[:, None]).reshape(cells, cells)


def shape(ground):
    return tuple(along.bins for along in ground)


def sparse_pair(rng, shape):
    maps = rng.exponential(size=(2, *shape)) ** 3 * (rng.uniform(size=(2, *shape)) < 0.5)
    maps[:, 0, 0] += 1e-3
    return jnp.asarray(maps / maps.sum((1, 2), keepdims=True), jnp.float32)


@pytest.mark.parametrize("cells", [(1, 1), (3, 5), (126, 128)])
def test_tree_sums_are_within_their_bound(cells, rng):
    values = (rng.standard_normal((4, *cells)) * 10 ** rng.uniform(-4, 4, cells)).astype(np.float32)
    (total, size), rounding = jax.jit(lambda x: tree_sums([x, jnp.abs(x)]))(values)
    error = np.asarray(rounding * size, np.float64)
    exact = values.astype(np.float64).sum((1, 2))
    assert (np.abs(np.asarray(total, np.float64) - exact) <= error).all()
    assert (error <= 32 * EPS * np.abs(values).sum((1, 2))).all()  # depth 14, and 8, of 24 bits


@grounds
def test_any_potential_and_any_flow_enclose_the_exact_distance(ground, exact, rng):
    for _ in range(5):
        p, q = sparse_pair(rng, shape(ground))
        value = exact(p, q, ground)
        potential = jnp.asarray(rng.standard_normal(p.shape) * 0.1, jnp.float32)
        nodes = with_hubs(p, ground)
        flow = tuple(
            jnp.asarray(rng.standard_normal(rise.shape) * 0.01, jnp.float32)
            for rise in differences(nodes, ground)
        )
        assert lower(potential, p, q, ground=ground) <= value
        assert value <= upper(flow, p, q, ground=ground)
        bounds = certified(potential, flow, p, q, ground=ground, iterations=jnp.asarray(3))
        low, high = bounds.transport.lower, bounds.transport.upper
        assert low <= value <= high
        assert bounds.transport.converged == (high - low <= 0.1 * high)
        assert bounds.transport.iterations == 3


@grounds
def test_the_certificate_is_what_it_says_in_float64(ground, rng):
    p, q = sparse_pair(rng, shape(ground))
    excess = np.asarray(p, np.float64) - np.asarray(q, np.float64)
    start = with_hubs(p - q, ground)
    potential = c_transform(jnp.asarray(rng.standard_normal(p.shape), jnp.float32), p, q, ground)
    flow = complete(start, ground)
    found = certified(potential, flow, p, q, ground=ground, iterations=jnp.asarray(0))
    f = np.asarray(found.potential, np.float64).ravel()
    rises = np.abs(f[:, None] - f)
    assert (rises <= distances(ground) + 16 * EPS * np.abs(f).max()).all()
    steepest = np.max(rises[distances(ground) > 0] / distances(ground)[distances(ground) > 0])
    assert found.transport.lower <= max(0, (f * excess.ravel()).sum() / steepest)
    left = np.asarray(leftover(found.flow, p, q, ground), np.float64)
    assert np.abs(left).sum() < 64 * EPS
    wide = tuple(np.asarray(along, np.float64) for along in found.flow)
    cost = sum((np.abs(m) * c).sum() for m, c in zip(wide, edge_costs(ground), strict=True))
    assert cost <= found.transport.upper <= cost * (1 + 1e-4)  # rounding of at most 80 edges


@grounds
def test_a_potential_that_is_too_steep_proves_no_more(ground, exact, rng):
    p, q = sparse_pair(rng, shape(ground))
    excess = np.asarray(p - q, np.float64)
    value = exact(p, q, ground)
    for steep in (excess, np.sign(excess)):
        assert (100 * steep * excess).sum() > value
        assert lower(jnp.asarray(100 * steep, jnp.float32), p, q, ground=ground) <= value


def test_a_jump_where_the_ring_closes_is_steep(exact):
    ground = ground_cost((1, 8), (LINEAR, CIRCULAR))
    p = jnp.asarray(np.eye(1, 8), jnp.float32)
    q = jnp.roll(p, -1, 1)
    ramp = jnp.asarray(np.arange(8)[None] * -0.25, jnp.float32)  # an edge costs 1/4
    assert lower(ramp, p, q, ground=ground) <= exact(p, q, ground)


@grounds
def test_the_c_transform_of_a_lipschitz_potential_loses_nothing(ground, rng):
    p, q = sparse_pair(rng, shape(ground))
    potential = jnp.asarray(rng.standard_normal(p.shape), jnp.float32)
    before = project_lipschitz(potential, ground)
    after = c_transform(before, p, q, ground)
    excess = np.asarray(p, np.float64) - np.asarray(q, np.float64)
    gains = [(np.asarray(f, np.float64) * excess).sum() for f in (before, after)]
    assert gains[1] >= gains[0] - 64 * EPS  # roundings of potentials of order 1


@grounds
def test_equal_maps_are_at_zero_exactly(ground, rng):
    p, _ = sparse_pair(rng, shape(ground))
    nodes = with_hubs(p, ground)
    none = tuple(jnp.zeros_like(rise) for rise in differences(nodes, ground))
    found = certified(p, none, p, p, ground=ground, iterations=jnp.asarray(0)).transport
    assert found.lower == 0
    assert found.upper == 0
    assert found.converged


def test_masses_that_are_not_quite_one_are_divided_out(exact, rng):
    ground = GROUNDS["linear"]
    p, q = sparse_pair(rng, shape(ground))
    p = p * 1.001
    value = exact(p, q, ground)
    none = tuple(jnp.zeros_like(rise) for rise in differences(p, ground))
    found = certified(q - p, none, p, q, ground=ground, iterations=jnp.asarray(0)).transport
    assert found.lower <= value <= found.upper


def test_nan_propagates(rng):
    ground = GROUNDS["linear"]
    p, q = sparse_pair(rng, shape(ground))
    p = p.at[2, 2].set(jnp.nan)
    none = tuple(jnp.zeros_like(rise) for rise in differences(p, ground))
    found = certified(q, none, p, q, ground=ground, iterations=jnp.asarray(0)).transport
    assert jnp.isnan(found.lower)
    assert jnp.isnan(found.upper)
    assert not found.converged


def test_divergence_of_a_completed_flow_in_float64(rng):
    ground = GROUNDS["ring"]
    p, q = sparse_pair(rng, shape(ground))
    flow = complete(p - q, ground)
    np.testing.assert_allclose(divergence(flow, ground), p - q, atol=8 * EPS)  # sums of 42 shares
