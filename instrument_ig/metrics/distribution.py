"""Heatmaps as distributions over cells: which part of a signed map carries the mass.

Every distance between distributions depends on this choice, so it has a name and no default hides
it in a result table. Checked against a loop over cells in tests/metrics/test_distribution.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from instrument_ig.metrics.arguments import precise

MASS_ERROR = 1e-3  # of a sum that should be one: half precision's own

POLICIES = {
    "absolute": jnp.abs,  # importance, whatever its sign
    "positive": lambda heatmap: jnp.maximum(heatmap, 0),  # what speaks for the class
    "negative": lambda heatmap: jnp.maximum(-heatmap, 0),  # what speaks against it
    "squared": jnp.square,  # importance, with the peaks stressed
}


def to_distribution(
    heatmaps: Float[Array | np.ndarray, "*batch T F"],
    policy: str = "absolute",
    floor: float = 0.0,
) -> Float[Array, "*batch T F"]:
    """Turn each heatmap into a distribution over its T F cells.

    (1 - floor) w / sum(w) + floor / (T F), where w is the part of the map that `policy` names.

    Args:
      heatmaps: attributions of any sign and scale, in any unit.
      policy: absolute |h|, positive max(h, 0), negative max(-h, 0) or squared h^2.
      floor: share of the uniform distribution mixed in, in [0, 1). A floor above zero makes every
        cell positive and so every KL divergence finite.

    Returns:
      Non-negative maps that sum to one, in single precision at least. A map with a NaN or an
      infinity, an all-zero map, and a map whose policy leaves nothing (`positive` of a negative
      map) are no distribution: NaN in every cell, floor or not. A constant map is uniform under the
      policies that keep its sign.

    Raises:
      ValueError: unknown policy, floor outside [0, 1), or no floating-point images.

    Numerics: maps are divided by their largest magnitude first, so that squares neither overflow
      nor vanish; float32 sums are one to about 1e-6. The gradient of |h| at 0 is 0.
    Cost: three passes over the heatmaps.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if not 0 <= floor < 1:
        raise ValueError(f"floor must be in [0, 1), got {floor}")
    heatmaps = precise(heatmaps)
    # The result does not depend on the scale, so neither does the gradient.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(heatmaps), (-2, -1), keepdims=True))
    weights = POLICIES[policy](heatmaps / scale)
    shares = weights / jnp.sum(weights, (-2, -1), keepdims=True)
    return (1 - floor) * shares + floor / (heatmaps.shape[-2] * heatmaps.shape[-1])


def are_distributions(maps: Float[Array, "*batch T F"]) -> Bool[Array, "*batch"]:
    """Tell which maps are distributions: the rule of every metric that asks for them.

    No cell is negative, infinite or NaN, and the sum is within 1e-3 of one. All others are at
    distance NaN from everything.
    """
    positive = jnp.all((maps >= 0) & (maps < jnp.inf), (-2, -1))
    return positive & (jnp.abs(jnp.sum(maps, (-2, -1)) - 1) <= MASS_ERROR)


def nan_unless_distributions(
    p: Float[Array, "*batch T F"], q: Float[Array, "*batch T F"]
) -> Float[Array, "*batch"]:
    """Return a factor for the distances of p and q: one, or NaN where one is no distribution."""
    usable = are_distributions(p) & are_distributions(q)
    return jnp.where(usable, 1, jnp.nan).astype(p.dtype)
