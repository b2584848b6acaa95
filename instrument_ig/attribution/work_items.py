"""One flat list of (row, point) pairs, evaluated a chunk at a time by one compiled program.

Every sampled method is the same computation: evaluate a function at some points of each of some
rows (path positions of maps, noise draws of inputs, perturbation levels of curves), and sum the
results per row with weights. Rows may have any number of points, so a list of pairs keeps chunks
full where nested loops over rows and points would not; memory depends on the chunk alone.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

CPU_MEMORY = 2 * 2**30  # bytes, where the device does not say how many it has
DEVICE_SHARE = 0.5  # of the device's memory: the rest is left to parameters and other arrays
FAST_CHUNK = {"cpu": 4}  # activations of more examples leave the cache
LARGE_CHUNK = 256  # on accelerators
IN_FLIGHT = 2  # chunks that may wait in the device's queue, each with its own temporary memory

Function = Callable[..., tuple[Any, Any]]  # score, row's data, point -> contribution, record
Report = Callable[[int, int], None] | None  # called with (done, total) on the way


class WorkItems(NamedTuple):
    """Which row each item belongs to, where to evaluate, and with what weight to sum."""

    row: Int[np.ndarray, " N"] | Int[Array, " N"]
    point: Any  # pytree of arrays [N, ...]
    weight: Float[np.ndarray, " N"] | Float[Array, " N"]


class Score(NamedTuple):
    """A score in two parts: what a program is compiled for, and arrays it is called with.

    A score that is a pytree (`jax.tree_util.Partial`, a module) carries its parameters as
    arrays, so that scores of equal shape share one program; in a plain closure they are constants.
    """

    static: tuple
    arrays: tuple

    @classmethod
    def of(cls, score):
        """Part the leaves of `score`."""
        leaves, structure = jax.tree.flatten(score)
        is_array = tuple(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        parts = list(zip(leaves, is_array, strict=True))
        return cls(
            (structure, is_array, tuple(leaf for leaf, array in parts if not array)),
            tuple(leaf for leaf, array in parts if array),
        )

    def whole(self):
        """Put the leaves together again."""
        structure, is_array, others = self.static
        arrays, others = iter(self.arrays), iter(others)
        return structure.unflatten([next(arrays if array else others) for array in is_array])


def weighted_sums(
    function: Function,
    score: Any,
    data: Any,
    items: WorkItems,
    *,
    sums: Any = None,
    chunk: int | None = None,
    memory: int | None = None,
    report: Report = None,
) -> tuple[Any, Any]:
    """Sum weight * contribution over the items of each row, and keep every item's record.

    Args:
        function: (score, one row of `data`, one point) -> (contribution, record), for one item.
            Programs are compiled once per function object, so pass a module's function.
        score: handed to `function`.
        data: pytree of arrays [rows, ...].
        items: the list; any order, any number per row.
        sums: pytree of arrays [rows, ...] to go on from; its buffers are given away. None: zeros.
        chunk: items evaluated together. None: see `fitting_chunk`.
        memory: bytes that the program may need, where `chunk` is None. None: the device's share.
        report: called with (items done, items in all).

    Returns:
        The sums, and the records as NumPy arrays [N, ...] (JAX arrays when traced).

    Numerics: each row is summed in the order of its items, whatever the chunk and the other rows,
        so chunks change only the rounding inside `function`. A NaN stays in its own row. Sums of
        half-precision contributions are float32.
    Cost: N evaluations; temporary memory of one chunk. When traced (under `jit`, `vmap`, `grad`)
        one `lax.scan` over chunks; otherwise separate calls of one program, because XLA's CPU
        compiler runs convolutions inside a loop up to ten times slower.
    """
    score = Score.of(score)
    if sums is None:
        sums = _zeros(function, score, data, items)
    if is_traced((score.arrays, data, items, sums)):
        return _scan(function, score, data, items, sums, chunk or fast_chunk())
    if chunk is None:
        chunk = fitting_chunk(function, score, data, items, sums, memory)
    n, rows, records = len(items.row), _n_rows(data), []
    for start in range(0, n, chunk):
        part = jax.tree.map(lambda leaf, at=start: leaf[at : at + chunk], items)
        sums, record = _advance(
            function, score.static, score.arrays, data, _pad(part, chunk, rows), sums
        )
        records.append(record)
        jax.block_until_ready(records[-IN_FLIGHT:][0])
        if report:
            report(min(start + chunk, n), n)
    return sums, jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *jax.device_get(records))


def fast_chunk() -> int:
    """Return how many items of an image network the default device likes at a time."""
    return FAST_CHUNK.get(jax.default_backend(), LARGE_CHUNK)


def available_memory() -> int:
    """Return the bytes a program may use on the default device when nobody says otherwise."""
    stats = jax.devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", CPU_MEMORY / DEVICE_SHARE) * DEVICE_SHARE)


def fitting_chunk(function, score: Score, data, items, sums, memory: int | None = None) -> int:
    """Return the largest chunk, `fast_chunk()` or less, whose compiled program fits in `memory`.

    The program's arguments, results and temporary arrays count, as XLA's buffer assignment has
    them; the compilations are those that the evaluation needs anyway, one where the first fits.

    Raises:
        ValueError: not even one item at a time fits.
    """
    shapes = jax.tree.map(_shape, (score.arrays, data, items, sums))
    leaves, structure = jax.tree.flatten(shapes)
    memory = available_memory() if memory is None else memory
    n = min(len(items.row), fast_chunk())
    return _fitting_chunk(function, score.static, tuple(leaves), structure, n, memory)


@lru_cache(maxsize=256)
def _fitting_chunk(function, static, leaves, structure, chunk, memory):
    arrays, data, items, sums = structure.unflatten(leaves)
    while True:
        resize = lambda leaf, size=chunk: leaf.update(shape=(size, *leaf.shape[1:]))
        part = jax.tree.map(resize, items)
        need = program_memory(_advance.lower(function, static, arrays, data, part, sums).compile())
        if need <= memory:
            return chunk
        if chunk == 1:
            raise ValueError(f"memory={memory}: one item at a time needs {need} bytes")
        chunk = max(1, min(chunk // 2, chunk * memory // need))


def program_memory(program: jax.stages.Compiled) -> int:
    """Return the bytes that a compiled program holds at its peak: arguments, results, the rest."""
    size = program.memory_analysis()
    return (
        size.argument_size_in_bytes
        + size.output_size_in_bytes
        + size.temp_size_in_bytes
        - size.alias_size_in_bytes
    )


def is_traced(tree: Any) -> bool:
    """Say whether `tree` holds traced arrays or the caller itself is being traced."""
    leaves = [*jax.tree.leaves(tree), jnp.zeros(())]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _step(function, score, data, items, sums):
    """Evaluate one chunk and add each contribution to its row; rows out of range are dropped."""
    own = jax.tree.map(lambda leaf: leaf[items.row], data)
    contributions, records = jax.vmap(partial(function, score))(own, items.point)

    def add(i, sums):
        weigh = lambda total, part: total.at[items.row[i]].add(
            (items.weight[i].astype(total.dtype) * part[i].astype(total.dtype)), mode="drop"
        )
        return jax.tree.map(weigh, sums, contributions)

    return lax.fori_loop(0, len(items.row), add, sums), records


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
def _advance(function, static, arrays, data, items, sums):
    return _step(function, Score(static, arrays).whole(), data, items, sums)


def _scan(function, score, data, items, sums, chunk):
    """`weighted_sums` as one traced loop."""
    n = len(items.row)
    chunk = min(chunk, n)
    padded = _pad(items, -(-n // chunk) * chunk, _n_rows(data))
    chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), padded)
    step = lambda sums, part: _step(function, score.whole(), data, part, sums)
    sums, records = lax.scan(step, sums, chunks)
    return sums, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], records)


def _pad(items, size, rows):
    """Repeat the last item up to `size`, in a row out of range."""
    missing = size - len(items.row)
    if not missing:
        return items
    repeat = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])
    if is_traced(items):
        repeat = lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, axis=0)])
    padded = jax.tree.map(repeat, items)
    outside = np.arange(size) >= len(items.row)
    where = jnp.where if is_traced(items) else np.where
    return padded._replace(row=where(outside, rows, padded.row))


def _zeros(function, score, data, items):
    """Return empty sums: the contributions' shapes, in single precision at least."""
    evaluate = lambda: function(
        score.whole(), *jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (data, items.point))
    )[0]
    rows = _n_rows(data)
    return jax.tree.map(
        lambda one: jnp.zeros((rows, *one.shape), jnp.promote_types(one.dtype, jnp.float32)),
        jax.eval_shape(evaluate),
    )


def _n_rows(data):
    return len(jax.tree.leaves(data)[0])


def _shape(leaf):
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))
