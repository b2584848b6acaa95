"""What stands in the drawings is what was handed over."""

import re

import numpy as np
import pytest

from instrument_ig.figures import classification, sounds
from instrument_ig.figures.colours import distinct_colours, oklab
from instrument_ig.figures.terminal import SHADES, terminal_heatmap
from instrument_ig.stats import reliability
from instrument_ig.types import Axis

TIME = Axis("linear", tuple(0.032 * np.arange(94)), "s")
BINS = Axis("linear", tuple(float(i) for i in range(40)), "coefficient")


def widths(panel):
    return [bar.get_width() for bar in panel.patches]


def test_oklab_of_colours_whose_values_are_published():
    # Ottosson 2020, to the three digits given there; sRGB red by the CSS Color 4 specification.
    np.testing.assert_allclose(oklab(np.ones(3)), [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(oklab(np.array([1.0, 0, 0])), [0.628, 0.225, 0.126], atol=1e-3)
    # Half grey is 21.4 % of the light, of which lightness is the cube root.
    np.testing.assert_allclose(oklab(np.full(3, 0.5)), [0.214 ** (1 / 3), 0, 0], atol=1e-3)


def test_28_colours_are_far_apart_and_few_are_farther():
    places = oklab(distinct_colours(28))
    gaps = np.linalg.norm(places[:, None] - places, axis=-1)[~np.eye(28, dtype=bool)]
    assert gaps.min() > 0.1  # five times a just noticeable difference of about 0.02
    np.testing.assert_array_equal(distinct_colours(5), distinct_colours(28)[:5])


def test_class_distribution_stacks_the_parts():
    rows = [
        {"label": "Banjo", "train": 7, "valid": 2, "test": 1},
        {"label": "Horn", "train": 3, "valid": 0, "test": 0},
    ]
    (panel,) = classification.class_distribution(rows, "group").axes
    assert panel.get_xlabel() == "notes (split: group)"
    assert widths(panel) == [7, 3, 2, 0, 1, 0]
    assert [bar.get_x() for bar in panel.patches] == [0, 0, 7, 3, 9, 3]
    assert [text.get_text() for text in panel.texts] == [" 10", " 3"]


def test_confusion_matrix_writes_counts_and_greys_classes_without_notes():
    counts = np.array([[3.0, 1, 0], [0, 0, 0], [0, 0, 2]])
    panel = classification.confusion_matrix(counts, ["a", "b", "c"], "title").axes[0]
    written = {text.get_position(): text.get_text() for text in panel.texts}
    assert written == {(0, 0): "3", (1, 0): "1", (2, 2): "2"}  # (predicted, true)
    shares = panel.images[0].get_array()
    np.testing.assert_allclose(shares.filled(np.nan)[[0, 2]], [[0.75, 0.25, 0], [0, 0, 1]])
    assert shares.mask[1].all()


def test_tsne_map_gives_every_class_its_own_colour(rng):
    places, labels = rng.normal(size=(60, 2)), np.arange(60) % 28
    classes = [f"class {k}" for k in range(28)]
    (panel,) = classification.tsne_map(places, labels, classes).axes
    assert len({tuple(drawn.get_facecolor()[0]) for drawn in panel.collections}) == 28
    for k, drawn in enumerate(panel.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), places[labels == k])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == classes


def test_calibration_draws_the_share_that_is_right():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    curve = reliability(probabilities, np.array([0, 1, 1]), bins=5)
    upper, lower = classification.calibration({"CNN": (curve, 0.25)}).axes
    assert [bar.get_height() for bar in upper.patches] == [0, 0, 1, 0, 0.5]
    assert [bar.get_height() for bar in lower.patches] == [0, 0, 1, 0, 2]
    assert "Brier score 0.250" in upper.get_title()


def test_model_scores_stand_side_by_side():
    rows = [
        {"model": model, "split": split, "score": score, "value": value, "low": low, "high": 0.9}
        for score, base in (("accuracy", 0.0), ("macro_f1", 0.5))
        for split, low in (("group", 0.0), ("random", None))
        for model, value in (("CNN", base + 0.25), ("forest", base + 0.125))
    ]
    rows[-1]["value"] = None
    accuracy, macro_f1 = classification.model_scores(rows).axes
    assert widths(accuracy) == [0.25, 0.125, 0.25, 0.125]
    assert widths(macro_f1)[:3] == [0.75, 0.625, 0.75]
    assert np.isnan(widths(macro_f1)[3])  # nothing drawn
    group, random = accuracy.collections
    assert [ends.tolist() for ends in group.get_segments()] == [
        [[0.0, -0.2], [0.9, -0.2]],
        [[0.0, 0.8], [0.9, 0.8]],
    ]
    assert not any(len(ends) for ends in random.get_segments())  # no interval, nothing drawn


def test_model_summary_writes_every_layer():
    rows = [
        {"layer": "conv2d_0", "output": "94 x 128 x 32", "parameters": "320"},
        {"layer": "max_pool", "output": "47 x 64 x 32", "parameters": "0"},
    ]
    (panel,) = classification.model_summary(rows, "CNN").axes
    written = [text.get_text() for text in panel.texts]
    assert set(written) == {*rows[0], *rows[0].values(), *rows[1].values()}


def test_waveforms_run_over_seconds(rng):
    figure = sounds.waveforms(["a", "b", "c"], rng.uniform(-1, 1, (3, 32)), 16)
    assert [panel.get_title() for panel in figure.axes] == ["a", "b", "c"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), np.arange(32) / 16)


def test_example_spectrograms_share_one_scale(rng):
    images = rng.normal(size=(7, 94, 40)) * np.arange(1, 8)[:, None, None]
    figure = sounds.spectrograms(list("abcdefg"), images, (TIME, BINS), "dB")
    limits = {panel.images[0].get_clim() for panel in figure.axes if panel.images}
    assert limits == {(images.min(), images.max())}


def test_grad_cam_steps_follow_the_formula(rng):
    features, weights = np.abs(rng.normal(size=(23, 10, 4))), np.array([0.5, -2.0, 1.0, 0.0])
    image, heatmap = rng.normal(size=(2, 94, 40))
    figure = sounds.grad_cam_steps(
        "t", image, features, weights, abs(heatmap), heatmap, (TIME, BINS)
    )
    drawn = {panel.get_title(): panel.images[0] for panel in figure.axes if panel.get_title()}
    np.testing.assert_array_equal(
        drawn["2. feature map 3, weight 1"].get_array(), features[:, :, 2].T
    )  # adds most to the sum: about 1 of 0.5, -2, 1 and 0 times one mean
    summed = 0.5 * features[:, :, 0] - 2 * features[:, :, 1] + features[:, :, 2]
    expected = np.clip(summed, 0, None) / summed.max()
    # Sums of four float64 products in another order.
    np.testing.assert_allclose(
        drawn["3. weighted sum, ReLU, maximum 1"].get_array(), expected.T, atol=1e-12
    )
    assert drawn["4. resized: Grad-CAM"].get_array().max() == 1


def test_a_grad_cam_of_zeros_is_drawn(rng):
    image, zeros = rng.normal(size=(94, 40)), np.zeros((94, 40))
    features, weights = np.ones((23, 10, 2)), -np.ones(2)
    figure = sounds.grad_cam_steps("t", image, features, weights, zeros, zeros, (TIME, BINS))
    assert figure.axes[2].images[0].get_array().max() == 0


def test_a_prediction_shows_its_course_with_gaps_or_one_bar_per_class(rng):
    image, heatmap = rng.normal(size=(2, 94, 40))
    maps = {"Grad-CAM": heatmap, "integrated gradients": heatmap}
    axes, times = (TIME, BINS), np.array([1.5, 3.0, 4.5])
    course = {"Horn": np.array([0.5, np.nan, 0.75])}
    figure = sounds.prediction("t", image, maps, axes, times, course)
    (line,) = figure.axes[3].lines
    np.testing.assert_array_equal(line.get_ydata(), course["Horn"])
    one = {"Horn": np.array([0.75]), "Flute": np.array([0.25])}
    figure = sounds.prediction("t", image, maps, axes, times[:1], one)
    assert widths(figure.axes[3]) == [0.75, 0.25]


def plain(lines):
    """The lines of a terminal heatmap without colour codes, and what stands right of the labels."""
    texts = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]
    margin = len(texts[0]) - 47
    return [text[margin:] for text in texts[:-1]], texts


def test_terminal_heatmap_is_dark_where_the_heat_is():
    image, heatmap = np.zeros((94, 40)), np.zeros((94, 40))
    heatmap[20:22, 39] = -3.0
    cells, texts = plain(terminal_heatmap(image, heatmap, (TIME, BINS), columns=47, rows=20))
    assert len(cells) == 20
    assert cells[0] == " " * 10 + SHADES[-1] + " " * 36  # the highest bin is the first line
    assert set("".join(cells[1:])) == {" "}
    assert texts[-1].endswith("(s)")
    assert texts[11].startswith("16 ")  # bins 16 and 17 are the ninth line from below


def test_terminal_heatmap_greys_follow_the_spectrogram():
    image = np.repeat(np.linspace(-1, 1, 40)[None], 94, axis=0)
    lines = terminal_heatmap(image, np.zeros((94, 40)), (TIME, BINS), columns=4, rows=2)
    assert lines[0].count("48;2;150;150;150") == lines[1].count("48;2;20;20;20") == 4


@pytest.mark.parametrize("bins", [1, 6])
def test_terminal_heatmap_of_few_bins_and_no_heat(bins):
    zeros = np.zeros((94, bins))
    cells, _ = plain(terminal_heatmap(zeros, zeros, (TIME, Axis()), columns=47, rows=20))
    assert cells == [" " * 47] * bins
