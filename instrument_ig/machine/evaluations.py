"""A function of a row and a point, at points that depend on what was found at others.

What it records comes back at once. What it contributes is kept on the device, in blocks of one size
so that few programs serve all rounds, until the weights are known; what no longer fits in memory is
computed again then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from instrument_ig.machine import devices
from instrument_ig.machine.batches import largest, n_rows, program_needs, sizes, stacked
from instrument_ig.machine.execution import Execution, available_memory
from instrument_ig.machine.programs import Program, shapes_of_one, trace
from instrument_ig.machine.sharing import gathered, n_devices, replicated, rowwise

BLOCK = 256  # places in a block of one device, at most
PER_ROW = 16  # places for each row, where there are few rows
SHARE = 4  # of the memory one part in so many is for blocks


class _Items(NamedTuple):
    """What one call evaluates, and from which place of the block on it writes."""

    row: Int[np.ndarray, "devices size"]
    point: Float[np.ndarray, "devices size"]
    count: Int[np.ndarray, " devices"]  # of the items that are wanted: the first ones
    start: Int[np.ndarray, " devices"]


@dataclass
class _Block:
    """Contributions on the device, and which evaluations they are of."""

    values: Any  # pytree of arrays [devices * places, ...]
    item: Int[np.ndarray, "devices places"]  # number of the evaluation; -1: none
    used: int = 0  # places of each device


@dataclass(frozen=True)
class _Filling:
    """Evaluate items on one device, `chunk` together, and write what they contribute."""

    program: Program
    chunk: int
    in_loop: bool

    def __call__(self, shared, items, block):
        arrays, rows = shared
        row, point, count, start = jax.tree.map(lambda leaf: leaf[0], items)

        def evaluate(i, filled):
            part = lambda leaf: lax.dynamic_slice_in_dim(leaf, i * self.chunk, self.chunk)
            own = jax.tree.map(lambda leaf: leaf[part(row)], rows)
            found = jax.vmap(partial(self.program, arrays))(own, part(point))
            return tuple(map(_write, filled, found, (start + i * self.chunk, i * self.chunk)))

        empty = lambda leaf: jnp.zeros((len(row), *leaf.shape), leaf.dtype)
        filled = block, jax.tree.map(empty, self.program.out[1])
        if not self.in_loop:
            return evaluate(0, filled)
        return lax.fori_loop(0, -(-count // self.chunk), evaluate, filled)


def _write(tree, new, place):
    put = lambda old, new: lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), place, 0)
    return jax.tree.map(put, tree, new)


def _add_block(_, block, sums):
    """Add the weighted contributions of one device to its sums [1, rows, ...]."""
    values, weights, row = block

    def add(total, found):
        weight = weights[0].astype(total.dtype).reshape(-1, *(1,) * (found.ndim - 1))
        # Places without weight hold anything, maybe NaN.
        weighted = jnp.where(weight == 0, 0, weight * found[: len(weight)])
        return total + jax.ops.segment_sum(weighted, row[0], total.shape[1])[None]

    return jax.tree.map(add, sums, values)


class Evaluations:
    """All evaluations of function(row, point) -> (contribution, record) so far."""

    def __init__(
        self,
        function: Callable[[Any, Array], tuple[Any, Any]],
        rows: Any,
        execution: Execution,
        *,
        precision: str = "highest",
    ):
        """Evaluate nothing yet.

        Args:
          function: of one row and one point, a number; it closes over nothing that is traced.
          rows: pytree of arrays [n, ...].
          execution: memory and devices of this process.
          precision: of the function's matrix products and convolutions.

        Raises:
          ValueError: not even one evaluation at a time fits in memory.
        """
        n = n_rows(rows)
        own = np.minimum(np.arange(devices.next_power(n)), n - 1)  # few programs serve all n
        padded = jax.tree.map(lambda leaf: leaf[own], rows)
        self._dtype = np.promote_types(jax.tree.leaves(padded)[0].dtype, jnp.float32)
        number = jax.ShapeDtypeStruct((), self._dtype)
        traced = trace(function, shapes_of_one(padded), number, precision=precision)
        self._n, self._execution, self._program = n, execution, traced.program
        self._in_loop = devices.is_cpu() and not traced.program.is_slow_in_loops
        self._shared = replicated((traced.arrays, padded), execution)
        self._n_devices = n_devices(execution)
        choice = sizes(PER_ROW * n, execution)
        self._chunk = largest(choice, self._needs, execution) // self._n_devices
        one = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._out))
        self._room = available_memory(execution) // SHARE // max(1, one)  # places of a device
        self._blocks: list[_Block] = []
        self._scratch: _Block | None = None
        self._row, self._point = np.zeros(0, int), np.zeros(0, self._dtype)

    def add(self, row: Int[np.ndarray, " m"], point: Float[np.ndarray, " m"]) -> Any:
        """Evaluate at more points and return the records, NumPy arrays [m, ...]."""
        first = len(self._row)
        self._row = np.append(self._row, row)
        self._point = np.append(self._point, point.astype(self._dtype))
        records, item = [], np.arange(first, len(self._row))
        while len(item):
            block = self._open_block(len(item))
            record, n = self._fill(block, item)
            records.append(record)
            item = item[n:]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *records)

    def kept(self) -> Bool[np.ndarray, " items"]:
        """Say which contributions need not be computed again."""
        kept = np.zeros(len(self._row), bool)
        for block in self._blocks:
            kept[block.item[block.item >= 0]] = True
        return kept

    def room(self) -> int:
        """Return how many more contributions can be kept, at least."""
        taken = sum(block.item.shape[1] for block in self._blocks)
        free = self._blocks[-1].item.shape[1] - self._blocks[-1].used if self._blocks else 0
        return free + max(0, self._room - taken)

    def weighted_sums(self, weights: Float[np.ndarray, " items"]) -> Any:
        """Return the sum of weights * contributions of each row, [n, ...].

        Cost: one evaluation for each that was not kept.
        """
        each = len(jax.tree.leaves(self._shared[1])[0])
        zeros = lambda leaf: jnp.zeros((self._n_devices, each, *leaf.shape), leaf.dtype)
        sums = jax.tree.map(zeros, self._out)
        for block in self._blocks:
            sums = self._add(sums, block, weights)
        again = np.flatnonzero(~self.kept())
        while len(again):
            block = self._open_block(len(again))
            _, n = self._fill(block, again)
            sums, again = self._add(sums, block, weights), again[n:]
        return gathered(jax.tree.map(lambda leaf: leaf.sum(0)[: self._n], sums), self._execution)

    @property
    def _out(self):
        wide = lambda leaf: leaf.update(dtype=np.promote_types(leaf.dtype, jnp.float32))
        return jax.tree.map(wide, self._program.out[0])

    def _open_block(self, wanted):
        """Return a block with room: the last one, a new one, or one that is used over and over."""
        size = self._size(wanted)
        if self._blocks and self._blocks[-1].used < self._blocks[-1].item.shape[1]:
            return self._blocks[-1]
        taken = sum(block.item.shape[1] for block in self._blocks)
        if taken + size <= self._room or not self._blocks:
            self._blocks.append(self._new_block(size))
            return self._blocks[-1]
        if self._scratch is None or self._scratch.item.shape[1] != size:
            self._scratch = self._new_block(size)
        self._scratch.item[:], self._scratch.used = -1, 0
        return self._scratch

    def _size(self, wanted):
        """Return the places of one device in a new block."""
        if self._in_loop:
            return self._loop_size(self._chunk)
        return min(self._chunk, devices.batch(-(-wanted // self._n_devices)))

    def _loop_size(self, chunk):
        return max(chunk, min(BLOCK, devices.next_power(PER_ROW * self._n)))

    def _new_block(self, size):
        slack = self._chunk if self._in_loop else 0  # the last chunk may reach beyond
        length = self._n_devices * (size + slack)
        zeros = lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype)
        return _Block(jax.tree.map(zeros, self._out), np.full((self._n_devices, size), -1))

    def _fill(self, block, item):
        """Evaluate the first items, as many as fit, into a block; return records, how many."""
        size = block.item.shape[1]
        each = min(size - block.used, -(-len(item) // self._n_devices))
        n = min(len(item), each * self._n_devices)
        share = np.minimum(np.arange(self._n_devices)[:, None] * each + np.arange(size), n - 1)
        count = np.clip(n - each * np.arange(self._n_devices), 0, each)
        start = np.full(self._n_devices, block.used)
        items = _Items(self._row[item[share]], self._point[item[share]], count, start)
        chunk = self._chunk if self._in_loop else size
        call = rowwise(_Filling(self._program, chunk, self._in_loop), self._execution, carry=True)
        block.values, records = call(self._shared, items, block.values)
        wanted = np.arange(size) < count[:, None]
        for device, some in enumerate(wanted):
            places = block.used + np.arange(count[device])
            block.item[device, places] = item[share[device, some]]
        block.used = block.used + each if self._in_loop else size  # without a loop, no slack
        records = jax.device_get(records)
        split = lambda leaf: leaf.reshape(self._n_devices, size, *leaf.shape[1:])[wanted]
        return jax.tree.map(split, records), n

    def _add(self, sums, block, weights):
        some = np.where(block.item < 0, 0, weights[block.item]).astype(self._dtype)
        row = self._row[block.item]  # of places without an item any
        call = rowwise(_add_block, self._execution, carry=True)
        return call((), (block.values, some, row), sums)

    def _needs(self, size):
        chunk = size // self._n_devices
        width = self._loop_size(chunk) if self._in_loop else chunk
        place = lambda dtype: jax.ShapeDtypeStruct((self._n_devices, width), dtype)
        whole = jax.ShapeDtypeStruct((self._n_devices,), np.int32)
        items = _Items(place(np.int32), place(self._dtype), whole, whole)
        block = stacked(self._out, self._n_devices * (width + (chunk if self._in_loop else 0)))
        call = rowwise(_Filling(self._program, chunk, self._in_loop), self._execution, carry=True)
        return program_needs(call, self._shared, items, block)
