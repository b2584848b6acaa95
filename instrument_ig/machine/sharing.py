"""Rows shared out: over the devices of a mesh, and over the processes of a distributed job.

Every long computation here maps a function over independent rows (examples, path points, pairs).
Devices of one process take equal parts of each batch in one program. Processes take every n-th row
each, do not talk to each other on the way, and gather at the end.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from instrument_ig.machine.compiling import jit
from instrument_ig.machine.devices import AXIS
from instrument_ig.machine.execution import Execution


def data_mesh(n_devices: int | None = None) -> Mesh:
    """Return a mesh of all devices of all processes, or of the first few of one process.

    Raises:
      ValueError: there are not so many.
    """
    devices = jax.devices()
    if n_devices is not None and not 1 <= n_devices <= len(devices):
        raise ValueError(f"n_devices={n_devices}: there are {len(devices)}")
    # Explicit axes, JAX's default, would ask every function for the shardings of its results.
    return Mesh(np.array(devices[:n_devices]), (AXIS,), axis_types=(AxisType.Auto,))


def n_devices(execution: Execution) -> int:
    """Return how many devices of this process share the rows of a batch."""
    return 1 if execution.mesh is None else execution.mesh.local_mesh.shape[AXIS]


def rowwise(function: Callable, execution: Execution, *, carry: bool = False) -> Callable:
    """Compile function(shared, rows) -> rows, over the devices that share the rows.

    Args:
      function: of two pytrees; all arrays of `rows`, and of the result, have the same leading
        axis, a multiple of `n_devices`. Compiled once for each object that compares equal.
      execution: says which devices.
      carry: it is function(shared, rows, carry), a third pytree of such arrays, whose buffers are
        given away.

    Numerics: a row's result depends on no other row; that of another number of devices may differ
      by rounding, because programs of other batch sizes round differently.
    """
    return _rowwise(function, _local(execution).mesh, carry)


@lru_cache(maxsize=256)
def _rowwise(function, mesh, carry):
    given_away = {"donate_argnums": (2,)} if carry else {}
    if mesh is None:
        return jit(function, **given_away)
    rows = PartitionSpec(AXIS)
    specs = (PartitionSpec(), rows, rows) if carry else (PartitionSpec(), rows)
    shared = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)
    places = tuple(NamedSharding(mesh, spec) for spec in specs)
    return _OverMesh(jit(shared, in_shardings=places, **given_away), places)


@dataclasses.dataclass(frozen=True)
class _OverMesh:
    """A program over a mesh, one and the same wherever its arguments come from."""

    program: Any
    places: tuple[NamedSharding, ...]

    def __call__(self, *args):
        return self.program(*map(jax.device_put, args, self.places))

    def lower(self, *shapes):
        return self.program.lower(*shapes)


def over_processes(
    function: Callable[[Any, Execution], Any], rows: Any, execution: Execution
) -> Any:
    """Return function(rows, execution), where each process of the mesh computes some of the rows.

    Args:
      function: of a pytree of arrays [n, ...] and of how to compute them within this process; its
        result has the same leading axis.
      rows: the same in every process.
      execution: how.

    Returns:
      The rows' results in order, in every process: as they come where there is one process,
      otherwise NumPy arrays.

    Cost: one exchange of all results at the end. A process with no row left computes the last
      row, so that all meet there.
    """
    if execution.mesh is None or not execution.mesh.is_multi_process:
        return function(rows, execution)
    n = len(jax.tree.leaves(rows)[0])
    count, own = jax.process_count(), jax.process_index()
    each = -(-n // count)
    mine = np.minimum(own + count * np.arange(each), n - 1)
    found = function(jax.tree.map(lambda leaf: leaf[mine], rows), _local(execution))
    gathered = multihost_utils.process_allgather(jax.device_get(found))  # [count, each, ...]
    in_order = lambda leaf: np.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])[:n]
    return jax.tree.map(in_order, gathered)


def _local(execution):
    """The same with this process's devices alone."""
    mesh = execution.mesh
    if mesh is None or not mesh.is_multi_process:
        return execution
    return dataclasses.replace(execution, mesh=mesh.local_mesh)


def gathered(tree: Any, execution: Execution) -> Any:
    """Bring rows from the devices that share them to the default device.

    By way of the host: a copy between devices would remember their mesh in its type, and no
    function that closes over it could be shared over that mesh again.
    """
    return tree if execution.mesh is None else jax.tree.map(jnp.asarray, jax.device_get(tree))


def replicated(tree: Any, execution: Execution) -> Any:
    """Put arrays on every device that shares the rows."""
    if execution.mesh is None:
        return jax.device_put(tree)
    return jax.device_put(tree, NamedSharding(_local(execution).mesh, PartitionSpec()))
