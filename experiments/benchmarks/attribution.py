"""Integrated gradients against Captum on a PyTorch twin; rows stand in BUILD-notes.md.

Both sides explain the same trained networks on the same notes from the zero baseline, with the
same Gauss-Legendre nodes unless said. "Tuned" is Captum at its best: channels-last memory, weights
that ask for no gradients, the `internal_batch_size` that a sweep finds fastest. "Default" is what
`IntegratedGradients(network).attribute(images)` does.

    python experiments/benchmark.py --suite=attribution --rows=tolerance
"""

import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from captum.attr import IntegratedGradients

from experiments import study
from experiments.benchmarks import torch_twin
from experiments.benchmarks.roofs import gradient_flop
from experiments.benchmarks.stopwatch import peak_memory, time_call, time_calls
from instrument_ig import models, training
from instrument_ig.attribution import integrated_gradients
from instrument_ig.audio import DATASETS
from instrument_ig.config import AudioConfig, SpectrogramConfig, TrainConfig
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.spectrograms.extraction import extract
from instrument_ig.types import Score

INSTRUMENTS = ("bass", "brass", "flute", "guitar")
EPOCHS = {"logmel": 6, "stft": 2}
STEPS = 50  # Captum's default, and ours
TOLERANCE = 0.01
MOST_STEPS = 3200  # at which the search with Captum gives up
SWEEP = (1, 2, 4, 8, 16, 32)  # internal_batch_size
AGREEMENT = 1e-3  # relative L1 distance; float32 gradients of both sides are within 1e-4
FEW = 1 / 32  # of the maps may agree in double precision only


class Case(NamedTuple):
    """A trained network of one spectrogram and notes that it never heard."""

    variables: Any
    score: Score
    images: np.ndarray  # [64, T, F]

    def ours(self, batch: int, **options) -> Callable:
        """Return a call that explains the first notes."""
        images = self.images[:batch]
        baseline = np.zeros_like(images[0])
        return lambda: integrated_gradients(self.score, images, baseline, **options)

    def double(self, rows: np.ndarray) -> "Case":
        """Return some of the notes with everything in double precision; needs x64."""
        wide = lambda leaf: np.asarray(leaf, np.float64)
        variables, images = jax.tree.map(wide, (self.variables, self.images[rows]))
        network = models.MODELS["chen"](images.shape[1:], 1)
        return Case(variables, models.score(network, variables), images)

    def captum(self, batch: int, tuned: bool, **options) -> Callable:
        """Return the same call on the twin; it gives maps and residuals as NumPy arrays."""
        network = torch_twin.chen(self.variables, self.images.shape[1:])
        images = torch.tensor(self.images[:batch, None])
        if tuned:
            network = network.to(memory_format=torch.channels_last).requires_grad_(False)
            images = images.contiguous(memory_format=torch.channels_last)
        explain = partial(IntegratedGradients(network).attribute, images, target=0)

        def call(**more):
            found = explain(return_convergence_delta=True, **options, **more)
            maps, residual = (values.detach().numpy() for values in found)
            return maps[:, 0], residual

        return call


@lru_cache
def _material(spectrogram: str) -> study.Material:
    audio = AudioConfig()
    front_end = SPECTROGRAMS[spectrogram](SpectrogramConfig(), audio)
    dataset = DATASETS["soundfont"](audio)
    images = extract(dataset, dataset.notes, {spectrogram: front_end}).images[spectrogram]
    silence = front_end.apply(np.zeros(round(audio.sample_rate * audio.duration_s), np.float32))
    return study.standardised(spectrogram, front_end, dataset.notes, images, silence)


@lru_cache
def case(spectrogram: str, instrument: str = INSTRUMENTS[0]) -> Case:
    """Train one network of the study on the default notes, with a fixed seed.

    Its images are test notes: the 16 of its own instrument, then others.
    """
    material = _material(spectrogram)
    network, config = study.network(material), TrainConfig()
    state = training.train(
        network,
        training.start(network, jax.random.key(0), EPOCHS[spectrogram]),
        *(study.binary_examples(material, instrument, 0, split) for split in ("train", "valid")),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
    )
    own, tested = material.rows("test", instrument), material.rows("test")
    others = np.random.default_rng(0).permutation(np.setdiff1d(tested, own))
    chosen = np.concatenate([own, others])[:64]
    variables = state.best_variables
    return Case(variables, models.score(network, variables), material.images[chosen])


def measure_equal_steps() -> Iterator[dict]:
    """The same nodes, against Captum tuned. 64 STFT maps, half an hour, are like 16."""
    repeats = {
        "logmel": {1: 9, 16: 5, 64: 1},
        "stft": {1: 5, 16: 0},
    }
    for spectrogram, batches in repeats.items():
        subject = case(spectrogram)
        best = _best_batch_size(subject)
        for batch, count in batches.items():
            subject.ours(batch, steps=4)()  # compiles
            size = max(best, batch)  # Captum warns and takes the batch where that is larger
            row = _compare(
                subject, batch, count, tuned=True, internal_batch_size=size, n_steps=STEPS
            )
            yield {"spectrogram": spectrogram} | row | {"internal_batch_size": size}


def measure_defaults() -> Iterator[dict]:
    """The same nodes, against Captum as users call it."""
    for spectrogram, batch in (("logmel", 1), ("logmel", 16), ("stft", 1)):
        subject = case(spectrogram)
        try:
            variables = jax.device_get(subject.variables)
            peak = peak_memory(_captum_noise, spectrogram, variables, batch, limit=_free_memory())
        except MemoryError:
            free = f"out of memory at {_free_memory() >> 20} MiB"
            yield {"spectrogram": spectrogram, "batch": batch, "captum": free}
            continue
        row = _compare(subject, batch, repeats=3 if batch > 1 else 7, tuned=False)
        yield {"spectrogram": spectrogram} | row | {"captum_mib": peak >> 20}


def measure_tolerance() -> Iterator[dict]:
    """All of 64 maps within one per cent, against Captum with doubled steps until all are.

    As in the study, each network explains 16 test notes of its own instrument. `captum_s` is kind:
    only the maps that are not yet within are explained again. `captum_all_s` is what doubling the
    steps of all 16 takes, as calling it for the batch does; the times of one number of steps are
    scaled to the maps left out.
    """
    cases = [case("logmel", instrument) for instrument in INSTRUMENTS]
    ours = [subject.ours(16, tolerance=TOLERANCE, max_steps=MOST_STEPS) for subject in cases]
    seconds = time_call(lambda: [explain() for explain in ours], repeats=3)
    found = [explain() for explain in ours]
    best = _best_batch_size(cases[0])
    searches = [
        _search(subject, np.asarray(maps.values.sum((1, 2)) - maps.residual), best)
        for subject, maps in zip(cases, found, strict=True)
    ]
    kind_s, all_s, steps, left = (list(column) for column in zip(*searches, strict=True))
    points = np.concatenate([maps.steps for maps in found])
    yield {
        "maps": len(points),
        "ours_s": round(seconds.median_s, 2),
        "ours_converged": sum(int(maps.converged.sum()) for maps in found),
        "points_median": float(np.median(points)),
        "points_most": int(points.max()),
        "captum_s": round(sum(kind_s), 1),
        "captum_all_s": round(sum(all_s)),
        "captum_converged": len(points) - sum(left),
        "captum_steps": " ".join(map(str, steps)),
        "ratio": round(sum(kind_s) / seconds.median_s, 1),
        "ratio_all": round(sum(all_s) / seconds.median_s, 1),
        "compile_s": round(seconds.first_s - seconds.median_s, 1),
    }


def _search(subject, rises, best):
    """Double Captum's steps: seconds for the maps left, for all, last steps, maps not within."""
    left, steps, kind_s, all_s = np.arange(len(rises)), STEPS // 2, 0.0, 0.0
    while len(left) and steps < MOST_STEPS:
        steps *= 2
        part = subject._replace(images=subject.images[left])
        # Captum warns and takes the batch where the batch is larger.
        size = max(best, len(left))
        captum = part.captum(len(left), tuned=True, internal_batch_size=size, n_steps=steps)
        start = time.perf_counter()
        residual = captum()[1]
        spent = time.perf_counter() - start
        kind_s, all_s = kind_s + spent, all_s + spent * len(rises) / len(left)
        left = left[abs(residual) > TOLERANCE * abs(rises[left]).clip(0.01)]
        print(f"  captum, {steps} steps: {len(left)} maps left, {kind_s:.0f} s", flush=True)
    return kind_s, all_s, steps, len(left)


def measure_honoured() -> Iterator[dict]:
    """The tolerance on eight maps of each size, judged from outside.

    The score difference is that of the twin in double precision; log-mel maps are also compared
    with maps of 1,024 points (those of the STFT would take half an hour).
    """
    for spectrogram in EPOCHS:
        subject = case(spectrogram)
        found = subject.ours(8, tolerance=TOLERANCE)()
        twin = torch_twin.chen(subject.variables, subject.images.shape[1:]).double()
        images = torch.tensor(subject.images[:8, None], dtype=torch.float64)
        with torch.no_grad():
            rises = (twin(images) - twin(torch.zeros_like(images[:1])))[:, 0].numpy()
        values = np.asarray(found.values, np.float64)
        residual = abs(values.sum((1, 2)) - rises) / abs(rises).clip(0.01)
        assert (residual[found.converged] <= TOLERANCE * 1.01).all(), residual  # float32 scores
        row = {
            "spectrogram": spectrogram,
            "converged": f"{int(found.converged.sum())} of 8",
            "points": " ".join(map(str, sorted(np.asarray(found.steps).tolist()))),
            "residual_worst": f"{residual.max():.2g}",
        }
        if spectrogram == "logmel":
            away = _distances(values, subject.ours(8, steps=1024, rule="midpoint")().values)
            row |= {"map_error_median": round(float(np.median(away)), 3)}
            row |= {"map_error_worst": round(max(away), 3)}
        yield row


def measure_memory() -> Iterator[dict]:
    """Peak memory of a process at 512 steps over that at 32."""
    for spectrogram, batch in (("logmel", 16), ("stft", 1)):
        peaks = {
            steps: peak_memory(_explain_noise, spectrogram, batch, steps) for steps in (32, 512)
        }
        yield {
            "spectrogram": spectrogram,
            "batch": batch,
            **{f"mib_{steps}_steps": round(peak / 2**20) for steps, peak in peaks.items()},
            "ratio": round(peaks[512] / peaks[32], 3),
        }


def measure_arithmetic() -> Iterator[dict]:
    """The model's arithmetic per second over that of a large matrix product."""
    matrix = jnp.ones((4096, 4096), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    for spectrogram, batch in (("logmel", 16), ("stft", 1)):
        subject = case(spectrogram)
        calls = {"product": lambda: product(matrix), "ours": subject.ours(batch)}
        seconds = time_calls(calls, repeats=5)
        roof = 2 * 4096**3 / seconds["product"].median_s
        flop = gradient_flop(subject.variables, subject.images.shape[1:])
        rate = flop * batch * STEPS / seconds["ours"].median_s
        yield {
            "spectrogram": spectrogram,
            "gflop_per_gradient": round(flop / 1e9, 2),
            "ms_per_gradient": round(1e3 * flop / rate, 2),
            "gflop_per_s": round(rate / 1e9),
            "matrix_product_gflop_per_s": round(roof / 1e9),
            "share": round(rate / roof, 2),
        }


def _best_batch_size(subject):
    calls = {
        size: subject.captum(1, tuned=True, internal_batch_size=size, n_steps=STEPS)
        for size in SWEEP
    }
    seconds = time_calls(calls, repeats=3)
    return min(seconds, key=lambda size: seconds[size].median_s)


def _compare(subject, batch, repeats, **options):
    """Time both sides in turns; without repeats, once.

    Where effects nearly cancel, float32 rounding that turns rectifiers is not small: of 64 log-mel
    maps one is .007 apart. Such maps must agree in double precision, and be few.
    """
    ours, captum, found = subject.ours(batch), subject.captum(batch, **options), {}
    calls = {
        "ours": lambda: found.update(ours=jax.block_until_ready(ours().values)),
        "captum": lambda: found.update(captum=captum()[0]),
    }
    seconds = time_calls(calls, repeats)
    away = np.array(_distances(np.asarray(found["ours"]), found["captum"]))
    apart = np.flatnonzero(~(away < AGREEMENT))
    assert len(apart) <= batch * FEW, away
    if len(apart):
        with jax.enable_x64(True):
            double = subject.double(apart)
            maps = double.ours(len(apart))().values
            assert maps.dtype == np.float64
            wide = _distances(np.asarray(maps), double.captum(len(apart), **options)()[0])
        assert (np.array(wide) < AGREEMENT).all(), wide
    mine, other = seconds["ours"].median_s, seconds["captum"].median_s
    return {
        "batch": batch,
        "ours_s": round(mine, 3),
        "captum_s": round(other, 3),
        "ours_ms_per_gradient": round(1e3 * mine / batch / STEPS, 2),
        "captum_ms_per_gradient": round(1e3 * other / batch / STEPS, 2),
        "ratio": round(other / mine, 2),
        "apart_median": f"{np.median(away):.1g}",
        "apart_worst": f"{max(away):.1g}",
        "agree_in_double_only": len(apart),
    }


def _distances(maps, expected):
    """Relative L1 distance of each map."""
    away = np.abs(maps - np.asarray(expected)).sum((1, 2))
    return (away / np.abs(expected).sum((1, 2))).tolist()


def _noise(spectrogram, batch):
    shape = SPECTROGRAMS[spectrogram](SpectrogramConfig(), AudioConfig()).shape
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)


def _explain_noise(spectrogram, batch, steps):
    images = _noise(spectrogram, batch)
    network = models.MODELS["chen"](images.shape[1:], 1)
    score = models.score(network, network.init(jax.random.key(0)))
    return integrated_gradients(score, images, np.zeros_like(images[0]), steps=steps).values


def _free_memory():
    """Bytes that a process can still get; Linux only."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024


def _captum_noise(spectrogram, variables, batch):
    try:
        return Case(variables, None, _noise(spectrogram, batch)).captum(batch, tuned=False)()
    except RuntimeError as error:  # PyTorch's allocator
        raise MemoryError(str(error)) from None


ROWS = {
    "tolerance": measure_tolerance,
    "defaults": measure_defaults,
    "arithmetic": measure_arithmetic,
    "memory": measure_memory,
    "equal_steps": measure_equal_steps,
    "honoured": measure_honoured,
}
