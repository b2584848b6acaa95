"""Ground distances: what it costs to move mass from one cell of an image to another.

Two cells are as far apart as their frames plus their bins, d((t, f), (t', f')) = d_T(t, t') +
d_F(f, f'), each axis with a distance of its own kind. Checked against brute-force loops in
tests/metrics/test_ground.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from instrument_ig.types import Axis, AxisKind

LINEAR, CIRCULAR, CATEGORICAL = Axis("linear"), Axis("circular"), Axis("categorical")


class AxisCost(NamedTuple):
    """The distance along one axis; hashable, so that compiled code can depend on it."""

    kind: AxisKind
    bins: int
    edge: float  # between neighbours; between any two different bins where categorical


Ground = tuple[AxisCost, AxisCost]  # time, frequency

_LONGEST: dict[str, Callable[[int], int]] = {  # edges between the two bins farthest apart
    "linear": lambda bins: bins - 1,
    "circular": lambda bins: bins // 2,
    "categorical": lambda _: 1,
}


def ground_cost(
    shape: tuple[int, int],
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    extents: Sequence[float] = (1.0, 1.0),
) -> Ground:
    """Set the cost of moving mass within images of `shape`.

    Along an axis of n bins the distance is |i - j| / (n - 1) where linear, the shorter way round
    over floor(n / 2) where circular (chroma: bin 11 is next to bin 0), and 1 between any two
    different bins where categorical (tonnetz dimensions have no order); one bin alone costs
    nothing. All are then multiplied by the axis' extent.

    Args:
      shape: frames and bins.
      axes: kinds of the time and the frequency axis. Bins count as evenly spaced: the axes'
        positions are for drawing.
      extents: the largest distance along each axis, so (1, 1) weighs both the same and, say,
        (4.0, 7.0) measures in seconds and octaves.

    Returns:
      One `AxisCost` per axis.

    Raises:
      ValueError: not two axes, an unknown kind, an extent that is not positive and finite, or an
        axis whose positions are not one per bin.

    Cost: nothing.
    """
    for name, values in (("axes", axes), ("extents", extents)):
        if not isinstance(values, Sequence | np.ndarray) or len(values) != 2:
            raise ValueError(f"{name} must be two, of time and of frequency, got {values!r}")
    return _axis_cost(shape[0], axes[0], extents[0]), _axis_cost(shape[1], axes[1], extents[1])


def unit_of(extents: Sequence[float]) -> float:
    """Return the mean extent: in units of it, costs have one size whatever the extents are."""
    return sum(extent / 2 for extent in extents)


def _axis_cost(bins: int, axis: Axis, extent: float) -> AxisCost:
    if not isinstance(axis, Axis):
        raise ValueError(f"axes must be of type Axis, got {axis!r}")
    if axis.kind not in _LONGEST:
        raise ValueError(f"kind is {axis.kind!r}, not one of {', '.join(_LONGEST)}")
    if not 0 < extent < math.inf:
        raise ValueError(f"extent is {extent}, not positive and finite")
    if axis.positions and len(axis.positions) != bins:
        raise ValueError(f"{len(axis.positions)} positions on an axis of {bins} bins")
    if bins == 1:
        return AxisCost("linear", 1, 0.0)
    return AxisCost(axis.kind, bins, float(extent) / _LONGEST[axis.kind](bins))


def diameter(ground: Ground) -> float:
    """Return the largest distance between two cells."""
    return sum(_LONGEST[along.kind](along.bins) * along.edge for along in ground)


def cost_matrix(along: AxisCost) -> Float[np.ndarray, "n n"]:
    """Return the distances between all bins of one axis, in float64."""
    bins = np.arange(along.bins)
    apart = np.abs(bins[:, None] - bins)
    if along.kind == "circular":
        apart = np.minimum(apart, along.bins - apart)
    if along.kind == "categorical":
        apart = np.minimum(apart, 1)
    return apart * along.edge
