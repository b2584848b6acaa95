"""Where trained networks listen: Figure 4, Grad-CAM of every class, and Figure 9 step by step."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.classifier import Classifier, Explanation
from instrument_ig.figures.classification import model_summary
from instrument_ig.figures.maps import heatmap_grid
from instrument_ig.figures.sheet import save
from instrument_ig.figures.sounds import grad_cam_steps
from instrument_ig.storage import files
from instrument_ig.types import Note


class Explained(NamedTuple):
    """One note, what a network says of it, and where it listens for that."""

    note: Note
    side: str  # train or test
    image: np.ndarray  # [T, F], standardised
    index: int  # of the predicted class
    predicted: str
    probability: float
    found: Explanation

    def title(self) -> str:
        """Return the true class and the answer."""
        return f"{self.note.label}: {self.predicted} {self.probability:.0%}"

    def row(self) -> dict[str, Any]:
        """Return all but the arrays."""
        return {
            "note": self.note.name,
            "side": self.side,
            "true": self.note.label,
            "predicted": self.predicted,
            "probability": self.probability,
            "residual": self.found.residual,
        }


def explain_notes(
    network: Classifier,
    notes: Sequence[Note],
    sides: Sequence[str],
    images: np.ndarray,
    steps: int,
    report: Callable[[int, int], None],
) -> list[Explained]:
    """Explain the class that a network gives to each image [B, T, F]."""
    explained = []
    for note, side, image, row in zip(
        notes, sides, images, network.probabilities(images), strict=True
    ):
        index = int(row.argmax())
        found = network.explain(image, index, steps)
        answer = (index, network.classes[index], float(row[index]))
        explained.append(Explained(note, side, image, *answer, found))
        report(len(explained), len(notes))
    return explained


def draw_layers(folder: Path, features: str, network: Classifier) -> None:
    """Draw Figure 4."""
    rows = [
        {
            "layer": layer.name,
            "output": " x ".join(map(str, layer.shape)),
            "parameters": f"{layer.parameters:,}",
        }
        for layer in network.model.summary()
    ]
    figure = model_summary(rows, f"CNN on {features}")
    save(figure, folder / f"layers-{features}", rows)


def draw_heatmaps(
    folder: Path,
    features: str,
    network: Classifier,
    explained: Sequence[Explained],
    step_by_step: Collection[str],
) -> None:
    """Draw Grad-CAM of all notes on one sheet, and Figure 9 for some classes."""
    axes = network.front_end.axes
    titles = [one.title() for one in explained]
    images = [one.image for one in explained]
    heatmaps = [one.found.grad_cam for one in explained]
    figure = heatmap_grid(titles, images, heatmaps, axes)
    save(figure, folder / f"grad_cam-{features}", [one.row() for one in explained])
    for one, title in zip(explained, titles, strict=True):
        if one.note.label in step_by_step:
            title = f"{one.note.name} ({one.side}), {title}"
            maps = network.weighted_maps(one.image, one.index)
            figure = grad_cam_steps(title, one.image, *maps, *one.found[:2], axes)
            # Small and no PDF: one for every class takes as long as all other figures together.
            path = folder / f"grad_cam-{features}-{files.file_name(one.note.label)}"
            save(figure, path, kinds=("png",), dpi=100)


def write_heatmaps(folder: Path, features: str, explained: Sequence[Explained]) -> None:
    """Write all heatmaps as arrays, named by note and method."""
    arrays = {
        f"{one.note.name}/{method}": getattr(one.found, method)
        for one in explained
        for method in ("grad_cam", "integrated_gradients")
    }
    files.write_arrays(folder / f"heatmaps-{features}.npz", arrays)
