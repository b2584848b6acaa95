import dataclasses

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import options
from instrument_ig import config


@dataclasses.dataclass(frozen=True)
class Oven:
    """For the test."""

    oven_heat: float = config.option(180.0, "degrees Celsius", 50.0, 300.0)
    oven_mode: str = config.option("fan", "how it heats")
    oven_racks: int = config.option(2, "racks", 1)


options.define(Oven, {"oven_mode": ("fan", "grill")})


@pytest.fixture
def parsed():
    if not options.FLAGS.is_parsed():
        options.FLAGS(["test"])
    with flagsaver.flagsaver():
        yield


@pytest.mark.usefixtures("parsed")
def test_flags_return_as_the_dataclass():
    assert options.read(Oven) == Oven()
    options.FLAGS.oven_heat = 200.0
    assert options.read(Oven, oven_racks=4) == Oven(200.0, "fan", 4)
    assert options.settings("none", without=["oven_mode"])["oven_heat"] == 200.0
    assert "oven_mode" not in options.settings("none", without=["oven_mode"])


@pytest.mark.usefixtures("parsed")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("oven_heat", "20", "50"), ("oven_racks", "0", "positive"), ("oven_mode", "boil", "fan")],
)
def test_a_value_out_of_bounds_is_refused_with_the_bounds(name, value, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        options.FLAGS[name].parse(value)


def test_every_default_has_a_meaning_and_lies_within_its_bounds():
    for name, made in vars(config).items():
        if not name.endswith("Config"):
            continue
        for field in dataclasses.fields(made):
            low, high = field.metadata["low"], field.metadata["high"]
            assert field.metadata["meaning"], field.name
            assert low is None or field.default >= low, field.name
            assert high is None or field.default <= high, field.name
