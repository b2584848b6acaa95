import subprocess
import sys

import numpy as np
import pytest

from instrument_ig.figures import images, maps, sheet
from instrument_ig.storage import files
from instrument_ig.types import Axis

TIME = Axis("linear", tuple(0.032 * np.arange(126)), "s")
MEL = Axis("linear", tuple(700 * (10 ** (np.linspace(0, 2840, 128) / 2595) - 1)), "Hz")
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
CHROMA = Axis("circular", PITCHES, "pitch class")


@pytest.fixture
def panel():
    _, ((panel,),) = sheet.sheet()
    return panel


def labels(ruler):
    return dict(
        zip((t.get_text() for t in ruler.get_ticklabels()), ruler.get_ticklocs(), strict=True)
    )


def test_time_runs_right_and_frequency_upwards(panel):
    image = np.zeros((126, 128))
    image[3, 100] = 1.0
    drawn = images.draw_image(panel, image, (TIME, MEL))
    assert drawn.get_array()[100, 3] == 1.0
    assert drawn.origin == "lower"


def test_ticks_stand_where_the_axis_says(panel):
    images.draw_image(panel, np.zeros((126, 128)), (TIME, MEL))
    for text, place in labels(panel.xaxis).items():
        assert place * 0.032 == pytest.approx(float(text))
    for text, place in labels(panel.yaxis).items():
        assert np.interp(place, np.arange(128), MEL.positions) == pytest.approx(float(text))
    assert len(labels(panel.yaxis)) >= 5


def test_named_bins_are_all_written(panel):
    images.draw_image(panel, np.zeros((126, 12)), (TIME, CHROMA))
    assert labels(panel.yaxis) == {name: place for place, name in enumerate(CHROMA.positions)}


def test_a_feature_map_is_stretched_over_the_axes_of_its_image(panel):
    drawn = images.draw_image(panel, np.zeros((31, 32)), (TIME, MEL))
    assert drawn.get_extent() == [-0.5, 125.5, -0.5, 127.5]


def test_compared_maps_share_one_symmetric_scale(panel):
    drawn = images.draw_image(panel, np.eye(126, 128), (TIME, MEL), limit=2.0)
    assert drawn.get_clim() == (-2.0, 2.0)
    assert images.colour_limit(np.full((4, 4), -3.0), np.ones((4, 4))) == 3.0
    assert images.colour_limit(np.zeros((4, 4))) == 0.0
    assert images.colour_limit(np.array([[np.nan, 1.0]])) == 1.0


@pytest.mark.parametrize("bins", [128, 12, 6, 1])
def test_subtraction_draws_every_shape_and_keeps_its_files(bins, tmp_path, rng):
    first, second = rng.random((2, 126, bins))
    axes = (TIME, Axis())
    figure = maps.subtraction(("x", "y"), first, second, axes, {"JS": abs(first - second)})
    title = [panel.get_title() for panel in figure.axes if panel.get_title().startswith("JS")]
    assert title == [f"JS = {abs(first - second).sum():.3g}"]
    sheet.save(figure, tmp_path / "3.5-subtraction", [{"a": 1}])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"3.5-subtraction.{kind}" for kind in ("csv", "pdf", "png")
    ]
    assert files.read_table(tmp_path / "3.5-subtraction.csv") == [{"a": "1"}]


def test_the_excerpt_lies_around_the_largest_difference():
    values = np.zeros((126, 12))
    values[125, 4] = 1.0
    assert maps._around_peak(values, 5) == (slice(121, 126), slice(2, 7))
    assert maps._around_peak(np.ones((3, 1)), 5) == (slice(0, 3), slice(0, 1))


def test_drawing_leaves_the_callers_style_and_backend():
    program = (
        "import matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "import numpy as np\n"
        "from instrument_ig.figures import checks, classification, maps, sounds, study\n"
        "figure = classification.confusion_matrix(np.eye(3, dtype=int), ['a', 'b', '$c'], 'test')\n"
        "figure.savefig('/dev/null', format='png')\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "import sys; assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
