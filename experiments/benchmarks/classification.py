"""Training against PyTorch, extraction against librosa in a loop: what the second paper spends.

Rows measured on a quiet machine stand in BUILD-notes.md.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import torch
from scipy.io import wavfile

from experiments.benchmarks.stopwatch import time_calls
from instrument_ig.audio import DATASETS
from instrument_ig.config import AudioConfig, ClassifierTrainConfig, SpectrogramConfig
from instrument_ig.models import MODELS, logits
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.spectrograms.extraction import extract
from instrument_ig.training import Examples, start
from instrument_ig.training.loop import compiled_epoch

AUDIO = AudioConfig(duration_s=3.0)
FRAMES = SpectrogramConfig()
TRAINING = ClassifierTrainConfig()
CLASSES = 28
EXAMPLES = 256  # of one epoch
FILES = 200
FILE_RATE = 44_100  # Hz


def measure_training() -> Iterator[dict]:
    """One epoch over 3 s log-mel spectrograms and MFCCs, and the same in PyTorch."""
    for features, shape in {"mel": (94, 128), "mfcc": (94, 40)}.items():
        images, labels = _draw_examples(shape)
        theirs = _torch_epochs(images, labels)
        seconds = time_calls({"ours": _our_epoch(images, labels)} | theirs, repeats=7)
        rates = {name: EXAMPLES / timing.median_s for name, timing in seconds.items()}
        best = max(theirs, key=rates.__getitem__)
        yield {
            "features": features,
            **{f"{name}_samples_per_s": round(rate, 1) for name, rate in rates.items()},
            "ratio_to_the_faster": round(rates["ours"] / rates[best], 2),
            "compile_s": round(seconds["ours"].first_s, 1),
        }


def _draw_examples(shape):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(EXAMPLES, *shape)).astype(np.float32)
    return images, (np.arange(EXAMPLES) % CLASSES).astype(np.int32)


def _our_epoch(images, labels):
    """Return a call that trains for one epoch, after a check against the PyTorch network."""
    model = MODELS["senatori"](images.shape[1:], CLASSES)
    training = Examples(jnp.asarray(images), jnp.asarray(labels), jnp.ones(len(labels)))
    validation = jax.tree.map(lambda values: values[:8], training)
    steps = {"batch_size": TRAINING.batch_size, "learning_rate": TRAINING.learning_rate}
    state = compiled_epoch()(
        model, start(model, jax.random.key(0), 100), training, validation, **steps
    )
    twin = _copy_weights(state.variables, _torch_network()).eval()
    with torch.no_grad():
        expected = twin(torch.tensor(images[:8, None])).numpy()
    found = logits(model, state.variables, images[:8])
    np.testing.assert_allclose(found, expected, atol=1e-3 * abs(expected).max())

    def epoch():
        nonlocal state
        state = compiled_epoch()(model, state, training, validation, **steps)
        return state.variables

    return epoch


def _torch_epochs(images, labels):
    """Return the same epoch in PyTorch, in both memory layouts."""
    calls = {}
    for name, layout in {
        "torch": torch.contiguous_format,
        "torch_channels_last": torch.channels_last,
    }.items():
        network = _torch_network().to(memory_format=layout)
        optimiser = torch.optim.Adam(network.parameters(), TRAINING.learning_rate)
        x = torch.tensor(images[:, None]).contiguous(memory_format=layout)
        y = torch.tensor(labels, dtype=torch.long)

        def epoch(network=network, optimiser=optimiser, x=x, y=y):
            for rows in torch.randperm(len(y)).split(TRAINING.batch_size):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimiser.step()

        calls[name] = epoch
    return calls


def _torch_network() -> torch.nn.Sequential:
    nn = torch.nn
    blocks = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        norm = nn.BatchNorm2d(after, eps=1e-3)
        blocks += [nn.Conv2d(before, after, 3, padding="same"), nn.ReLU(), norm, nn.MaxPool2d(2)]
    head = [nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, CLASSES)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def _copy_weights(variables, network):
    """Give the PyTorch network our parameters and running statistics."""
    params, running = jax.device_get((variables["params"], variables["batch_stats"]))
    kind = lambda layer: [module for module in network if isinstance(module, layer)]
    pairs = [
        *((f"conv2d_{i}", m, (3, 2, 0, 1)) for i, m in enumerate(kind(torch.nn.Conv2d))),
        *((f"dense_{i}", m, (1, 0)) for i, m in enumerate(kind(torch.nn.Linear))),
    ]
    with torch.no_grad():
        for name, module, axes in pairs:
            module.weight.copy_(torch.tensor(params[name]["kernel"].transpose(axes)))
            module.bias.copy_(torch.tensor(params[name]["bias"]))
        for i, module in enumerate(kind(torch.nn.BatchNorm2d)):
            name = f"batch_norm_{i}"
            module.weight.copy_(torch.tensor(params[name]["scale"]))
            module.bias.copy_(torch.tensor(params[name]["bias"]))
            module.running_mean.copy_(torch.tensor(running[name]["mean"]))
            module.running_var.copy_(torch.tensor(running[name]["var"]))
    return network


def measure_extraction() -> Iterator[dict]:
    """Log-mel spectrograms and MFCCs of WAV files: ours against one librosa call after another."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_sounds(Path(folder) / "sounds")
        dataset = DATASETS["folder"](AUDIO, data_dir=Path(folder) / "sounds")
        front_ends = {name: SPECTROGRAMS[name](FRAMES, AUDIO) for name in ("logmel", "mfcc")}
        caches = (Path(folder) / f"cache{number}" for number in range(100))

        def ours():  # from nothing each time: no call finds the images of another
            return extract(dataset, dataset.notes, front_ends, cache_dir=next(caches)).images

        def loop():
            features = [_librosa_features(path) for path in paths]
            return dict(zip(front_ends, map(np.stack, zip(*features, strict=True)), strict=True))

        found, expected = ours(), loop()
        rows = [paths.index(Path(note.source)) for note in dataset.notes]
        for name in front_ends:
            # librosa resamples to the exact length; ours reads a margin first. Levels in dB.
            np.testing.assert_allclose(found[name], expected[name][rows], atol=0.1)
        seconds = time_calls({"ours": ours, "loop": loop}, repeats=3)
    rates = {name: FILES / timing.median_s for name, timing in seconds.items()}
    yield {
        "files": FILES,
        "ours_files_per_s": round(rates["ours"], 1),
        "librosa_loop_files_per_s": round(rates["loop"], 1),
        "ratio": round(rates["ours"] / rates["loop"], 2),
    }


def _write_sounds(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for index in range(FILES):
        samples = rng.normal(size=3 * FILE_RATE) * 3000
        path = folder / f"class{index % 4}" / f"{index:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, FILE_RATE, samples.astype(np.int16))
    return sorted(folder.absolute().glob("*/*.wav"))


def _librosa_features(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file and compute both features, one call of librosa after another."""
    samples, rate = librosa.load(path, sr=AUDIO.sample_rate)
    frames = {"n_fft": FRAMES.n_fft, "hop_length": FRAMES.hop, "n_mels": FRAMES.n_mels}
    power = librosa.feature.melspectrogram(y=samples, sr=rate, **frames)
    level_db = librosa.power_to_db(power, ref=1.0, amin=1e-20, top_db=None)
    level_db = np.maximum(level_db, FRAMES.floor_db)
    mfcc = librosa.feature.mfcc(S=level_db, n_mfcc=FRAMES.n_mfcc)
    return level_db.T, mfcc.T


ROWS = {"training": measure_training, "extraction": measure_extraction}
