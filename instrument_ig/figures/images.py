"""Spectrograms and heatmaps on their real axes.

The one place where [T, F] arrays are transposed: time runs to the right, frequency upwards.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

from instrument_ig.types import Axis

OCTAVES = np.array([32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384])  # Hz


def draw_image(
    panel: Axes,
    image: np.ndarray,
    axes: tuple[Axis, Axis],
    *,
    limit: float | None = None,
    **options,
) -> AxesImage:
    """Draw an image [T, F] with ticks in the units of its axes.

    An image smaller than its axes (a feature map) is stretched over them. `limit` makes the colours
    symmetric about zero, from -limit to limit; maps that are compared get the same one.
    """
    frames, bins = (
        len(axis.positions) or size for axis, size in zip(axes, image.shape, strict=True)
    )
    if limit is not None:
        options = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r"} | options
    drawn = panel.imshow(
        np.asarray(image).T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, frames - 0.5, -0.5, bins - 0.5),
        **options,
    )
    for axis, ruler in zip(axes, (panel.xaxis, panel.yaxis), strict=True):
        places, labels = ticks(axis, frames if ruler is panel.xaxis else bins)
        ruler.set_major_locator(FixedLocator(places))
        ruler.set_major_formatter(FixedFormatter(labels))
    panel.set_xlabel(f"time ({axes[0].unit})")
    panel.set_ylabel(axes[1].unit)
    return drawn


def draw_overlay(
    panel: Axes, spectrogram: np.ndarray, heatmap: np.ndarray, axes: tuple[Axis, Axis], limit: float
) -> AxesImage:
    """Draw a heatmap over its spectrogram, the more opaque the larger its absolute value."""
    draw_image(panel, spectrogram, axes, cmap="gray_r")
    strength = np.clip(np.abs(heatmap) / limit, 0, 1) if limit > 0 else np.zeros(heatmap.shape)
    return draw_image(panel, heatmap, axes, limit=limit or 1.0, alpha=np.sqrt(strength).T)


def colour_limit(*maps: np.ndarray) -> float:
    """Return the absolute value that 99.5 % of the finite cells stay below; 0 for all-zero maps."""
    cells = np.concatenate([np.abs(values[np.isfinite(values)]) for values in maps])
    return float(np.quantile(cells, 0.995)) if cells.size else 0.0


def ticks(axis: Axis, size: int) -> tuple[np.ndarray, list[str]]:
    """Return places in bins of an axis of `size` bins, and what is written there."""
    if not axis.positions:
        places = np.array(
            [p for p in MaxNLocator(6, integer=True).tick_values(0, size - 1) if 0 <= p < size]
        )
        return places, [f"{p:.0f}" for p in places]
    if isinstance(axis.positions[0], str):
        return np.arange(size), list(axis.positions)
    positions = np.asarray(axis.positions, float)
    spacing = np.diff(positions)
    if axis.unit == "Hz" and spacing.max() > 1.5 * spacing.min():
        wanted = OCTAVES
    else:
        wanted = MaxNLocator(6).tick_values(positions[0], positions[-1])
    wanted = wanted[(wanted >= positions[0]) & (wanted <= positions[-1])]
    places = np.interp(wanted, positions, np.arange(size))
    apart = np.diff(places, append=np.inf) > 0.05 * size  # labels closer than this overlap
    return places[apart], [f"{value:g}" for value in wanted[apart]]
