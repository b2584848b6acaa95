"""Defaults of what flags and functions share, their meaning and bounds: one flag for each field."""

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, meaning: str, low: float | None = None, high: float | None = None) -> Any:
    """A field whose flag is checked against [low, high] and explained by `meaning`."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True)
class AudioConfig:
    """Sounds as the rooms below see them."""

    sample_rate: int = option(16_000, "Hz; every sound is resampled to it", 4_000, 192_000)
    duration_s: float = option(4.0, "seconds; sounds are cut or padded with silence", 0.1, 60.0)


@dataclass(frozen=True)
class SpectrogramConfig:
    """Frame sizes behind the paper's feature maps: 126 frames of 1025 bins."""

    n_fft: int = option(2048, "samples in one frame", 64, 65_536)
    hop: int = option(512, "samples between frames", 16, 65_536)
    n_mels: int = option(128, "bands of the log-mel spectrogram", 1, 1024)
    n_mfcc: int = option(40, "coefficients of the MFCC", 1, 1024)
    floor_db: float = option(-80.0, "dB; the level of silence", -200.0, 0.0)


@dataclass(frozen=True)
class TrainConfig:
    """Algorithm 1 of Chen et al. (2024), shortened; paper.flags has the paper's numbers."""

    epochs: int = option(6, "passes over the training notes; the best one is kept", 1)
    batch_size: int = option(8, "notes in one step of the optimiser", 1)
    learning_rate: float = option(5e-4, "of Adam", 1e-9)


@dataclass(frozen=True)
class AttributionConfig:
    """Integrated gradients and the promise about their error."""

    steps: int = option(0, "path points of every map; 0: as many as the tolerance asks for", 0)
    rule: str = option("gauss_legendre", "quadrature along the path")
    tolerance: float = option(
        0.01, "relative completeness residual that counts as converged", 1e-6, 0.99
    )
    max_steps: int = option(1024, "most path points of a map when a tolerance is asked for", 1)


@dataclass(frozen=True)
class MetricConfig:
    """Heatmaps as distributions, and the distances between them."""

    policy: str = option("absolute", "how a heatmap becomes a distribution")
    floor: float = option(
        1e-7, "share of the uniform distribution mixed in: KL is finite", 0.0, 0.99
    )
    epsilon: float = option(0.05, "of Sinkhorn, in units of the ground cost", 1e-6)
    emd_tolerance: float = option(0.05, "relative width of an EMD interval that is wanted", 1e-6, 1)


@dataclass(frozen=True)
class ClassifierTrainConfig(TrainConfig):
    """Section 3.4.2 of Senatori and Nardone (2025), shortened: early stopping may come later."""

    epochs: int = option(12, "passes over the training notes, at most", 1)
    batch_size: int = option(32, "notes in one step of the optimiser", 1)
    learning_rate: float = option(1e-3, "of Adam", 1e-9)
    patience: int = option(5, "epochs without a lower validation loss that end the training", 1)
