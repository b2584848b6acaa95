"""Scores as arguments of compiled programs.

A score is a pytree: functions and, in a `jax.tree_util.Partial` or a module, arrays as leaves.
Programs are compiled for the functions and called with the arrays, so that scores of one kind (one
architecture, many instruments) share their programs. Arrays inside a plain closure are constants.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Parts(NamedTuple):
    """A score taken apart."""

    static: tuple  # hashable: structure, which leaves are arrays, the other leaves
    arrays: tuple

    @classmethod
    def of(cls, score: Any) -> "Parts":
        """Take a score apart."""
        leaves, structure = jax.tree.flatten(score)
        is_array = tuple(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        parts = list(zip(leaves, is_array, strict=True))
        return cls(
            (structure, is_array, tuple(leaf for leaf, array in parts if not array)),
            tuple(leaf for leaf, array in parts if array),
        )

    def whole(self) -> Any:
        """Put the score together again."""
        structure, is_array, others = self.static
        arrays, others = iter(self.arrays), iter(others)
        return structure.unflatten([next(arrays if array else others) for array in is_array])


def call(function: Any, score: Any, *args: Any) -> Any:
    """Return function(score, *args), compiled once for the function and the kind of score."""
    return _call(function, *Parts.of(score), *args)


def result_shape(function: Any, score: Any, *args: Any) -> Any:
    """Return the shapes and dtypes of function(score, *args); traced once, like `call`."""
    return _call.eval_shape(function, *Parts.of(score), *args)


def is_traced(tree: Any) -> bool:
    """Say whether `tree` holds traced arrays or the caller itself is being traced."""
    leaves = [*jax.tree.leaves(tree), jnp.zeros(())]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


@partial(jax.jit, static_argnums=(0, 1))
def _call(function, static, arrays, *args):
    return function(Parts(static, arrays).whole(), *args)
