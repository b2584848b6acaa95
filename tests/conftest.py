"""What every test runs under: checked annotations, strict promotion, one seed."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile more than they compute: without LLVM's optimisations and the slow compiler of fused
# loops (XLA falls back on its older one) they take a half of the time. A jaxlib that does not know
# one of these flags says so and ends.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

# Programs that one test has compiled no other test, no worker and no driver compiles again.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    programs = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": programs,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

import jaxtyping

jaxtyping.install_import_hook("instrument_ig", "typechecker.check")

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Silent broadcasting and promotion are errors, except inside libraries that need them."""
    if request.node.get_closest_marker("permissive"):
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def batches_of(monkeypatch):
    """Return a function that sets how many examples are evaluated together."""
    from instrument_ig.machine import devices

    def set_size(size):
        monkeypatch.setattr(devices, "CPU_BATCH", size)
        monkeypatch.setattr(devices, "CPU_TEMPORARY", 0)

    return set_size
