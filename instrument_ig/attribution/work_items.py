"""One flat list of (row, point) pairs, evaluated a chunk at a time by one compiled program.

Every sampled method is the same computation: evaluate a function at some points of each of some
rows (path positions of maps, noise draws of inputs, perturbation levels of curves), and sum the
results with weights. Rows may have any number of points, so a list of pairs keeps chunks full
where nested loops over rows and points would not; memory depends on the chunk alone.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from instrument_ig.attribution.programs import Parts, is_traced, result_shape
from instrument_ig.machine import jit as fast_jit

CPU_MEMORY = 2 * 2**30  # bytes, where the device does not say how many it has
DEVICE_SHARE = 0.5  # of the device's memory: the rest is left to parameters and other arrays
CPU_CHUNK = 4  # images of the networks here: the activations of more leave the cache
CPU_CACHE = 2**24  # bytes of temporary arrays with which larger chunks of smaller scores are faster
LARGE_CHUNK = 256  # on accelerators, and the most on CPUs
BUCKET = 2  # chunks are powers of this, so that short lists add few programs
GROWTH = 8  # a chunk of a small score grows by this at once, for the same reason
IN_FLIGHT = 2  # chunks that may wait in the device's queue, each with its own temporary memory
NOWHERE = np.iinfo(np.int32).max  # a slot out of every range

Function = Callable[..., tuple[Any, Any]]  # score, row's data, point -> contribution, record
Report = Callable[[int, int], None] | None  # called with (done, total) on the way


class WorkItems(NamedTuple):
    """Where to evaluate, and into which slot of the sums, with what weight, the result goes."""

    row: Int[np.ndarray, " N"] | Int[Array, " N"]
    point: Any  # pytree of arrays [N, ...]
    weight: Float[np.ndarray, " N"] | Float[Array, " N"]
    slot: Int[np.ndarray, " N"] | Int[Array, " N"]


def weighted_sums(
    function: Function,
    score: Any,
    data: Any,
    items: WorkItems,
    *,
    sums: Any = None,
    slots: int | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    report: Report = None,
) -> tuple[Any, Any]:
    """Sum weight * contribution over the items of each slot, and keep every item's record.

    Args:
        function: (score, one row of `data`, one point) -> (contribution, record), for one item.
            Programs are compiled once per function object, so pass a module's function.
        score: handed to `function`.
        data: pytree of arrays [rows, ...].
        items: the list, not empty; any order, any number per row and slot.
        sums: pytree of arrays [slots, ...] to go on from; its buffers are given away.
        slots: sums start as zeros for this many slots where `sums` is None. None: one per row.
        chunk: items evaluated together. None: see `fitting_chunk`.
        memory: bytes that the program may need, where `chunk` is None. None: the device's share.
        report: called with (items done, items in all).

    Returns:
        The sums, and the records as NumPy arrays [N, ...] (JAX arrays when traced).

    Numerics: each slot is summed in the order of its items, whatever the chunk and the other
        slots, so chunks change only the rounding inside `function`. A NaN stays in its own slot.
        Sums of half-precision contributions are float32.
    Cost: N evaluations; temporary memory of one chunk. When traced (under `jit`, `vmap`, `grad`)
        one `lax.scan` over chunks; otherwise separate calls of one program, because XLA's CPU
        compiler runs the input gradients of convolutions inside a loop ten times slower.
    """
    if sums is None:
        sums = _zeros(function, score, data, items, slots or n_rows(data))
    if is_traced((score, data, items, sums)):
        return _scan(function, score, data, items, sums, chunk or preferred_chunk())
    if chunk is None:
        chunk = fitting_chunk(function, score, data, items, sums, memory)
    parts = Parts.of(score)
    n, records = len(items.row), []
    for start in range(0, n, chunk):
        part = jax.tree.map(lambda leaf, at=start: leaf[at : at + chunk], items)
        part = _pad(part, chunk)
        sums, record = _advance()(function, *parts, data, part, sums)
        records.append(record)
        jax.block_until_ready(records[-IN_FLIGHT:][0])
        if report:
            report(min(start + chunk, n), n)
    return sums, jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *jax.device_get(records))


def preferred_chunk() -> int:
    """Return how many images of a large score the default device likes to evaluate together."""
    return CPU_CHUNK if jax.default_backend() == "cpu" else LARGE_CHUNK


def available_memory() -> int:
    """Return the bytes a program may use on the default device when nobody says otherwise."""
    stats = jax.devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", CPU_MEMORY / DEVICE_SHARE) * DEVICE_SHARE)


def fitting_chunk(function, score, data, items, sums, memory: int | None = None) -> int:
    """Return the largest useful chunk whose program fits in `memory`.

    That is the preferred one or, on a CPU, more if the temporary arrays stay in its cache. The
    program's arguments, results and temporary arrays count, as XLA's buffer assignment has
    them; the compilations are those that the evaluation needs anyway, one where the first fits.

    Raises:
        ValueError: not even one item at a time fits.
    """
    static, arrays = Parts.of(score)
    item = jax.tree.map(lambda leaf: leaf[0], items)
    shapes = jax.eval_shape(lambda *trees: trees, arrays, data, item, sums)
    leaves, structure = jax.tree.flatten(shapes)
    bucket = 1
    while bucket < min(len(items.row), preferred_chunk()):
        bucket *= BUCKET
    memory = available_memory() if memory is None else memory
    chunk, most = bucket, min(len(items.row), LARGE_CHUNK)
    needs = lambda: _program_needs(function, static, tuple(leaves), structure, chunk)
    while needs().temporary * GROWTH <= CPU_CACHE and chunk * GROWTH <= most:
        chunk *= GROWTH
    while needs().all > memory:
        if chunk == 1:
            raise ValueError(f"memory={memory}: one item at a time needs {needs().all} bytes")
        chunk = max(1, chunk // BUCKET)
    return chunk


class _Needs(NamedTuple):
    temporary: int  # bytes
    all: int


@lru_cache(maxsize=256)
def _program_needs(function, static, leaves, structure, chunk):
    """Compile the program of a chunk, which the evaluation is likely to need, and ask it."""
    arrays, data, item, sums = structure.unflatten(leaves)
    part = jax.tree.map(lambda leaf: leaf.update(shape=(chunk, *leaf.shape)), item)
    program = _advance().lower(function, static, arrays, data, part, sums).compile()
    return _Needs(program.memory_analysis().temp_size_in_bytes, program_memory(program))


def program_memory(program: jax.stages.Compiled) -> int:
    """Return the bytes that a compiled program holds at its peak: arguments, results, the rest."""
    size = program.memory_analysis()
    return (
        size.argument_size_in_bytes
        + size.output_size_in_bytes
        + size.temp_size_in_bytes
        - size.alias_size_in_bytes
    )


def n_rows(tree: Any) -> int:
    """Return the length of the leading axis that all arrays of `tree` share."""
    return len(jax.tree.leaves(tree)[0])


def _step(function, score, data, items, sums):
    """Evaluate one chunk, then add one contribution after the other; slots out of range drop."""
    own = jax.tree.map(lambda leaf: leaf[items.row], data)
    contributions, records = jax.vmap(partial(function, score))(own, items.point)

    def add(i, sums):
        weigh = lambda total, parts: total.at[items.slot[i]].add(
            items.weight[i].astype(total.dtype) * parts[i].astype(total.dtype), mode="drop"
        )
        return jax.tree.map(weigh, sums, contributions)

    return lax.fori_loop(0, len(items.row), add, sums), records


@lru_cache
def _advance():
    """Return the compiled step; made at its first use, because only then the backend is known."""

    def advance(function, static, arrays, data, items, sums):
        return _step(function, Parts(static, arrays).whole(), data, items, sums)

    return fast_jit(advance, static_argnums=(0, 1), donate_argnums=5)


def _scan(function, score, data, items, sums, chunk):
    """`weighted_sums` as one traced loop."""
    n = len(items.row)
    chunk = min(chunk, n)
    padded = _pad(items, -(-n // chunk) * chunk)
    chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), padded)
    step = lambda sums, part: _step(function, score, data, part, sums)
    sums, records = lax.scan(step, sums, chunks)
    return sums, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], records)


def _zeros(function, score, data, items, slots):
    """Return empty sums: the contributions' shapes, in single precision at least."""
    row, point = jax.tree.map(lambda leaf: leaf[0], (data, items.point))
    ones = result_shape(function, score, row, point)[0]
    zeros = lambda one: jnp.zeros((slots, *one.shape), np.promote_types(one.dtype, np.float32))
    return jax.tree.map(zeros, ones)


def _pad(items, size):
    """Repeat the last item up to `size`, into a slot that does not exist."""
    n = len(items.row)
    last = np.minimum(np.arange(size), n - 1)
    padded = jax.tree.map(lambda leaf: leaf[last], items)
    return padded._replace(slot=np.where(np.arange(size) < n, padded.slot, NOWHERE))
