"""`dunning demo` on days that are awkward, twice on one, and its figures against the warehouse."""

import io
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from rich.console import Console

from dunning_pipeline.errors import DunningError
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.demo import run_demo
from dunning_pipeline.settings import Settings

SUNDAY, NEW_YEAR, LEAP_DAY = date(2026, 11, 15), date(2026, 1, 1), date(2024, 2, 29)


def demo(home: Path, day: date) -> str:
    """What the demo prints with the clock at noon of `day`."""
    settings = Settings(
        loaded=DunningError("the demo does not read the user's policy"),
        policy_file=home / "dunning.yaml",
        home=home,
        clock=lambda: datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        environment={},
    )
    printed = io.StringIO()
    run_demo(settings, Console(file=printed, width=200))
    return printed.getvalue()


def count(printed: str, pattern: str) -> int:
    found = re.search(pattern, printed)
    assert found, f"nothing like {pattern} in what was printed"
    return int(found.group(1))


@pytest.mark.parametrize(
    "day",
    [
        pytest.param(SUNDAY, id="Sunday"),
        pytest.param(NEW_YEAR, id="1 January", marks=pytest.mark.long),
        pytest.param(LEAP_DAY, id="29 February"),
    ],
)
def test_the_demo_reminds_on_any_day_and_its_figures_are_those_of_the_warehouse(tmp_path: Path, day: date) -> None:
    users = tmp_path / "warehouse.duckdb"
    users.write_bytes(b"the user's own")
    printed = demo(tmp_path, day)
    assert users.read_bytes() == b"the user's own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "warehouse.duckdb"]
    warehouse = Warehouse(tmp_path / "demo" / "warehouse.duckdb")
    decided = warehouse.fetch(
        "select coalesce(reason, 'remind') as outcome, count(*) as n from dunning.decisions"
        " where as_of = $day group by outcome",
        {"day": day},
    )
    outcomes = dict(zip(decided["outcome"], decided["n"], strict=True))
    assert count(printed, r"(\d+) customers owe something") == sum(outcomes.values())
    assert count(printed, r"(\d+) are to be reminded") == outcomes["remind"] >= 40
    for outcome, number in outcomes.items():
        assert count(printed, rf"│ {outcome} +│ +(\d+) │") == number
    assert count(printed, r"received (\d+) events") == outcomes["remind"] + 1
    accepted = warehouse.fetch(
        "select count(*) as n from dunning.sent_history where outcome = 'accepted' and stream = 'invoice'"
    )
    assert count(printed, r"│ accepted +│ +(\d+) │") == accepted["n"].iloc[0] == outcomes["remind"]
    assert printed.count('"reminder_id"') == 4
    assert re.findall("no_balance|no_qualifying_edit|event 1 of series 1 goes", printed) == [
        "event 1 of series 1 goes",
        "no_balance",
        "no_qualifying_edit",
    ]
    assert str(tmp_path / "demo" / "warehouse.duckdb") in printed
    assert "make dev DEMO=1" in printed


def test_a_second_demo_on_the_same_day_sends_nothing_and_says_why_and_another_day_starts_afresh(
    tmp_path: Path,
) -> None:
    demo(tmp_path, SUNDAY)
    printed = demo(tmp_path, SUNDAY)
    assert "Nothing was sent: Klaviyo accepted every reminder of today in an earlier run." in printed
    assert count(printed, r"received (\d+) events") == 0
    assert count(demo(tmp_path, NEW_YEAR), r"received (\d+) events") >= 40


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "demo" / "notes.txt"
    own.parent.mkdir()
    own.write_text("the user's own")
    with pytest.raises(DunningError, match="holds something else than a demo"):
        demo(tmp_path, SUNDAY)
    assert [path.name for path in own.parent.iterdir()] == ["notes.txt"]
