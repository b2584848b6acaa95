"""A function of a row and a point, summed over the same points of every row.

Where every row has the same points, rows advance in lockstep: a program walks along the points in
a loop of its own and adds up as it goes, so no result is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from instrument_ig.machine import devices
from instrument_ig.machine.batches import (
    in_batches,
    largest,
    n_rows,
    program_needs,
    sizes,
    stacked,
    telling,
)
from instrument_ig.machine.execution import Execution
from instrument_ig.machine.programs import Program, is_traced, shapes_of_one, trace
from instrument_ig.machine.sharing import (
    gathered,
    n_devices,
    over_processes,
    replicated,
    rowwise,
)


def sum_over_points(
    function: Callable[[Any, Any], Any],
    rows: Any,
    points: Any,
    weights: Float[np.ndarray, " S"],
    execution: Execution,
    *,
    precision: str = "highest",
    done: Callable[[int], None] | None = None,
) -> Any:
    """Return sum over s of weights[s] * function(row, points[s]) for each row, stacked.

    Args:
      function: of one row and one point; it may close over arrays and traced values.
      rows: pytree of arrays [n, ...].
      points: pytree of arrays [S, ...], the same for all rows.
      weights: of the points.
      execution: memory and devices.
      precision: of the function's matrix products and convolutions, unless it was traced before.
      done: called with the number of rows done, after each batch. None: `execution.report` is.

    Raises:
      ValueError: not even one point of one row at a time fits in memory.

    Numerics: points are summed block after block, in single precision at least. NaN stays in its
      row.
    Cost: n S evaluations, but for a last block that may repeat points with weight zero; memory of
      one batch of rows, whatever S is.
    """
    here = partial(_sum_over_points, function, points, weights, precision, done)
    return over_processes(here, rows, execution)


class _Grid(NamedTuple):
    """How many rows, and how many points of each, are evaluated together."""

    rows: int
    points: int


def _grid(n: int, s: int, size: int) -> _Grid:
    """Return the grid of about `size` evaluations that repeats the fewest rows and points."""

    def repeated(grid):
        whole = -(-n // grid.rows) * grid.rows * -(-s // grid.points) * grid.points
        return whole, -min(grid.rows * grid.points, size), -grid.rows, grid.points

    heights = [1 << k for k in range(size.bit_length()) if 1 << k < n]
    heights += [n] if n <= size else []
    widths = lambda height: range(
        min(s, max(1, -(-size // (2 * height)))), min(s, max(1, 2 * size // height)) + 1
    )
    return min(
        (_Grid(height, width) for height in heights for width in widths(height)), key=repeated
    )


def _blocks(points, weights, width):
    """Cut points [S, ...] into blocks [blocks, width, ...]; the last point fills up, weightless."""
    s = len(weights)
    at = np.arange(-(-s // width) * width)
    cut = lambda leaf: leaf[np.minimum(at, s - 1)].reshape(-1, width, *leaf.shape[1:])
    return jax.tree.map(cut, points), np.where(at < s, weights[at % s], 0).reshape(-1, width)


@dataclass(frozen=True)
class _Summed:
    """Sums over blocks of points, all of them in a loop, or a single one."""

    program: Program
    in_loop: bool

    def __call__(self, shared, rows, sums):
        arrays, points, weights = shared

        def add(sums, block):
            points, weights = block
            found = jax.vmap(lambda row: jax.vmap(partial(self.program, arrays, row))(points))(rows)
            return jax.tree.map(partial(_add_weighted, weights), sums, found), None

        if self.in_loop:
            return lax.scan(add, sums, (points, weights))[0]
        return add(sums, (points, weights))[0]


def _add_weighted(weights, sums, found):
    weights = weights.astype(sums.dtype).reshape(1, -1, *(1,) * (found.ndim - 2))
    return sums + (weights * found.astype(sums.dtype)).sum(1)


def _precise(out):
    """Return shapes of sums: in single precision at least."""
    wide = lambda leaf: leaf.update(dtype=np.promote_types(leaf.dtype, jnp.float32))
    return jax.tree.map(wide, out)


def _sum_over_points(function, points, weights, precision, done, rows, execution):
    examples = shapes_of_one(rows), shapes_of_one(points)
    traced = trace(function, *examples, precision=precision)
    n, s, shared = n_rows(rows), len(weights), n_devices(execution)
    done = done or telling(execution, n)
    out, grid = _precise(traced.program.out), lambda size: _grid(-(-n // shared), s, size // shared)
    if is_traced((traced.arrays, rows, points, weights)):
        blocks = (traced.arrays, *_blocks(points, weights, grid(devices.batch(n * s)).points))
        one = lambda row: _Summed(traced.program, True)(
            blocks, jax.tree.map(lambda leaf: leaf[None], row), _zeros(out, 1)
        )
        found = lax.map(one, rows, batch_size=grid(devices.batch(n * s)).rows)
        return jax.tree.map(lambda leaf: leaf[:, 0], found)
    in_loop = not (devices.is_cpu() and traced.program.is_slow_in_loops)
    call = rowwise(_Summed(traced.program, in_loop), execution, carry=True)
    arrays = replicated(traced.arrays, execution)

    def needs(size):
        height, width = grid(size)
        cut = _blocks(points, weights, width)
        blocks = cut if in_loop else jax.tree.map(lambda leaf: leaf[0], cut)
        batch = stacked((examples[0], out), height * shared)
        return program_needs(call, (arrays, *blocks), *batch)

    height, width = grid(largest(sizes(n * s, execution), needs, execution))
    blocks = replicated(_blocks(points, weights, width), execution)

    def sums(batch):
        found = _zeros(out, height * shared)
        if in_loop:
            return gathered(call((arrays, *blocks), batch, found), execution)
        for block in range(len(blocks[1])):
            found = call((arrays, *jax.tree.map(lambda leaf: leaf[block], blocks)), batch, found)  # noqa: B023
        return gathered(found, execution)

    return in_batches(sums, rows, out, height * shared, done)


def _zeros(out, size):
    return jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), out)
