"""The study's pieces against what a user would do otherwise; rows stand in BUILD-notes.md.

Sounds: one process that renders or calls librosa for one note after another. Networks: linen's own
layers, a jitted step in a Python loop over batches or path points. Distances: SciPy and OTT in a
double loop over pairs.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import librosa
import numpy as np
import optax
import scipy.io.wavfile
from ott.geometry import costs, grid
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from experiments import study
from experiments.benchmarks.stopwatch import time_calls
from instrument_ig import attribution, metrics, models, training
from instrument_ig.audio import DATASETS, soundfont
from instrument_ig.audio.draw import Voice
from instrument_ig.config import AudioConfig, MetricConfig, SpectrogramConfig, TrainConfig
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.spectrograms.extraction import extract
from instrument_ig.training.loop import compiled_epoch
from instrument_ig.types import Axis, Dataset, Spectrogram

AUDIO = AudioConfig()
FRAMES = SpectrogramConfig()
TRAINING = TrainConfig()
SHAPE = (126, 128)
FILES = 320
EXAMPLES = 64
MAPS = 4
STEPS = 50
REPEATS = 3

LIBROSA = {
    "stft": lambda y: _floored(librosa.amplitude_to_db(np.abs(librosa.stft(y)), top_db=None)),
    "logmel": lambda y: _floored(
        librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=16_000), top_db=None)
    ),
    "mfcc": lambda y: librosa.feature.mfcc(S=LIBROSA["logmel"](y), n_mfcc=40),
    "chroma": lambda y: librosa.feature.chroma_stft(y=y, sr=16_000, tuning=0.0),
    "spectral_contrast": lambda y: librosa.feature.spectral_contrast(y=y, sr=16_000),
    "tonnetz": lambda y: librosa.feature.tonnetz(
        chroma=librosa.feature.chroma_cqt(y=y, sr=16_000, tuning=0.0)
    ),
}


def measure_rendering() -> Iterator[dict]:
    """Rendered notes with their log-mel images, against rendering and librosa in a loop."""
    path = str(soundfont.bundled())
    front_ends = {"logmel": SPECTROGRAMS["logmel"](FRAMES, AUDIO)}
    with tempfile.TemporaryDirectory() as folder:
        calls = iter(range(1000))

        def ours():
            # Every call starts with an empty cache.
            dataset = DATASETS["soundfont"](AUDIO, notes=32, cache_dir=f"{folder}/{next(calls)}")
            return _extract(dataset, front_ends, Path(f"{folder}/{next(calls)}"))

        dataset = DATASETS["soundfont"](AUDIO, notes=32)
        voices = [Voice(*map(int, note.source.split())) for note in dataset.notes]

        def loop():
            return [LIBROSA["logmel"](soundfont.render(path, voice, AUDIO)) for voice in voices]

        yield _compare(ours, loop, "logmel", "notes_per_s", len(voices))


def measure_spectrograms() -> Iterator[dict]:
    """Images of WAV files, reading included, against one librosa call after another."""
    with tempfile.TemporaryDirectory() as folder:
        _write_sounds(Path(folder) / "sounds")
        dataset = DATASETS["folder"](AUDIO, data_dir=Path(folder) / "sounds")
        calls = iter(range(1000))
        for name, reference in LIBROSA.items():
            front_ends = {name: SPECTROGRAMS[name](FRAMES, AUDIO)}

            def ours(front_ends=front_ends):
                return _extract(dataset, front_ends, Path(f"{folder}/{next(calls)}"))

            def loop(reference=reference):
                return [
                    reference(librosa.load(note.source, sr=AUDIO.sample_rate)[0])
                    for note in dataset.notes
                ]

            yield {"kind": name} | _compare(ours, loop, name, "images_per_s", FILES)


def _extract(
    dataset: Dataset, front_ends: dict[str, Spectrogram], cache_dir: Path
) -> dict[str, np.ndarray]:
    return extract(dataset, dataset.notes, front_ends, cache_dir=cache_dir).images


def _compare(ours: Callable, loop: Callable, name: str, unit: str, count: int) -> dict:
    # float32 levels of 80 dB have steps of 8e-6.
    np.testing.assert_allclose(ours()[name], np.swapaxes(loop(), 1, 2), rtol=1e-5, atol=1e-4)
    return _rates({"ours": ours, "librosa_loop": loop}, count, unit)


def _write_sounds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    size = round(AUDIO.duration_s * AUDIO.sample_rate)
    for index in range(FILES):
        path = folder / f"class{index % 4}" / f"{index:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = rng.uniform(-10_000, 10_000, size).astype(np.int16)
        scipy.io.wavfile.write(path, AUDIO.sample_rate, samples)


def _floored(level_db: np.ndarray) -> np.ndarray:
    return np.maximum(level_db, FRAMES.floor_db)


class PlainChen(nn.Module):
    """The paper's network as one writes it, with the parameters of ours."""

    @nn.compact
    def __call__(self, images, train=False):
        """Return the logits [B]."""
        x = images[..., None]
        for layer in range(6):
            x = nn.relu(nn.Conv(32 * 2 ** (layer // 2), (3, 3), name=f"conv2d_{layer}")(x))
            if layer % 2:
                x = nn.Dropout(0.25, deterministic=not train)(nn.max_pool(x, (2, 2), (2, 2)))
        x = nn.relu(nn.Dense(256, name="dense_0")(x.reshape(len(x), -1)))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(1, name="dense_1")(x)[:, 0]


def measure_training() -> Iterator[dict]:
    """One epoch, against linen's layers and a jitted step in a Python loop."""
    model, plain = models.MODELS["chen"](SHAPE, 1), PlainChen()
    images = np.random.default_rng(0).normal(size=(EXAMPLES, *SHAPE)).astype(np.float32)
    labels = (np.arange(EXAMPLES) % 2).astype(np.int32)
    examples = training.Examples(jnp.asarray(images), jnp.asarray(labels), jnp.ones(EXAMPLES))
    few = jax.tree.map(lambda values: values[:8], examples)
    state = training.start(model, jax.random.key(0), 100)
    params = state.variables["params"]
    np.testing.assert_allclose(
        models.logits(model, state.variables, images[:8])[:, 0],
        plain.apply({"params": params}, images[:8]),
        atol=1e-4,  # logits near 1, float32
    )
    rates = {"batch_size": TRAINING.batch_size, "learning_rate": TRAINING.learning_rate}
    optimiser = optax.adam(TRAINING.learning_rate)
    fitted = jax.tree.map(jnp.copy, params), optimiser.init(params)

    @jax.jit
    def step(params, moments, key, images, labels):
        def loss(params):
            logits = plain.apply({"params": params}, images, True, rngs={"dropout": key})
            return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

        change, moments = optimiser.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, change), moments

    def ours():
        nonlocal state
        state = compiled_epoch()(model, state, examples, few, **rates)
        return state.variables

    def loop():
        nonlocal fitted
        order = np.random.default_rng(0).permutation(EXAMPLES).reshape(-1, TRAINING.batch_size)
        for number, rows in enumerate(order):
            fitted = step(*fitted, jax.random.key(number), images[rows], labels[rows])
        return fitted

    yield _rates({"ours": ours, "linen_loop": loop}, EXAMPLES, "examples_per_s")


def measure_maps() -> Iterator[dict]:
    """Integrated gradients, against a Python loop over path points with linen's layers."""
    variables = models.MODELS["chen"](SHAPE, 1).init(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(MAPS, *SHAPE)).astype(np.float32)
    with jax.enable_x64(True):  # in float32 rounding turns rectifiers in some cells of either side
        double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (variables, images))
        ours, loop = (explain() for explain in _explain_calls(*double).values())
        np.testing.assert_allclose(ours, loop, atol=1e-9 * float(abs(loop).max()))  # rounding
    calls = _explain_calls(variables, images)
    ours, loop = (explain() for explain in calls.values())
    away = float(abs(ours - loop).sum() / abs(loop).sum())
    assert away < 1e-3, away  # as maps, in float32
    yield _rates(calls, MAPS, "maps_per_s")


def _explain_calls(variables, images):
    model, plain = models.MODELS["chen"](SHAPE, 1), PlainChen()
    score, baseline = models.score(model, variables), np.zeros_like(images[0])
    gradient = jax.jit(jax.grad(lambda x: plain.apply({"params": variables["params"]}, x).sum()))

    def ours():
        options = {"steps": STEPS, "rule": "midpoint"}
        return attribution.integrated_gradients(score, images, baseline, **options).values

    def loop():
        sums = jnp.zeros_like(images)
        for alpha in (np.arange(STEPS, dtype=images.dtype) + 0.5) / STEPS:
            sums += gradient(alpha * images)
        return images * sums / STEPS

    return {"ours": ours, "python_loop": loop}


def measure_pairs(count: int = 16, few: int = 2) -> Iterator[dict]:
    """All ordered pairs by all five metrics, against SciPy and OTT's Grid in a double loop."""
    rng = np.random.default_rng(0)
    heatmaps = rng.gamma(0.3, size=(count, *SHAPE)).astype(np.float32)
    config, axes = MetricConfig(), (Axis(), Axis())
    solvers = tuple(study.EMD_SOLVERS.values())
    ours = lambda: study.compare(heatmaps, axes, config, solvers, lambda *_: None)
    shares = np.asarray(metrics.to_distribution(heatmaps, config.policy, config.floor))
    ways = [jnp.linspace(0, 1, length)[:, None] for length in SHAPE]
    geometry = grid.Grid(x=ways, cost_fns=[costs.PNormP(1)] * 2, epsilon=config.epsilon)
    transport = jax.jit(
        lambda p, q: (
            sinkhorn.Sinkhorn()(
                linear_problem.LinearProblem(geometry, p.ravel(), q.ravel())
            ).reg_ot_cost
        )
    )

    def loop():
        pairs = list(np.ndindex(few, few))
        return {
            "difference_mean": [abs(heatmaps[i] - heatmaps[j]).mean() for i, j in pairs],
            "kl": [rel_entr(shares[i], shares[j]).sum() for i, j in pairs],
            "js": [jensenshannon(shares[i].ravel(), shares[j].ravel()) ** 2 for i, j in pairs],
            "emd": [float(transport(shares[i], shares[j])) for i, j in pairs],
        }

    found, expected = ours(), loop()
    for name in ("difference_mean", "kl", "js"):  # the distances agree in the metrics suite
        np.testing.assert_allclose(
            found[name][:few, :few].ravel(), expected[name], rtol=1e-3, atol=1e-5
        )
    seconds = time_calls({"ours": ours, "double_loop": loop}, REPEATS)
    rates = {
        side: total**2 / seconds[side].median_s
        for side, total in (("ours", count), ("double_loop", few))
    }
    yield _row(rates, "pairs_per_s")


def _rates(calls: dict[str, Callable], count: int, unit: str) -> dict:
    seconds = time_calls(calls, REPEATS)
    return _row({side: count / timing.median_s for side, timing in seconds.items()}, unit)


def _row(rates: dict[str, float], unit: str) -> dict:
    ours, other = rates.values()
    row = {f"{side}_{unit}": round(rate, 2) for side, rate in rates.items()}
    return row | {"ratio": round(ours / other, 2)}


ROWS = {
    "rendering": measure_rendering,
    "spectrograms": measure_spectrograms,
    "training": measure_training,
    "maps": measure_maps,
    "pairs": measure_pairs,
}
