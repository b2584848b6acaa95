import pytest

from experiments import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch):
    said = []
    monkeypatch.setattr(progress.console, "print", said.append)
    return said


def test_what_is_left_is_told_by_the_pace_since_the_last_line(clock, lines):
    with progress._log("maps") as report:
        report(60, 100)  # done before
        clock[0] = 2 * progress.LOG_EVERY_S
        report(70, 100)
        report(71, 100)  # too soon for another line
        clock[0] += 2 * progress.LOG_EVERY_S
        report(80, 100)
    every = progress.LOG_EVERY_S
    assert lines == [
        f"maps: 70 of 100, about {2 * every / 70 * 30:.0f} s left",
        f"maps: 80 of 100, about {2 * every / 10 * 20:.0f} s left",
        f"maps: 80 in {4 * every:.1f} s",
    ]


def test_nothing_done_is_told_by_no_line(lines):
    with progress._log("maps"):
        pass
    assert lines == []
