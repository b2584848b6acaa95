"""Harder and harder attempts at pairs, until their intervals are as narrow as was asked for.

The same attempt serves two drivers: a compiled loop over attempts, which is what `jit`, `vmap` and
`grad` see, and passes from the host, where pairs that are done leave.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.machine import Execution, fitting, n_devices
from instrument_ig.metrics.transport.certify import Solution
from instrument_ig.metrics.transport.ground import Ground
from instrument_ig.types import Transport

COPIES = 48  # of a map while its pair is being solved, with its share of what waits


class Problem(NamedTuple):
    """What a compiled program depends on."""

    solver: str
    ground: Ground
    form: str  # of the kernel, see `form_for`


class Asked(NamedTuple):
    """What it does not depend on."""

    tolerance: Float[Array, ""]  # relative width of the interval that counts as converged
    epsilon: Float[Array, ""]  # of Sinkhorn, in units of the ground distance


def until_narrow(attempt: Callable[[Array], Solution], efforts: Sequence[int]) -> Solution:
    """Make one attempt after the other, in one compiled loop, until no pair wants a further one.

    A pair keeps its first solution that converged, and NaN.
    """
    efforts = jnp.asarray(efforts)
    nothing = jax.tree.map(
        lambda field: jnp.zeros(field.shape, field.dtype), jax.eval_shape(attempt, efforts[0])
    )

    def unfinished(carry):
        k, wanted, _ = carry
        return (k < len(efforts)) & jnp.any(wanted)

    def again(carry):
        k, wanted, before = carry
        choose = lambda old, new: jnp.where(_like(wanted, new), new, old)
        found = jax.tree.map(choose, before, attempt(efforts[k]))
        return k + 1, unconverged(found.transport), found

    start = jnp.asarray(0), jnp.ones(nothing.transport.upper.shape, bool), nothing
    return jax.lax.while_loop(unfinished, again, start)[2]


def unconverged(transport: Transport) -> Array | np.ndarray:
    """Say which pairs want another attempt; NaN wants none."""
    return ~transport.converged & (transport.upper > 0)


def _like(flags, field):
    return flags.reshape(flags.shape + (1,) * (field.ndim - flags.ndim))


def chosen(rows: Any, some: np.ndarray) -> Any:
    """Pick rows of every array."""
    return jax.tree.map(lambda leaf: leaf[some], rows)


def in_batches(program: Callable[[Any, Any], Any], shared: Any, rows: Any, batch: int) -> Any:
    """Return program(shared, rows), a batch of rows at a time; nothing is fetched on the way."""
    count = len(jax.tree.leaves(rows)[0])
    parts = []
    for start in range(0, count, batch):
        some = np.minimum(np.arange(start, start + batch), count - 1)  # repeats the last row
        parts.append(program(shared, chosen(rows, some)))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *parts)


def passes(
    program: Callable[[Any, Any], Transport],
    shared: tuple,
    rows: Any,
    efforts: Sequence[int],
    batch: int,
) -> Transport:
    """Make one attempt after the other from the host, each at the rows that want it.

    Args:
      program: of (*shared, effort) and rows.
      shared: what all rows need.
      rows: pytree of arrays of one leading axis.
      efforts: of the attempts.
      batch: rows of one call.

    Returns:
      The transport of each row, fetched once per attempt.
    """
    waiting, found = np.arange(len(jax.tree.leaves(rows)[0])), None
    for effort in efforts:
        everywhere = (*shared, jnp.asarray(effort))
        part = jax.device_get(in_batches(program, everywhere, chosen(rows, waiting), batch))
        if found is None:
            found = jax.tree.map(np.array, part)
        for field, values in zip(found, part, strict=True):
            field[waiting] = values
        waiting = waiting[unconverged(part)]
        if not len(waiting):
            break
    return found


def batch_size(count: int, map_bytes: int, execution: Execution, hot_maps: int = 8) -> int:
    """Return how many pairs to work on together, a multiple of the devices that share them.

    Args:
      count: pairs there are.
      map_bytes: of one map.
      execution: says how much there is.
      hot_maps: arrays of a pair's size that its innermost loop reads and writes.

    Raises:
      ValueError: the memory is too small for one pair.
    """
    devices = n_devices(execution)
    sizes = {"item_bytes": COPIES * map_bytes, "hot_bytes": hot_maps * map_bytes}
    return devices * fitting(-(-count // devices), execution=execution, **sizes)
