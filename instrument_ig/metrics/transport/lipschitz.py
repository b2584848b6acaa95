"""1-Lipschitz functions: the potentials that prove a lower bound.

Min-plus convolution with the ground distance, an axis at a time. A sweep along the bins would make
every bin wait for its neighbour; doubling steps make a loop of log2 of the bins instead. Checked
against the brute-force envelope in tests/metrics/transport/test_lipschitz.py.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.metrics.transport.graph import AXES, rotated
from instrument_ig.metrics.transport.ground import AxisCost, Ground

Cells = Float[Array, "*batch T F"]


def project_lipschitz(potential: Cells, ground: Ground) -> Cells:
    """Return the largest 1-Lipschitz function below a potential: min_y potential(y) + d(x, y).

    Args:
      potential: any; a cell at infinity does not bind the others.
      ground: the distance.

    Returns:
      The projection: the potential itself where it was 1-Lipschitz already.

    Numerics: 1-Lipschitz up to a rounding of its own size for every step of the way; `lower_bound`
      measures what is left.
    Cost: log2 of the bins passes along each axis, none of which waits for a neighbour.
    """
    for axis, along in zip(AXES, ground, strict=True):
        potential = project_axis(potential, along, axis)
    return potential


def project_axis(potential: Cells, along: AxisCost, axis: int) -> Cells:
    """Project along one axis: every bin looks 1, 2, 4 ... bins to either side.

    Every distance is a sum of these, so log2 of the bins looks are enough.
    """
    n = along.bins
    if along.kind == "categorical":
        return jnp.minimum(potential, jnp.min(potential, axis, keepdims=True) + along.edge)
    bins = jnp.expand_dims(jnp.arange(n), tuple(range(1, -axis)))
    bins = bins.reshape((1,) * (potential.ndim - bins.ndim) + bins.shape)
    inside = lambda bins: (bins >= 0) & (bins < n) if along.kind == "linear" else True

    def look(k, potential):
        step = 2**k
        before = jnp.where(inside(bins - step), rotated(potential, axis, step), jnp.inf)
        after = jnp.where(inside(bins + step), rotated(potential, axis, n - step), jnp.inf)
        cost = step.astype(potential.dtype) * along.edge
        return jnp.minimum(potential, jnp.minimum(before, after) + cost)

    farthest = n - 1 if along.kind == "linear" else n // 2
    return lax.fori_loop(0, farthest.bit_length(), look, potential)
