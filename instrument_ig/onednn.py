"""oneDNN's convolution as a call inside compiled programs.

jaxlib for x86 CPUs carries oneDNN and XLA's call of it, but not the pass of the compiler that would
make the call. So it is named here. Its convolutions are up to twice as fast as those that XLA:CPU
chooses, and they use all cores.

Programs with the call cannot be exported, nor kept in JAX's persistent compilation cache. That
suits long work, so `correlate` asks only while `allowed`.
"""

import contextlib
import json
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache

import jax
import jax.numpy as jnp
import jaxlib
from jaxtyping import Array, Float

CALL = "__onednn$convolution"
# Those that read `_configuration` as it is meant: oneDNN ends the process when it cannot do what
# another release would read.
RELEASES = ("0.10.2",)

_allowed = ContextVar("onednn_allowed", default=False)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let what is traced here call oneDNN, where it is there."""
    before = _allowed.set(is_there())
    try:
        yield
    finally:
        _allowed.reset(before)


def is_allowed() -> bool:
    """Say whether a program that is being traced may call oneDNN."""
    return _allowed.get()


@lru_cache
def is_there() -> bool:
    """Say whether programs for the default backend can call oneDNN.

    Where they can, JAX's warning that such a program is not kept is switched off.

    Cost: starts the backend and compiles a small program, once.
    """
    if jax.default_backend() != "cpu" or jaxlib.__version__ not in RELEASES:
        return False
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache.*bad_alloc")
    maps, kernels = (
        jax.ShapeDtypeStruct(size, jnp.float32) for size in [(1, 3, 3, 1), (3, 3, 1, 1)]
    )
    try:
        jax.jit(correlate).lower(maps, kernels).compile()
    except jax.errors.JaxRuntimeError:  # no such call, as on ARM
        return False
    return True


def correlate(
    maps: Float[Array, "B T F C"], kernels: Float[Array, "h w C D"]
) -> Float[Array, "B T F D"]:
    """Correlate float32 maps with kernels of odd height and width, keeping the size.

    It has no derivative and is not mapped by `vmap`.
    """
    return jax.ffi.ffi_call(
        CALL,
        jax.ShapeDtypeStruct((*maps.shape[:3], kernels.shape[3]), maps.dtype),
        custom_call_api_version=2,
        legacy_backend_config=_configuration(*kernels.shape[:2]),
    )(maps, kernels)


def _configuration(height, width):
    """Describe to XLA's call what it gets, by the places of the dimensions, and the margins."""
    maps = {"dims": 4, "data": {"batch_dim": 0, "spatial_dims": [1, 2], "feature_dim": 3}}
    kernels = {"spatial_dims": [0, 1], "input_feature_dim": 2, "output_feature_dim": 3}
    margins = [height // 2, width // 2]
    config = {
        "dims": 4,
        "feature_groups": 1,
        "input": maps,
        "kernel": {"dims": 4, "filter": kernels},
        "output": maps,
        "window": {
            "strides": [1, 1],
            "pad_left": margins,
            "pad_right": margins,
            "window_dilations": [1, 1],
        },
    }
    return json.dumps({"onednn_conv_config": config})
