"""From a data set to a finished run folder: the steps of `study` on each spectrogram, then tables.

What a stopped run had finished lies in checkpoints/ and resume/; resume/ goes when all is done.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from rich.table import Table

from experiments import options, sounds, study, trust
from experiments.fitting import fit
from experiments.progress import console, progress
from instrument_ig import metrics, models, stats
from instrument_ig.config import AttributionConfig, MetricConfig, TrainConfig
from instrument_ig.figures import maps as map_figures
from instrument_ig.figures import study as study_figures
from instrument_ig.figures.sheet import save
from instrument_ig.storage import files
from instrument_ig.types import Dataset

FLAGS = flags.FLAGS
SOLVERS = {"both": ("flow", "sinkhorn"), "flow": ("flow",), "sinkhorn": ("sinkhorn",)}
RESAMPLES = 1000
CHECKED_NOTES = 2  # of each instrument: a check explains each of them some twenty times
FIGURE_TAPS = ("conv2d_5", "conv2d_3")  # of Figures 1 and 2


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


def carry_out(folder: Path, dataset: Dataset, names: Sequence[str], instruments: Sequence[str]):
    """Run the study and write everything into the run folder."""
    with jax.default_matmul_precision("highest"):  # completeness is measured: no TF32
        results = [carry_out_one(folder, dataset, name, instruments) for name in names]
    write_tables(folder, results)
    shutil.rmtree(folder / "resume", ignore_errors=True)


def carry_out_one(folder: Path, dataset: Dataset, name: str, instruments: Sequence[str]) -> Result:
    """Train, score, explain and compare on one spectrogram, and draw its figures."""
    console.rule(name, align="left")
    material, bad = load_material(dataset, name, instruments)
    trained, history = train_all(folder, material, instruments)
    with progress(f"{name} scores") as report:
        tested = material.images[material.rows("test")]
        logits = study.score_all(study.network(material), trained, tested, report)
    rows = study.choose_explained(material, instruments, FLAGS.pair_notes, FLAGS.seed)
    maps = explain_all(folder, material, trained, rows)
    config = options.read(MetricConfig)
    within, between = compare_all(folder, material, maps, rows, config)
    checked = check_all(folder, material, trained, rows) if FLAGS.checks else []
    draw(folder / "figures", material, trained, maps, rows, config)
    common = {"spectrogram": name}
    return Result(
        history=history,
        predictions=study.binary_predictions(material, logits, FLAGS.seed),
        ten_way=study.ten_way_predictions(material, logits),
        explained=[
            common | row
            for instrument, found in maps.items()
            for row in study.map_rows(material, rows[instrument], found)
        ],
        pairs=[
            common | row
            for notes, found in (*within, between)
            for row in study.pair_rows(material, notes, found, config)
        ],
        within=[table for group in within for table in study.distances(material, *group)],
        between=study.distances(material, *between),
        checks=[common | row for row in checked],
        arrays={
            f"{name}/{instrument}/{field}": values
            for instrument, found in maps.items()
            for field, values in found.items()
        },
        skipped=[common | {"path": str(error.path), "reason": error.reason} for error in bad],
    )


def load_material(dataset: Dataset, name: str, instruments: Sequence[str]):
    """Extract and standardise the images of a spectrogram; broken sounds come beside them."""
    front_end = sounds.make_spectrogram(name)
    notes = [note for note in dataset.notes if note.label in instruments]
    with sounds.refusing_bad_input():
        found = sounds.extract_images(dataset, notes, {name: front_end})
    silence = sounds.silence(front_end)
    return study.standardised(name, front_end, found.notes, found.images[name], silence), found.bad


def train_all(folder: Path, material: study.Material, instruments: Sequence[str]):
    """Train one model per instrument; returns their variables and the curves."""
    config = options.read(TrainConfig)
    trained, history = {}, []
    with progress(f"{material.name} epochs") as report:
        for index, instrument in enumerate(instruments):
            fitted = fit(
                study.network(material),
                jax.random.fold_in(jax.random.key(FLAGS.seed), index),
                partial(study.binary_examples, material, instrument, FLAGS.seed),
                config,
                folder / "checkpoints" / material.name / instrument,
                folder / "resume" / f"{material.name}-{instrument}-training",
                constants=material.standardiser._asdict(),
                report=lambda done, total, before=index: report(
                    before * total + done, len(instruments) * total
                ),
            )
            trained[instrument] = fitted.variables
            head = {"spectrogram": material.name, "instrument": instrument}
            history += [head | row for row in fitted.history]
    return trained, history


def explain_all(folder, material, trained, rows) -> dict[str, study.Arrays]:
    """Explain the chosen notes of each instrument by its own model."""
    method = own_method()
    maps = {}
    for instrument, notes in rows.items():

        def compute(instrument=instrument, images=material.images[notes]):
            score = study.make_score(material, trained[instrument], FLAGS.score, FLAGS.attribution)
            starts = study.make_baselines(FLAGS.baseline, material, images)
            with progress(f"{material.name} heatmaps: {instrument}") as report:
                found = method(score, images, starts, report=report)
            return {name: np.asarray(values) for name, values in found._asdict().items()}

        path = folder / "resume" / f"{material.name}-{instrument}-maps.npz"
        maps[instrument] = study.remembered(path, compute)
    return maps


def own_method():
    """Return the attribution method of the run."""
    key = jax.random.key(FLAGS.seed)
    return study.make_method(FLAGS.attribution, options.read(AttributionConfig), key)


def check_all(folder: Path, material, trained, rows) -> list[dict[str, Any]]:
    """Check the first maps of each instrument, and draw what the checks say."""
    method = own_method()
    found = []
    with progress(f"{material.name} checks") as report:
        for done, (instrument, notes) in enumerate(rows.items(), 1):
            images = material.images[notes[:CHECKED_NOTES]]
            names = [FLAGS.baseline, *(name for name in study.BASELINES if name != FLAGS.baseline)]
            score = partial(
                study.make_score, material, output=FLAGS.score, method=FLAGS.attribution
            )
            key = jax.random.key(FLAGS.seed)
            random = trust.cascade(study.network(material), trained[instrument], key)
            found.append(
                trust.check(
                    lambda *arguments: method(*arguments).values,
                    score(trained[instrument]),
                    {layer: score(variables) for layer, variables in random},
                    images,
                    {name: study.make_baselines(name, material, images) for name in names},
                    [material.notes[row].name for row in notes[:CHECKED_NOTES]],
                    key,
                )
            )
            report(done, len(rows))
    save(trust.draw(found), folder / "figures" / f"{material.name}-checks")
    return [
        {"instrument": name} | row
        for name, one in zip(rows, found, strict=True)
        for row in one.rows
    ]


def compare_all(folder, material, maps, rows, config):
    """Compare the heatmaps within each instrument, and some of each with all other instruments.

    Returns:
      (rows of the material, matrices) of each instrument, and of the notes that stand for all.
    """
    few = FLAGS.between_notes
    sets = {instrument: (notes, maps[instrument]["values"]) for instrument, notes in rows.items()}
    everyone = (
        np.concatenate([notes[:few] for notes, _ in sets.values()]),
        np.concatenate([values[:few] for _, values in sets.values()]),
    )
    compared = []
    for label, (notes, values) in (sets | {"between instruments": everyone}).items():
        path = folder / "resume" / f"{material.name}-{label}-pairs.npz"
        with progress(f"{material.name} pairs: {label}") as report:
            found = study.remembered(
                path,
                lambda values=values, report=report: study.compare(
                    values, material.front_end.axes, config, SOLVERS[FLAGS.emd_solver], report
                ),
            )
        compared.append((notes, found))
    return compared[:-1], compared[-1]


def draw(folder: Path, material, trained, maps, rows, config: MetricConfig) -> None:
    """Draw the figures that show maps: one heatmap per instrument, Figures 1 to 3."""
    name, axes = material.name, material.front_end.axes
    first = {instrument: notes[0] for instrument, notes in rows.items()}
    spectrograms = [material.images[row] for row in first.values()]
    heatmaps = [maps[instrument]["values"][0] for instrument in first]
    short = lambda row: map_figures.shortened(material.notes[row].name)
    titles = [f"{instrument}\n{short(row)}" for instrument, row in first.items()]
    save(
        map_figures.heatmap_grid(titles, spectrograms, heatmaps, axes), folder / f"{name}-heatmaps"
    )
    note = study.find_note(material, FLAGS.figure_note, first)
    instrument, image = material.notes[note].label, material.images[note]
    start = study.make_baselines(FLAGS.baseline, material, image[None])
    for tap in FIGURE_TAPS:
        score = models.split(study.network(material), trained[instrument], 0, FLAGS.score, tap)
        view = study.view_layer(score, image, start)
        title = f"{instrument}: {material.notes[note].name}, {name}"
        save(map_figures.feature_maps(title, image, *view, axes, tap), folder / f"{name}-{tap}")
    if len(rows[instrument]) > 1:
        pair = [short(row) for row in rows[instrument][:2]]
        p, q = metrics.to_distribution(maps[instrument]["values"][:2], config.policy, config.floor)
        splits = study.split_distances(p, q, axes)
        figure = map_figures.subtraction(pair, np.asarray(p), np.asarray(q), axes, splits)
        save(figure, folder / f"{name}-subtraction", study.split_rows(splits, axes))


def write_tables(folder: Path, results: Sequence[Result]) -> None:
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
    table = Table(title="scores on unheard instruments; medians over pairs of heatmaps")
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
