"""OTT fails strict promotion of types and of ranks, hence the marker."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as ott_sinkhorn

from instrument_ig.metrics import CATEGORICAL, CIRCULAR, LINEAR, to_distribution
from instrument_ig.metrics.transport import sinkhorn
from instrument_ig.metrics.transport.ground import cost_matrix, ground_cost

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # POT's sources warn when they are first compiled
    import ot

pytestmark = pytest.mark.permissive

KINDS = {
    "linear": ((5, 7), (LINEAR, LINEAR)),
    "circular": ((5, 6), (LINEAR, CIRCULAR)),
    "categorical": ((6, 4), (LINEAR, CATEGORICAL)),
}


def full_cost(ground):
    time, frequency = map(cost_matrix, ground)
    cells = len(time) * len(frequency)
    return (time[:, None, :, None] + frequency[None, :, None, :]).reshape(cells, cells)


def exact(p, q, ground):
    p, q = (np.asarray(x, np.float64).ravel() for x in (p, q))
    return ot.emd2(p / p.sum(), q / q.sum(), full_cost(ground))


@pytest.fixture
def heatmaps(rng):
    """Maps of which half of the cells are empty."""

    def make(shape, count=4):
        return to_distribution(rng.standard_normal((count, *shape)).astype(np.float32), "positive")

    return make


def solved(p, q, ground, **options):
    """`solve` compiled as a whole, which is many times quicker than one operation after another."""
    return jax.jit(lambda p, q: sinkhorn.solve(p, q, ground, **options).transport)(p, q)


@pytest.mark.parametrize("kind", KINDS)
def test_potentials_agree_with_the_dense_geometry(kind, heatmaps):
    shape, axes = KINDS[kind]
    ground, epsilon = ground_cost(shape, axes), 0.1
    p, q = to_distribution(heatmaps(shape, 2), floor=1e-3)
    options = {"threshold": 1e-5, "max_iterations": 2000}
    problems = [
        linear_problem.LinearProblem(ours_or_dense, p.ravel(), q.ravel())
        for ours_or_dense in (
            sinkhorn.ImagePairs(jnp.ones(1), ground, epsilon),
            geometry.Geometry(jnp.asarray(full_cost(ground), jnp.float32), epsilon=epsilon),
        )
    ]
    ours, dense = (ott_sinkhorn.Sinkhorn(**options)(problem) for problem in problems)
    assert ours.converged
    # both stop at the same threshold of 1e-5; float32 potentials of size one
    np.testing.assert_allclose(ours.f, dense.f, atol=1e-4)
    np.testing.assert_allclose(ours.g, dense.g, atol=1e-4)
    np.testing.assert_allclose(ours.reg_ot_cost, dense.reg_ot_cost, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_interval_holds_the_exact_distance_and_narrows_with_epsilon(kind, heatmaps):
    shape, axes = KINDS[kind]
    ground = ground_cost(shape, axes)
    maps = heatmaps(shape)
    distances = np.array([exact(p, q, ground) for p, q in zip(maps[:2], maps[2:], strict=True)])
    widths = []
    for epsilon in (0.1, 0.02):
        found = sinkhorn.solve_many(maps[:2], maps[2:], ground, epsilon=epsilon, tolerance=0.05)
        lower, upper = (np.asarray(x, np.float64) for x in (found.lower, found.upper))
        assert (lower <= distances).all()
        assert (distances <= upper).all()
        assert (found.cost == found.upper).all()
        np.testing.assert_array_equal(found.converged, upper - lower <= 0.05 * upper)
        assert (found.marginal_error <= sinkhorn.MARGINAL_ERROR).all()
        widths.append((upper - lower) / upper)
    assert (widths[1] < 0.7 * widths[0]).all()
    assert (widths[1] < 0.05).all()


def test_polishing_closes_most_of_the_interval(heatmaps, monkeypatch):
    shape, axes = KINDS["circular"]
    ground, maps = ground_cost(shape, axes), heatmaps(shape)
    gaps = []
    for steps in (0, sinkhorn.POLISH):
        monkeypatch.setattr(sinkhorn, "POLISH", steps)
        found = solved(maps[:2], maps[2:], ground, epsilon=0.1, tolerance=0.05)
        distances = [exact(p, q, ground) for p, q in zip(maps[:2], maps[2:], strict=True)]
        gaps.append(distances - np.asarray(found.lower, np.float64))
    assert (gaps[1] >= 0).all()
    # a potential blurred by epsilon loses far more than iterations that stopped early
    assert (gaps[1] < 0.1 * gaps[0]).all(), gaps


def test_one_loop_and_rounds_with_leaving_pairs_agree(heatmaps, monkeypatch):
    shape, axes = KINDS["linear"]
    ground = ground_cost(shape, axes)
    maps = heatmaps(shape, 10)
    options = {"epsilon": 0.02, "tolerance": 0.05}
    monkeypatch.setattr(sinkhorn, "BATCH", 2 * maps[0].nbytes)  # five pairs take turns in two seats
    seen = []
    many = sinkhorn.solve_many(
        maps[:5], maps[5:], ground, **options, report=lambda *at: seen.append(at)
    )
    one = solved(maps[:5], maps[5:], ground, **options)
    assert len(set(np.asarray(many.iterations).tolist())) > 1, "no pair waits for another"
    assert (many.iterations <= one.iterations).all()
    # a pair that goes on in the common loop ends closer to its limit: the marginals are 1e-3 off
    np.testing.assert_allclose(many.cost, one.cost, rtol=5e-3)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_empty_cells_and_points_move_their_distance():
    ground = ground_cost((9, 12), (LINEAR, CIRCULAR))
    empty = jnp.zeros((2, 9, 12))
    p = empty.at[0, 2, 1].set(1).at[1, 0, 0].set(1)
    q = empty.at[0, 6, 11].set(1).at[1, 8, 6].set(1)
    found = sinkhorn.solve_many(p, q, ground, epsilon=0.01, tolerance=0.05)
    # half of the time axis and a third of the ring; the longest way there is
    distances = np.array([4 / 8 + 2 / 6, 2.0])
    assert (np.asarray(found.lower) <= distances).all()
    assert (distances <= np.asarray(found.upper)).all()
    np.testing.assert_allclose(found.cost, distances, rtol=1e-3)  # marginals 1e-3 off
    assert found.converged.all()


def test_stopped_early_the_interval_still_holds(heatmaps):
    shape, axes = KINDS["linear"]
    ground = ground_cost(shape, axes)
    maps = heatmaps(shape, 2)
    found = sinkhorn.solve_many(
        maps[:1], maps[1:], ground, epsilon=1e-3, tolerance=0.01, max_iterations=10
    )
    assert found.marginal_error[0] > 0.01
    assert not found.converged[0]
    assert found.lower[0] <= exact(maps[0], maps[1], ground) <= found.upper[0]
    assert found.iterations[0] == 10
