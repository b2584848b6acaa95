"""The computer under all rooms: memory, precision, devices, compiled programs, progress."""

from instrument_ig.machine.batches import map_rows, n_rows, nobody
from instrument_ig.machine.compiling import jit, keep_programs
from instrument_ig.machine.distributed import start_distributed
from instrument_ig.machine.evaluations import Evaluations
from instrument_ig.machine.execution import Execution, Report, available_memory, fitting
from instrument_ig.machine.grids import sum_over_points
from instrument_ig.machine.programs import Traced, is_traced, trace
from instrument_ig.machine.sharing import (
    data_mesh,
    n_devices,
    over_processes,
    replicated,
    rowwise,
)

__all__ = [
    "Evaluations",
    "Execution",
    "Report",
    "Traced",
    "available_memory",
    "data_mesh",
    "fitting",
    "is_traced",
    "jit",
    "keep_programs",
    "map_rows",
    "n_devices",
    "n_rows",
    "nobody",
    "over_processes",
    "replicated",
    "rowwise",
    "start_distributed",
    "sum_over_points",
    "trace",
]
