"""The whole way through Dagster: pull, decide, freeze, ask, send; and every way in which nothing may be sent."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from support import SHARED, MovingClock, Pipeline, settings_at
from test_cli import SCHEMA
from test_sending import Klaviyo as Server

from dunning_pipeline.assets import reminders
from dunning_pipeline.assets.metadata import counts
from dunning_pipeline.checks import COMPLETE, USUAL_SIZE
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import BACKFILL_TAG, DAILY_JOB, DRY_RUN, STARTED_BY_HAND_TAG
from dunning_pipeline.sandbox.klaviyo import ALL_SCOPES, KlaviyoAccount, running, serving
from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY, write_billing_database
from dunning_pipeline.tables import REASONS

TODAY = date(2025, 3, 12)
TOMORROW = TODAY + timedelta(days=1)
KEY = "pk_0123456789abcdef"
DERIVED = [dg.AssetKey(["dunning", name]) for name in ("open_invoices", "carrying_invoices", "decisions")]
REMINDERS = dg.AssetKey(["dunning", "reminders"])
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
LONGEST_LOCK_SECONDS = 5


@dataclass
class Business:
    """The sample billing business with its pipeline, and the Klaviyo account that its reminders reach."""

    pipeline: Pipeline
    account: KlaviyoAccount
    clock: MovingClock
    billing: Path

    def fetch(self, query: str) -> pd.DataFrame:
        return self.pipeline.warehouse.fetch(query)

    def decisions(self) -> pd.DataFrame:
        return self.fetch("select * from dunning.decisions order by as_of, customer_id")

    def addresses(self) -> list[str]:
        with closing(sqlite3.connect(self.billing)) as connection:
            return [email for (email,) in connection.execute("select email from clients where email like '%@%'")]

    def event_log(self) -> str:
        """Everything that Dagster keeps of all runs: events with their metadata, log messages, tags, config."""
        records = self.pipeline.instance.get_run_records()
        logs = [log for record in records for log in self.pipeline.instance.all_logs(record.dagster_run.run_id)]
        return "\n".join(dg.serialize_value(entry) for entry in [*logs, *(record.dagster_run for record in records)])

    def run_days(self, first: date, last: date, **options: Any) -> dg.ExecuteInProcessResult:
        """The daily job over a range of days in a single run, as a backfill launches it."""
        tags = dict(zip(RANGE_TAGS, (first.isoformat(), last.isoformat()), strict=True))
        return (
            build_defs(self.pipeline.settings)
            .resolve_job_def(DAILY_JOB)
            .execute_in_process(instance=self.pipeline.instance, tags={**tags, **options.pop("tags", {})}, **options)
        )


@contextmanager
def business_at(folder: Path) -> Iterator[Business]:
    clock = MovingClock()
    clock.move_to(TODAY)
    billing = folder / "billing.sqlite"
    write_billing_database(billing, TODAY)
    account = KlaviyoAccount({KEY: ALL_SCOPES}, clock=clock)
    with running(account) as url, dg.DagsterInstance.ephemeral() as instance:
        environment = {
            "BILLING_DATABASE_URL": f"sqlite:///{billing}",
            "KLAVIYO_URL": url,
            "KLAVIYO_API_KEY": KEY,
        }
        settings = settings_at(folder / "home", SAMPLE_POLICY, clock, environment)
        yield Business(Pipeline(settings, instance), account, clock, billing)


@dataclass
class Story:
    """Two days of the business, and what was to be seen after each step."""

    business: Business
    daily: dict[str, dg.ExecuteInProcessResult] = field(default_factory=dict)
    asked: dict[str, dg.RunRequest | dg.SkipReason] = field(default_factory=dict)
    sends: dict[str, dg.ExecuteInProcessResult | str] = field(default_factory=dict)
    decisions: dict[str, pd.DataFrame] = field(default_factory=dict)
    history: dict[str, pd.DataFrame] = field(default_factory=dict)
    reminders: dict[str, pd.DataFrame] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)

    def go_on(self, name: str) -> None:
        """A daily run, the question to the sensor, what it asks for, and the question again."""
        business = self.business
        self.daily[name] = business.pipeline.daily()
        self.decisions[name] = business.decisions()
        self.reminders[name] = business.fetch("select * from dunning.reminders order by planned_at, customer_id")
        business.clock.advance(minutes=1)
        self.asked[name] = business.pipeline.ask_sensor()
        self.sends[name] = business.pipeline.send_if_asked()
        business.clock.advance(minutes=1)
        self.asked[f"{name}, again"] = business.pipeline.ask_sensor()
        self.history[name] = business.fetch(
            "select * from dunning.sent_history order by attempted_at, reminder_id, outcome"
        )
        self.requests[name] = len(business.account.requests)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with business_at(tmp_path_factory.mktemp("story")) as business:
        story = Story(business)
        story.go_on("morning")
        business.clock.advance(hours=5)
        story.go_on("afternoon")
        business.clock.move_to(TOMORROW)
        story.go_on("tomorrow")
        yield story


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """A business in which everything was materialised in every way that must not send."""
    with business_at(tmp_path_factory.mktemp("quiet")) as business:
        pipeline = business.pipeline
        pipeline.daily(TODAY - timedelta(days=1))
        business.clock.advance(minutes=1)
        everything = build_defs(pipeline.settings).resolve_implicit_global_asset_job_def()
        everything.execute_in_process(instance=pipeline.instance, partition_key=TODAY.isoformat())
        business.clock.advance(minutes=1)
        business.run_days(TODAY - timedelta(days=2), TODAY, tags={BACKFILL_TAG: "abcdef"})
        business.clock.advance(minutes=1)
        pipeline.daily(TODAY, tags={BACKFILL_TAG: "abcdef"}, asset_selection=[*DERIVED, REMINDERS])
        business.clock.advance(minutes=1)
        pipeline.daily(TODAY, tags={STARTED_BY_HAND_TAG: DRY_RUN}, asset_selection=[*DERIVED, REMINDERS])
        yield business


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
    """The metadata of each asset that a run materialised."""
    events = result.get_asset_materialization_events()
    return {
        event.asset_key.to_user_string(): {key: value.value for key, value in event.materialization.metadata.items()}
        for event in events
        if event.asset_key
    }


def remind(decisions: pd.DataFrame, day: date) -> set[str]:
    chosen = decisions[(decisions["as_of"] == pd.Timestamp(day)) & (decisions["decision"] == "remind")]
    return set(chosen["reminder_id"])


def test_the_sensor_asks_for_the_batch_of_the_daily_run(story: Story) -> None:
    asked = story.asked["morning"]
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_key == f"{story.daily['morning'].run_id}:0"


def test_klaviyo_receives_exactly_the_batch(story: Story) -> None:
    batch = story.reminders["morning"]
    assert len(batch) > 50
    received = [event for event in story.business.account.events if event.received_at.date() == TODAY]
    assert {event.unique_id for event in received} == set(batch["reminder_id"])
    assert set(batch["reminder_id"]) == remind(story.decisions["morning"], TODAY)
    sent = json.loads(story.business.account.bodies[0])["data"]["attributes"]["events-bulk-create"]["data"]
    assert sent == [json.loads(body) for body in batch["body"]]
    assert story.business.account.dropped == []


def test_every_acceptance_is_in_the_history(story: Story) -> None:
    history = story.history["morning"]
    accepted = history[history["outcome"] == "accepted"]
    assert set(accepted["reminder_id"]) == remind(story.decisions["morning"], TODAY)
    assert set(history["outcome"]) == {"attempting", "accepted"}
    assert set(accepted["contact_on"].dt.date) == {TODAY}
    assert set(accepted["batch_id"]) == {story.daily["morning"].run_id}


def test_once_sent_the_sensor_is_content(story: Story) -> None:
    for name in ("morning", "afternoon", "tomorrow"):
        answer = story.asked[f"{name}, again"]
        assert isinstance(answer, dg.SkipReason)
        assert "was sent already" in str(answer.skip_message)


def test_a_second_run_of_the_day_makes_a_batch_that_sends_nothing_again(story: Story) -> None:
    asked, sent = story.asked["afternoon"], story.sends["afternoon"]
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_key == f"{story.daily['afternoon'].run_id}:0"
    assert isinstance(sent, dg.ExecuteInProcessResult)
    assert sent.success
    assert story.requests["afternoon"] == story.requests["morning"] == 1
    assert story.business.account.discarded == []


def test_deciding_again_gives_the_same_decisions_and_ids(story: Story) -> None:
    runs = ["run_id"]
    pd.testing.assert_frame_equal(
        story.decisions["afternoon"].drop(columns=runs), story.decisions["morning"].drop(columns=runs)
    )


def test_append_only_tables_keep_every_row(story: Story) -> None:
    for tables in (story.reminders, story.history):
        for before, after in (("morning", "afternoon"), ("afternoon", "tomorrow")):
            kept = tables[after].iloc[: len(tables[before])]
            pd.testing.assert_frame_equal(kept, tables[before], check_dtype=False)
    assert len(story.history["afternoon"]) == len(story.history["morning"])
    assert len(story.reminders["afternoon"]) == 2 * len(story.reminders["morning"])


def test_a_day_later_only_what_became_due_is_sent(story: Story) -> None:
    today, tomorrow = remind(story.decisions["morning"], TODAY), remind(story.decisions["tomorrow"], TOMORROW)
    assert tomorrow
    assert today.isdisjoint(tomorrow)
    received = [event.unique_id for event in story.business.account.events]
    assert set(received) == today | tomorrow
    assert len(received) == len(set(received))


def test_nobody_is_reminded_twice_within_the_minimum_delay(story: Story) -> None:
    decided = story.decisions["tomorrow"]
    tomorrow = decided[decided["as_of"] == pd.Timestamp(TOMORROW)]
    contacted = set(story.history["morning"]["customer_id"])
    reminded = set(tomorrow.loc[tomorrow["decision"] == "remind", "customer_id"])
    assert contacted.isdisjoint(reminded)
    assert "minimum_contact_delay" in set(tomorrow["reason"].dropna())


def test_batches_are_kept_with_their_state(story: Story) -> None:
    batches = story.business.fetch("select * from dunning.batches order by created_at")
    assert batches["batch_id"].tolist() == [story.daily[name].run_id for name in ("morning", "afternoon", "tomorrow")]
    assert set(batches["state"]) == {"sent"}
    assert batches["live"].all()


def test_each_live_batch_keeps_its_decisions(story: Story) -> None:
    kept = story.business.fetch("select batch_id, count(*) as n from dunning.batch_decisions group by all")
    decided = {name: decisions["as_of"].value_counts() for name, decisions in story.decisions.items()}
    assert dict(zip(kept["batch_id"], kept["n"], strict=True)) == {
        story.daily["morning"].run_id: decided["morning"][pd.Timestamp(TODAY)],
        story.daily["afternoon"].run_id: decided["afternoon"][pd.Timestamp(TODAY)],
        story.daily["tomorrow"].run_id: decided["tomorrow"][pd.Timestamp(TOMORROW)],
    }


def test_every_request_keeps_to_klaviyos_schema(story: Story) -> None:
    path = SHARED / "reference/klaviyo-events.schema.json"
    if not path.exists():
        pytest.skip(f"Klaviyo's schema is not at {path}")
    definitions = json.loads(path.read_text(encoding="utf-8"))["$defs"]
    schema = {**definitions["EventsBulkCreateJobStrict"], "$defs": definitions}
    validator = Draft202012Validator(schema)
    assert story.business.account.bodies
    for body in story.business.account.bodies:
        validator.validate(json.loads(body))


def test_every_materialisation_tells_rows_columns_and_how_long_the_lock_was_held(story: Story) -> None:
    told = metadata(story.daily["morning"])
    assert len(told) == 9
    for name, figures in told.items():
        schema, table = name.split("/")
        if table != "reminders":
            (stored,) = story.business.fetch(f"select count(*) as n from {schema}.{table}")["n"]
            assert figures["dagster/row_count"] <= stored
        assert 0 < figures["longest_lock_seconds"] < LONGEST_LOCK_SECONDS
        assert figures["preview"].startswith("| ")
    graph = build_defs(story.business.pipeline.settings).resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        assert graph.get(key).metadata["dagster/column_schema"].schema.columns


def test_the_decisions_tell_how_many_by_reason(story: Story) -> None:
    figures = metadata(story.daily["morning"])["dunning/decisions"]
    decided = story.decisions["morning"]
    rows = [line.strip("| ").split(" | ") for line in figures["by_reason"].splitlines()[2:]]
    assert {reason: int(number) for reason, number in rows} == (
        decided["reason"].fillna("remind").value_counts().to_dict()
    )
    assert figures["reminders"] == len(remind(decided, TODAY))


def test_counts_leave_no_reason_out() -> None:
    reasons = pd.Series([*REASONS, "remind"])
    assert len(counts(reasons).value.splitlines()) == 2 + len(reasons)  # type: ignore[union-attr]


def test_the_reminders_tell_their_batch_and_actions(story: Story) -> None:
    figures = metadata(story.daily["morning"])["dunning/reminders"]
    assert figures["batch_id"] == story.daily["morning"].run_id
    assert figures["live"] is True
    assert figures["dagster/row_count"] == len(story.reminders["morning"])
    assert "reminder_1" in figures["by_action"]


def test_a_send_leaves_its_outcomes_in_the_graph(story: Story) -> None:
    sent = story.sends["morning"]
    assert isinstance(sent, dg.ExecuteInProcessResult)
    figures = metadata(sent)["dunning/sent_history"]
    size = len(story.reminders["morning"])
    assert (figures["size"], figures["accepted"], figures["left"], figures["requests"]) == (size, size, 0, 1)
    assert figures["batch_id"] == story.daily["morning"].run_id
    assert figures["longest_lock_seconds"] < LONGEST_LOCK_SECONDS


def test_addresses_and_the_key_are_in_no_event_log(story: Story) -> None:
    log = story.business.event_log()
    addresses = story.business.addresses()
    assert len(addresses) > 250
    assert "***@" in log
    assert [address for address in addresses if address in log] == []
    assert KEY not in log


def test_the_key_is_in_no_file_of_the_home(story: Story) -> None:
    files = [path for path in story.business.pipeline.settings.home.rglob("*") if path.is_file()]
    assert files
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []


def test_nothing_is_left_in_the_staging_folder(story: Story) -> None:
    assert list((story.business.pipeline.settings.home / "staging").iterdir()) == []


def test_materialising_and_backfilling_contact_nobody(quiet: Business) -> None:
    assert quiet.account.requests == []
    assert quiet.fetch("select * from dunning.sent_history").empty


def test_materialising_and_backfilling_make_no_live_batch(quiet: Business) -> None:
    batches = quiet.fetch("select as_of, live, state from dunning.batches")
    assert len(batches) == 3
    assert set(batches["as_of"].dt.date) == {TODAY}
    assert not batches["live"].any()
    assert set(batches["state"]) == {"dry_run"}


def test_after_materialising_and_backfilling_the_sensor_skips(quiet: Business) -> None:
    assert quiet.pipeline.send_if_asked() == "no daily_dunning run of today (2025-03-12) has made a live batch yet"


def test_a_backfill_decides_every_day_of_its_range(quiet: Business) -> None:
    days = quiet.fetch("select distinct as_of from dunning.decisions order by as_of")["as_of"].dt.date
    assert days.tolist() == [TODAY - timedelta(days=n) for n in (2, 1, 0)]


def test_a_send_by_hand_finds_nothing_to_send_after_a_backfill(quiet: Business) -> None:
    newest = quiet.fetch("select batch_id from dunning.batches limit 1")["batch_id"].iloc[0]
    with pytest.raises(dg.Failure, match="is not live"):
        quiet.pipeline.send(newest)
    assert quiet.account.requests == []


def test_a_failing_check_fails_the_run_and_nothing_is_sent(quiet: Business) -> None:
    # An invoice that has the customer_key of another customer is decided under the other's id only.
    with quiet.pipeline.warehouse.transaction() as connection:
        connection.execute(
            "insert into dunning.open_invoices by name"
            " select * replace ('overlooked' as customer_id, 'overlooked' as invoice_id, -7 as invoice_key)"
            f" from dunning.open_invoices where as_of = '{TODAY}' limit 1"
        )
    before = quiet.fetch("select batch_id from dunning.batches order by all")
    result = quiet.pipeline.daily(asset_selection=[DERIVED[-1], REMINDERS], raise_on_error=False)
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == COMPLETE]
    assert not check.passed
    assert check.metadata["undecided"].value == "overlooked"
    assert not result.success
    pd.testing.assert_frame_equal(quiet.fetch("select batch_id from dunning.batches order by all"), before)
    assert "has made a live batch yet" in str(quiet.pipeline.send_if_asked())


def test_a_source_that_fails_fails_the_run_and_nothing_is_sent(quiet: Business) -> None:
    quiet.billing.unlink()
    decisions = quiet.decisions()
    result = quiet.pipeline.daily(raise_on_error=False)
    assert not result.success
    pd.testing.assert_frame_equal(quiet.decisions(), decisions)
    assert "has made a live batch yet" in str(quiet.pipeline.send_if_asked())
    assert quiet.account.requests == []


def test_a_batch_of_yesterday_is_never_sent_late(story: Story) -> None:
    business = story.business
    requests = len(business.account.requests)
    business.clock.move_to(TOMORROW + timedelta(days=1), at=datetime.min.time())
    assert business.pipeline.send_if_asked() == "no daily_dunning run of today (2025-03-14) has made a live batch yet"
    with pytest.raises(dg.Failure, match="only today's batch is ever sent"):
        business.pipeline.send(story.daily["tomorrow"].run_id)
    assert len(business.account.requests) == requests


SMALL_POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: 2024-01-01}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows: [{name: standard, default: true, actions: [{name: first, day: 1}]}]
sending: {live: true}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices, payments: payments}
"""


@dataclass
class Shop(Business):
    """A business with one customer and one overdue invoice, whose Klaviyo loses answers when told."""

    server: Server

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.billing)) as connection:
            connection.executescript(statement)

    def day_goes_on(self, **duration: float) -> str:
        """A daily run and its send, which may fail; returns the run's id."""
        self.clock.advance(**(duration or {"hours": 1}))
        batch_id = self.pipeline.daily().run_id
        self.pipeline.send(batch_id, raise_on_error=False)
        return batch_id

    def reject_the_first(self) -> None:
        """Klaviyo will refuse the event of the first request by its place."""
        self.server.refused, self.server.pointer = {1: 400}, "/data/attributes/events-bulk-create/data/0"

    def with_settings(self, **changes: Any) -> None:
        self.pipeline = replace(self.pipeline, settings=replace(self.pipeline.settings, **changes))

    def with_key(self, key: str) -> None:
        self.with_settings(environment={**self.pipeline.settings.environment, "KLAVIYO_API_KEY": key})

    def decided(self) -> list[tuple[str, str | None]]:
        """Each decision of today with its reason."""
        found = self.fetch(f"select decision, reason from dunning.decisions where as_of = '{TODAY}'")
        return [(row.decision, row.reason if isinstance(row.reason, str) else None) for row in found.itertuples()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    clock = MovingClock()
    clock.move_to(TODAY)
    billing = tmp_path / "billing.sqlite"
    account = KlaviyoAccount({KEY: ALL_SCOPES}, clock=clock, rates=None)
    server = Server(account=account)
    with serving(server) as url, dg.DagsterInstance.ephemeral() as instance:
        environment = {"BILLING_DATABASE_URL": f"sqlite:///{billing}", "KLAVIYO_URL": url, "KLAVIYO_API_KEY": KEY}
        settings = settings_at(tmp_path / "home", SMALL_POLICY, clock, environment)
        shop = Shop(Pipeline(settings, instance), account, clock, billing, server)
        shop.change(SCHEMA)
        yield shop


def test_after_a_wrong_key_the_next_batch_goes_with_its_own_amounts(shop: Shop) -> None:
    shop.with_key("pk_wrong")
    shop.day_goes_on()
    assert shop.account.events == []
    shop.change("insert into payments values ('P1', 'C1', '0001', 'EUR', '40.00', '2025-03-12')")
    shop.with_key(KEY)
    shop.day_goes_on()
    (event,) = shop.account.events
    assert event.value == 60


def test_a_corrected_address_is_sent_and_accepted_on_the_same_day(shop: Shop) -> None:
    shop.reject_the_first()
    shop.day_goes_on()
    shop.day_goes_on()
    assert shop.decided() == [("skip", "rejected")]
    shop.change("update customers set email = 'pay@harbour-bakery.test'")
    shop.day_goes_on()
    assert [event.email for event in shop.account.events] == ["pay@harbour-bakery.test"]
    outcomes = shop.fetch("select outcome from dunning.sent_history where outcome <> 'attempting' order by attempt")
    assert outcomes["outcome"].tolist() == ["rejected", "accepted"]


def test_a_rejection_does_not_hold_the_days_before_it(shop: Shop) -> None:
    shop.reject_the_first()
    shop.day_goes_on()
    yesterday = TODAY - timedelta(days=1)
    shop.pipeline.daily(yesterday)
    found = shop.fetch(f"select decision from dunning.decisions where as_of = '{yesterday}'")
    assert found["decision"].tolist() == ["remind"]


def test_a_reminder_that_may_have_been_accepted_holds_another_one_of_the_day(shop: Shop) -> None:
    shop.change("insert into invoices values ('0002', 'C1', '2024-02-01', '2024-03-01', 'EUR', '70.00')")
    shop.server.lost = [1]
    shop.day_goes_on()
    shop.change("insert into payments values ('P1', 'C1', '0001', 'EUR', '100.00', '2025-03-12')")
    shop.day_goes_on()
    assert shop.decided() == [("skip", "minimum_contact_delay")]
    assert len(shop.account.events) == 1


def test_a_copy_that_cannot_be_written_fails_nothing(shop: Shop) -> None:
    shop.pipeline.settings.home.joinpath("published").write_text("in the way")
    batch_id = shop.pipeline.daily().run_id
    sent = shop.pipeline.send(batch_id)
    assert metadata(sent)["dunning/sent_history"]["accepted"] == 1
    assert shop.event_log().count("the published copy of the warehouse could not be written") >= 2


def test_rows_that_another_run_derived_make_no_live_batch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    build = reminders.reminder_pieces

    def after_another_run(warehouse: Warehouse, *others: Any) -> Any:
        with warehouse.transaction() as connection:
            connection.execute("update dunning.decisions set run_id = 'another'")
        return build(warehouse, *others)

    monkeypatch.setattr(reminders, "reminder_pieces", after_another_run)
    with pytest.raises(DunningError, match="run another derived the same day while this run did; run daily_dunning"):
        shop.pipeline.daily()
    assert shop.fetch("select * from dunning.batches").empty
    assert "has made a live batch yet" in str(shop.pipeline.send_if_asked())


def test_a_batch_of_unusual_size_fails_its_check_and_waits_for_its_confirmation(shop: Shop) -> None:
    shop.change(
        "insert into customers values ('C2', 'Mill', 'mill@mill.test');"
        "insert into invoices values ('0002', 'C2', '2024-01-01', '2024-01-31', 'EUR', '10.00')"
    )
    limited = SMALL_POLICY.replace("live: true", "live: true, max_batch: 1")
    shop.with_settings(loaded=parse_policy(limited))
    daily = shop.pipeline.daily()
    (check,) = [check for check in daily.get_asset_check_evaluations() if check.check_name == USUAL_SIZE]
    held = f"batch {daily.run_id} would send 2 reminders, more than sending.max_batch (1)"
    assert daily.success
    assert not check.passed
    assert str(check.description).startswith(held)
    assert str(shop.pipeline.send_if_asked()).startswith(held)
    with pytest.raises(dg.Failure, match="look at it, and if it is right, confirm it: dunning run --send"):
        shop.pipeline.send(daily.run_id)
    shop.pipeline.send(daily.run_id, confirm=True)
    assert shop.fetch("select outcome from dunning.sent_history where outcome <> 'attempting'").size == 2
    assert "was sent already" in str(shop.pipeline.send_if_asked())


def test_a_dry_run_may_be_made_of_rows_of_another_run(shop: Shop) -> None:
    shop.pipeline.daily()
    shop.pipeline.daily(asset_selection=[REMINDERS])
    batches = shop.fetch("select size, live from dunning.batches order by created_at, live desc")
    assert batches.to_numpy().tolist() == [[1, True], [1, False]]


def test_payments_of_a_departed_source_still_count_and_its_invoices_are_not_chased(shop: Shop) -> None:
    shop.change(
        "insert into invoices values ('0002', 'C1', '2024-01-01', '2024-01-31', 'EUR', '30.00');"
        "insert into payments values ('P1', 'C1', '0001', 'EUR', '40.00', '2025-03-11');"
        "insert into payments values ('P2', 'C1', '0002', 'EUR', '10.00', '2025-03-11')"
    )
    shop.day_goes_on()
    shop.change("delete from payments; delete from invoices where invoice_id = '0002'")
    shop.with_settings(loaded=parse_policy(SMALL_POLICY.replace("  billing:", "  successor:")))
    shop.day_goes_on()
    owed = shop.fetch("select invoice_id, open_minor from dunning.open_invoices")
    assert owed.to_numpy().tolist() == [["0001", 6_000]]
    assert shop.fetch("select net_minor from dunning.balances")["net_minor"].tolist() == [6_000]
