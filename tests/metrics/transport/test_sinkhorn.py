"""OTT fails strict promotion of types and of ranks, hence the marker."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as ott_sinkhorn

from instrument_ig.machine import Execution
from instrument_ig.metrics import CATEGORICAL, CIRCULAR, LINEAR, to_distribution
from instrument_ig.metrics.transport import sinkhorn
from instrument_ig.metrics.transport.attempts import COPIES, Asked, Problem
from instrument_ig.metrics.transport.ground import cost_matrix, ground_cost
from instrument_ig.metrics.transport.kernel import form_for

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


def settings(ground, epsilon, tolerance):
    problem = Problem("sinkhorn", ground, form_for(ground, epsilon))
    return problem, Asked(jnp.float32(tolerance), jnp.float32(epsilon))


def solved(p, q, ground, *, epsilon, tolerance):
    """`solve` compiled as a whole, which is many times quicker than one operation after another."""
    problem, asked = settings(ground, epsilon, tolerance)
    return jax.jit(lambda p, q: sinkhorn.solve(p, q, problem, asked).transport)(p, q)


def solve_many(p, q, ground, *, epsilon, tolerance, execution=None):
    pairs = np.arange(len(p)), np.arange(len(q))
    problem, asked = settings(ground, epsilon, tolerance)
    return sinkhorn.solve_many((p, q), pairs, problem, asked, execution or Execution())


@pytest.mark.parametrize("kind", KINDS)
def test_potentials_agree_with_the_dense_geometry(kind, heatmaps):
    shape, axes = KINDS[kind]
    ground, epsilon = ground_cost(shape, axes), 0.1
    p, q = to_distribution(heatmaps(shape, 2), floor=1e-3)
    options = {"threshold": 1e-5, "max_iterations": 2000}
    problems = [
        linear_problem.LinearProblem(ours_or_dense, p.ravel(), q.ravel())
        for ours_or_dense in (
            sinkhorn.ImagePair(jnp.float32(epsilon), ground),
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
    for epsilon in (0.1, 0.02):  # under a tolerance that makes both do all they can
        found = solve_many(maps[:2], maps[2:], ground, epsilon=epsilon, tolerance=1e-3)
        lower, upper = (np.asarray(x, np.float64) for x in (found.lower, found.upper))
        assert (lower <= distances).all()
        assert (distances <= upper).all()
        assert (found.cost == found.upper).all()
        narrow = found.upper - found.lower <= np.float32(1e-3) * found.upper
        np.testing.assert_array_equal(found.converged, narrow)
        assert (found.marginal_error <= sinkhorn.MARGINAL_ERROR).all()
        widths.append((upper - lower) / upper)
    assert (widths[1] < 0.7 * widths[0]).all()
    assert (widths[1] < 0.05).all()


def test_primal_dual_steps_close_most_of_the_interval(heatmaps):
    shape, axes = KINDS["circular"]
    ground, maps = ground_cost(shape, axes), heatmaps(shape)
    gaps = []
    for tolerance in (0.9, 1e-6):  # none are run where the first interval is narrow enough
        found = solved(maps[:2], maps[2:], ground, epsilon=0.1, tolerance=tolerance)
        distances = [exact(p, q, ground) for p, q in zip(maps[:2], maps[2:], strict=True)]
        gaps.append(distances - np.asarray(found.lower, np.float64))
    assert (gaps[1] >= 0).all()
    # a potential blurred by epsilon loses far more than iterations that stopped early
    assert (gaps[1] < 0.1 * gaps[0]).all(), gaps


def test_one_loop_and_rounds_with_leaving_pairs_agree(heatmaps):
    shape, axes = KINDS["linear"]
    ground = ground_cost(shape, axes)
    maps = heatmaps(shape, 10)
    options = {"epsilon": 0.02, "tolerance": 0.05}
    two_at_a_time = Execution(memory=2 * COPIES * maps[0].nbytes)
    many = solve_many(maps[:5], maps[5:], ground, execution=two_at_a_time, **options)
    one = solved(maps[:5], maps[5:], ground, **options)
    assert len(set(np.asarray(many.iterations).tolist())) > 1, "no pair waits for another"
    assert (many.iterations <= one.iterations).all()
    # a pair that goes on in the common loop ends closer to its limit: the marginals are 1e-3 off
    np.testing.assert_allclose(many.cost, one.cost, rtol=5e-3)


def test_empty_cells_and_points_move_their_distance():
    ground = ground_cost((9, 12), (LINEAR, CIRCULAR))
    empty = jnp.zeros((2, 9, 12))
    p = empty.at[0, 2, 1].set(1).at[1, 0, 0].set(1)
    q = empty.at[0, 6, 11].set(1).at[1, 8, 6].set(1)
    found = solve_many(p, q, ground, epsilon=0.01, tolerance=0.05)
    # half of the time axis and a third of the ring; the longest way there is
    distances = np.array([4 / 8 + 2 / 6, 2.0])
    assert (np.asarray(found.lower) <= distances).all()
    assert (distances <= np.asarray(found.upper)).all()
    np.testing.assert_allclose(found.cost, distances, rtol=1e-3)  # marginals 1e-3 off
    assert found.converged.all()


def test_stopped_early_the_interval_still_holds(heatmaps, monkeypatch):
    monkeypatch.setattr(sinkhorn, "MAX_ROUNDS", 1)
    shape, axes = KINDS["linear"]
    ground = ground_cost(shape, axes)
    maps = heatmaps(shape, 2)
    found = solve_many(maps[:1], maps[1:], ground, epsilon=1e-3, tolerance=1e-6)
    assert found.marginal_error[0] > 0.01
    assert not found.converged[0]
    assert found.lower[0] <= exact(maps[0], maps[1], ground) <= found.upper[0]
    assert found.iterations[0] == 10
