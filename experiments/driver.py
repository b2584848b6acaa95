"""How a driver starts and stops, and where its results go.

Imports little: one benchmark runs where only JAX and Flax are installed.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging

if TYPE_CHECKING:
    from instrument_ig import machine

FLAGS = flags.FLAGS
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def launch(main: Callable[[Sequence[str]], None]) -> None:
    """Parse the flags and run `main`; Ctrl-C and SIGTERM end it with one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.set_verbosity(logging.WARNING)
    _keep_freed_memory()
    try:
        app.run(main)
    except KeyboardInterrupt:
        name = Path(sys.argv[0]).name
        print(f"{name}: stopped; start it again to go on", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # Orbax, if it was saving, would wait for its own threads for five minutes


def execution(report: Callable[[int, int], None] | None = None) -> "machine.Execution":
    """Return how to use the computer: all of its devices."""
    import jax

    from instrument_ig import machine

    mesh = machine.data_mesh() if jax.device_count() > 1 else None
    return machine.Execution(mesh=mesh, report=report)


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next array.

    XLA:CPU asks for the temporary arrays of a program anew at every call. Given back to the system
    in between, their pages are cleared anew, which costs a quarter of an input gradient's time.
    Has no effect but with glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)


def keep_programs(cache_dir: str | None = None) -> None:
    """Keep compiled programs in the cache: runs that go on or come next need not compile them."""
    from instrument_ig import machine
    from instrument_ig.storage import cache

    machine.keep_programs(cache.folder(cache_dir) / "programs")


def run_folder(name: str, settings: Mapping[str, Any]) -> Path:
    """Return --output_dir, by default a folder that the settings of the run name."""
    from instrument_ig.storage import cache

    if FLAGS.output_dir:
        return Path(FLAGS.output_dir)
    return Path("runs") / f"{name}-{cache.digest(**settings)[:8]}"
