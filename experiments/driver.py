"""How a driver starts and stops, and where its results go."""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from instrument_ig.storage import cache

FLAGS = flags.FLAGS


def launch(main: Callable[[Sequence[str]], None]) -> None:
    """Parse the flags and run `main`; Ctrl-C and SIGTERM end it with one line."""
    stopped = f"{Path(sys.argv[0]).name}: stopped; start it again to go on"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(stopped))
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(main)
    except KeyboardInterrupt:
        sys.exit(stopped)


def run_folder(name: str, settings: Mapping[str, Any]) -> Path:
    """Return --output_dir, by default a folder that the settings of the run name."""
    if FLAGS.output_dir:
        return Path(FLAGS.output_dir)
    return Path("runs") / f"{name}-{cache.digest(**settings)[:8]}"
