"""Path points where the path bends, until every map's residual is within its tolerance.

The score is known wherever its gradient is taken, so between neighbouring points the quadrature
error along the path is known exactly: how much the score rises there less what the two slopes say.
The next points go into the gaps with the largest such errors. Networks of ReLU and max-pooling are
piecewise linear along a path: most maps need few points, and those that need many need them at the
few bends that matter.

Checked against a 4096-point reference in tests/attribution/test_tolerance.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from instrument_ig.attribution.paths import Paths
from instrument_ig.attribution.quadrature import midpoint
from instrument_ig.attribution.work_items import WorkItems, weighted_sums

FIRST = 8  # points of the first round, those of the midpoint rule
GROWTH = 8  # each further round adds one point for every so many there are
KEPT = 47  # gradients of a path that are kept apart until their weights are final
SLOTS = KEPT + 1  # the last one sums all further gradients


class Integrals(NamedTuple):
    """Integrals of the gradient along paths, and what they took."""

    values: Float[Array, "rows ..."]
    steps: Int[np.ndarray, " rows"]  # gradients evaluated
    settled: Bool[np.ndarray, " rows"]  # stopped because the residuals were small enough


class Points(NamedTuple):
    """The points of some paths so far, in the order of their positions."""

    position: Float[np.ndarray, "rows n"]
    score: Float[np.ndarray, "rows n"]
    slope: Float[np.ndarray, "rows n"]  # of the score along the path
    number: Float[np.ndarray, "rows n"]  # 0, 1, ... as they were evaluated
    counted: Float[np.ndarray, "rows n"]  # the cell's length when the point was evaluated

    def of(self, chosen):
        """Return the points of some paths."""
        return Points(*(leaf[chosen] for leaf in self))


def integrate(
    gradient: Callable[..., Any],
    score: Any,
    paths: Paths,
    ends: Float[np.ndarray, "rows 2"],
    allowed: Float[np.ndarray, " rows"],
    max_steps: int,
    report: Callable[[int], None],
    **options: Any,
) -> Integrals:
    """Integrate the gradient along each path, with as few points as its tolerance allows.

    A point stands for the part of the path that is nearer to it than to its neighbours. A path is
    done when the sum of its gaps' residuals, which is that of the map, and the root of the sum of
    their squares are both at most `allowed`: the sum alone can be small by luck, where errors
    happen to cancel; the root is its likely size if they did not.

    Gradients are kept until their weights are final, so that every point is evaluated once, but
    only the first KEPT of each path: memory does not grow with the points. Later gradients are
    summed at once, and evaluated again with what is missing if their weight has changed.

    Args:
        gradient: the work items' function; its records are (score, slope).
        score: handed to it.
        paths: one row for each of `ends`.
        ends: scores at their starts and ends.
        allowed: absolute residual of each path.
        max_steps: most gradients per path.
        report: called with the number of paths done, after each round.
        options: of `weighted_sums`.
    """
    n = len(ends)
    active, sums, again = np.arange(n), None, []
    steps, settled, weights = np.zeros(n, int), np.zeros(n, bool), np.ones((n, SLOTS), ends.dtype)
    points = Points(*np.zeros((5, n, 0), ends.dtype))
    first = midpoint(min(FIRST, max_steps)).nodes.astype(ends.dtype)
    fresh = np.tile(first, (n, 1))
    while len(active):
        points, new = _insert(points, fresh)
        once = np.where(points.number < KEPT, 1, points.counted)
        items = _items(active, points, new, once)
        sums, records = weighted_sums(
            gradient, score, paths, items, sums=sums, slots=n * SLOTS, **options
        )
        points.score[new], points.slope[new] = records
        steps[active] += fresh.shape[1]

        gaps = gap_residuals(points, ends[active])
        error = np.maximum(np.abs(gaps.sum(1)), np.sqrt(np.square(gaps).sum(1)))
        settled[active] = error <= allowed[active]
        missing = cell_weights(points.position) - points.counted
        stale = (points.number >= KEPT) & (missing != 0)
        wanted = max(1, points.position.shape[1] // GROWTH)
        # A new point may make both its neighbours stale.
        spent = steps[active] + stale.sum(1) + 3 * wanted > max_steps
        stop = settled[active] | spent | ~np.isfinite(error)
        again.append(_items(active, points, stale & stop[:, None], missing))
        steps[active] += stop * stale.sum(1)
        _keep_weights(weights, active[stop], points.of(stop))

        active, points = active[~stop], points.of(~stop)
        fresh = _in_worst_gaps(points, gaps[~stop], wanted)
        report(n - len(active))
    again = jax.tree.map(lambda *parts: np.concatenate(parts), *again)
    if len(again.row):
        sums, _ = weighted_sums(gradient, score, paths, again, sums=sums, **options)
    return Integrals(_combine(sums, weights), steps, settled)


def cell_weights(position: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, "rows n"]:
    """Return the length of the path that is nearest to each point."""
    return np.diff(_edges(position))


def gap_residuals(
    points: Points, ends: Float[np.ndarray, "rows 2"]
) -> Float[np.ndarray, "rows gaps"]:
    """Return what the rule makes of the score's rise in each gap, less the rise itself.

    The first gap lies before the first point and the last one after the last. They sum to
    (integral of the slope by the rule) - (score at the end - score at the start).
    """
    position, slope = points.position.astype(float), points.slope.astype(float)
    edges = _edges(position)
    before, after = slope * (position - edges[:, :-1]), slope * (edges[:, 1:] - position)
    score = np.concatenate([ends[:, :1], points.score, ends[:, 1:]], 1, dtype=float)
    return np.pad(before, ((0, 0), (0, 1))) + np.pad(after, ((0, 0), (1, 0))) - np.diff(score)


def _edges(position):
    middle = (position[:, 1:] + position[:, :-1]) / 2
    return np.pad(np.pad(middle, ((0, 0), (1, 0))), ((0, 0), (0, 1)), constant_values=1)


def _in_worst_gaps(points, gaps, count):
    """Return positions inside the gaps with the largest residuals.

    Between two points that is the middle; at an end, where the end's cell is cut into two cells
    with their points in the middle.
    """
    worst = np.argsort(-np.abs(gaps), axis=1, kind="stable")[:, :count]
    mirrored = np.pad(points.position, ((0, 0), (1, 1)))
    mirrored[:, 0] = -points.position[:, 0] / 3
    mirrored[:, -1] = 1 + (1 - points.position[:, -1]) / 3
    return np.take_along_axis((mirrored[:, 1:] + mirrored[:, :-1]) / 2, worst, 1)


def _insert(points, fresh):
    """Add points that are yet to be evaluated; also return where they went."""
    n_old, n_new = points.position.shape[1], fresh.shape[1]
    blank = np.full_like(fresh, np.nan)
    number = np.broadcast_to(n_old + np.arange(n_new, dtype=fresh.dtype), fresh.shape)
    new = Points(fresh, blank, blank, number, blank)
    both = [np.concatenate(pair, 1) for pair in zip(points, new, strict=True)]
    order = np.argsort(both[0], axis=1, kind="stable")
    points = Points(*(np.take_along_axis(leaf, order, 1) for leaf in both))
    is_new = order >= n_old
    counted = np.where(is_new, cell_weights(points.position), points.counted)
    return points._replace(counted=counted), is_new


def _items(rows, points, chosen, weight):
    """Make work items of the chosen points: each of the first KEPT has a slot of its own."""
    row = np.broadcast_to(rows[:, None], chosen.shape)[chosen]
    slot = np.minimum(points.number[chosen], KEPT).astype(int)
    return WorkItems(row, points.position[chosen], weight[chosen], row * SLOTS + slot)


def _keep_weights(weights, rows, points):
    """Note the final weights of the gradients that have a slot of their own."""
    kept = points.number < KEPT
    row = np.broadcast_to(rows[:, None], kept.shape)[kept]
    weights[row, points.number[kept].astype(int)] = cell_weights(points.position)[kept]


@jax.jit
def _combine(sums, weights):
    """Sum the slots of each path with their weights."""
    slots = sums.reshape(*weights.shape, *sums.shape[1:])
    return jnp.einsum("rs,rs...->r...", weights, slots, precision="highest")
