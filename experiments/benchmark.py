"""Measure the rooms against what a user would do otherwise.

    python experiments/benchmark.py --suite=metrics

Each suite asserts first that both sides agree, then times them in turns, and prints one row per
measure: ours, the reference, the ratio. Runs alone on a quiet machine; never part of the tests.
"""

import csv
import importlib
import os
import platform
import re
import sys
from pathlib import Path

from absl import app, flags

from experiments import driver

SUITES = ("study", "attribution", "metrics", "classification")

FLAGS = flags.FLAGS
flags.DEFINE_enum("suite", None, SUITES, "which room to measure")
flags.DEFINE_string("rows", "", "measure only rows whose name contains this text")
flags.DEFINE_string("csv", "", "also write the rows to this file")
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
    chosen = {name: measure for name, measure in suite.ROWS.items() if FLAGS.rows in name}
    if not chosen:
        sys.exit(f"benchmark.py: --rows={FLAGS.rows}: choose from {', '.join(suite.ROWS)}")
    print(machine())
    if FLAGS.dry_run:
        print(f"rows {', '.join(chosen)}")
        return
    rows = []
    for name, measure in chosen.items():
        for row in measure():
            rows.append({"measure": name} | row)
            print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    if FLAGS.csv:
        with open(FLAGS.csv, "w", newline="") as file:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    driver.launch(main)
