"""Pairwise metrics against what a user would do otherwise; rows stand in BUILD-notes.md.

Heatmaps are random blobs on a random grain, of the size of the study's log-mel maps. Each row
asserts agreement first. The earth mover's distance by flow is measured in benchmarks/emd.py.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ott.geometry import costs, grid
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as ott_sinkhorn
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from experiments.benchmarks import emd
from experiments.benchmarks.stopwatch import Timing, peak_memory, time_call, time_calls
from instrument_ig.machine import Execution, available_memory
from instrument_ig.metrics import (
    pairwise_difference_mean,
    pairwise_emd,
    pairwise_js,
    pairwise_kl,
    to_distribution,
)
from instrument_ig.metrics.transport import sinkhorn
from instrument_ig.metrics.transport.attempts import Asked, Problem
from instrument_ig.metrics.transport.ground import ground_cost
from instrument_ig.metrics.transport.kernel import form_for

SHAPE = (126, 128)
CELLS = SHAPE[0] * SHAPE[1]
FLOOR = 1e-7
EPSILON = 0.01
PAIRWISE = {"kl": pairwise_kl, "js": pairwise_js, "difference_mean": pairwise_difference_mean}


def heatmaps(count: int, seed: int = 0) -> np.ndarray:
    """Draw maps [N, T, F] of a few blobs with heavy-tailed grain, as distributions with a floor."""
    rng = np.random.default_rng(seed)
    time, frequency = np.mgrid[: SHAPE[0], : SHAPE[1]]
    maps = np.zeros((count, *SHAPE))
    for heatmap in maps:
        for _ in range(6):
            centre, width = rng.uniform(0, SHAPE), rng.uniform((2, 1), (30, 10))
            away = ((time - centre[0]) / width[0]) ** 2 + ((frequency - centre[1]) / width[1]) ** 2
            heatmap += rng.uniform(0.2, 1) * np.exp(-away / 2)
    maps *= rng.gamma(0.5, size=maps.shape)
    return np.asarray(to_distribution(maps.astype(np.float32), floor=FLOOR))


def measure_kl(count: int = 512, few: int = 24) -> Iterator[dict]:
    """Every pair of 512 maps, against rel_entr in a double loop and against a matrix product."""
    maps = heatmaps(count)
    wide = maps[:few].astype(np.float64)
    loop = lambda: np.array([[rel_entr(p, q).sum() for q in wide] for p in wide])
    # The error of float32 products whose terms cancel.
    np.testing.assert_allclose(pairwise_kl(maps)[:few, :few], loop(), atol=1e-5)
    flat = jnp.asarray(maps.reshape(count, CELLS))
    product = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    times = time_calls(
        {"ours": lambda: pairwise_kl(maps), "product": lambda: product(flat, flat.T)}
    )
    reference = time_call(loop)
    rate = 2 * count**2 * CELLS / times["ours"].median_s
    yield _row(times["ours"], count**2, reference, few**2) | {
        "gflops": round(rate / 1e9, 1),
        "share_of_matmul": round(times["product"].median_s / times["ours"].median_s, 3),
        "peak_mib": peak_memory(_all_pairs, "kl", count) >> 20,
    }


def measure_js(count: int = 512, few: int = 24) -> Iterator[dict]:
    """Every pair of 512 maps, against SciPy's cdist."""
    maps = heatmaps(count)
    wide = maps[:few].reshape(few, CELLS).astype(np.float64)
    scipy = lambda: cdist(wide, wide, "jensenshannon")
    # SciPy returns the square root; float32 sums of terms that sum to at most ln 2.
    np.testing.assert_allclose(pairwise_js(maps)[:few, :few], scipy() ** 2, atol=1e-6)
    ours = time_call(lambda: pairwise_js(maps))
    yield _row(ours, count**2, time_call(scipy), few**2) | {
        "gcells_per_s": round(count * (count + 1) / 2 * CELLS / ours.median_s / 1e9, 2),
        "peak_mib": peak_memory(_all_pairs, "js", count) >> 20,
    }


def measure_growth() -> Iterator[dict]:
    """Time per pair and peak memory over the number of maps."""
    maps = heatmaps(512)
    for name, pairwise in PAIRWISE.items():
        for count in (64, 128, 256, 512):
            timing = time_call(lambda p=pairwise, n=count: p(maps[:n]), repeats=3)
            yield {
                "metric": name,
                "maps": count,
                "us_per_pair": round(timing.median_s / count**2 * 1e6, 2),
                "peak_mib": peak_memory(_all_pairs, name, count) >> 20,
                "of_which_maps_mib": maps[:count].nbytes >> 20,
                "budget_mib": available_memory(Execution()) >> 20,
            }


def measure_sinkhorn_iteration(iterations: int = 20, pairs: int = 4) -> Iterator[dict]:
    """One Sinkhorn iteration of a pair, against OTT's Grid, vmapped as it comes."""
    maps = heatmaps(2 * pairs)
    p, q = jnp.asarray(maps[:pairs]), jnp.asarray(maps[pairs:])
    options = {"min_iterations": iterations, "max_iterations": iterations}
    solver = ott_sinkhorn.Sinkhorn(inner_iterations=iterations, implicit_diff=None, **options)

    @jax.jit
    def ours(p, q):
        problem = Problem("sinkhorn", ground_cost(SHAPE), form_for(ground_cost(SHAPE), EPSILON))
        asked = Asked(jnp.float32(1), jnp.float32(EPSILON))
        state = sinkhorn.begun(p)
        for _ in range(iterations // sinkhorn.ROUND):
            state = sinkhorn.advanced(state, p, q, problem, asked)
        return state

    @jax.jit
    def peer(p, q):
        problem = lambda p, q: linear_problem.LinearProblem(_grid(), p.ravel(), q.ravel())
        return jax.vmap(lambda p, q: solver(problem(p, q)).errors[-1] / 2)(p, q)

    # Ours are over-relaxed: they come closer to the marginals in as many iterations.
    assert (ours(p, q).error < peer(p, q)).all()
    times = time_calls({"ours": lambda: ours(p, q), "peer": lambda: peer(p, q)}, repeats=3)
    yield _row(times["ours"], pairs * iterations, times["peer"], pairs * iterations)


def measure_sinkhorn_batch(count: int = 16, few: int = 4) -> Iterator[dict]:
    """The 120 pairs of 16 maps to one marginal error, against OTT's Grid vmapped over a few.

    Grid's time per pair is that of a small batch: in a larger one more pairs wait for the slowest.
    """
    maps = jnp.asarray(heatmaps(count))
    pairs = count * (count - 1) // 2
    ours = lambda: pairwise_emd(maps, solver="sinkhorn", epsilon=EPSILON)
    # OTT's error is the sum of absolute values, twice the total variation.
    solver = ott_sinkhorn.Sinkhorn(threshold=2 * sinkhorn.MARGINAL_ERROR, max_iterations=2000)

    @jax.jit
    @jax.vmap
    def peer(p, q):
        output = solver(linear_problem.LinearProblem(_grid(), p.ravel(), q.ravel()))
        return output.converged, output.reg_ot_cost

    p, q = maps[:few], maps[few : 2 * few]
    converged, entropic = peer(p, q)
    transport = ours()
    lower, upper = (bound[np.arange(few), np.arange(few, 2 * few)] for bound in transport[1:3])
    # Entropic costs exceed the distance, by at most epsilon times the entropy of p.
    entropy = -jnp.sum(p * jnp.log(p), (1, 2))
    assert np.asarray(converged & (lower < entropic) & (entropic < upper + EPSILON * entropy)).all()
    mask = ~np.eye(count, dtype=bool)
    widths = ((transport.upper - transport.lower) / transport.upper)[mask]
    timing, reference = time_call(ours, repeats=3), time_call(lambda: peer(p, q), repeats=1)
    yield _row(timing, pairs, reference, few) | {
        "epsilon": EPSILON,
        "width_median": round(float(np.median(widths)), 4),
        "width_worst": round(float(np.max(widths)), 4),
        "iterations_median": float(np.median(np.asarray(transport.iterations)[mask])),
        "marginal_error_worst": float(np.max(transport.marginal_error)),
    }


def _grid():
    ways = [jnp.linspace(0, 1, length)[:, None] for length in SHAPE]
    return grid.Grid(x=ways, cost_fns=[costs.PNormP(1)] * 2, epsilon=EPSILON)


def _all_pairs(name, count):
    maps = jax.random.uniform(jax.random.key(0), (count, *SHAPE))
    return PAIRWISE[name](to_distribution(maps))


def _row(ours: Timing, items: int, reference: Timing, reference_items: int) -> dict:
    ours_us, reference_us = (
        timing.median_s / count * 1e6
        for timing, count in ((ours, items), (reference, reference_items))
    )
    return {
        "ours_us": round(ours_us, 2),
        "reference_us": round(reference_us, 2),
        "ratio": round(reference_us / ours_us, 1),
        "ours_s": round(ours.median_s, 3),
        "first_s": round(ours.first_s, 2),
    }


ROWS = {
    "kl": measure_kl,
    "js": measure_js,
    "growth": measure_growth,
    "sinkhorn_iteration": measure_sinkhorn_iteration,
    "sinkhorn_batch": measure_sinkhorn_batch,
    **emd.ROWS,
}
