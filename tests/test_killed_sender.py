"""A send job killed with SIGKILL, round after round: each reminder is recorded by Klaviyo once, and none is lost."""

from pathlib import Path

import pytest
from killed_sender import LEAST_BETWEEN, REMINDERS, ROUNDS, run_trial


@pytest.mark.timeout(600)
def test_a_send_job_killed_five_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    figures = run_trial(tmp_path, rounds=5, size=300)
    print(figures)
    assert (figures.kills, figures.problems) == (5, [])


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_send_job_killed_two_hundred_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    figures = run_trial(tmp_path, ROUNDS, REMINDERS)
    print(figures)
    assert (figures.kills, figures.problems) == (ROUNDS, [])
    assert figures.share_between >= LEAST_BETWEEN
    assert figures.resent > 0
