"""The figures of Chen et al. (2024) that show maps: what a network sees, how two maps differ."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from instrument_ig.figures.images import colour_limit, draw_image, draw_overlay
from instrument_ig.figures.sheet import grid, sheet, styled
from instrument_ig.types import Axis

Axes2 = tuple[Axis, Axis]


@styled
def feature_maps(
    title: str,
    spectrogram: np.ndarray,
    features: np.ndarray,
    layer_map: np.ndarray,
    grad_cam: np.ndarray,
    axes: Axes2,
    tap: str,
) -> Figure:
    """Draw Figures 1 and 2 for one note.

    Args:
      title: What is shown.
      spectrogram: The note's image, [T, F].
      features: Activations at the tap, [T', F', C]; the four strongest channels are drawn.
      layer_map: Integrated gradients at the tap, summed over channels, [T', F'].
      grad_cam: Grad-CAM at the tap, on the image's axes, [T, F].
      axes: Time and frequency of the image.
      tap: The layer's name.
    """
    figure, panels = sheet(2, 4, width=3.4, height=2.6)
    for panel, channel in zip(panels[0], strongest(features), strict=False):
        draw_image(panel, features[:, :, channel], axes, cmap="magma")
        panel.set_title(f"{tap}, filter {channel + 1}")
    draw_image(panels[1, 0], spectrogram, axes, cmap="gray_r")
    panels[1, 0].set_title("spectrogram")
    limit = colour_limit(layer_map) or 1.0
    drawn = draw_image(panels[1, 1], layer_map, axes, limit=limit)
    figure.colorbar(drawn, ax=panels[1, 1])
    panels[1, 1].set_title(f"integrated gradients at {tap}")
    largest = float(grad_cam.max()) or 1.0  # nothing may be left of it after the rectifier
    drawn = draw_image(panels[1, 2], grad_cam, axes, cmap="magma", vmin=0, vmax=largest)
    figure.colorbar(drawn, ax=panels[1, 2])
    panels[1, 2].set_title(f"Grad-CAM at {tap}")
    draw_overlay(panels[1, 3], spectrogram, grad_cam, axes, largest)
    panels[1, 3].set_title("Grad-CAM over the spectrogram")
    figure.suptitle(title)
    return figure


def strongest(features: np.ndarray, count: int = 4) -> np.ndarray:
    """Return the channels of [T, F, C] with the largest mean activation."""
    return np.argsort(-features.mean(axis=(0, 1)))[:count]


@styled
def heatmap_grid(
    names: Sequence[str],
    spectrograms: Sequence[np.ndarray],
    heatmaps: Sequence[np.ndarray],
    axes: Axes2,
) -> Figure:
    """Draw one note per instrument with its heatmap over it.

    Each map has its own colours, because each explains another network; the attribution at which
    they are deepest stands in its title.
    """
    figure, panels = grid(len(names), 5, width=3.0, height=2.4)
    signed = any((heatmap < 0).any() for heatmap in heatmaps)
    extent = "\u00b1" if signed else "to "
    for panel, name, image, heatmap in zip(
        panels.flat, names, spectrograms, heatmaps, strict=False
    ):
        limit = colour_limit(heatmap)
        drawn = draw_overlay(panel, image, heatmap, axes, limit)
        panel.set_title(f"{name}, {extent}{limit:.2g}")
    bar = figure.colorbar(drawn, ax=panels, label="attribution", shrink=0.6)
    bar.set_ticks([-bar.vmax, 0, bar.vmax], labels=["against", "0", "for"])
    if not signed:
        bar.ax.set_ylim(0, bar.vmax)
    return figure


def shortened(name: str, size: int = 22) -> str:
    """Return a note's name in at most `size` characters, without folder and with both its ends."""
    name = name.split("/")[-1]
    return name if len(name) <= size else f"{name[: size // 2 - 1]}\u2026{name[-size // 2 :]}"


@styled
def subtraction(
    names: Sequence[str],
    first: np.ndarray,
    second: np.ndarray,
    axes: Axes2,
    splits: Mapping[str, np.ndarray],
    cells: int = 5,
) -> Figure:
    """Draw Figure 3: two heatmaps and their difference, the numbers of a small excerpt, the splits.

    Args:
      names: What the two maps are.
      first: A heatmap as a distribution, [T, F].
      second: The one that is subtracted, [T, F].
      axes: Time and frequency.
      splits: Name -> a map [T, F] of where a distance between the two comes from; its parts add up
        to the distance, which stands in the title. At most three.
      cells: Size of the excerpt, which lies around the largest difference.
    """
    maps = (first, second, first - second)
    titles = (f"a: {names[0]}", f"b: {names[1]}", "a - b")
    figure, panels = sheet(3, 3, width=4.0, height=2.7)
    limit = colour_limit(*maps) or 1.0
    window = _around_peak(np.abs(first - second), cells)
    for panel, title, values in zip(panels[0], titles, maps, strict=True):
        drawn = draw_image(panel, values, axes, limit=limit)
        start = [part.start - 0.5 for part in window]
        size = [part.stop - part.start for part in window]
        panel.add_patch(Rectangle(start, *size, fill=False, linewidth=0.8))
        panel.set_title(title)
    figure.colorbar(drawn, ax=panels[0])
    unit = 10.0 ** np.floor(np.log10(np.abs(maps[2][window]).max() or 1.0) - 1)
    excerpts = [np.round(values[window] / unit) for values in maps[:2]]
    excerpts.append(excerpts[0] - excerpts[1])
    texts = [[f"{value:.0f}" for value in values.ravel()] for values in excerpts]
    texts[2] = [f"{a} - {b}\n= {c}" for a, b, c in zip(*texts, strict=True)]
    for panel, title, values, text in zip(panels[1], titles, excerpts, texts, strict=True):
        _write_cells(panel, values, text, window, axes, limit / unit)
        panel.set_title(f"{title}, excerpt in units of {unit:g}")
    for panel, (name, part) in zip(panels[2], splits.items(), strict=False):
        figure.colorbar(draw_image(panel, part, axes, cmap="magma"), ax=panel)
        panel.set_title(f"{name} = {part.sum():.3g}")
    for panel in panels[2, len(splits) :]:
        panel.set_axis_off()
    return figure


def _around_peak(values: np.ndarray, cells: int) -> tuple[slice, slice]:
    """Return the window of cells x cells (or the whole axis) around the largest value."""
    peak = np.unravel_index(values.argmax(), values.shape)
    starts = [
        max(0, min(p - cells // 2, n - cells)) for p, n in zip(peak, values.shape, strict=True)
    ]
    ends = [min(start + cells, n) for start, n in zip(starts, values.shape, strict=True)]
    return slice(int(starts[0]), int(ends[0])), slice(int(starts[1]), int(ends[1]))


def _write_cells(panel, values, texts, window, axes, limit):
    panel.imshow(values.T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (frame, place), text in zip(np.ndindex(values.shape), texts, strict=True):
        colour = "w" if abs(values[frame, place]) > 0.6 * limit else "k"
        panel.text(frame, place, text, ha="center", va="center", fontsize=6, color=colour)
    for ruler, part, axis in zip((panel.xaxis, panel.yaxis), window, axes, strict=True):
        labels = axis.positions[part] or range(part.start, part.stop)
        names = [label if isinstance(label, str) else f"{label:.3g}" for label in labels]
        ruler.set_ticks(range(len(names)), names)
        ruler.set_tick_params(labelsize=6)
    panel.set_xlabel(f"time ({axes[0].unit})")
    panel.set_ylabel(axes[1].unit)
