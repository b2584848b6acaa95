"""Flags from the frozen dataclasses of instrument_ig.config, and back."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

FLAGS = flags.FLAGS
Config = TypeVar("Config")

DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    str: flags.DEFINE_string,
}


def define(config: type, choices: Mapping[str, Sequence[str]] | None = None) -> None:
    """Define one flag for each field: its name, default, meaning and bounds.

    Args:
      config: A dataclass of instrument_ig.config.
      choices: Field -> the names it may take, from the table that holds them.
    """
    for field in dataclasses.fields(config):
        meaning = field.metadata["meaning"]
        names = (choices or {}).get(field.name)
        if names:
            flags.DEFINE_enum(field.name, field.default, list(names), meaning)
            continue
        low, high = field.metadata["low"], field.metadata["high"]
        numeric = field.type in (int, float)
        bounds = {"lower_bound": low, "upper_bound": high} if numeric else {}
        DEFINE[field.type](field.name, field.default, meaning, **bounds)
        if numeric:  # NaN is within any bounds
            flags.register_validator(field.name, math.isfinite, "must be finite")


def read(config: type[Config], **changes: Any) -> Config:
    """Return the dataclass with the flags' values; `changes` override them."""
    names = [field.name for field in dataclasses.fields(config)]
    return config(**({name: FLAGS[name].value for name in names} | changes))


def restore(config: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return the dataclass with the values that the settings of a run have."""
    return config(**{field.name: settings[field.name] for field in dataclasses.fields(config)})


def settings(script: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return every flag that `script` or a module of the drivers made, with its value."""
    return {
        flag.name: flag.value
        for module, made in FLAGS.flags_by_module_dict().items()
        if module == script or module.startswith(f"{__package__}.")
        for flag in made
        if flag.name not in without
    }
