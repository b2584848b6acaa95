"""What README.md and BUILD-notes.md say is run: Python examples whole, commands with --dry_run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "BUILD-notes.md")
SCRIPTS = {"run": "run", "classify": "classify", "predict": "predict", "bench": "benchmark"}


def blocks(language):
    """Return (page, number, text) of the fenced blocks in a language."""
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
        yield from ((page, number, text) for number, text in enumerate(found, 1))


def commands():
    """Return the distinct driver commands of shell blocks and of the text, as script and flags."""
    lines = [line for _, _, text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    inline = r"`(?:python experiments/)?((?:run|classify)\.py --[^`]+)`"
    for page in PAGES:
        found = re.findall(inline, (ROOT / page).read_text())
        lines += [f"python experiments/{command}" for command in found]
    distinct = set()
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["./launch.sh"] and words[1] in SCRIPTS:
            distinct.add((f"experiments/{SCRIPTS[words[1]]}.py", *words[2:]))
        elif words[:1] == ["python"] and words[1].startswith("experiments/"):
            distinct.add(tuple(words[1:]))
    return sorted(distinct)


@pytest.mark.parametrize(("page", "number", "text"), list(blocks("python")))
def test_python_examples_run(page, number, text, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, f"{page}, example {number}: {done.stderr}"
    shown = [line[2:].strip() for line in text.splitlines() if line.startswith("# ")]
    printed = [line.strip() for line in done.stdout.splitlines()]
    if printed:
        assert printed == shown[-len(printed) :], f"{page}, example {number}: printed {printed}"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Make what the placeholders of the commands stand for."""
    folder = tmp_path_factory.mktemp("places")
    noise = np.random.default_rng(0).normal(size=16_000) * 0.1
    for label in ("Banjo", "Flute", "Horn"):
        for number in range(4):
            path = folder / "sounds" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise, 16_000)
    table = folder / "manifest.csv"  # Banjo has one recording, as in the README's run
    rows = [f"sounds/{label}/{n}.wav,{label}" for label in ("Flute", "Horn") for n in range(4)]
    table.write_text("\n".join(["path,label", "sounds/Banjo/0.wav,Banjo", *rows]))
    return {"SOUNDS": str(folder / "sounds"), "RECORDINGS.csv": str(table)}


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_pass_their_dry_run(command, places, tmp_path):
    script, *words = command
    for placeholder, path in places.items():
        words = [word.replace(placeholder, path) for word in words]
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words, "--dry_run"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_local_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links to {target}"
