"""The benchmark of an accelerator in miniature, without the packages that a bare machine lacks."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import accelerator

ROOT = Path(__file__).parents[2]
TINY = accelerator.CPU._replace(
    logmel=(8, 6), small=(8, 4), logmel_images=2, small_images=3, compared=4, transported=3,
    matrix=32, numbers=64,
)  # fmt: skip
PROGRAM = f"""
import sys

for missing in ("librosa", "matplotlib", "orbax", "ott", "platformdirs", "sklearn", "soundfile"):
    sys.modules[missing] = None

from experiments import benchmark, driver
from experiments.benchmarks import accelerator

accelerator.CPU = accelerator.{TINY}
accelerator.ROWS["fails"] = lambda: iter([1 / 0])
driver.launch(benchmark.main)
"""


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(accelerator, "CPU", TINY)
    monkeypatch.setattr(accelerator, "STEPS", 8)
    monkeypatch.setattr(accelerator, "WITHIN_S", 0)


def run(*flags):
    words = [sys.executable, "-c", PROGRAM, "--suite=accelerator", *flags]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT)


def test_rows_are_printed_and_written_though_one_fails(tmp_path):
    done = run("--rows=fails,roofs,kl,sinkhorn", f"--csv={tmp_path / 'rows.csv'}")
    assert done.returncode == 1
    assert "1 of 4 measures failed" in done.stderr
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["measure"] for row in rows] == ["roofs"] * 4 + ["kl", "emd_sinkhorn", "fails"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert len(done.stdout.splitlines()) == 1 + len(rows)
    assert all(row["device"] == "cpu" and row["jax"] for row in rows)
    kl, sinkhorn, fails = rows[4:]
    assert float(kl["warm_s"]) < float(kl["first_s"])
    assert float(kl["gflop_per_s"]) > 0
    assert sinkhorn["skipped"]
    assert fails["error"].startswith("ZeroDivisionError")


def test_dry_run_lists_rows():
    done = run("--rows=kl,js", "--dry_run")
    assert done.stdout.splitlines()[-1] == "rows kl, js"


@pytest.mark.usefixtures("tiny")
def test_maps_agree_with_a_plain_loop_and_say_how_far_off_they_are(batches_of):
    batches_of(4)
    (row,) = accelerator.measure_ig_small()
    assert (row["maps"], row["gradients"]) == (3, 24)
    assert 0 < row["residual_median"] <= row["residual_worst"]
