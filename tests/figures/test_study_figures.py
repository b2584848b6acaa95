"""What stands in the figures of the study is what was handed over."""

import numpy as np
from matplotlib.colors import to_rgba

from instrument_ig.figures import checks, study


def score_row(spectrogram, instrument, precision, accuracy=0.5, half=0.1):
    ends = (None, None) if precision is None else (precision - half, precision + half)
    return {
        "spectrogram": spectrogram,
        "instrument": instrument,
        "precision": precision,
        "precision_low": ends[0],
        "precision_high": ends[1],
        "accuracy": accuracy,
    }


def test_bars_are_as_high_as_the_precision_and_none_stands_without_support():
    scores = [
        score_row("mfcc", "bass", 0.7),
        score_row("mfcc", "flute", None),
        score_row("stft", "bass", 0.4),
        score_row("stft", "flute", 0.9),
    ]
    (panel,) = study.precision_bars(scores).axes
    heights = [[bar.get_height() for bar in bars] for bars in panel.containers]
    np.testing.assert_array_equal(heights, [[0.7, np.nan], [0.4, 0.9]])
    assert [bars.get_label() for bars in panel.containers] == ["mfcc", "stft"]
    for bars, lines in zip(panel.containers, panel.collections, strict=True):
        drawn = [path for path in lines.get_segments() if len(path)]
        there = [bar for bar in bars if np.isfinite(bar.get_height())]
        for bar, path in zip(there, drawn, strict=True):
            middle, height = bar.get_x() + bar.get_width() / 2, bar.get_height()
            np.testing.assert_allclose(path, [[middle, height - 0.1], [middle, height + 0.1]])


def test_boxes_hold_the_pairs_and_bars_the_interval_of_their_median(rng):
    within = {
        metric: {name: rng.random(20) for name in ("bass", "flute")} for metric in ("js", "kl")
    }
    within["kl"]["flute"][3] = np.nan  # a pair of a broken map
    between = {"js": rng.random(30)}
    statistics = [
        {"spectrogram": "mfcc", "metric": "js", "instrument": "flute", "low": 0.2, "high": 0.6},
        {"spectrogram": "mfcc", "metric": "js", "instrument": "bass", "low": None, "high": None},
        {"spectrogram": "stft", "metric": "js", "instrument": "bass", "low": 0.1, "high": 0.9},
    ]
    js, kl = study.box_plots("mfcc", within, between, statistics).axes[:2]
    names = [[label.get_text() for label in panel.get_xticklabels()] for panel in (js, kl)]
    assert names == [["bass", "flute", "between"], ["bass", "flute"]]
    for panel, pairs in ((js, within["js"] | {"between": between["js"]}), (kl, within["kl"])):
        middles = [line.get_ydata() for line in panel.lines if line.get_color() == "k"]
        expected = [np.nanmedian(values) for values in pairs.values()]
        np.testing.assert_allclose([middle[0] for middle in middles], expected)
    ((bar,),) = [lines.get_segments() for lines in js.collections]
    np.testing.assert_allclose(bar, [[2.42, 0.2], [2.42, 0.6]])
    assert not kl.collections
    assert js.patches[2].get_facecolor() == to_rgba("0.85", 0.6)


def test_curves_are_the_history_and_the_kept_epoch_is_marked():
    history = [
        {
            "spectrogram": "mfcc",
            "instrument": instrument,
            "epoch": epoch,
            "train_loss": 1 / epoch + shift,
            "valid_loss": 2 / epoch + shift,
            "train_accuracy": 0.1 * epoch,
            "valid_accuracy": 0.05 * epoch,
            "kept": epoch == 2,
        }
        for shift, instrument in enumerate(("bass", "flute"))
        for epoch in (1, 2, 3)
    ]
    upper, lower = study.training_curves(history).axes
    losses = [line.get_ydata() for line in upper.lines]
    np.testing.assert_allclose(losses[0], [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(losses[3], [3, 2, 2 / 3 + 1])
    marks = [line.get_xydata().tolist() for line in lower.lines if line.get_marker() == "o"]
    assert marks == [[[2, 0.1]]] * 2


def test_the_comparison_shows_every_number_and_says_where_none_is():
    scores = [
        score_row("mfcc", "bass", 0.7, accuracy=0.61),
        score_row("stft", "bass", 0.7, accuracy=0.72),
        score_row("mfcc", "flute", 0.7, accuracy=None),
        score_row("stft", "flute", 0.7, accuracy=0.83),
    ]
    statistics = [
        {"spectrogram": spectrogram, "instrument": name, "metric": metric, "median": value}
        for metric, size in (("difference_mean", 10), ("emd", 0.1))
        for (spectrogram, name), value in zip(
            (("mfcc", "bass"), ("stft", "bass"), ("mfcc", "flute"), ("stft", "flute")),
            size * np.array([0.11, 50, 0.33, 40]),
            strict=True,
        )
    ]
    accuracy, difference, emd = study.comparison(scores, statistics).axes[:3]
    shown = lambda panel: [text.get_text() for text in panel.texts]
    assert shown(accuracy) == ["0.61", "0.72", "nan", "0.83"]
    assert shown(difference) == ["1.1", "5e+02", "3.3", "4e+02"]
    shades = lambda panel: np.asarray(panel.images[0].get_array(), float)
    # units of each spectrogram: a scale per column; elsewhere one for all
    np.testing.assert_allclose(shades(difference), [[0, 1], [1, 0]])
    assert shades(emd)[1, 0] < 0.01


def test_check_curves_are_medians_over_maps(rng):
    fraction = np.linspace(0, 1, 5)
    insertion = {name: rng.random((7, 5)) for name in ("map", "random")}
    deletion = {name: rng.random((7, 5)) for name in ("map", "random")}
    cascade = {"dense_1": rng.random(7), "dense_0": rng.random(7)}
    figure = checks.check_curves(fraction, insertion, deletion, cascade)
    for panel, curves in zip(figure.axes[:2], (insertion, deletion), strict=True):
        for line, (name, values) in zip(panel.lines, curves.items(), strict=True):
            assert line.get_label() == name
            np.testing.assert_allclose(line.get_ydata(), np.median(values, 0))
    last = figure.axes[2]
    assert [label.get_text() for label in last.get_xticklabels()] == list(cascade)
    medians = [line.get_ydata()[0] for line in last.lines if len({*line.get_ydata()}) == 1]
    assert {round(float(np.median(values)), 6) for values in cascade.values()} <= {
        round(float(value), 6) for value in medians
    }
