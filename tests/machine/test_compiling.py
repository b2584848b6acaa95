import os
import platform
import subprocess
import sys

import jax
import pytest

from instrument_ig import machine
from instrument_ig.machine import compiling


@pytest.fixture(autouse=True)
def asked_anew():
    compiling.compiler_options.cache_clear()
    yield
    compiling.compiler_options.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPUs")
def test_options_are_known_to_this_jaxlib():
    """Another jaxlib may rename them: everything works without, half as fast on a CPU."""
    assert set(compiling.compiler_options()) == {compiling.YNNPACK}
    assert machine.jit(lambda x: 2 * x)(3.0) == 6


def test_options_that_a_jaxlib_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "FUSED", ("NO_SUCH_KIND",))
    assert compiling.compiler_options() == {}
    assert machine.jit(lambda x: 2 * x)(3.0) == 6


def test_accelerators_get_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.compiler_options() == {}


KEEP_ONE = """
import sys
from instrument_ig import machine
machine.keep_programs(sys.argv[1])
assert machine.jit(lambda x: 2 * x)(3.0) == 6
"""


def test_programs_are_kept_in_a_folder_of_this_machine(tmp_path):
    command = [sys.executable, "-c", KEEP_ONE, str(tmp_path / "programs")]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "programs").iterdir()] == [platform.node()]
    assert any((tmp_path / "programs" / platform.node()).iterdir())
