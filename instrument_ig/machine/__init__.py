"""The computer under all rooms: memory, precision, devices, compiled programs, progress."""

from instrument_ig.machine.compiling import jit, keep_programs
from instrument_ig.machine.execution import Execution, Report, available_memory, fitting
from instrument_ig.machine.sharing import (
    data_mesh,
    n_devices,
    over_processes,
    replicated,
    rowwise,
)

__all__ = [
    "Execution",
    "Report",
    "available_memory",
    "data_mesh",
    "fitting",
    "jit",
    "keep_programs",
    "n_devices",
    "over_processes",
    "replicated",
    "rowwise",
]
