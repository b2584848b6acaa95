"""The study as a user runs it: one small run, its files, and what bad input gets."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from instrument_ig.storage import files

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--spectrogram=tonnetz", "--instruments=bass,flute", "--notes=24", "--epochs=1"),
    # as many pairs of one instrument as between both: one shape, one compilation
    *("--pair_notes=4", "--between_notes=2", "--steps=4"),
)


def run(*arguments, cache, **options):
    command = [sys.executable, str(ROOT / "experiments/run.py"), f"--cache_dir={cache}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    done = run(*SMALL, f"--output_dir={folder / 'run'}", cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_run_leaves_its_tables_and_figures(finished):
    folder, output = finished
    run_folder = folder / "run"
    assert str(run_folder) in output
    manifest = json.loads((run_folder / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["settings"]["steps"] == 4
    assert {"dataset", "data_dir", "seed", "notes"} <= manifest["settings"].keys()
    scores = files.read_table(run_folder / "scores.csv")
    assert [row["instrument"] for row in scores] == ["bass", "flute", "overall", "2-way"]
    assert {path.suffix for path in (run_folder / "figures").iterdir()} == {".png", ".pdf", ".csv"}
    assert not (run_folder / "resume").exists()


def test_no_pair_is_listed_twice(finished):
    folder, _ = finished
    rows = files.read_table(folder / "run" / "pairwise.csv")
    listed = [(row["metric"], row["note_a"], row["note_b"]) for row in rows]
    assert len({*listed}) == len(listed)
    # four notes of each of two instruments, and two of each with the other's
    assert len(listed) == 5 * (2 * 4 * 3 + 2 * 2 * 2)


def test_the_pairs_are_all_ordered_pairs_of_the_kept_heatmaps(finished):
    folder, _ = finished
    arrays = files.read_arrays(folder / "run" / "attributions.npz")
    maps = files.read_table(folder / "run" / "attributions.csv")
    names = [row["note"] for row in maps if row["instrument"] == "bass"]
    values = arrays["tonnetz/bass/values"]
    assert values.shape == (4, 126, 6)
    pairs = [
        row
        for row in files.read_table(folder / "run" / "pairwise.csv")
        if row["metric"] == "difference_mean" and {row["note_a"], row["note_b"]} <= {*names}
    ]
    assert len(pairs) == 12
    assert {(row["note_a"], row["note_b"]) for row in pairs} == {*itertools.permutations(names, 2)}
    for row in pairs:
        a, b = (values[names.index(row[side])] for side in ("note_a", "note_b"))
        # float32 means of 756 cells
        expected = np.abs(a - b).mean()
        np.testing.assert_allclose(float(row["value"]), expected, rtol=1e-5)


def test_a_finished_run_prints_its_table_again(finished):
    folder, output = finished
    again = run(*SMALL, f"--output_dir={folder / 'run'}", cache=folder / "cache")
    table = output[output.index("scores on") :]
    assert again.stdout.strip() == table.strip()


def stop(command, number, reached):
    """Start a command, send a signal as soon as a file is there, and return how it ended."""
    assert not reached.exists()
    # A shell may have told its background jobs, these tests, to ignore Ctrl-C, which is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and not reached.exists():
        time.sleep(0.02)
    process.send_signal(number)
    return process.communicate()[1], process.returncode


def test_a_stopped_run_goes_on_to_the_same_numbers(finished):
    folder, _ = finished
    command = [sys.executable, str(ROOT / "experiments/run.py"), *SMALL]
    command += [f"--cache_dir={folder / 'cache'}", f"--output_dir={folder / 'stopped'}"]
    trained, resume = folder / "stopped/checkpoints/tonnetz/bass", folder / "stopped/resume"
    said = "run.py: stopped; start it again to go on\n"
    assert stop(command, signal.SIGINT, trained) == (said, 1)
    assert stop(command, signal.SIGTERM, resume / "tonnetz-bass-maps.npz") == (said, 1)
    killed = stop(command, signal.SIGKILL, resume / "tonnetz-bass-pairs.npz")
    assert killed[1] == -signal.SIGKILL
    assert not (folder / "stopped/pairwise.csv").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for table in ("pairwise.csv", "attributions.csv", "scores.csv"):
        assert (folder / "stopped" / table).read_bytes() == (folder / "run" / table).read_bytes()


def test_another_setting_is_refused_in_the_same_folder(finished):
    folder, _ = finished
    done = run(*SMALL, "--seed=1", f"--output_dir={folder / 'run'}", cache=folder / "cache")
    assert done.returncode == 1
    assert "--seed=0, not 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spectrogram=fourier"], "--spectrogram=fourier: choose from stft, logmel"),
        (["--instruments=bass,kazoo"], "no such class: 'kazoo'"),
        (["--instruments=bass"], "one class has nothing to differ from"),
        (["--instruments=bass,bass"], "one class has nothing to differ from"),
        (["--spectrogram=logmel,tonnetz", "--sample_rate=8000"], "tonnetz needs a sample rate"),
        (["--data_dir=nowhere"], "--data_dir=nowhere needs --dataset="),
        (["--rule=left"], "--rule=left needs --steps"),
        (["--output_dir=a[1]"], "a[1]: trained networks cannot be kept"),
        (["--dataset=nsynth"], "--dataset=nsynth needs --data_dir"),
        (["--dataset=folder", "--data_dir=nowhere"], "no such folder: nowhere"),
        (["--figure_note=kazoo"], "--figure_note=kazoo: the data set has no such note"),
        (["--soundfont=nowhere.sf2"], "no such soundfont: nowhere.sf2"),
    ],
)
def test_bad_input_gets_one_line(arguments, message, tmp_path):
    done = run(*arguments, cache=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
