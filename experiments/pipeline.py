"""From a data set to a finished run folder: the steps of `study` on each spectrogram, then results.

What a stopped run had finished lies in checkpoints/ and resume/; resume/ goes when all is done.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np
from absl import flags

from experiments import driver, options, sounds, study, trust
from experiments.fitting import fit, fit_all
from experiments.progress import console, progress
from experiments.results import Result, write_results
from instrument_ig import metrics, models
from instrument_ig.audio.decode import BadAudio
from instrument_ig.config import AttributionConfig, MetricConfig, TrainConfig
from instrument_ig.figures import maps as map_figures
from instrument_ig.figures.sheet import save
from instrument_ig.types import Dataset

FLAGS = flags.FLAGS
SOLVERS = {"both": ("flow", "sinkhorn"), "flow": ("flow",), "sinkhorn": ("sinkhorn",)}
CHECKED_NOTES = 2  # of each instrument: a check explains each of them some twenty times
FIGURE_TAPS = ("conv2d_5", "conv2d_3")  # of Figures 1 and 2


def carry_out(folder: Path, dataset: Dataset, names: Sequence[str], instruments: Sequence[str]):
    """Run the study and write everything into the run folder."""
    notes = [note for note in dataset.notes if note.label in instruments]
    with sounds.refusing_bad_input():
        front_ends = {name: sounds.make_spectrogram(name) for name in names}
        found = sounds.extract_images(dataset, notes, front_ends)
    results = []
    for name, front_end in front_ends.items():
        console.rule(name, align="left")
        material = study.standardised(
            name,
            front_end,
            found.notes,
            found.images.pop(name),  # so that raw images go as soon as they are standardised
            sounds.silence(front_end),
        )
        results.append(carry_out_one(folder, material, instruments, found.bad))
    write_results(folder, results)
    shutil.rmtree(folder / "resume", ignore_errors=True)


def carry_out_one(
    folder: Path, material: study.Material, instruments: Sequence[str], bad: Sequence[BadAudio]
) -> Result:
    """Train, score, explain and compare on one spectrogram, and draw its figures."""
    name = material.name
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
            for group in (*within, between)
            for row in study.pair_rows(material, *group, config, between=group is between)
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


def train_all(folder: Path, material: study.Material, instruments: Sequence[str]):
    """Train one model per instrument; returns their variables and the curves."""
    config = options.read(TrainConfig)

    def train(task, report):
        index, instrument = task
        return fit(
            study.network(material),
            jax.random.fold_in(jax.random.key(FLAGS.seed), index),
            partial(study.binary_examples, material, instrument, FLAGS.seed),
            config,
            folder / "checkpoints" / material.name / quote(instrument, safe=" "),
            folder / "resume" / f"{material.name}-{quote(instrument, safe=' ')}-training",
            constants=material.standardiser._asdict(),
            report=report,
        )

    tasks = list(enumerate(instruments))
    found = fit_all(f"{material.name} epochs", tasks, config.epochs, train)
    fitted = {instrument: model for (_, instrument), model in found.items()}
    history = [
        {"spectrogram": material.name, "instrument": instrument} | row
        for instrument, model in fitted.items()
        for row in model.history
    ]
    return {instrument: model.variables for instrument, model in fitted.items()}, history


def explain_all(folder, material, trained, rows) -> dict[str, study.Arrays]:
    """Explain the chosen notes of each instrument by its own model."""
    method = own_method()
    maps = {}
    for instrument, notes in rows.items():

        def compute(instrument=instrument, images=material.images[notes]):
            score = study.make_score(material, trained[instrument], FLAGS.score, FLAGS.attribution)
            starts = study.make_baselines(FLAGS.baseline, material, images)
            with progress(f"{material.name} heatmaps: {instrument}") as report:
                found = method(score, images, starts, execution=driver.execution(report))
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
            notes = notes[study.spread(material, notes, CHECKED_NOTES, FLAGS.seed)]
            images = material.images[notes]
            names = [FLAGS.baseline, *(name for name in study.BASELINES if name != FLAGS.baseline)]
            score = partial(
                study.make_score, material, output=FLAGS.score, method=FLAGS.attribution
            )
            key = jax.random.key(FLAGS.seed)
            random = trust.cascade(study.network(material), trained[instrument], key)
            found.append(
                trust.check(
                    method,
                    score(trained[instrument]),
                    {layer: score(variables) for layer, variables in random},
                    images,
                    {name: study.make_baselines(name, material, images) for name in names},
                    [material.notes[row].name for row in notes],
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
    sets = {instrument: (notes, maps[instrument]["values"]) for instrument, notes in rows.items()}
    few = {
        instrument: study.spread(material, notes, FLAGS.between_notes, FLAGS.seed)
        for instrument, notes in rows.items()
    }
    everyone = (
        np.concatenate([notes[few[instrument]] for instrument, (notes, _) in sets.items()]),
        np.concatenate([values[few[instrument]] for instrument, (_, values) in sets.items()]),
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
        score = models.split(study.network(material), trained[instrument], 0, FLAGS.score, tap=tap)
        view = study.view_layer(score, image, start)
        title = f"{instrument}: {material.notes[note].name}, {name}"
        figure = map_figures.feature_maps(title, image, *view, axes, tap)
        save(figure, folder / f"{name}-{tap}", study.view_rows(view))
    if len(rows[instrument]) > 1:
        pair = [short(row) for row in rows[instrument][:2]]
        p, q = metrics.to_distribution(maps[instrument]["values"][:2], config.policy, config.floor)
        splits = study.split_distances(p, q, axes)
        figure = map_figures.subtraction(pair, np.asarray(p), np.asarray(q), axes, splits)
        save(figure, folder / f"{name}-subtraction", study.split_rows(splits, axes))
