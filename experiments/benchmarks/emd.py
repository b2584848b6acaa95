"""The certified earth mover's distance by flow, against exact solvers on the same maps.

Each row asserts first that every interval holds the exact distance of the pairs solved exactly.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import ot
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from experiments.benchmarks.drawn import distributions
from experiments.benchmarks.stopwatch import peak_memory, time_call
from instrument_ig.metrics import pairwise_emd
from instrument_ig.metrics.transport.ground import CIRCULAR, LINEAR, cost_matrix, ground_cost

UNITS = 2**30  # of mass, for solvers of whole numbers


def measure_logmel() -> Iterator[dict]:
    """All pairs of 16 maps of 126 x 128, against OR-tools' min-cost flow on two of the pairs."""
    peak = peak_memory(_all_pairs, (126, 128), 16)
    row = _measure((126, 128), (LINEAR, LINEAR), min_cost_flow, 16, [(0, 1), (2, 3)])
    yield row | {"peak_mib": peak >> 20}


def measure_chroma() -> Iterator[dict]:
    """All pairs of 16 maps of 126 x 12, circular, against POT on two of the pairs."""
    yield _measure((126, 12), (LINEAR, CIRCULAR), network_simplex, 16, [(0, 1), (2, 3)])


def measure_cells() -> Iterator[dict]:
    """Growth with the number of cells: the time per pair and cell should not change."""
    for bins in (32, 128, 512, 1025):
        yield _measure((126, bins), (LINEAR, LINEAR), None, 4, [])


def _measure(shape, axes, reference, count, pairs) -> dict:
    maps = distributions(shape, count)
    solve = lambda: pairwise_emd(maps, axes=axes, solver="flow")
    found = solve()
    exact = [_timed(reference, maps[i], maps[j], ground_cost(shape, axes)) for i, j in pairs]
    for (i, j), (value, _) in zip(pairs, exact, strict=True):
        # whole numbers of 2^-30 of the mass, over a diameter of two
        slack = 4 * maps[0].size / UNITS
        assert found.lower[i, j] - slack <= value <= found.upper[i, j] + slack, (i, j, value)
    above = np.triu_indices(count, 1)
    lower, upper = (np.asarray(bound, np.float64)[above] for bound in (found.lower, found.upper))
    width = (upper - lower) / upper
    ours_s = time_call(solve, repeats=3).median_s / len(lower)
    row = {
        "shape": "x".join(map(str, shape)),
        "pairs": len(lower),
        "ms_per_pair": round(1e3 * ours_s, 2),
        "ns_per_cell": round(1e9 * ours_s / maps[0].size, 1),
        "width_median": round(float(np.median(width)), 4),
        "width_worst": round(float(width.max()), 4),
        "converged": int(np.asarray(found.converged)[above].sum()),
    }
    if exact:
        reference_s = float(np.median([seconds for _, seconds in exact]))
        row |= {"reference_s": round(reference_s, 2), "ratio": round(reference_s / ours_s)}
    return row


def _timed(reference, p, q, ground):
    values = []
    timing = time_call(lambda: values.append(reference(p, q, ground)), repeats=1)
    return values[0], timing.median_s


def _all_pairs(shape, count):
    return pairwise_emd(jnp.asarray(distributions(shape, count)), solver="flow").cost


def min_cost_flow(p, q, ground) -> float:
    """Solve the flow form exactly, both axes linear: costs and masses as whole numbers."""
    excess = _whole(p) - _whole(q)
    node = np.arange(excess.size, dtype=np.int32).reshape(excess.shape)
    frames, bins = (along.bins - 1 for along in ground)  # an edge is 1/frames or 1/bins long
    solver = SimpleMinCostFlow()
    for near, far, cost in ((node[:-1], node[1:], bins), (node[:, :-1], node[:, 1:], frames)):
        for a, b in ((near, far), (far, near)):
            solver.add_arcs_with_capacity_and_unit_cost(
                a.ravel(), b.ravel(), np.full(a.size, UNITS), np.full(a.size, cost)
            )
    solver.set_nodes_supplies(node.ravel(), excess.ravel())
    assert solver.solve() == solver.OPTIMAL
    return solver.optimal_cost() / (frames * bins) / UNITS


def network_simplex(p, q, ground) -> float:
    """Solve the transport problem with its full cost matrix exactly, by POT."""
    time, frequency = map(cost_matrix, ground)
    cost = (time[:, None, :, None] + frequency[:, None]).reshape(p.size, p.size)
    p, q = (x.astype(np.float64).ravel() for x in (p, q))
    return float(ot.emd2(p / p.sum(), q / q.sum(), cost, numItermax=10**7))


def _whole(p):
    share = p.astype(np.float64) / p.sum(dtype=np.float64) * UNITS
    masses = np.floor(share).astype(np.int64)
    masses.ravel()[np.argsort((masses - share).ravel())[: UNITS - masses.sum()]] += 1
    return masses


ROWS = {
    "emd_126x128": measure_logmel,
    "emd_126x12": measure_chroma,
    "emd_cells": measure_cells,
}
