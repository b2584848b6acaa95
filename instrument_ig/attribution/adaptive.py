"""Path points where the path bends, until every map's residual is within its tolerance.

The score is known wherever its gradient is taken, so between neighbouring points the quadrature
error along the path is known exactly: how much the score rises there less what the two slopes say.
The next points go into the gaps with the largest such errors. Networks of ReLU and max-pooling are
piecewise linear along a path: most maps need few points, and those that need many need them at the
few bends that matter.

Scores carry noise, by rounding at least. A gap's share of it is the same after the gap is cut,
while an error of the rule becomes half or less; so noise is told from errors, and not chased.

Checked against a twin in double precision in tests/attribution/test_tolerance.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from instrument_ig.attribution.paths import Path
from instrument_ig.attribution.quadrature import midpoint
from instrument_ig.machine import Evaluations, Execution, Traced

FIRST = 8  # points of the first round, those of the midpoint rule
PER_NEW_POINT = 8  # each further round adds one point for every so many there are
# Of the residual of a gap that is cut: above it noise must be the larger part, for a bend leaves
# half of it (the worst gaps have their bend near an end), and curvature a quarter.
NOISE_LEFT = 0.75
NOISE_CUTS = 6.0  # gaps that must have been cut before noise is believed
MEMORY_OF_CUTS = 0.7  # what earlier rounds count for, each
STALLED = 0.03  # change of a sum, in one round, that says that further points change nothing


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
    number: Float[np.ndarray, "rows n"]  # among all evaluations

    def of(self, chosen):
        """Return the points of some paths."""
        return Points(*(leaf[chosen] for leaf in self))


def integrate(
    score: Traced,
    paths: Path,
    ends: Float[np.ndarray, "rows 2"],
    allowed: Float[np.ndarray, " rows"],
    max_steps: int,
    execution: Execution,
    done: Callable[[int], None],
) -> Integrals:
    """Integrate the gradient along each path, with as few points as its tolerance allows.

    A point stands for the part of the path that is nearer to it than to its neighbours. A path is
    done when the sum of its gaps' residuals, which is that of the map, and the root of the sum of
    their squares are both at most `allowed`: the sum alone can be small by luck, where errors
    happen to cancel; the root is its likely size if they did not. Where what is left in the gaps
    is noise of the scores, the sum decides alone, for noise cancels in it but for the ends'.

    Args:
        score: of one point.
        paths: one row for each of `ends`.
        ends: scores at their starts and ends.
        allowed: absolute residual of each path.
        max_steps: most gradients per path.
        execution: memory and devices; gradients are kept until their weights are final, and those
            that do not fit are evaluated again.
        done: called with the number of paths done, after each round.
    """
    n, precise = len(ends), paths.delta.dtype
    gradients = Evaluations(
        lambda path, alpha: _gradient_score_and_slope(score, path, alpha),
        paths,
        execution,
        precision=execution.precision,
    )
    active, weights = np.arange(n), np.zeros(0)
    steps, settled = np.zeros(n, int), np.zeros(n, bool)
    points = Points(*np.zeros((4, n, 0)))
    fresh, before = np.tile(midpoint(min(FIRST, max_steps)).nodes, (n, 1)), None
    cuts, totals = np.zeros((n, 3)), np.zeros(n)
    while len(active):
        points, new = _insert(points, fresh.astype(precise), len(weights))
        row = np.broadcast_to(active[:, None], new.shape)[new]
        records = gradients.add(row, points.position[new])
        points.score[new], points.slope[new] = records
        weights = np.append(weights, np.zeros(len(row)))
        steps[active] += fresh.shape[1]

        gaps = gap_residuals(points, ends[active])
        total, root = gaps.sum(1), np.sqrt(np.square(gaps).sum(1))
        cuts[active] = cuts[active] * MEMORY_OF_CUTS + _what_cutting_left(before, gaps, new)
        is_noise = (cuts[active, 2] >= NOISE_CUTS) & (
            cuts[active, 0] > NOISE_LEFT * cuts[active, 1]
        )
        within = np.abs(total) <= allowed[active]
        settled[active] = within & ((root <= allowed[active]) | is_noise)
        # What is left of the sum is noise of the scores at the ends, which no point can mend.
        stalled = is_noise & (np.abs(total - totals[active]) <= STALLED * np.abs(total))
        totals[active] = total
        wanted = max(1, points.position.shape[1] // PER_NEW_POINT)
        again = _evaluated_again(gradients.kept(), points.number)
        twice = 2 if gradients.room() < len(active) * wanted else 1
        spent = steps[active] + again + twice * wanted > max_steps
        stop = settled[active] | stalled | spent | ~np.isfinite(total)
        steps[active] += stop * again
        finished = points.of(stop)
        weights[finished.number.astype(int)] = cell_weights(finished.position)

        active, points = active[~stop], points.of(~stop)
        fresh, before = _in_worst_gaps(points, gaps[~stop], wanted)
        done(n - len(active))
    return Integrals(gradients.weighted_sums(weights), steps, settled)


def _gradient_score_and_slope(score, path, alpha):
    value, gradient = jax.value_and_grad(score)(path.at(alpha))
    return gradient, (value, jnp.vdot(gradient.astype(path.delta.dtype), path.delta))


def _evaluated_again(kept, number):
    """Return how many of each path's points were not kept."""
    return (~kept[number.astype(int)]).sum(1)


def _what_cutting_left(before, gaps, new):
    """Compare the gaps that were cut with what became of them.

    Args:
        before: residuals of the gaps that were cut, in order; None: the path as a whole was.
        gaps: residuals of all gaps now.
        new: which points are new; each cut a gap in two.

    Returns:
        [rows, 3]: sums of before * after, of before squared, and how many there are. The first over
        the second is the share that was left.
    """
    if before is None:
        return 0.0
    after = (gaps[:, :-1] + gaps[:, 1:])[new].reshape(before.shape)
    number = np.full(len(before), before.shape[1])
    return np.stack([(before * after).sum(1), np.square(before).sum(1), number], 1)


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
    position, slope = points.position, points.slope
    edges = _edges(position)
    before, after = slope * (position - edges[:, :-1]), slope * (edges[:, 1:] - position)
    score = np.concatenate([ends[:, :1], points.score, ends[:, 1:]], 1)
    return np.pad(before, ((0, 0), (0, 1))) + np.pad(after, ((0, 0), (1, 0))) - np.diff(score)


def _edges(position):
    middle = (position[:, 1:] + position[:, :-1]) / 2
    return np.pad(np.pad(middle, ((0, 0), (1, 0))), ((0, 0), (0, 1)), constant_values=1)


def _in_worst_gaps(points, gaps, count):
    """Return positions inside the gaps with the largest residuals, and these, both in order.

    Between two points that is the middle; at an end, where the end's cell is cut into two cells
    with their points in the middle.
    """
    worst = np.sort(np.argsort(-np.abs(gaps), axis=1, kind="stable")[:, :count], axis=1)
    mirrored = np.pad(points.position, ((0, 0), (1, 1)))
    mirrored[:, 0] = -points.position[:, 0] / 3
    mirrored[:, -1] = 1 + (1 - points.position[:, -1]) / 3
    middle = (mirrored[:, 1:] + mirrored[:, :-1]) / 2
    return np.take_along_axis(middle, worst, 1), np.take_along_axis(gaps, worst, 1)


def _insert(points, fresh, n_evaluations):
    """Add points that are yet to be evaluated; also return where they went."""
    n_old = points.position.shape[1]
    blank = np.full_like(fresh, np.nan)
    new = Points(fresh, blank, blank, blank)
    both = [np.concatenate(pair, 1) for pair in zip(points, new, strict=True)]
    order = np.argsort(both[0], axis=1, kind="stable")
    points = Points(*(np.take_along_axis(leaf, order, 1) for leaf in both))
    is_new = order >= n_old
    points.number[is_new] = n_evaluations + np.arange(fresh.size)
    return points, is_new
