"""A heatmap over its spectrogram in a terminal: characters, with colours where they are shown."""

import numpy as np
from jaxtyping import Float

from instrument_ig.figures.images import ticks
from instrument_ig.types import Axis

SHADES = " ░▒▓█"
HEAT_COLOUR = "38;2;255;110;40"  # ANSI: foreground, orange
DARKEST, BRIGHTEST = 20, 150  # grey levels behind the heat


def terminal_heatmap(
    spectrogram: Float[np.ndarray, "T F"],
    heatmap: Float[np.ndarray, "T F"],
    axes: tuple[Axis, Axis],
    *,
    columns: int = 72,
    rows: int = 16,
) -> list[str]:
    """Return lines to print: frequency upwards, time to the right, axes labelled.

    The character shows the heatmap (nothing up to 10 % of its maximum, then four shades), the grey
    behind it the spectrogram. The greys and the orange are ANSI codes; without them the shades say
    the same.

    Args:
      spectrogram: The image.
      heatmap: Of the same shape; its absolute value is shown.
      axes: Time and frequency.
      columns: Characters across, at most.
      rows: Lines, at most.
    """
    level, heat = (_shrink(values, columns, rows) for values in (spectrogram, np.abs(heatmap)))
    shade = np.ceil((heat / (heat.max() or 1.0) - 0.1) / 0.9 * (len(SHADES) - 1)).clip(0)
    span = np.ptp(level) or 1.0
    grey = DARKEST + (level - level.min()) / span * (BRIGHTEST - DARKEST)
    labels = _labels(axes[1], spectrogram.shape[1], level.shape[1])
    margin = max(map(len, labels.values()))
    lines = []
    for row in reversed(range(level.shape[1])):
        cells = [
            f"\x1b[48;2;{g:.0f};{g:.0f};{g:.0f};{HEAT_COLOUR}m{SHADES[int(s)]}"
            for g, s in zip(grey[:, row], shade[:, row], strict=True)
        ]
        lines.append(f"{labels.get(row, ''):>{margin}} {''.join(cells)}\x1b[0m")
    return [*lines, " " * margin + _time_line(axes[0], *spectrogram.shape[:1], level.shape[0])]


def _shrink(values, columns, rows):
    """Average blocks of cells so that at most columns x rows are left."""
    for axis, size in enumerate((columns, rows)):
        starts = np.unique(np.linspace(0, values.shape[axis], size, endpoint=False).astype(int))
        counts = np.diff(starts, append=values.shape[axis])
        sums = np.add.reduceat(values, starts, axis=axis)
        values = sums / np.expand_dims(counts, 1 - axis)
    return values


def _labels(axis, size, cells):
    """Return cell -> label."""
    places, texts = ticks(axis, size)
    return {int(p * cells / size): text for p, text in zip(places, texts, strict=True)}


def _time_line(axis, size, cells):
    line = [" "] * (cells + 8)
    for cell, text in _labels(axis, size, cells).items():
        line[cell + 1 : cell + 1 + len(text)] = text
    return f"{''.join(line).rstrip()} ({axis.unit})"
