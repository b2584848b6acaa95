"""The computer under all rooms: memory, precision, devices, compiled programs, progress."""

from instrument_ig.machine.compiling import jit, keep_programs
from instrument_ig.machine.execution import Execution, Report, available_memory, fitting

__all__ = ["Execution", "Report", "available_memory", "fitting", "jit", "keep_programs"]
