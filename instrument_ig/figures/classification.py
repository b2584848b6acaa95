"""The figures of Senatori and Nardone (2025) that show numbers: classes, confusions, scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from instrument_ig.figures.colours import distinct_colours
from instrument_ig.figures.sheet import sheet, styled
from instrument_ig.stats import Reliability

Rows = Sequence[Mapping[str, Any]]

MARKERS = "os^Dv"  # a second way to tell classes of similar colours apart
NO_SUPPORT_COLOUR = "0.88"


@styled
def class_distribution(rows: Rows, split: str) -> Figure:
    """Draw Figure 1: notes per class, stacked by part.

    Args:
      rows: label, and the notes of it in train, valid and test.
      split: How the parts were made.
    """
    figure, ((panel,),) = sheet(width=6.0, height=1.0 + 0.2 * len(rows))
    labels = [row["label"] for row in rows]
    left = np.zeros(len(rows))
    for part in ("train", "valid", "test"):
        counts = np.array([row[part] for row in rows])
        panel.barh(labels, counts, left=left, label=part)
        left += counts
    for place, total in enumerate(left):
        panel.text(total, place, f" {total:.0f}", va="center", fontsize=7)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlabel(f"notes (split: {split})")
    panel.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


@styled
def confusion_matrix(
    counts: Float[np.ndarray, "K K"], classes: Sequence[str], title: str
) -> Figure:
    """Draw Figures 7 and 8: true classes down, predicted across; colour is the share of the row.

    A class without test notes has a grey row.
    """
    size = 1.6 + 0.27 * len(classes)
    figure, ((panel,),) = sheet(width=size + 0.8, height=size)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.full(counts.shape, np.nan), where=support > 0)
    panel.set_facecolor(NO_SUPPORT_COLOUR)
    drawn = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            colour = "w" if shares[true, predicted] > 0.6 else "k"
            text = {"ha": "center", "va": "center", "fontsize": 6.5, "color": colour}
            panel.text(predicted, true, f"{count:.0f}", **text)
    panel.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(classes)), classes)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true (grey: no test notes)" if (support == 0).any() else "true")
    panel.set_title(title)
    figure.colorbar(drawn, ax=panel, label="share of the true class", shrink=0.6)
    return figure


@styled
def tsne_map(
    places: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"], classes: Sequence[str]
) -> Figure:
    """Draw Figure 10: every note at its place, one colour and marker per class."""
    figure, ((panel,),) = sheet(width=8.6, height=6.2)
    for index, colour in enumerate(distinct_colours(len(classes))):
        own = places[labels == index]
        marker = MARKERS[index % len(MARKERS)]
        panel.scatter(*own.T, s=14, color=colour, marker=marker, linewidths=0, label=classes[index])
    panel.set_axis_off()  # places and distances have no unit
    panel.set_title(f"t-SNE of {len(places)} mean MFCC vectors")
    legend = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    panel.legend(fontsize=8, markerscale=1.6, ncols=1 + len(classes) // 30, **legend)
    return figure


@styled
def calibration(curves: Mapping[str, tuple[Reliability, float]]) -> Figure:
    """Draw how often predictions are right against the probability that they claim.

    Args:
      curves: Model -> reliability of its predicted classes, and Brier score.
    """
    heights = {"height_ratios": (3, 1)}
    figure, panels = sheet(2, len(curves), width=3.6, height=2.4, sharex=True, gridspec_kw=heights)
    for (upper, lower), (name, (curve, brier)) in zip(panels.T, curves.items(), strict=True):
        bins = len(curve.count)
        middles = (np.arange(bins) + 0.5) / bins
        upper.plot((0, 1), (0, 1), color="0.6", linewidth=0.8, linestyle="--")
        upper.bar(middles, np.nan_to_num(curve.accuracy), 0.9 / bins, alpha=0.5)
        upper.plot(curve.confidence, curve.accuracy, "o", color="C1", markersize=4, clip_on=False)
        upper.set_title(f"{name}\ncalibration error {curve.error:.3f}, Brier score {brier:.3f}")
        upper.set_ylabel("share that is right")
        upper.set_ylim(0, 1)
        lower.bar(middles, curve.count, 0.9 / bins, color="0.5")
        lower.set_ylabel("test notes")
        lower.set_xlabel("probability of the predicted class")
        lower.set_xlim(0, 1)
    return figure


@styled
def model_scores(rows: Rows) -> Figure:
    """Draw accuracy and macro F1 of all models, the two splits side by side, with intervals.

    Args:
      rows: model, split, score (accuracy or macro_f1), value, low, high; None where there is none.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    splits = list(dict.fromkeys(row["split"] for row in rows))
    figure, panels = sheet(1, 2, width=4.4, height=0.9 + 0.42 * len(models), sharey=True)
    for panel, score in zip(panels[0], ("accuracy", "macro_f1"), strict=True):
        for offset, split in enumerate(splits):
            own = [row for row in rows if (row["score"], row["split"]) == (score, split)]
            shift = (offset + 0.5) * 0.8 / len(splits) - 0.4
            places = [models.index(row["model"]) + shift for row in own]
            values, low, high = (
                np.array([row[name] for row in own], float) for name in ("value", "low", "high")
            )
            panel.barh(places, values, 0.76 / len(splits), label=f"split: {split}")
            panel.hlines(places, low, high, color="0.2", linewidth=1)
        panel.set_yticks(range(len(models)), models)
        panel.set_xlim(0, 1)
        panel.set_xlabel(score.replace("_f1", " F1"))
    panels[0, 0].invert_yaxis()
    figure.legend(*panels[0, 0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return figure


@styled
def model_summary(rows: Rows, title: str) -> Figure:
    """Draw Figure 4: the network's layers from the image down, with shapes and parameters.

    Args:
      rows: layer, output (its shape) and parameters (their number), as they are to be written.
      title: Whose layers.
    """
    figure, ((panel,),) = sheet(width=5.0, height=0.4 + 0.24 * (len(rows) + 1))
    panel.set_axis_off()
    panel.set_xlim(0, 1)
    panel.set_ylim(len(rows) + 1, 0)
    panel.set_title(title)
    for name, place in (("layer", 0.03), ("output", 0.62), ("parameters", 0.97)):
        align = "left" if name == "layer" else "right"
        panel.text(place, 0.5, name, ha=align, va="center", fontweight="bold")
        for line, row in enumerate(rows, 1):
            panel.text(place, line + 0.5, row[name], ha=align, va="center")
    for line in range(1, len(rows) + 1):
        shade = "0.94" if line % 2 else "w"
        panel.axhspan(line, line + 1, color=shade, linewidth=0)
    return figure
