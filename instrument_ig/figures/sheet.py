"""Sheets to draw on and the way they are kept: PNG to look at, PDF to print, CSV to recompute."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from instrument_ig.storage import files

STYLE = {
    "axes.prop_cycle": matplotlib.style.library["petroff10"]["axes.prop_cycle"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "font.size": 9,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names of files and classes may hold dollar signs
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style of the house, and leave the caller's style and backend as they are."""

    @wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def sheet(rows: int = 1, columns: int = 1, width: float = 4.0, height: float = 3.0, **options: Any):
    """Make a figure of rows x columns panels; width and height of one panel in inches."""
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


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
    """Write path.png, path.pdf and, where the figure shows numbers, path.csv."""
    for kind in kinds:
        target = path.with_name(f"{path.name}.{kind}")
        with matplotlib.rc_context(STYLE):
            files.commit(target, lambda file, kind=kind: figure.savefig(file, format=kind, dpi=dpi))
    rows = list(rows)
    if rows:
        files.write_table(path.with_name(f"{path.name}.csv"), rows)
