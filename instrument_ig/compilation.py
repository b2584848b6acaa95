"""How programs full of convolutions are best compiled.

As jaxlib 0.10 comes, XLA:CPU hands every convolution to its own YNNPACK call, and most of these use
one core. Here oneDNN gets those of `models.correlation` and Eigen the others; both use all cores.
Sums over whole batches stay with YNNPACK: XLA would rewrite them to trees of windows, which cost
more than the convolutions gain.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import jax

from instrument_ig import onednn

YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
FUSED = ("DOT", "INDIVIDUAL_DOT", "REDUCE")  # what YNNPACK gets


def fast_jit(function: Callable, **options: Any) -> Callable:
    """Return `jax.jit` of an outermost function, by what is fastest on the default backend.

    Args:
      function: what is compiled.
      **options: those of `jax.jit`.

    Cost: starts the backend and compiles two trivial programs, once.
    """

    @wraps(function)
    def traced(*args, **kwargs):
        with onednn.allowed():
            return function(*args, **kwargs)

    return jax.jit(traced, compiler_options=compiler_options(), **options)


@lru_cache
def compiler_options() -> dict[str, str]:
    """Return the `compiler_options` of outermost `jax.jit`s for the default backend.

    They are none on accelerators, and where this jaxlib does not know them.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {YNNPACK: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in FUSED)}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
