"""Measure the rooms against what a user would do otherwise.

    python experiments/benchmark.py --suite=metrics

Each suite asserts first that both sides agree, then times them in turns, and prints one row per
measure: ours, the reference, the ratio. Runs alone on a quiet machine; never part of the tests. A
measure that fails is a row too, and the next one follows.
"""

import csv
import importlib
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import app, flags

from experiments import driver

SUITES = ("study", "attribution", "metrics", "classification", "accelerator", "tpu_programs")

FLAGS = flags.FLAGS
flags.DEFINE_enum("suite", None, SUITES, "which room to measure")
flags.DEFINE_list("rows", [], "measure only rows whose name contains one of these texts")
flags.DEFINE_string("csv", "", "also write the rows to this file, after each anew")
flags.DEFINE_bool("dry_run", False, "say which rows would be measured, measure nothing")
flags.mark_flag_as_required("suite")


def machine() -> str:
    import jax

    device = jax.devices()[0]
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return (
        f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores, "
        f"{device.device_kind}, jax {jax.__version__}, Python {platform.python_version()}"
    )


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    try:
        suite = importlib.import_module(f"experiments.benchmarks.{FLAGS.suite}")
    except ModuleNotFoundError as error:
        sys.exit(f"benchmark.py: no module {error.name}: pip install -e '.[bench]' brings it")
    wanted = lambda name: not FLAGS.rows or any(text in name for text in FLAGS.rows)
    chosen = {name: measure for name, measure in suite.ROWS.items() if wanted(name)}
    if not chosen:
        rows = ",".join(FLAGS.rows)
        sys.exit(f"benchmark.py: --rows={rows}: choose from {', '.join(suite.ROWS)}")
    print(machine())
    if FLAGS.dry_run:
        print(f"rows {', '.join(chosen)}")
        return
    rows, failed = [], 0
    for name, measure in chosen.items():
        for row in _measured(measure):
            failed += "error" in row
            rows.append({"measure": name} | row)
            print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
            if FLAGS.csv:
                write(Path(FLAGS.csv), rows)
    if failed:
        sys.exit(f"benchmark.py: {failed} of {len(chosen)} measures failed")


def _measured(measure: Callable[[], Iterator[dict]]) -> Iterator[dict]:
    try:
        yield from measure()
    except Exception as error:
        traceback.print_exc()
        first = str(error).strip().partition("\n")[0]
        yield {"error": f"{type(error).__name__}: {first}"}


def write(path: Path, rows: list[dict]) -> None:
    """Write all rows so far, with what they were measured on; never half a file."""
    import jax

    where = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    rows = [where | row for row in rows]
    columns = list(dict.fromkeys(["measure", *(column for row in rows for column in row)]))
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


if __name__ == "__main__":
    driver.launch(main)
