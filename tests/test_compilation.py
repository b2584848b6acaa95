import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import pytest

from instrument_ig import compilation, onednn
from instrument_ig.compilation import compiler_options, fast_jit
from instrument_ig.models.correlation import correlate


@pytest.fixture(autouse=True)
def asked_anew():
    for asked in (compiler_options, onednn.is_there):
        asked.cache_clear()
    yield
    for asked in (compiler_options, onednn.is_there):
        asked.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPUs")
def test_options_are_known_to_this_jaxlib():
    """Another jaxlib may rename them: everything works without, half as fast on a CPU."""
    options = compiler_options()
    assert set(options) == {compilation.YNNPACK}
    assert jax.jit(lambda x: 2 * x, compiler_options=options)(3.0) == 6


def test_options_that_a_jaxlib_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "FUSED", ("NO_SUCH_KIND",))
    assert compiler_options() == {}


def test_accelerators_get_no_options_and_no_onednn(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}
    assert not onednn.is_there()


def no_such_call(*arrays):
    return jax.ffi.ffi_call("no_such_call", arrays[0])(*arrays)


@pytest.mark.parametrize(("name", "value"), [("RELEASES", ()), ("correlate", no_such_call)])
def test_onednn_is_not_there_in_other_releases_or_where_it_cannot_be_called(
    name, value, monkeypatch
):
    monkeypatch.setattr(onednn, name, value)
    assert not onednn.is_there()
    with onednn.allowed():
        assert not onednn.is_allowed()


def program(jit):
    maps, kernels = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
    return jit(lambda maps, kernels: correlate(maps, kernels)).lower(maps, kernels)


carries_onednn = pytest.mark.skipif(
    (jaxlib.__version__ not in onednn.RELEASES)
    or (jax.default_backend(), platform.machine()) != ("cpu", "x86_64"),
    reason="oneDNN is called in known releases on x86 CPUs",
)


@carries_onednn
def test_only_fast_programs_call_onednn():
    assert onednn.CALL in program(fast_jit).as_text()
    assert onednn.CALL not in program(jax.jit).as_text()


KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
CORRELATE = """
import jax.numpy as jnp
from instrument_ig.compilation import fast_jit
from instrument_ig.models.correlation import correlate
fast_jit(correlate)(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)))
"""


@carries_onednn
def test_a_program_that_cannot_be_kept_is_not_complained_of(tmp_path):
    environment = os.environ | KEEP_ALL | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CORRELATE], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert any(tmp_path.iterdir())  # the cache is in use
