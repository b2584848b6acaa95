"""How programs full of convolutions are best compiled, and where compiled programs are kept."""

import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax

from instrument_ig.machine import devices

# As jaxlib comes, XLA:CPU hands every convolution to its own YNNPACK call, and most of these use
# one core. So Eigen gets them, which uses all. Sums over whole batches stay with YNNPACK: XLA would
# rewrite them to trees of windows, which cost more than the convolutions gain.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
FUSED = ("DOT", "INDIVIDUAL_DOT", "REDUCE")  # what YNNPACK gets


def jit(function: Callable, **options: Any) -> Callable:
    """Return `jax.jit` of an outermost function, with what is fastest on the default backend.

    Args:
      function: what is compiled.
      **options: those of `jax.jit`.

    Cost: starts the backend and compiles a trivial program, once.
    """
    return jax.jit(function, compiler_options=compiler_options(), **options)


@lru_cache
def compiler_options() -> dict[str, str]:
    """Return the `compiler_options` of outermost `jax.jit`s for the default backend.

    They are none on accelerators, and where this jaxlib does not know them.
    """
    if not devices.is_cpu():
        return {}
    options = {YNNPACK: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in FUSED)}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def keep_programs(folder: str | Path) -> None:
    """Keep compiled programs in a folder, so that the next process need not compile them.

    Args:
      folder: is made; a folder of its own in it is for programs of this machine, for programs of a
        CPU fit no other.
    """
    own = Path(folder).expanduser() / platform.node()
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
