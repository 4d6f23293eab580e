"""Progress told where there is no terminal."""

from __future__ import annotations

import pytest

from ui import cli_output


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the reporter sees, in its only cell."""
    now = [0.0]
    monkeypatch.setattr(cli_output.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_does_not_count_the_wait_for_the_first_item(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Thirty seconds of loading models are no sign of the pace."""
    with cli_output.progress_bar("Ingesting") as update:
        clock[0] = 30.0  # models load
        update(1, 11, "a.md")
        clock[0] = 40.0
        update(6, 11, "b.md")

    first, second = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert "6/11, 10 s left" in second


def test_a_new_stage_has_its_own_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of PPO take longer than steps of a snapshot."""
    with cli_output.progress_bar("Training") as update:
        update(1, 3, "snapshot")
        clock[0] = 20.0
        update(3, 3, "snapshot")
        clock[0] = 40.0
        update(1, 30, "ppo")
        clock[0] = 60.0
        update(11, 30, "ppo")

    assert "11/30, 38 s left" in capsys.readouterr().err.splitlines()[-1]
