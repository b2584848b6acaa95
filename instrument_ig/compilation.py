"""How programs full of convolutions are best compiled.

As jaxlib 0.10 comes, XLA:CPU hands every convolution of a gradient to its own YNNPACK call, and
most of these use one core. Given whole chains of convolution, bias and rectifier YNNPACK uses all
cores, and so does Eigen, which gets the convolutions that stand alone. Training has sums over whole
batches besides, which XLA would rewrite to trees of windows if YNNPACK did not get them, and no
chains that are worth it.
"""

from functools import lru_cache

import jax

YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
PRODUCTS = ("DOT", "INDIVIDUAL_DOT")
CHAINS = (*PRODUCTS, "ELTWISE")  # for gradients by the input
SUMS = (*PRODUCTS, "REDUCE")  # for training: gradients by biases, statistics of batches


@lru_cache
def compiler_options(fused: tuple[str, ...]) -> dict[str, str]:
    """Return the `compiler_options` of outermost `jax.jit`s for the default backend.

    They are none on accelerators, and where this jaxlib does not know them.

    Args:
      fused: what YNNPACK gets, `CHAINS` or `SUMS`.

    Cost: starts the backend and compiles a trivial program, once.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {YNNPACK: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in fused)}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
