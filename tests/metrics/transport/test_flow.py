import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from instrument_ig.machine import Execution
from instrument_ig.metrics.transport import flow
from instrument_ig.metrics.transport.attempts import Asked, Problem
from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    cost_matrix,
    ground_cost,
)

AXES = {
    "linear": (LINEAR, LINEAR),
    "ring": (LINEAR, CIRCULAR),
    "star": (LINEAR, CATEGORICAL),
    "ring and star": (CIRCULAR, CATEGORICAL),
}
TOLERANCE = 0.02


def asked(tolerance):
    return Asked(jnp.float32(tolerance), jnp.float32(1))


def solve(p, q, ground, *, tolerance):
    return flow.solve(p, q, Problem("flow", ground, "recursion"), asked(tolerance))


def solve_many(p, q, ground, *, tolerance):
    pairs = np.arange(len(p)), np.arange(len(q))
    problem = Problem("flow", ground, "recursion")
    return flow.solve_many((p, q), pairs, problem, asked(tolerance), Execution())


def pairs(rng, count, shape):
    """Heavy-tailed maps with empty cells, of the given shape."""
    maps = rng.exponential(size=(2, count, *shape)) ** 3
    maps *= rng.uniform(size=maps.shape) < 0.4
    maps[..., 0, 0] += 1e-3
    return jnp.asarray(maps / maps.sum((-2, -1), keepdims=True), jnp.float32)


def points(shape, *cells):
    maps = np.zeros((len(cells), *shape), np.float32)
    for heatmap, cell in zip(maps, cells, strict=True):
        heatmap[cell] = 1
    return jnp.asarray(maps)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_the_interval_holds_the_exact_distance(axes, exact, rng):
    ground = ground_cost((11, 8), axes)
    p, q = pairs(rng, 6, (11, 8))
    found = solve_many(p, q, ground, tolerance=TOLERANCE)
    values = [exact(a, b, ground) for a, b in zip(p, q, strict=True)]
    assert (np.asarray(found.lower, np.float64) <= values).all()
    assert (values <= np.asarray(found.upper, np.float64)).all()
    assert found.converged.all()


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_moved_point_costs_its_way(axes):
    ground = ground_cost((11, 8), axes)
    p = points((11, 8), (1, 1), (0, 0), (5, 4), (9, 7), (3, 3), (6, 1))
    q = points((11, 8), (1, 2), (10, 7), (5, 4), (2, 0), (4, 3), (6, 6))
    time, frequency = map(cost_matrix, ground)
    ways = [
        time[1, 1] + frequency[1, 2],
        time[0, 10] + frequency[0, 7],
        0,
        time[9, 2] + frequency[7, 0],
        time[3, 4],
        frequency[1, 6],
    ]
    found = solve_many(p, q, ground, tolerance=TOLERANCE)
    for lower, way, upper in zip(found.lower, ways, found.upper, strict=True):
        # the distances are float64, the edges float32: the interval is about the latter
        assert float(lower) <= way * (1 + 1e-6)
        assert way <= float(upper) * (1 + 1e-6)
    assert found.converged.all()
    assert found.upper[2] == 0


def test_the_solution_is_feasible_and_does_not_depend_on_its_batch(rng):
    ground = ground_cost((11, 8))
    p, q = pairs(rng, 6, (11, 8))
    q = q.at[5, 0, 0].set(jnp.nan)
    solution = jax.jit(lambda p, q: solve(p, q, ground, tolerance=TOLERANCE))(p, q)
    assert jnp.isnan(solution.transport.upper[5])
    assert not solution.transport.converged[5]
    solution, p, q = jax.tree.map(lambda field: field[:5], (solution, p, q))
    many = solve_many(
        p[jnp.array([0, 1, 2, 3, 4, 0])],
        q[jnp.array([0, 1, 2, 3, 4, 0])],
        ground,
        tolerance=TOLERANCE,
    )
    # the two programs round differently, and PDHG carries that through hundreds of steps
    np.testing.assert_allclose(solution.transport.cost, many.cost[:5], rtol=TOLERANCE)
    assert (solution.transport.lower <= many.upper[:5]).all()
    assert (many.lower[:5] <= solution.transport.upper).all()
    potential = np.asarray(solution.potential, np.float64)
    assert np.abs(np.diff(potential, axis=1)).max() <= ground[0].edge + 1e-6  # float32 potential
    time, frequency = (np.asarray(along, np.float64) for along in solution.flow)
    leaving = np.pad(time, ((0, 0), (0, 1), (0, 0))) - np.pad(time, ((0, 0), (1, 0), (0, 0)))
    leaving += np.pad(frequency, ((0, 0), (0, 0), (0, 1)))
    leaving -= np.pad(frequency, ((0, 0), (0, 0), (1, 0)))
    np.testing.assert_allclose(leaving, p - q, atol=1e-6)  # float32 flows


def test_symmetry_and_the_triangle_inequality(rng):
    ground = ground_cost((11, 8))
    maps = pairs(rng, 3, (11, 8)).reshape(6, 11, 8)[:3]
    i, j = np.nonzero(1 - np.eye(3))
    found = solve_many(maps[i], maps[j], ground, tolerance=TOLERANCE)
    lower, upper = np.zeros((2, 3, 3))
    lower[i, j], upper[i, j] = found.lower, found.upper
    assert (lower <= upper.T).all()
    for k in range(3):
        assert (lower <= upper[:, [k]] + upper[[k]]).all()


def test_what_is_asked_for_decides_how_long_it_works(rng, monkeypatch):
    p, q = pairs(rng, 6, (11, 8))
    monkeypatch.setattr(flow, "ATTEMPTS", (1, 4))
    found = solve_many(p, q, ground_cost((11, 8)), tolerance=1e-9)
    assert not found.converged.any()
    assert (found.iterations == 400).all()
    loose = solve_many(p, q, ground_cost((11, 8)), tolerance=0.9)
    assert (loose.iterations == 100).all()


def test_a_large_pair_against_min_cost_flow(rng):
    """64 x 66 cells, exact for masses that are whole numbers of 2^-24."""
    p, q = (whole_masses(rng, (64, 66)) for _ in range(2))
    value = min_cost_flow(p - q)
    scale = np.float32(2.0**-24)
    found = solve_many(
        jnp.asarray(p[None] * scale, jnp.float32),
        jnp.asarray(q[None] * scale, jnp.float32),
        ground_cost((64, 66)),
        tolerance=TOLERANCE,
    )
    assert float(found.lower[0]) <= value <= float(found.upper[0])
    assert found.converged.all()


def whole_masses(rng, shape):
    time, frequency = np.mgrid[: shape[0], : shape[1]] / shape[0]
    blob = np.exp(-sum((at - rng.uniform(0.2, 0.8)) ** 2 for at in (time, frequency)) / 0.02)
    share = blob * rng.exponential(size=shape) + 1e-4
    masses = np.floor(share / share.sum() * 2**24).astype(np.int64)
    masses[0, 0] += 2**24 - masses.sum()
    return masses


def min_cost_flow(excess):
    """Exact W1 for edges of 1/63 and 1/65, as multiples of 1/4095."""
    node = np.arange(excess.size).reshape(excess.shape)
    solver = SimpleMinCostFlow()
    for near, far, cost in (
        (node[:-1], node[1:], 65),
        (node[1:], node[:-1], 65),
        (node[:, :-1], node[:, 1:], 63),
        (node[:, 1:], node[:, :-1], 63),
    ):
        capacity, costs = np.full(near.size, 2**24), np.full(near.size, cost)
        solver.add_arcs_with_capacity_and_unit_cost(near.ravel(), far.ravel(), capacity, costs)
    solver.set_nodes_supplies(node.ravel(), excess.ravel())
    assert solver.solve() == solver.OPTIMAL
    return solver.optimal_cost() / (63 * 65) / 2**24
