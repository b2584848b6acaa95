"""Progress of long work: a bar with the remaining time, or a line now and then in a log file."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY_S = 15.0

# Names of files and classes are text, whatever brackets and colons they hold.
console = Console(highlight=False, markup=False, emoji=False)
if not console.is_terminal:
    console.width = 160  # a log file has no width of its own


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield report(done, total), which draws how far `label` is."""
    with _bar(label) if console.is_terminal else _log(label) as report:
        yield report


@contextlib.contextmanager
def _bar(label):
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def _log(label):
    start = said = time.monotonic()
    done = done_then = 0

    def report(now_done: int, total: int) -> None:
        nonlocal said, done, done_then
        done, now = now_done, time.monotonic()
        if done > done_then and now - said > LOG_EVERY_S:
            left = (now - said) / (done - done_then) * (total - done)  # at the pace since the last
            said, done_then = now, done
            console.print(f"{label}: {done} of {total}, about {left:.0f} s left")

    yield report
    if done:
        console.print(f"{label}: {done} in {time.monotonic() - start:.1f} s")
