"""The house keeps its shape: imports point down, each library has its doors, imports stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("instrument_ig/**/*.py"), *ROOT.glob("experiments/**/*.py")])

LEVELS = {
    "types": 0,
    "config": 0,
    "machine": 0,
    "models": 1,
    "attribution": 1,
    "metrics": 1,
    "stats": 1,
    "training": 2,
    "classical": 2,
    "storage": 3,
    "audio": 3,
    "spectrograms": 3,
    "figures": 4,
    "experiments": 5,
}
# Rooms of one level that may import each other: storage is the lowest of the outside world.
WITHIN_A_LEVEL = {
    ("audio", "storage"),
    ("spectrograms", "storage"),
    ("spectrograms", "audio"),
}

DOORS = {
    # experiments: the references of the benchmark
    "flax": {"models", "experiments"},
    "optax": {"training", "experiments"},
    "ott": {"metrics", "experiments"},
    "librosa": {"audio", "spectrograms", "experiments"},
    "sklearn": {"classical", "audio", "figures"},
    "matplotlib": {"figures"},
    "absl": {"experiments"},
    "orbax": {"storage"},
    "soundfile": {"audio"},
    "rich": {"experiments"},
    "torch": {"experiments"},
    "captum": {"experiments"},
    "ortools": {"experiments"},
    "ot": {"experiments"},
}

PURE = ("models", "attribution", "metrics", "stats")
EFFECTS = {
    "os",
    "pathlib",
    "io",
    "sys",
    "time",
    "datetime",
    "logging",
    "random",
    "subprocess",
    "csv",
}
HEAVY = ("librosa", "flax", "optax", "orbax", "matplotlib", "sklearn", "ott", "scipy.stats")


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "experiments" or len(parts) == 1 else parts[1]


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "experiments":
            assert here == "experiments", f"{name} is a driver"
        if package != "instrument_ig" or not rest or rest[0] == here or here == "__init__":
            continue
        there = rest[0]
        down = LEVELS[there] < LEVELS[here] or (here, there) in WITHIN_A_LEVEL
        assert down, f"{here} (level {LEVELS[here]}) imports {name} (level {LEVELS[there]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_come_in_by_their_doors(path):
    for name in imports(path):
        doors = DOORS.get(name.split(".")[0])
        assert doors is None or room(path) in doors, f"{name} belongs to {doors}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_rooms_have_no_effects(path):
    if room(path) not in PURE:
        return
    assert not EFFECTS & {name.split(".")[0] for name in imports(path)}
    calls = [
        node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    assert not {"print", "open"} & {call.id for call in calls if isinstance(call, ast.Name)}


@pytest.mark.parametrize("package", ["metrics", "attribution"])
def test_reused_rooms_import_light_and_start_no_backend(package):
    program = (
        f"import sys, instrument_ig.{package}, jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized(), 'a module-level array'\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
