"""Input that cannot mean what somebody meant: what becomes of it, and where `dunning check` and Dagster say so."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.day import decide_days
from dunning_pipeline.errors import DunningError
from dunning_pipeline.explain import explain
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.preflight import check
from dunning_pipeline.rules.smart_rules import INVOICE_COLUMNS

TODAY = date(2025, 3, 12)
POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: 2024-01-01}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - {name: standard, default: true, actions: [{name: first, day: 1}]}
  - {name: gentle, actions: [{name: hello, day: 5}]}
  - {name: large, carried_by: invoice, actions: [{name: urgent, day: 1}]}
quality: {max_rejected: 0.5}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables:
      customers: customers
      invoices: invoices
      payments: payments
      promises: promises
      assignments: assignments
      contacts: contacts
"""
DATABASE = """
create table customers (customer_id text, name text, email text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
create table payments (payment_id text, customer_id text, invoice_id text, currency text, amount text, paid_on text);
create table promises (promise_id text, customer_id text, invoice_id text, promised_on text, pay_by text);
create table assignments (
    assignment_id text, customer_id text, invoice_id text, workflow text, assigned_from text, assigned_until text
);
create table contacts (contact_id text, customer_id text, invoice_id text, contacted_on text);
insert into customers values ('C1', 'Harbour', 'a@harbour.test'), ('C2', 'Kontor', 'b@kontor.test');
insert into invoices values
    ('F1', 'C1', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F2', 'C2', '2025-01-01', '2025-01-31', 'EUR', '80.00');
"""


@dataclass
class Business:
    """A billing database with two customers who each owe an invoice, and its pipeline."""

    pipeline: Pipeline
    database: Path

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(statement)

    def policy(self, old: str, new: str) -> None:
        settings = self.pipeline.settings
        text = settings.policy.text
        assert old in text
        self.pipeline = replace(self.pipeline, settings=replace(settings, loaded=parse_policy(text.replace(old, new))))

    def rules(self, rules: str) -> None:
        self.policy("quality:", f"smart_rules: [{rules}]\nquality:")

    def told(self, level: str = "note") -> list[str]:
        """What `dunning check` says of a level about the data."""
        usual = ("sending.live", "the environment variable KLAVIYO_API_KEY")
        return [
            finding.sentence
            for finding in check(self.pipeline.settings)
            if finding.level == level and not finding.sentence.startswith(usual)
        ]

    def decided(self) -> dict[str, tuple[Any, ...]]:
        """Workflow, by what, and reason of each decision, by customer, or by the invoice of an invoice's own."""
        rows = self.pipeline.warehouse.fetch(
            "select case level when 'invoice' then carrying_invoice_id else customer_id end, workflow, assigned_by,"
            " reason from dunning.decisions"
        )
        return {who: tuple(rest) for who, *rest in rows.astype(object).where(rows.notna(), None).to_numpy()}

    def fetched(self, query: str) -> list[Any]:
        return [tuple(row) for row in self.pipeline.warehouse.fetch(query).astype(object).to_numpy()]


@contextmanager
def business_at(folder: Path) -> Iterator[Business]:
    clock = MovingClock()
    clock.move_to(TODAY)
    database = folder / "billing.sqlite"
    environment = {"BILLING_DATABASE_URL": f"sqlite:///{database}", "KLAVIYO_API_KEY": ""}
    settings = settings_at(folder / "home", POLICY, clock, environment)
    with dg.DagsterInstance.ephemeral() as instance:
        business = Business(Pipeline(settings, instance), database)
        business.change(DATABASE)
        yield business


@pytest.fixture
def business(tmp_path: Path) -> Iterator[Business]:
    with business_at(tmp_path) as business:
        yield business


def warnings(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The sentences of the checks that warned, by asset and name; every other check passed."""
    failed = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    assert {evaluation.severity for evaluation in failed} <= {dg.AssetCheckSeverity.WARN}
    return {
        f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}": str(evaluation.description)
        for evaluation in failed
    }


def figures(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of a materialised asset."""
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.to_user_string() == asset
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


BIG = "{name: big, when: {segment: {is: retail}}, workflow: gentle}"
BIG_INVOICES = "{name: big, for: invoice, when: {segment: {is: retail}}, workflow: large}"
MISSING = (
    "smart rule 'big' asks for the column 'segment', which customers do not have; allowed: customer_id, name, email, "
    "phone, external_id, country, language, currency, tags, created_at, updated_at, open_balance, overdue_balance, "
    "oldest_days_overdue, open_invoices, and for invoices their own columns"
)


@pytest.mark.parametrize("rule", [BIG, BIG_INVOICES])
def test_a_rule_over_a_column_that_does_not_exist_fails_the_run_and_decides_nothing(
    business: Business, rule: str
) -> None:
    business.rules(rule)
    with pytest.raises(DunningError) as caught:
        business.pipeline.daily()
    assert str(caught.value) == MISSING
    assert business.fetched("select * from dunning.decisions") == []


@pytest.mark.parametrize("rule", [BIG, BIG_INVOICES])
def test_check_names_a_column_that_does_not_exist_before_anything_was_pulled(business: Business, rule: str) -> None:
    business.rules(rule)
    assert business.told("wrong") == [MISSING]
    assert not business.pipeline.settings.warehouse_path.exists()


def test_check_knows_the_columns_that_a_source_is_going_to_yield(business: Business) -> None:
    business.rules(BIG)
    business.change("alter table customers add column segment text")
    assert business.told("wrong") == []


def test_check_knows_a_column_that_was_pulled_when_the_source_cannot_be_looked_at(business: Business) -> None:
    business.change("alter table customers add column segment text")
    business.pipeline.daily()
    business.rules(f"{BIG}, {BIG.replace('big', 'other').replace('segment', 'region')}")
    business.change("drop table customers")
    unreachable, missing = business.told("wrong")
    assert "no such table: customers" in unreachable
    assert missing.startswith("smart rule 'other' asks for the column 'region', which customers do not have")
    assert "updated_at, segment, open_balance" in missing


def test_check_says_nothing_of_columns_that_it_cannot_look_for(business: Business) -> None:
    business.rules(BIG)
    business.change("drop table customers")
    (unreachable,) = business.told("wrong")
    assert "no such table: customers" in unreachable


def test_check_shows_the_first_rows_that_a_pull_would_reject_with_addresses_masked(business: Business) -> None:
    for number in range(6):
        business.change(f"insert into invoices values ('X{number}', 'a@harbour.test', 'soon', '', 'EUR', '1.00')")
    told = [note.removeprefix("billing.invoices: ") for note in business.told("note") if "billing.invoices: " in note]
    assert told[0] == "6 of 8 rows would be rejected, the first of them:"
    assert len(told) == 6
    for number, sentence in enumerate(told[1:]):
        assert sentence.startswith("issued_on 'soon' is no date of the form 2026-11-22: ")
        assert f'"invoice_id":"X{number}"' in sentence
        assert "a@harbour.test" not in sentence
    assert not business.pipeline.settings.warehouse_path.exists()


def test_a_rule_can_ask_for_a_custom_column_that_a_mapping_names(business: Business) -> None:
    business.rules(BIG)
    business.change(
        "alter table customers add column segment_code text; update customers set segment_code = 'retail'"
        " where customer_id = 'C1'"
    )
    business.policy("customers: customers", "customers: {table: customers, columns: {segment_code: segment}}")
    assert business.told("wrong") == []
    business.pipeline.daily()
    assert business.decided() == {
        "C1": ("gentle", "rule:big", None),
        "C2": ("standard", "default", None),
    }


MESSY = """
insert into invoices values
    ('F3', 'C3', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F4', 'C4', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F5', 'C5', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F6', 'C6', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F7', 'C7', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F8', 'C8', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F9', 'me@kontor.test', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F10', 'T1', '2025-01-01', '2025-01-31', 'EUR', '100.00'),
    ('F11', 'T1', '2025-01-01', '2025-01-31', 'JPY', '9000'),
    ('F12', 'T1', '2025-01-01', '2025-02-28', 'USD', '9000.00'),
    ('F13', 'T2', '2025-01-01', '2025-01-31', 'USD', '9000.00');
insert into customers select distinct customer_id, 'Name', 'name@kontor.test' from invoices
    where customer_id not in (select customer_id from customers);
insert into promises values
    ('V1', 'C1', 'F2', '2025-03-10', '2025-03-20'), ('V2', 'C1', 'F1', '2025-03-01', '2025-03-02');
insert into payments values
    ('pay@kontor.test', 'C3', 'F99', 'EUR', '100.00', '2025-03-01'),
    ('P2', 'C2', 'F2', 'EUR', '1.00', '2025-03-01'), ('P3', 'C2', null, 'EUR', '1.00', '2025-03-01');
insert into assignments values
    ('A1', 'C4', null, 'gentel', '2025-01-01', null), ('A2', 'C5', 'F5', 'huge', '2025-01-01', null),
    ('A3', 'C2', null, 'gentel', '2024-01-01', '2025-03-12'),
    ('A4', 'C6', null, 'large', '2025-01-01', null), ('A5', 'C7', 'F7', 'gentle', '2025-01-01', null),
    ('A6', 'C8', null, 'gentel', '2025-01-01', null), ('A7', 'C8', null, 'gentle', '2025-02-01', null),
    ('B1', 'me@kontor.test', null, 'standard', '2025-01-01', null),
    ('B2', 'me@kontor.test', null, 'gentle', '2025-01-01', null),
    ('B3', 'me@kontor.test', null, 'standard', '2025-02-01', '2025-03-12'),
    ('B4', 'me@kontor.test', 'F9', 'unassigned', '2025-01-01', null);
"""
MESSY_RULES = """
{name: key, when: {open_balance: {at_least: 5000}}, workflow: gentle},
{name: own, for: invoice, when: {total: {at_least: 5000}}, workflow: large}
"""

REJECTED = (
    "1 rows of billing.promises were rejected (invoice 'F2' is not of customer 'C1', but of 'C2'); "
    "source.rejected_rows has them all"
)
UNAPPLIED = "1 payments are of invoices that no source has (pay@kontor.test): they count as unapplied (rule 1.4)"
UNKNOWN = (
    "2 assignments name a workflow that the policy does not have (A1 to gentel, A2 to huge): nobody is reminded by "
    "them (no_workflow)"
)
OTHER_LEVEL = (
    "2 assignments put a customer under a workflow carried by invoices, or an invoice under one carried by customers "
    "(A4 to large, A5 to gentle): nobody is reminded by them (no_workflow)"
)
OVERLAPS = (
    "2 customers or invoices have several assignments in force, of which the first counts "
    "(customer C8: A7 before A6, customer me@kontor.test: B2 before B1)"
)
TIES = (
    "organisation.exchange_rates has no rate for JPY: totals of invoices in several currencies with one due date are "
    "compared by number of major units, for 1 customers (T1; rule 2.1)"
)
FIGURES = (
    "organisation.exchange_rates has no rate for JPY, USD: conditions on amounts fail for 2 customers (T1, T2); smart "
    "rules that have some: 'key', 'own' (rule 3.2)"
)


@dataclass
class Messy:
    """A business with everything that can be wrong at once, and the run that decided it all the same."""

    business: Business
    run: dg.ExecuteInProcessResult

    def decided(self, who: str) -> tuple[Any, ...]:
        return self.business.decided()[who]


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Messy]:
    with business_at(tmp_path_factory.mktemp("messy")) as business:
        business.change(MESSY)
        business.rules(MESSY_RULES)
        yield Messy(business, business.pipeline.daily())


def test_check_tells_every_doubt_about_the_data(messy: Messy) -> None:
    assert messy.business.told("wrong") == []
    assert messy.business.told() == [REJECTED, UNAPPLIED, UNKNOWN, OTHER_LEVEL, OVERLAPS, TIES, FIGURES]


def test_dagster_warns_on_the_asset_that_is_concerned(messy: Messy) -> None:
    assert messy.run.success
    assert warnings(messy.run) == {
        "source/payments: invoices_are_known": UNAPPLIED.replace("pay@", "p***@"),
        "dunning/carrying_invoices: tied_currencies_have_rates": TIES,
        "dunning/decisions: assignments_name_fitting_workflows": f"{UNKNOWN}; {OTHER_LEVEL}",
        "dunning/decisions: smart_rules_have_rates": FIGURES,
    }


def test_a_promise_for_somebody_elses_invoice_is_rejected_and_holds_nothing(messy: Messy) -> None:
    assert messy.decided("C1") == messy.decided("C2") == ("standard", "default", None)
    assert messy.business.fetched("select promise_id from source.promises") == [("V2",)]
    told = figures(messy.run, "source/promises")
    assert told["rejected"] == 1
    assert "invoice 'F2' is not of customer 'C1', but of 'C2'" in told["rejected_by_reason"]


def test_a_payment_for_an_unknown_invoice_counts_as_unapplied(messy: Messy) -> None:
    assert messy.decided("C3")[2] == "net_balance_not_positive"
    net = "select net_minor from dunning.balances where customer_id in ('C2', 'C3') order by customer_id"
    assert messy.business.fetched(net) == [(7_800,), (0,)]
    assert figures(messy.run, "source/payments")["of_unknown_invoices"] == 1


def test_an_assignment_to_an_unknown_workflow_reminds_nobody(messy: Messy) -> None:
    assert messy.decided("C4") == (None, "assignment:A1", "no_workflow")
    assert messy.decided("F5") == (None, "assignment:A2", "no_workflow")


def test_an_assignment_to_a_workflow_of_the_other_level_reminds_nobody(messy: Messy) -> None:
    assert messy.decided("C6") == (None, "assignment:A4", "no_workflow")
    assert messy.decided("F7") == (None, "assignment:A5", "no_workflow")


def test_a_wrong_assignment_that_another_overrules_does_nothing(messy: Messy) -> None:
    assert messy.decided("C8") == ("gentle", "assignment:A7", None)


def test_of_overlapping_assignments_the_latest_counts_then_the_highest_id(messy: Messy) -> None:
    assert messy.decided("C8")[1] == "assignment:A7"
    assert messy.decided("me@kontor.test") == ("gentle", "assignment:B2", None)
    told = figures(messy.run, "dunning/decisions")["overlapping_assignments"]
    assert told == OVERLAPS.replace("me@", "m***@")


def test_a_tie_across_currencies_without_a_rate_is_by_major_units(messy: Messy) -> None:
    carrying = "select invoice_id from dunning.carrying_invoices where customer_id = 'T1'"
    assert messy.business.fetched(carrying) == [("F11",)]


def test_a_condition_on_an_amount_without_a_rate_fails(messy: Messy) -> None:
    assert messy.decided("T1")[1] == messy.decided("T2")[1] == "default"
    assert not messy.business.fetched("select * from dunning.decisions where assigned_by like 'rule:%'")


def test_with_rates_ties_and_conditions_are_in_base_currency_and_nothing_is_told(business: Business) -> None:
    business.change(
        "insert into invoices values ('F3', 'C1', '2025-01-01', '2025-01-31', 'JPY', '9000'),"
        " ('F4', 'C2', '2025-01-01', '2025-02-28', 'USD', '6000.00')"
    )
    business.policy("base_currency: EUR", "base_currency: EUR, exchange_rates: {JPY: 0.006, USD: 0.9}")
    business.rules(MESSY_RULES)
    assert warnings(business.pipeline.daily()) == {}
    assert business.told() == []
    assert business.fetched("select invoice_id, level from dunning.carrying_invoices order by 1") == [
        ("F1", "customer"),
        ("F2", "customer"),
        ("F4", "invoice"),
    ]
    assert business.decided() == {
        "C1": ("standard", "default", None),
        "C2": ("gentle", "rule:key", None),
        "F4": ("large", "rule:own", None),
    }


def test_rules_that_ask_for_no_amount_need_no_rate(business: Business) -> None:
    business.change("update invoices set currency = 'USD' where invoice_id = 'F2'")
    business.rules("{name: old, when: {oldest_days_overdue: {at_least: 1}}, workflow: gentle}")
    result = business.pipeline.daily()
    assert warnings(result) == {}
    assert figures(result, "dunning/decisions")["overlapping_assignments"] == "none"
    assert business.told() == []
    assert {by for _, by, _ in business.decided().values()} == {"rule:old"}


def test_a_payment_that_came_before_its_invoice_in_another_currency_is_told(business: Business) -> None:
    business.change("insert into payments values ('P1', 'C1', 'F3', 'EUR', '30.00', '2025-03-01')")
    business.pipeline.daily()
    # Not yielded again, as by a source that is pulled incrementally.
    business.change(
        "delete from payments;insert into invoices values ('F3', 'C1', '2025-01-01', '2025-01-30', 'USD', '30.00')"
    )
    result = business.pipeline.daily()
    sentence = (
        "1 payments are in another currency than their invoice (P1): they neither pay it nor count as unapplied "
        "(rule 1.2)"
    )
    assert warnings(result) == {"source/payments: invoices_are_known": sentence}
    assert sentence in business.told()
    assert figures(result, "source/payments")["of_unknown_invoices"] == 0
    owed = "select currency, net_minor from dunning.balances where customer_id = 'C1' order by currency"
    assert business.fetched(owed) == [("EUR", 10_000), ("USD", 3_000)]


EVERY_COLUMN = (
    "{number: {is: 2025/7}, invoice_id: {is: F1}, issued_on: {is: 2025-01-01}, due_on: {is: 2025-01-31}, "
    "currency: {is: EUR}, status: {is: open}, pay_url: {is_empty: true}, total: {is: 100}, outstanding: {is: 100}, "
    "days_overdue: {is: 40}}"
)


def test_rules_can_ask_for_every_column_of_an_invoice_and_its_id_stands_in_for_a_number(business: Business) -> None:
    assert set(yaml.safe_load(EVERY_COLUMN)) == set(INVOICE_COLUMNS)
    business.change(
        "alter table invoices add column number text; update invoices set number = '2025/7' where invoice_id = 'F1'"
    )
    business.rules(
        f"{{name: every, for: invoice, when: {EVERY_COLUMN}, workflow: large}},"
        "{name: id, for: invoice, when: {number: {is: F2}}, workflow: large}"
    )
    business.pipeline.daily()
    assert business.decided() == {"F1": ("large", "rule:every", None), "F2": ("large", "rule:id", None)}
    settings = business.pipeline.settings
    in_one_go = decide_days(business.pipeline.warehouse, settings.policy, Days(TODAY, TODAY))
    assert sorted(in_one_go["assigned_by"]) == ["rule:every", "rule:id"]
    assert "number is '2025/7'" in str(explain(settings, "C1", TODAY))


def test_rows_that_come_before_their_invoice_are_told_until_it_is_there(business: Business) -> None:
    business.change(
        "insert into payments values ('P1', 'C1', 'F4', 'EUR', '30.00', '2025-03-01');"
        "insert into promises values ('V1', 'C1', 'F3', '2025-03-10', '2025-03-20');"
        "insert into assignments values ('A1', 'C1', 'F3', 'large', '2025-03-01', null);"
        "insert into contacts values ('K1', 'C1', 'F3', '2025-01-10')"
    )
    business.pipeline.daily()
    payments, *others = business.told()
    assert payments == "1 payments are of invoices that no source has (P1): they count as unapplied (rule 1.4)"
    assert others == [
        "1 promises name an invoice that their customer does not have (V1): they hold nothing",
        "1 assignments name an invoice that their customer does not have (A1): they assign nothing",
        "1 contacts name an invoice that their customer does not have (K1): they count for no invoice, and for the "
        "customer's minimum contact delay only",
    ]
    business.change(
        "insert into invoices values ('F3', 'C2', '2025-01-01', '2025-01-30', 'EUR', '5.00'),"
        " ('F4', 'C1', '2025-01-01', '2025-02-28', 'EUR', '30.00');"
        "delete from promises; delete from assignments; delete from contacts"
    )
    result = business.pipeline.daily()
    assert business.told() == others
    assert warnings(result) == {
        f"source/{table}: invoices_are_known": sentence
        for table, sentence in zip(("promises", "assignments", "contacts"), others, strict=True)
    }
    assert figures(result, "source/promises")["of_unknown_invoices"] == 1
    assert business.decided() == {"C1": ("standard", "default", None), "C2": ("standard", "default", None)}
    unpaid = "select invoice_id, paused from dunning.open_invoices order by 1"
    assert business.fetched(unpaid) == [("F1", False), ("F2", False), ("F3", False)]
