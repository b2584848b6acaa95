"""Straight paths from baselines to inputs."""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Space = Literal["input", "tap"]


class Path(NamedTuple):
    """Positions start + alpha * delta for alpha in [0, 1]; or many paths, one per row."""

    start: Float[Array, "..."]
    delta: Float[Array, "..."]  # in single precision at least

    def at(self, alpha: Any) -> Float[Array, "..."]:
        """Return the position in the dtype of `start`, computed in that of `delta`."""
        precise = self.start.astype(self.delta.dtype)
        return (precise + alpha * self.delta).astype(self.start.dtype)


@jax.jit
def straight_paths(
    inputs: Float[Array, "B ..."], baselines: Float[Array, "b R ..."], which: Int[Array, " n"]
) -> Path:
    """Return paths number b R + r, from baseline r of input b to input b.

    Args:
      inputs: where paths end.
      baselines: where they start; b is B, or 1 where all inputs share them.
      which: their numbers.
    """
    b, r = which // baselines.shape[1], which % baselines.shape[1]
    return to_path(baselines[b % len(baselines), r], inputs[b])


def to_path(start: Float[Array, "..."], end: Float[Array, "..."]) -> Path:
    """Return the path from one place to another."""
    precise = np.promote_types(start.dtype, np.float32)
    return Path(start, end.astype(precise) - start.astype(precise))
