"""Sheets to draw on and the way they are kept: PNG to look at, PDF to print, CSV to recompute."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from instrument_ig.storage import files

STYLE = {
    "axes.prop_cycle": matplotlib.style.library["petroff10"]["axes.prop_cycle"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "axes.titlesize": "medium",
    "font.size": 9,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names of files and classes may hold dollar signs
}
plt.rcParams.update(STYLE)


def sheet(rows: int = 1, columns: int = 1, width: float = 4.0, height: float = 3.0, **options: Any):
    """Make a figure of rows x columns panels; width and height of one panel in inches."""
    size = (columns * width, rows * height)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def grid(count: int, columns: int, **options: Any):
    """Make a figure of `count` panels in rows of at most `columns`; see `sheet`."""
    columns = min(columns, count)
    figure, panels = sheet(-(-count // columns), columns, **options)
    for panel in panels.flat[count:]:
        panel.set_axis_off()
    return figure, panels


def save(
    figure: Figure,
    path: Path,
    rows: Iterable[Mapping[str, Any]] = (),
    kinds: Sequence[str] = ("png", "pdf"),
    dpi: int = 150,
) -> None:
    """Write path.png, path.pdf and, where the figure shows numbers, path.csv; close the figure."""
    for kind in kinds:
        target = path.with_name(f"{path.name}.{kind}")
        files.commit(target, lambda file, kind=kind: figure.savefig(file, format=kind, dpi=dpi))
    plt.close(figure)
    rows = list(rows)
    if rows:
        files.write_table(path.with_name(f"{path.name}.csv"), rows)
