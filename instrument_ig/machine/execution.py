"""How to use the computer, said once: memory, precision, devices, progress."""

from collections.abc import Callable
from dataclasses import dataclass

from jax.sharding import Mesh

from instrument_ig.machine import devices

Report = Callable[[int, int], None]  # called with (items done, items in all) on the way
PRECISIONS = ("default", "high", "highest")


@dataclass(frozen=True)
class Execution:
    """How a numeric function uses the computer; what it computes does not depend on it.

    Attributes:
      memory: bytes that the call may hold on each device beside its arguments and its result. None:
        half of what the device has, 2 GiB on a CPU.
      precision: of matrix products and convolutions in path gradients, whatever the ambient
        setting of JAX. "highest" is float32; "default" is what the device does fastest (TF32,
        bfloat16), "high" lies between. Scores that residuals are taken from, and distances, are
        always computed at "highest".
      mesh: devices that share examples, path points or pairs along its axis "data". None: the
        default device.
      report: called with (items done, items in all) on the way.

    Raises:
      ValueError: a number, name or mesh that cannot be.
    """

    memory: int | None = None
    precision: str = "highest"
    mesh: Mesh | None = None
    report: Report | None = None

    def __post_init__(self):
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory={self.memory}: bytes, at least 1")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r}: there are {', '.join(PRECISIONS)}")
        if self.mesh is not None and devices.AXIS not in self.mesh.axis_names:
            raise ValueError(f"mesh: its axes are {self.mesh.axis_names}, none is {devices.AXIS!r}")


def available_memory(execution: Execution) -> int:
    """Return the bytes that a call may hold on each device."""
    return devices.usable_memory() if execution.memory is None else execution.memory


def fitting(count: int, item_bytes: int, execution: Execution, *, hot_bytes: int) -> int:
    """Return how many of `count` like items are best worked on together.

    Args:
      count: items there are.
      item_bytes: what one of them needs on its device.
      execution: says how much there is.
      hot_bytes: the part of it that an inner loop reads and writes over and over. On a CPU that of
        all items together stays in its cache; accelerators take as many items as fit.

    Raises:
      ValueError: not even one fits; the message says how much it needs.
    """
    memory = available_memory(execution)
    if memory < item_bytes:
        raise ValueError(f"memory={memory}: one item needs {item_bytes} bytes")
    most = min(memory // item_bytes, devices.cached(hot_bytes))
    return max(1, min(count, most))
