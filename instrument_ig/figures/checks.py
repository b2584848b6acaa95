"""Whether maps can be trusted, drawn: insertion and deletion, and maps of randomised networks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from instrument_ig.figures.sheet import sheet, styled


@styled
def check_curves(
    fraction: np.ndarray,
    insertion: Mapping[str, np.ndarray],
    deletion: Mapping[str, np.ndarray],
    cascade: Mapping[str, np.ndarray],
) -> Figure:
    """Draw mean curves over maps, and how a map fades as its network is made random.

    Args:
      fraction: Of the cells exchanged, [S].
      insertion: Ordering -> scores of each map, [B, S].
      deletion: Likewise.
      cascade: Last randomised layer -> rank correlations with the trained network's map, [B].
    """
    figure, panels = sheet(1, 3, width=4.2, height=3.0)
    for panel, title, curves in zip(
        panels[0], ("insertion", "deletion"), (insertion, deletion), strict=False
    ):
        for index, (ordering, scores) in enumerate(curves.items()):
            low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75), axis=0)
            panel.plot(fraction, middle, f"C{index}", label=ordering)
            panel.fill_between(fraction, low, high, color=f"C{index}", alpha=0.15, linewidth=0)
        panel.set_title(f"{title}: median and quartiles over maps")
        panel.set_xlabel("cells exchanged, most important first")
        panel.set_ylabel("score")
        panel.legend(frameon=False)
    last = panels[0, 2]
    drawn = last.boxplot(list(cascade.values()), widths=0.6, patch_artist=True, showfliers=False)
    for box in drawn["boxes"]:
        box.set(facecolor="C0", alpha=0.6)
    last.axhline(0, color="0.5", linewidth=0.8, linestyle="--")
    last.set_xticks(range(1, len(cascade) + 1), list(cascade), rotation=45, ha="right")
    last.set_title("rank correlation after randomising down to")
    last.set_ylim(-0.5, 1.02)
    return figure
