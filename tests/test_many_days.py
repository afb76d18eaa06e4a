"""A run over many days, as a backfill launches it, against a run for each day."""

from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
import pytest
from test_daily_job import DERIVED, TODAY, TOMORROW, Business, business_at

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.runs import DAILY_JOB

DERIVED_TABLES = ("open_invoices", "balances", "carrying_invoices", "decisions")


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """A business in which today's reminders were sent, and tomorrow has come."""
    with business_at(tmp_path_factory.mktemp("days")) as business:
        business.clock.move_to(TODAY)
        business.pipeline.daily()
        business.pipeline.send_if_asked()
        assert business.account.events
        business.clock.move_to(TOMORROW)
        yield business


@pytest.mark.parametrize("days", [14, pytest.param(60, marks=pytest.mark.long)])
def test_a_run_over_many_days_derives_like_a_run_for_each(business: Business, days: int) -> None:
    first = TOMORROW - timedelta(days=days - 1)

    def derived() -> dict[str, pd.DataFrame]:
        window = f"where as_of between '{first}' and '{TOMORROW}' order by all"
        return {
            name: business.fetch(f"select * exclude (run_id) from dunning.{name} {window}") for name in DERIVED_TABLES
        }

    business.run_days(first, TOMORROW, asset_selection=DERIVED)
    together = derived()
    job = build_defs(business.pipeline.settings).resolve_job_def(DAILY_JOB)
    for n in range(days):
        day = (first + timedelta(days=n)).isoformat()
        job.execute_in_process(instance=business.pipeline.instance, partition_key=day, asset_selection=DERIVED)
    assert together["decisions"]["as_of"].nunique() == days
    for name, one_by_one in derived().items():
        pd.testing.assert_frame_equal(one_by_one, together[name])
