"""Against the same method in float64 NumPy, written with dense incidence matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics.transport.graph import differences, edge_costs, with_hubs
from instrument_ig.metrics.transport.ground import CATEGORICAL, CIRCULAR, LINEAR, ground_cost
from instrument_ig.metrics.transport.primal_dual import BALANCE, State, _step_sizes, iterated
from instrument_ig.metrics.transport.pyramid import complete, levels, refine_potential

CASES = {
    "linear": ground_cost((5, 7)),
    "turned": ground_cost((7, 5)),
    "ring": ground_cost((4, 6), (LINEAR, CIRCULAR)),
    "star": ground_cost((4, 6), (LINEAR, CATEGORICAL)),
}
cases = pytest.mark.parametrize("ground", CASES.values(), ids=CASES)


def start_of(ground, rng):
    excess = rng.standard_normal([along.bins for along in ground]).astype(np.float32)
    excess = with_hubs(jnp.asarray(excess - excess.mean()), ground)
    potential = jnp.asarray(rng.standard_normal(excess.shape), jnp.float32) / 10
    return State(potential, complete(excess, ground)), excess


def incidence(ground, nodes):
    units = jnp.eye(int(np.prod(nodes))).reshape(-1, *nodes)
    rises = differences(units, ground)
    return np.concatenate([np.asarray(r, np.float64).reshape(len(units), -1).T for r in rises])


@cases
def test_it_is_halpern_s_iteration_of_reflected_pdhg(ground, rng):
    start, excess = start_of(ground, rng)
    found = jax.jit(lambda: iterated(start, excess, ground, jnp.asarray(3), 4))()
    steps = _step_sizes(start, ground)
    rises = incidence(ground, excess.shape)
    ends = [np.asarray(along, np.float64).ravel() for along in start.flow]
    spread = lambda pair: np.repeat(np.asarray(pair, np.float64), [len(end) for end in ends])
    cost, tau, sigma = spread(edge_costs(ground)), spread(steps.flow), float(steps.potential)

    def pdhg(f, m):
        """One step: f up by what is left over, m down by the rise and shrunk by the cost."""
        new_f = f + sigma * (np.asarray(excess, np.float64).ravel() + rises.T @ m)
        down = m - tau * (rises @ (2 * new_f - f))
        return new_f, np.sign(down) * np.maximum(np.abs(down) - tau * cost, 0)

    f, m = f_start, m_start = np.asarray(start.potential, np.float64).ravel(), np.concatenate(ends)
    for k in range(12):
        new_f, new_m = pdhg(f, m)
        weight = 1 / (k + 2)
        f = (1 - weight) * (2 * new_f - f) + weight * f_start
        m = (1 - weight) * (2 * new_m - m) + weight * m_start
    # float32 rounding through 12 steps of numbers of order one
    np.testing.assert_allclose(found.potential.ravel(), pdhg(f, m)[0], atol=1e-5)
    np.testing.assert_allclose(np.concatenate([x.ravel() for x in found.flow]), m, atol=1e-5)


@cases
def test_steps_are_as_long_as_they_may_be_and_balanced(ground, rng):
    start, excess = start_of(ground, rng)
    steps = _step_sizes(start, ground)
    sizes = [np.full(x.size, float(tau)) for x, tau in zip(start.flow, steps.flow, strict=True)]
    scaled = incidence(ground, excess.shape) * np.sqrt(np.concatenate(sizes))[:, None]
    norm = float(steps.potential) * np.linalg.norm(scaled, 2) ** 2
    assert 0.5 < norm <= 1 + 1e-6  # 4 bounds the squared norm of differences along a line
    away = start.potential - jnp.mean(start.potential)
    flow = sum(float(jnp.sum(m**2) / tau) for m, tau in zip(start.flow, steps.flow, strict=True))
    potential = float(jnp.sum(away**2) / steps.potential)
    np.testing.assert_allclose(potential / flow, BALANCE**2, rtol=1e-4)  # float32 sums


def test_a_refined_ramp_is_a_ramp():
    fine, coarse = levels(ground_cost((12, 12)))[:2]
    ramp = jnp.broadcast_to(jnp.arange(6.0)[:, None] * 2 + 0.5, (6, 6))  # centres of blocks
    refined = refine_potential(ramp, fine, coarse)
    np.testing.assert_allclose(refined[1:-1, 3], np.arange(1, 11), rtol=1e-6)
    np.testing.assert_array_equal(refined[:, :1] == refined, True)
