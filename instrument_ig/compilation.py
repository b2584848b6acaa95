"""How programs full of convolutions are best compiled.

As jaxlib 0.10 comes, XLA:CPU hands every convolution of a gradient to its own YNNPACK call, and
most of these use one core. Given whole chains of convolution, bias and rectifier YNNPACK uses all
cores, and so does Eigen, which gets the convolutions that stand alone.
"""

from functools import lru_cache

import jax

CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("ELTWISE", "DOT", "INDIVIDUAL_DOT")
    )
}


@lru_cache
def compiler_options() -> dict[str, str]:
    """Return the `compiler_options` of outermost `jax.jit`s for the default backend.

    They are none on accelerators, and where this jaxlib does not know them.

    Cost: starts the backend and compiles a trivial program, once.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS
