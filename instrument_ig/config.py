"""The one place of every default. Drivers turn flags into these; rooms get plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AudioConfig:
    """Sounds as the rooms below see them."""

    sample_rate: int = 16_000  # Hz, NSynth's
    duration_s: float = 4.0  # longer sounds are cut, shorter ones padded with silence


@dataclass(frozen=True)
class SpectrogramConfig:
    """Frame sizes behind the paper's feature maps: 126 frames of 1025 bins."""

    n_fft: int = 2048  # samples
    hop: int = 512  # samples
    n_mels: int = 128
    n_mfcc: int = 40
    floor_db: float = -80.0  # silence is this level everywhere


@dataclass(frozen=True)
class TrainConfig:
    """Algorithm 1 of Chen et al. (2024), shortened; paper.flags has the paper's numbers."""

    epochs: int = 12
    batch_size: int = 8
    learning_rate: float = 5e-4


@dataclass(frozen=True)
class AttributionConfig:
    """Integrated gradients and the promise about their error."""

    steps: int = 50  # path points, as Captum's default
    rule: str = "gauss_legendre"
    tolerance: float = 0.01  # relative completeness residual that counts as converged
    max_steps: int = 1024


@dataclass(frozen=True)
class MetricConfig:
    """Heatmaps as distributions, and the distances between them."""

    policy: str = "absolute"
    floor: float = 1e-7  # share of the uniform distribution mixed in, so that KL is finite
    epsilon: float = 0.05  # of Sinkhorn, in units of the ground cost
    emd_tolerance: float = 0.05  # relative width of the interval that counts as converged
