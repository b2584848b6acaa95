"""All pairs of two sets of maps, a tile of pairs at a time: no [N, M, cells] array ever exists.

Checked against the double loop in tests/metrics/test_pairwise.py.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from instrument_ig.machine import Execution, fitting

STRIPES = 8  # tiles a side, at least, within one set: 36 of the 64 hold all pairs


def windows(length: int, most: int) -> tuple[list[int], int]:
    """Cover `length` by as few windows of one width as `most` allows: starts and width.

    Evenly wide, so that the last one, which may overlap its neighbour, repeats little.
    """
    width = math.ceil(length / math.ceil(length / most))
    return [min(start, length - width) for start in range(0, length, width)], width


def tile_side(rows: Array, columns: Array | None, execution: Execution | None) -> int:
    """Return how many rows and columns a tile of pairs has.

    A square tile is as large as memory allows if every pair in it took one map of working space;
    where the compiler fuses the measure into its sum it takes none, and no cache has a say.

    Raises:
      ValueError: not even one pair fits.
    """
    count = len(rows) * len(rows if columns is None else columns)
    map_bytes = rows.dtype.itemsize * math.prod(rows.shape[1:])
    return math.isqrt(fitting(count, map_bytes, execution or Execution(), hot_bytes=0))


def outer(rows: Float[Array, " N"], columns: Float[Array, " M"] | None) -> Float[Array, "N M"]:
    """Multiply every entry with every other, of one vector or of two."""
    return rows[:, None] * (rows if columns is None else columns)[None]


def by_blocks(
    function: Callable[[Array], Array], rows: Float[Array, "N D"], width: int
) -> Float[Array, "... N"]:
    """Apply a function of many rows to all, a block at a time; rows are last in its result."""
    starts, width = windows(len(rows), width)
    at = jnp.array(starts)

    def step(k, result):
        values = function(jax.lax.dynamic_slice_in_dim(rows, at[k], width))
        return jax.lax.dynamic_update_slice_in_dim(result, values, at[k], -1)

    shape = jax.eval_shape(function, rows)
    return jax.lax.fori_loop(0, len(starts), step, jnp.zeros(shape.shape, shape.dtype))


def all_pairs(
    measure: Callable[[Array, Array], Array],
    rows: Float[Array, "N T F"],
    columns: Float[Array, "M T F"] | None,
    side: int,
) -> Float[Array, "N M"]:
    """Apply `measure` to every row and column; without columns, to the pairs within the rows.

    Within one set the measure must be symmetric: only tiles on and above the diagonal are computed.
    """
    within = columns is None
    columns = rows if within else columns
    side = min(side, math.ceil(len(rows) / STRIPES)) if within else side
    tops, height = windows(len(rows), side)
    lefts, width = windows(len(columns), side)
    corners = jnp.array([(i, j) for i in tops for j in lefts if i <= j or not within])
    tile = jax.vmap(jax.vmap(measure, (None, 0)), (0, None))

    def step(k, result):
        i, j = corners[k]
        values = tile(
            jax.lax.dynamic_slice_in_dim(rows, i, height),
            jax.lax.dynamic_slice_in_dim(columns, j, width),
        )
        return jax.lax.dynamic_update_slice(result, values, (i, j))

    empty = jnp.zeros((len(rows), len(columns)), rows.dtype)
    result = jax.lax.fori_loop(0, len(corners), step, empty)
    return jnp.triu(result) + jnp.triu(result, 1).T if within else result
