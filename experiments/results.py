"""What a run found, as tables and as the figures that show them; the table in the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from rich.table import Table

from experiments import study
from experiments.progress import console
from instrument_ig import stats
from instrument_ig.figures import study as study_figures
from instrument_ig.figures.sheet import save
from instrument_ig.storage import files

FLAGS = flags.FLAGS
RESAMPLES = 1000


class Result(NamedTuple):
    """What one spectrogram gave, for the tables of the run."""

    history: list[dict[str, Any]]
    predictions: list[stats.Predictions]
    ten_way: stats.Predictions
    explained: list[dict[str, Any]]  # one row per heatmap
    pairs: list[dict[str, Any]]  # one row per ordered pair and metric
    within: list[stats.Distances]
    between: list[stats.Distances]
    checks: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]
    skipped: list[dict[str, Any]]


def write_results(folder: Path, results: Sequence[Result]) -> None:
    """Write the tables of the run and the figures that show them."""
    rng = np.random.default_rng(FLAGS.seed)
    gather = lambda field: [row for result in results for row in getattr(result, field)]
    predictions, within, between = gather("predictions"), gather("within"), gather("between")
    scores = study.wide_scores(stats.binary_scores(predictions, rng, resamples=RESAMPLES))
    for result in results:
        instruments = [table.instrument for table in result.predictions]
        scores.append(study.ten_way_row(result.ten_way, instruments, rng, RESAMPLES))
    summaries = stats.summarise(within, rng, resamples=RESAMPLES)
    tests = stats.permutation_tests(between, rng)
    verdicts = stats.check_claims(within, predictions, rng, resamples=RESAMPLES)
    tables = {
        "scores": scores,
        "training": gather("history"),
        "attributions": gather("explained"),
        "pairwise": gather("pairs"),
        "statistics": [row._asdict() for row in summaries],
        "separation": [row._asdict() for row in tests],
        "claims": [row._asdict() for row in verdicts],
        "checks": gather("checks"),
        "skipped": gather("skipped"),
    }
    for name, rows in tables.items():
        if rows:
            files.write_table(folder / f"{name}.csv", rows)
    arrays = {key: values for result in results for key, values in result.arrays.items()}
    files.write_arrays(folder / "attributions.npz", arrays)
    draw_tables(folder / "figures", results, tables)


def draw_tables(folder: Path, results: Sequence[Result], tables: Mapping[str, list]) -> None:
    """Draw Figure 4, Figures 5 to 10, training curves and the comparison across spectrograms."""
    instruments = {table.instrument for result in results for table in result.predictions}
    binary = [row for row in tables["scores"] if row["instrument"] in instruments]
    save(study_figures.precision_bars(binary), folder / "precision", binary)
    curves = tables["training"]
    save(study_figures.training_curves(curves), folder / "training", curves)
    for result in results:
        name = result.within[0].spectrogram
        within: dict[str, dict[str, np.ndarray]] = {}
        for table in result.within:
            pairs = table.values[~np.eye(len(table.values), dtype=bool)]
            within.setdefault(table.metric, {})[str(table.labels[0])] = pairs
        between = {
            table.metric: table.values[table.labels[:, None] != table.labels]
            for table in result.between
        }
        rows = [row for row in tables["statistics"] if row["spectrogram"] == name]
        save(study_figures.box_plots(name, within, between, rows), folder / f"{name}-pairs", rows)
    if len(results) > 1:
        figure = study_figures.comparison(binary, tables["statistics"])
        save(figure, folder / "comparison", tables["statistics"])


def print_table(folder: Path) -> None:
    """Print scores and medians of a finished run."""
    scores = files.read_table(folder / "scores.csv")
    medians = {
        (row["spectrogram"], row["instrument"], row["metric"]): row["median"]
        for row in files.read_table(folder / "statistics.csv")
    }
    measured = list(dict.fromkeys(metric for _, _, metric in medians))
    table = Table(
        title="scores on unheard instruments; medians over pairs of heatmaps",
        caption="as many negatives as positives, drawn equally from the other classes: "
        "precision depends on it",
    )
    names = ("spectrogram", "instrument", "accuracy", "precision", "recall", "f1", "support")
    for name in (*names, *measured):
        table.add_column(name, justify="left" if name in names[:2] else "right")
    for row in scores:
        own = [medians.get((row["spectrogram"], row["instrument"], m), "") for m in measured]
        table.add_row(*(_short(row.get(name, "")) for name in names), *map(_short, own))
    console.print(table)
    maps = files.read_table(folder / "attributions.csv")
    done = sum(row["converged"] == "True" for row in maps)
    console.print(f"{done} of {len(maps)} heatmaps within the promised residual (attributions.csv)")


def _short(value: str) -> str:
    """Round a number to three digits; leave words as they are."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value
