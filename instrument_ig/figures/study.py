"""The figures of Chen et al. (2024) that show numbers: scores, box plots, curves, comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from instrument_ig.figures.sheet import grid, sheet, styled

Rows = Sequence[Mapping[str, Any]]

METRIC_LABELS = {
    "difference_mean": "difference mean",
    "kl": "KL divergence (nats)",
    "js": "JS divergence (nats)",
    "emd": "EMD (certified)",
    "emd_sinkhorn": "EMD (Sinkhorn)",
}


@styled
def precision_bars(scores: Rows) -> Figure:
    """Draw Figure 4: precision per instrument, one bar per spectrogram, with its interval."""
    instruments = _names(scores, "instrument")
    spectrograms = _names(scores, "spectrogram")
    figure, ((panel,),) = sheet(width=max(6.0, 0.9 * len(instruments)), height=3.2)
    width = 0.8 / len(spectrograms)
    for offset, spectrogram in enumerate(spectrograms):
        rows = {row["instrument"]: row for row in scores if row["spectrogram"] == spectrogram}
        places = np.arange(len(instruments)) + (offset + 0.5) * width - 0.4
        heights = _column(rows, instruments, "precision")
        panel.bar(places, heights, width, label=spectrogram)
        low, high = (_column(rows, instruments, f"precision_{end}") for end in ("low", "high"))
        panel.vlines(places, low, high, color="0.2", linewidth=0.8)
    panel.axhline(0.5, color="0.5", linewidth=0.8, linestyle="--")
    panel.text(1.005, 0.5, "chance", color="0.4", va="center", transform=panel.transAxes)
    panel.set_xticks(range(len(instruments)), instruments, rotation=30, ha="right")
    panel.set_ylabel("precision, with as many negatives")
    panel.set_ylim(0, 1)
    panel.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


@styled
def box_plots(
    spectrogram: str,
    within: Mapping[str, Mapping[str, np.ndarray]],
    between: Mapping[str, np.ndarray],
    statistics: Rows,
) -> Figure:
    """Draw Figures 5 to 10: each metric's pairs per instrument.

    Args:
      spectrogram: Its name, for the title.
      within: metric -> instrument -> distances of the pairs within that instrument.
      between: metric -> distances between different instruments; drawn as the last, grey box.
      statistics: rows with spectrogram, metric, instrument, low, high; drawn as a bar
        beside the box: the interval of the median when notes are resampled.
    """
    most = max(len(pairs) for pairs in within.values())
    figure, panels = grid(len(within), 3, width=max(3.6, 0.24 * most), height=3.0)
    for panel, (metric, pairs) in zip(panels.flat, within.items(), strict=False):
        reference = {"between": between[metric]} if metric in between else {}
        boxes = {name: values[np.isfinite(values)] for name, values in (pairs | reference).items()}
        drawn = panel.boxplot(list(boxes.values()), widths=0.6, patch_artist=True, showfliers=False)
        for name, box in zip(boxes, drawn["boxes"], strict=True):
            box.set_facecolor("0.85" if name == "between" else "C0")
            box.set_alpha(0.6)
        for median in drawn["medians"]:
            median.set_color("k")
        for row in statistics:
            here = (row["spectrogram"], row["metric"]) == (spectrogram, metric)
            if here and row["low"] is not None:
                place = list(boxes).index(row["instrument"]) + 1.42
                panel.vlines(place, row["low"], row["high"], color="C1", linewidth=2)
        panel.set_xticks(range(1, len(boxes) + 1), list(boxes), rotation=45, ha="right")
        panel.set_title(METRIC_LABELS.get(metric, metric))
        panel.set_ylim(bottom=0)
    figure.suptitle(
        f"{spectrogram}: heatmap pairs (boxes), 95 % interval of the median over instruments\n"
        "and notes (bars), pairs of different instruments (grey)"
    )
    return figure


@styled
def training_curves(history: Rows) -> Figure:
    """Draw loss and accuracy per epoch, two lines per model; the kept epoch is marked."""
    spectrograms = _names(history, "spectrogram")
    figure, panels = sheet(2, len(spectrograms), width=4.2, height=2.6)
    for column, spectrogram in enumerate(spectrograms):
        upper, lower = panels[:, column]
        upper.set_title(spectrogram)
        for index, instrument in enumerate(_names(history, "instrument")):
            rows = [
                row
                for row in history
                if (row["spectrogram"], row["instrument"]) == (spectrogram, instrument)
            ]
            colour = f"C{index % 10}"
            epochs = [row["epoch"] for row in rows]
            upper.plot(epochs, [row["train_loss"] for row in rows], colour, label=instrument)
            upper.plot(epochs, [row["valid_loss"] for row in rows], colour, linestyle=":")
            lower.plot(epochs, [row["train_accuracy"] for row in rows], colour)
            lower.plot(epochs, [row["valid_accuracy"] for row in rows], colour, linestyle=":")
            for row in rows:
                if row["kept"]:
                    lower.plot(row["epoch"], row["valid_accuracy"], "o", color=colour, ms=4)
        upper.set_ylabel("loss (dotted: validation)")
        lower.set_ylabel("accuracy (dotted: validation)")
        lower.set_xlabel("epoch")
        for panel in (upper, lower):
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        lower.set_ylim(0, 1.02)
    panels[0, -1].legend(fontsize="x-small", ncols=2)
    return figure


@styled
def comparison(scores: Rows, statistics: Rows) -> Figure:
    """Draw accuracy and the median of every metric, instruments down and spectrograms across."""
    spectrograms = _names(scores, "spectrogram")
    instruments = _names(scores, "instrument")
    metrics = _names(statistics, "metric")
    figure, panels = sheet(-(-(1 + len(metrics)) // 3), 3, width=3.6, height=3.4)
    _grid(panels[0, 0], "accuracy", scores, "accuracy", instruments, spectrograms)
    for panel in panels.flat[1 + len(metrics) :]:
        panel.set_axis_off()
    for panel, metric in zip(panels.flat[1:], metrics, strict=False):
        rows = [row for row in statistics if row["metric"] == metric]
        title = f"median {METRIC_LABELS.get(metric, metric)}"
        in_units = metric == "difference_mean"  # of logits and cells, which spectrograms differ in
        title += "\n(a colour scale per column)" if in_units else ""
        _grid(panel, title, rows, "median", instruments, spectrograms, per_column=in_units)
    return figure


def _grid(panel, title, rows, value, instruments, spectrograms, per_column=False):
    cells = np.full((len(instruments), len(spectrograms)), np.nan)
    for row in rows:
        if row[value] is not None:
            place = instruments.index(row["instrument"]), spectrograms.index(row["spectrogram"])
            cells[place] = row[value]
    axis = 0 if per_column else None
    low, high = np.nanmin(cells, axis), np.nanmax(cells, axis)
    shades = (cells - low) / np.where(high > low, high - low, 1)
    panel.imshow(shades, cmap="viridis", aspect="auto", vmin=0, vmax=1)
    for (down, across), cell in np.ndenumerate(cells):
        colour = "k" if shades[down, across] > 0.5 else "w"
        panel.text(across, down, f"{cell:.2g}", ha="center", va="center", color=colour, fontsize=7)
    panel.set_xticks(range(len(spectrograms)), spectrograms, rotation=45, ha="right")
    panel.set_yticks(range(len(instruments)), instruments)
    panel.set_title(title)


def _names(rows: Rows, column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _column(rows, instruments, name):
    """Return one value per instrument; NaN (nothing drawn) where there is none."""
    found = [rows.get(instrument, {}).get(name) for instrument in instruments]
    return np.array([np.nan if value is None else value for value in found], float)
