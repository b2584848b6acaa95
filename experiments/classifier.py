"""A trained network with all it needs to hear: what it says of sounds, and where it listens."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import softmax

from experiments import options
from experiments.sounds import FEATURES
from instrument_ig import attribution, models
from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS, standardise
from instrument_ig.storage import checkpoints, runs
from instrument_ig.types import Model, Spectrogram

LAST_CONVOLUTION = "conv2d_2"


class Explanation(NamedTuple):
    """Where a network listens for one class."""

    grad_cam: np.ndarray  # [T, F], maximum 1
    integrated_gradients: np.ndarray  # [T, F]
    residual: float  # of the integrated gradients


class Classifier(NamedTuple):
    """A trained network and what stands before it."""

    classes: tuple[str, ...]
    audio: AudioConfig
    front_end: Spectrogram
    model: Model
    variables: Any

    def images(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the standardised images [B, T, F] of waveforms [B, N]."""
        return standardise.per_clip(self.front_end.apply(waveforms))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of every class [B, K]."""
        logits = models.logits(self.model, self.variables, images)
        return softmax(logits.astype(np.float64), axis=1)

    def explain(self, image: np.ndarray, class_index: int, steps: int) -> Explanation:
        """Explain the probability of a class for one image [T, F].

        Integrated gradients start at zero, the image's own mean, and take `steps` points.
        """
        cam = attribution.grad_cam(self._at_tap(class_index), image[None])
        whole = models.score(self.model, self.variables, class_index, "probability")
        integrated = attribution.integrated_gradients(
            whole, image[None], np.zeros_like(image), steps=steps
        )
        heatmap = np.asarray(cam.values[0])
        return Explanation(
            heatmap / (heatmap.max() or 1),
            np.asarray(integrated.values[0]),
            float(integrated.residual[0]),
        )

    def weighted_maps(self, image: np.ndarray, class_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what Grad-CAM adds up: the last convolution's maps [t, f, C], their weights."""
        return jax.device_get(_weighted_maps(self._at_tap(class_index), image))

    def _at_tap(self, class_index):
        return models.split(
            self.model, self.variables, class_index, "probability", tap=LAST_CONVOLUTION
        )


@jax.jit
def _weighted_maps(at_tap, image):
    maps = at_tap.prefix(image)
    return maps, jax.grad(at_tap.rest)(maps).mean((0, 1))


def make_model(front_end: Spectrogram, classes: int) -> Model:
    """Build the paper's network."""
    return models.MODELS["senatori"](front_end.shape, classes)


def checkpoint(folder: Path, split: str, features: str) -> Path:
    """Return where a run keeps the network trained on some features and split."""
    return folder / "checkpoints" / f"{split}-{features}"


def load(folder: Path, features: str | None = None) -> Classifier:
    """Read a trained network of the split that the run explains.

    Args:
      folder: A run folder of classify.py.
      features: Which of its networks; the first that the run names if None.

    Raises:
      ValueError: it is no such folder, or holds no such network.
    """
    manifest = runs.read(folder)
    settings = manifest["settings"]
    if "classes" not in manifest or "features" not in settings:
        raise ValueError(f"{folder} holds no classifier: it is not a run of classify.py")
    features = features or settings["features"][0]
    found = checkpoints.restore(checkpoint(folder, settings["split"], features))
    if found is None:
        raise ValueError(
            f"{folder} holds no trained network on {features}: the run has "
            f"--features={','.join(settings['features'])} and "
            f"{'is finished' if manifest['finished'] else 'is not finished: start it again'}"
        )
    audio = options.restore(AudioConfig, settings)
    front_end = SPECTROGRAMS[FEATURES[features]](
        options.restore(SpectrogramConfig, settings), audio
    )
    classes = tuple(manifest["classes"])
    model = make_model(front_end, len(classes))
    return Classifier(classes, audio, front_end, model, found.tree["variables"])
