"""A network with drawn weights answers for sounds of every length; the driver as a user runs it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.io import wavfile
from scipy.special import softmax

from experiments import classifier, predict
from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS, standardise
from instrument_ig.storage import checkpoints, files

ROOT = Path(__file__).parents[2]
CLASSES = ("Banjo", "Horn", "Violin")
AUDIO = AudioConfig(sample_rate=8000, duration_s=0.5)
FRAMES = SpectrogramConfig(n_mels=24, n_mfcc=12)
LENGTH = 4000  # samples of a window


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = {"features": ["mfcc", "mel"], "split": "group"}
    settings |= dataclasses.asdict(AUDIO) | dataclasses.asdict(FRAMES)
    record = {"settings": settings, "classes": CLASSES, "finished": True}
    files.write_record(folder / "manifest.json", record)
    front_end = SPECTROGRAMS["mfcc"](FRAMES, AUDIO)
    variables = classifier.make_model(front_end, len(CLASSES)).init(jax.random.key(0))
    checkpoints.save(classifier.checkpoint(folder, "group", "mfcc"), {"variables": variables})
    return folder


@pytest.fixture(scope="module")
def network(run_folder):
    return classifier.load(run_folder)


@pytest.fixture
def sound(rng):
    return (rng.normal(size=3 * LENGTH) * 0.1).astype(np.float32)


def test_a_loaded_network_is_the_one_that_was_kept(network, sound):
    images = standardise.per_clip(network.front_end.apply(sound.reshape(3, LENGTH)))
    expected = softmax(network.model.apply(network.variables, images).logits, axis=1)
    found = network.probabilities(network.images(sound.reshape(3, LENGTH)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # float32 sums in another order
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)  # float64


def test_an_explanation_is_complete_and_scaled(network, sound):
    (image,) = network.images(sound[None, :LENGTH])
    found = network.explain(image, 1, steps=64)
    change = (network.probabilities(np.stack([image, 0 * image])) * [[1], [-1]])[:, 1].sum()
    # The residual is what is missing by its definition; both are sums of float32.
    assert found.integrated_gradients.sum() - found.residual == pytest.approx(change, abs=1e-5)
    assert abs(found.residual) < 0.05 * abs(change)  # 64 points of a piecewise smooth path
    maps, weights = network.weighted_maps(image, 1)
    shares = np.maximum(maps @ weights, 0)
    assert found.grad_cam.max() == 1
    # Interpolated between cell centres: the largest cell keeps its place, scaled by 16 / 4.
    peak = np.array(np.unravel_index(found.grad_cam.argmax(), found.grad_cam.shape))
    cell = np.array(np.unravel_index(shares.argmax(), shares.shape))
    scale = np.array(found.grad_cam.shape) / shares.shape
    assert (abs((peak + 0.5) / scale - (cell + 0.5)) <= 0.5).all()


def test_a_long_sound_is_the_average_of_its_windows(network, sound):
    answer = predict.ask(network, [sound], hop_s=0.25)
    np.testing.assert_array_equal(answer.starts_s, [0, 0.25, 0.5, 0.75, 1.0])
    alone = [predict.ask(network, [sound[s : s + LENGTH]], 0.25).mean for s in range(0, 8001, 2000)]
    np.testing.assert_allclose(answer.probabilities, alone, rtol=1e-5)  # other batches
    np.testing.assert_allclose(answer.mean, np.mean(alone, axis=0), rtol=1e-5)
    assert answer.clearest == answer.probabilities[:, answer.mean.argmax()].argmax()


def test_silent_windows_are_gaps(network, sound):
    sound[LENGTH : 2 * LENGTH] = 1e-5
    answer = predict.ask(network, [sound], hop_s=0.5)
    np.testing.assert_array_equal(np.isnan(answer.probabilities).any(axis=1), [0, 1, 0])
    np.testing.assert_allclose(answer.mean, answer.probabilities[[0, 2]].mean(axis=0))


def test_batches_of_windows_make_no_difference(network, sound, monkeypatch):
    whole = predict.ask(network, [sound], hop_s=0.1)
    monkeypatch.setattr(predict, "TOGETHER", 3)
    told = []
    parts = predict.ask(network, np.split(sound, [1, 7000]), 0.1, told.append)
    np.testing.assert_array_equal(parts.starts_s, whole.starts_s)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, rtol=1e-5)
    # What is known after 1, 7000 and 12,000 samples, three windows of 4000 at a time.
    assert told == pytest.approx([0.2, 0.3, 0.6, 0.9, 1.0])


def test_the_window_that_is_explained_is_heard_again(network, sound):
    answer = predict.ask(network, [sound], 0.3)
    for start_s, expected in zip(answer.starts_s, answer.probabilities, strict=True):
        image = predict.hear(network, np.array_split(sound, 7), 0.3, start_s)
        np.testing.assert_allclose(network.probabilities(image[None])[0], expected, rtol=1e-5)


def test_silence_is_refused(network):
    with pytest.raises(ValueError, match="silent: no sample reaches 0.0001"):
        predict.ask(network, [np.zeros(LENGTH, np.float32)], 0.25)


def test_stretches_join_windows_with_one_leader():
    nan = np.nan
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [nan, nan], [0.3, 0.7], [0.4, 0.6]])
    answer = predict.Answer(np.arange(5.0), probabilities, np.array([0.6, 0.4]), 0)
    assert list(predict.stretches(answer)) == [(0, 2, 0), (2, 3, -1), (3, np.inf, 1)]


def test_sounds_of_one_name_do_not_overwrite_each_other():
    paths = [Path("a/x.wav"), Path("b/x.wav"), Path("y.wav"), Path("c/x.flac")]
    names = [path.name for path in predict.targets(paths, Path("out"))]
    assert names == ["x", "x-2", "y", "x-3"]
    taken = [Path("x.wav"), Path("x-2.wav"), Path("a/x.wav")]
    assert [path.name for path in predict.targets(taken, Path("out"))] == ["x", "x-2", "x-3"]


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (None, "is no run folder: there is no .*manifest.json"),
        ("{", "manifest.json is not the manifest of a run"),
        ({"settings": {}}, "holds no classifier: it is not a run of classify.py"),
        (
            {"settings": {"features": ["mel"], "split": "group"}, "classes": [], "finished": False},
            "no trained network on mel: the run has --features=mel and is not finished",
        ),
    ],
)
def test_folders_that_hold_no_network_are_refused(manifest, reason, tmp_path):
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=reason):
        classifier.load(tmp_path)


def test_many_sounds_at_once_good_and_bad(run_folder, tmp_path, rng):
    noise = (rng.normal(size=30_000) * 3000).astype(np.int16)
    stereo = np.stack([noise, noise], axis=1)
    wavfile.write(tmp_path / "long.wav", 11_025, stereo)
    wavfile.write(tmp_path / "10 ms.wav", 8000, noise[:80])
    wavfile.write(tmp_path / "silent.wav", 8000, noise * 0)
    (tmp_path / "text.wav").write_text("not a sound")
    names = ["silent.wav", "long.wav", "text.wav", "10 ms.wav", "missing.wav"]
    command = [sys.executable, str(ROOT / "experiments/predict.py"), f"--run={run_folder}"]
    command += ["--steps=4", "--top=2", f"--output_dir={tmp_path / 'out'}", *names]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    # Programs are compiled for a few steps only: plain code is ready sooner.
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    refused = done.stderr.strip().splitlines()
    assert [line.split(":")[1].strip() for line in refused] == [names[i] for i in (0, 2, 4)]
    assert "long.wav: 2.72 s, 10 windows" in done.stdout
    assert "10 ms.wav: 0.01 s, 1 window, padded with silence" in done.stdout
    assert "█" in done.stdout
    assert list((tmp_path / "cache").glob("instrument_ig/programs/*/*"))
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert kept == ["10 ms.csv", "10 ms.png", "long.csv", "long.png"]
    rows = files.read_table(tmp_path / "out" / "long.csv")
    assert len(rows) == 10
    # Three probabilities rounded to five decimals.
    sums = [sum(float(row[name]) for name in CLASSES) for row in rows]
    assert sums == pytest.approx([1] * 10, abs=2e-5)
