"""A function of one row, mapped over many, a batch at a time by one compiled program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from instrument_ig.machine import devices
from instrument_ig.machine.execution import Execution, available_memory
from instrument_ig.machine.programs import Program, is_traced, shapes_of_one, trace
from instrument_ig.machine.sharing import (
    gathered,
    n_devices,
    over_processes,
    replicated,
    rowwise,
)

GROWTH = 8  # batches of small programs grow by this at once, so that few are tried
IN_FLIGHT = 2  # batches that may wait in a device's queue, each with its own temporary memory


def map_rows(
    function: Callable[[Any], Any],
    rows: Any,
    execution: Execution,
    *,
    precision: str = "highest",
    done: Callable[[int], None] | None = None,
) -> Any:
    """Return function(row) for each row of a pytree of arrays [n, ...], stacked.

    Args:
      function: of one row; it may close over arrays and traced values.
      rows: n of them, at least one.
      execution: memory and devices.
      precision: of the function's matrix products and convolutions, unless it was traced before.
      done: called with the number of rows done, after each batch. None: `execution.report` is.

    Raises:
      ValueError: not even one row at a time fits in memory.

    Numerics: a row's result depends on no other row, but for rounding in other batch sizes.
    Cost: n evaluations; temporary memory of two batches. Where something is traced, one program
      that maps batch after batch.
    """
    here = partial(_map_rows, function, precision, done)
    return over_processes(here, rows, execution)


def n_rows(tree: Any) -> int:
    """Return the length of the leading axis that all arrays of `tree` share."""
    return len(jax.tree.leaves(tree)[0])


def nobody(_: int) -> None:
    """Take note of nothing."""


def telling(execution: Execution, n: int) -> Callable[[int], None]:
    """Return a function of the number of rows done that reports it."""
    report = execution.report
    return (lambda done: report(done, n)) if report else nobody


@dataclass(frozen=True)
class _Mapped:
    program: Program

    def __call__(self, arrays, rows):
        return jax.vmap(partial(self.program, arrays))(rows)


def _map_rows(function, precision, done, rows, execution):
    traced, n = trace(function, shapes_of_one(rows), precision=precision), n_rows(rows)
    if is_traced((traced.arrays, rows)):
        return lax.map(traced, rows, batch_size=devices.batch(n))
    call = rowwise(_Mapped(traced.program), execution)
    arrays = replicated(traced.arrays, execution)
    shapes = lambda size: (arrays, stacked(shapes_of_one(rows), size))
    needs = lambda size: program_needs(call, *shapes(size))
    size = largest(sizes(n, execution), needs, execution)
    done = done or telling(execution, n)
    compute = lambda batch: gathered(call(arrays, batch), execution)
    return in_batches(compute, rows, traced.program.out, size, done)


class Sizes(NamedTuple):
    """How many examples may be evaluated together, on all devices that share them."""

    preferred: int
    larger: Sequence[int]
    smaller: Sequence[int]


def sizes(count: int, execution: Execution) -> Sizes:
    """Return the sizes of batches to choose from for so many examples."""
    shared = n_devices(execution)
    one = devices.batch(-(-count // shared))
    up = [one]
    while up[-1] * GROWTH * shared <= count:
        up.append(up[-1] * GROWTH)
    down = [one >> k for k in range(1, one.bit_length())]
    return Sizes(one * shared, [n * shared for n in up[1:]], [n * shared for n in down])


def largest(choice: Sizes, needs: Callable[[int], "Needs"], execution: Execution) -> int:
    """Return the preferred size, a larger one for small programs, or a smaller one that fits.

    Raises:
      ValueError: none fits in memory.
    """
    chosen, memory = choice.preferred, available_memory(execution)
    for larger in choice.larger:
        if not devices.likes_more(needs(chosen).temporary, GROWTH):
            break
        chosen = larger
    below = [size for size in (*reversed(choice.larger), choice.preferred) if size < chosen]
    for size in (chosen, *below, *choice.smaller):
        if needs(size).peak <= memory:
            return size
    raise ValueError(f"memory={memory}: one example at a time needs {needs(size).peak} bytes")


def in_batches(
    call: Callable[[Any], Any], rows: Any, out: Any, size: int, done: Callable[[int], None]
) -> Any:
    """Call on batch after batch of rows; the last one reaches back so that it is full.

    Args:
      call: rows [size, ...] -> results.
      rows: pytree of arrays [n, ...].
      out: shapes and dtypes of one result.
      size: of a batch.
      done: called with the number of rows done.
    """
    n = n_rows(rows)
    if n < size:
        full = np.minimum(np.arange(size), n - 1)
        found = call(jax.tree.map(lambda leaf: leaf[full], rows))
        done(n)
        return jax.tree.map(lambda leaf: leaf[:n], found)
    results = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape), leaf.dtype), out)
    waiting = []
    for start in range(0, n, size):
        start = min(start, n - size)
        part = call(jax.tree.map(partial(_cut, start=start, size=size), rows))
        results = _write(results, part, start)
        waiting = [*waiting, jax.tree.leaves(part)[0]][-IN_FLIGHT:]
        waiting[0].block_until_ready()
        done(start + size)
    return results


def _cut(leaf, start, size):
    if isinstance(leaf, np.ndarray):
        return leaf[start : start + size]
    return _slice(leaf, start, size)


@partial(jax.jit, static_argnums=2)
def _slice(leaf, start, size):
    return lax.dynamic_slice_in_dim(leaf, start, size)


@partial(jax.jit, donate_argnums=0)
def _write(results, part, start):
    put = lambda whole, new: lax.dynamic_update_slice_in_dim(whole, new, start, 0)
    return jax.tree.map(put, results, part)


def stacked(shapes: Any, size: int) -> Any:
    """Return shapes with a leading axis."""
    return jax.tree.map(lambda leaf: leaf.update(shape=(size, *leaf.shape)), shapes)


class Needs(NamedTuple):
    """Bytes that a compiled program holds on a device."""

    temporary: int
    peak: int  # arguments, and results and temporary arrays of the calls in flight


def program_needs(call: Callable, *shapes: Any) -> Needs:
    """Compile a jitted function for some shapes, which a call will want anyway, and ask it."""
    leaves, structure = jax.tree.flatten(shapes)
    described = tuple((leaf.shape, _as_jax_has_it(leaf.dtype)) for leaf in leaves)
    return _program_needs(call, described, structure)


def _as_jax_has_it(dtype):
    """Return a type of NumPy's as it is within programs: without x64 in single precision."""
    is_key = jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
    return dtype if is_key else jax.dtypes.canonicalize_dtype(dtype)


@lru_cache(maxsize=256)
def _program_needs(call, described, structure):
    leaves = [jax.ShapeDtypeStruct(*leaf) for leaf in described]
    size = call.lower(*structure.unflatten(leaves)).compile().memory_analysis()
    results = size.output_size_in_bytes - size.alias_size_in_bytes
    own = size.temp_size_in_bytes + results
    return Needs(size.temp_size_in_bytes, size.argument_size_in_bytes + IN_FLIGHT * own)
