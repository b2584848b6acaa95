"""The classification study as a user runs it: one small run, its files, and what bad input gets."""

import collections
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from sklearn.metrics import accuracy_score, f1_score

from experiments import classification
from instrument_ig.storage import files

ROOT = Path(__file__).parents[2]
RATE = 8000
SMALL = (
    *("--features=mfcc", "--epochs=2", "--steps=4", "--explain=low", f"--sample_rate={RATE}"),
    *("--duration_s=0.25", "--n_fft=512", "--hop=128", "--n_mels=20", "--n_mfcc=8"),
)


def classify(*arguments, cwd):
    command = [sys.executable, str(ROOT / "experiments/classify.py"), *arguments]
    # Programs are compiled for a few steps only: plain code is ready sooner.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def write_tones(folder, rng):
    """Write tones of three pitch ranges from six recordings each, and two sounds of one more."""
    rows = []
    for label, low_hz in (("low", 200), ("middle", 800), ("high", 2400), ("lonely", 3200)):
        for number in range(12 if label != "lonely" else 2):
            hz = low_hz * rng.uniform(1, 1.5)
            tone = np.sin(2 * np.pi * hz * np.arange(RATE // 4) / RATE)
            noisy = tone + 0.1 * rng.normal(size=len(tone))
            name = f"{label}/{number}.wav"
            (folder / label).mkdir(exist_ok=True)
            wavfile.write(folder / name, RATE, (noisy * 8000).astype(np.int16))
            group = number // 2 if label != "lonely" else 0
            rows.append({"path": name, "label": label, "group": f"{label}{group}"})
    files.write_table(folder / "table.csv", rows)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    write_tones(folder, np.random.default_rng(0))
    return folder


@pytest.fixture(scope="module")
def finished(sounds):
    done = classify(*SMALL, *source(sounds), "--output_dir=run", cwd=sounds)
    assert done.returncode == 0, done.stderr
    return sounds / "run", done.stdout


def source(sounds):
    return "--dataset=csv", f"--data_dir={sounds / 'table.csv'}", f"--cache_dir={sounds / 'cache'}"


def test_a_run_leaves_its_tables_and_figures(finished):
    folder, output = finished
    assert "too few for three parts, train only: lonely" in output
    assert "loading and extraction: 38 sounds in" in output
    (spent,) = files.read_table(folder / "extraction.csv")
    assert spent["sounds"] == "38"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["classes"] == ["high", "lonely", "low", "middle"]
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    models = ("CNN_on_mfcc", "logistic_regression", "k_nearest_neighbours", "random_forest")
    assert names == {
        *("calibration", "classes", "grad_cam-mfcc", "grad_cam-mfcc-low", "layers-mfcc", "models"),
        *("spectrograms", "training", "tsne", "waveforms"),
        *(f"confusion-{split}-{model}" for split in ("group", "random") for model in models),
    }
    assert not (folder / "resume").exists()


def test_both_splits_stand_side_by_side(finished):
    folder, output = finished
    rows = files.read_table(folder / "models.csv")
    scores = collections.Counter((row["model"], row["split"]) for row in rows)
    assert len(scores) == 8
    assert set(scores.values()) == {3}
    header = next(line for line in output.splitlines() if "split: group" in line)
    assert header.count("split: random") == 3


def test_scores_are_those_of_the_predictions(finished):
    folder, _ = finished
    predicted = collections.defaultdict(list)
    for row in files.read_table(folder / "predictions.csv"):
        predicted[row["model"], row["split"]].append((row["true"], row["predicted"]))
    for row in files.read_table(folder / "models.csv"):
        truth, answers = zip(*predicted[row["model"], row["split"]], strict=True)
        expected = {
            "accuracy": accuracy_score(truth, answers),
            "macro_f1": f1_score(truth, answers, average="macro", labels=sorted({*truth})),
            "weighted_f1": f1_score(truth, answers, average="weighted", labels=sorted({*truth})),
        }
        assert float(row["value"]) == pytest.approx(expected[row["score"]])
        # One recording of each class is tested: there is nothing to resample.
        assert (row["low"], row["status"]) == ("", "no interval: one group")


def test_calibration_is_that_of_the_predictions(finished):
    folder, _ = finished
    rows = files.read_table(folder / "calibration.csv")
    assert [(row["model"], row["split"]) for row in rows] == [
        ("CNN on mfcc", "group"),
        ("CNN on mfcc", "random"),
    ]
    for row in rows:
        own = [
            (float(found["probability"]), found["true"] == found["predicted"])
            for found in files.read_table(folder / "predictions.csv")
            if (found["model"], found["split"]) == (row["model"], row["split"])
        ]
        assert int(row["notes"]) == len(own)
        bins = collections.defaultdict(list)
        for probability, right in own:
            bins[int(np.ceil(probability * 10))].append(probability - right)
        gaps = sum(abs(sum(gap)) for gap in bins.values())
        assert float(row["calibration_error"]) == pytest.approx(gaps / len(own))


def test_no_recording_is_on_both_sides_of_the_group_split(finished, sounds):
    folder, _ = finished
    groups = {row["path"]: row["group"] for row in files.read_table(sounds / "table.csv")}
    tested = {
        row["note"]
        for row in files.read_table(folder / "predictions.csv")
        if row["split"] == "group"
    }
    assert tested
    for group in {groups[note] for note in tested}:
        assert {note for note in groups if groups[note] == group} <= tested


def test_a_class_that_only_trains_has_no_support(finished):
    folder, _ = finished
    rows = [row for row in files.read_table(folder / "scores.csv") if row["label"] == "lonely"]
    assert len(rows) == 2 * 4 * 3
    assert {(row["value"], row["support"], row["status"]) for row in rows} == {
        ("", "0", "no support")
    }


def test_the_best_epoch_is_kept(finished):
    folder, _ = finished
    for split in ("group", "random"):
        rows = [row for row in files.read_table(folder / "training.csv") if row["split"] == split]
        best = min(rows, key=lambda row: float(row["valid_loss"]))
        assert [row["epoch"] for row in rows if row["kept"] == "True"] == [best["epoch"]]


def test_heatmaps_are_kept_for_every_class(finished):
    folder, _ = finished
    rows = files.read_table(folder / "figures" / "grad_cam-mfcc.csv")
    assert [row["true"] for row in rows] == ["high", "lonely", "low", "middle"]
    assert [row["side"] for row in rows] == ["test", "train", "test", "test"]
    arrays = files.read_arrays(folder / "heatmaps-mfcc.npz")
    for row in rows:
        assert arrays[f"{row['note']}/grad_cam"].shape == (16, 8)
        assert arrays[f"{row['note']}/integrated_gradients"].shape == (16, 8)


def test_a_finished_run_prints_its_table_again(finished, sounds):
    folder, output = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = classify(*SMALL, *source(sounds), "--output_dir=run", cwd=sounds)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3] == output.splitlines()[-3]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_bad_input_is_refused_in_one_line(sounds, tmp_path):
    with (tmp_path / "one.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([[sounds / f"low/{i}.wav", "low"] for i in range(5)])
        writer.writerow([sounds / "high/0.wav", "high"])
    cases = {
        ("--features=mel,cqt",): "no such features: 'cqt'",
        ("--classes=Piano,Kazoo",): "no such class: 'Kazoo'",
        ("--dataset=csv", "--data_dir=one.csv"): "class 'high' has one note",
        ("--classes=Piano",): "one class, 'Piano', has nothing to differ from",
        ("--dataset=folder", "--data_dir=nowhere"): "no such folder: nowhere",
    }
    for arguments, reason in cases.items():
        done = classify(*arguments, "--dry_run", cwd=tmp_path)
        assert done.returncode == 1, arguments
        assert done.stderr.startswith("classify.py: ")
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]


def test_a_class_on_any_side_has_a_note_to_show():
    labels = np.array([0, 0, 1, 2, 2])
    sides = {"given": np.array(["train", "test", "valid", "train", "valid"])}
    classes = "horn", "lute", "oboe"
    material = classification.Material(classes, (), labels, sides, {}, {}, np.zeros((5, 40)))
    assert classification.example_notes(material, "given") == [1, 2, 3]
