"""`dunning explain`: its sentences name the figures, and what it explains is what the daily job decides."""

import io
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from functools import cache
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.cli import main
from dunning_pipeline.errors import DunningError
from dunning_pipeline.explain import explain
from dunning_pipeline.explaining import texts
from dunning_pipeline.explaining.days_off import DaysOff
from dunning_pipeline.explaining.explanation import Explanation
from dunning_pipeline.explaining.facts import Decision, read_decisions
from dunning_pipeline.outbox import Outbox, Result
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.recording import Recorder
from dunning_pipeline.resources.readers import pulled_sources
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.timing import WorkingDays
from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY, write_billing_database
from dunning_pipeline.scratch import WHAT_IS_OWED, derive, scratch_copy, scratch_of_customer
from dunning_pipeline.tables import REASONS
from dunning_pipeline.terminal import print_explanation

SETTINGS = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, exchange_rates: {USD: "0.5"}}
calendar: {holidays: {country: FR}}
receivables: {tolerance: {EUR: "0.05"}, minimum_amount: {EUR: "10.00"}}
workflows:
  - name: standard
    default: true
    actions: [{name: almost_due, day: -2}, {name: reminder_1, day: 1, was: [first]}, {name: reminder_2, day: 8}]
  - name: key_accounts
    logic: contextual
    repeat_last: {every: 14, limit: 2}
    actions: [{name: courtesy, day: 2}, {name: nudge, day: 10}, {name: call, day: 30}]
  - {name: nothing, actions: []}
  - {name: single, carried_by: invoice, minimum_contact_delay: 0, actions: [{name: notice, day: 3}]}
smart_rules:
  - {name: large customers, when: {open_balance: {at_least: 100000}}, workflow: nothing}
  - {name: key accounts, when: {tags: {contains: key}, open_balance: {at_least: "1000"}}, workflow: key_accounts}
  - {name: large invoices, for: invoice, when: {total: {at_least: 5000}}, workflow: single}
max_invoice_reminders_per_customer_and_day: 2
contact_cap: {days: 3, max_deferral: 5}
sending: {live: true}
quality: {max_rejected: 0}
"""

SOURCES = """\
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables:
      customers: customers
      invoices: invoices
      payments: payments
      pauses: pauses
      promises: promises
      assignments: assignments
      contacts: contacts
"""

POLICY = SETTINGS + SOURCES

COLUMNS = {
    "customers": "customer_id name email tags",
    "invoices": "invoice_id customer_id number issued_on due_on currency total status recorded_on disputed_on"
    " dispute_resolved_on",
    "payments": "payment_id customer_id invoice_id kind currency amount paid_on recorded_on",
    "pauses": "pause_id scope customer_id invoice_id paused_from paused_until",
    "promises": "promise_id customer_id invoice_id promised_on pay_by",
    "assignments": "assignment_id customer_id invoice_id workflow assigned_from assigned_until",
    "contacts": "contact_id customer_id invoice_id workflow action contacted_on recorded_on channel",
}

TODAY = date(2026, 11, 16)
"""A Monday; Sunday 15 November and Wednesday 11 November (Armistice Day) before it are days off."""

Row = Mapping[str, object]


def customer(customer_id: str, **columns: object) -> Row:
    return {
        "customer_id": customer_id,
        "name": f"Company {customer_id}",
        "email": f"{customer_id}@shop.test",
        **columns,
    }


def invoice(invoice_id: str, customer_id: str, due_on: str | None, total: str = "100.00", **columns: object) -> Row:
    standard = {"number": f"N-{invoice_id}", "issued_on": "2026-10-01", "currency": "EUR", "total": total}
    return {"invoice_id": invoice_id, "customer_id": customer_id, "due_on": due_on, **standard, **columns}


def contact(contact_id: str, invoice_id: str | None, action: str | None, on: str, **columns: object) -> Row:
    workflow = "standard" if action else None
    about = {"invoice_id": invoice_id, "workflow": workflow, "action": action, "contacted_on": on, "channel": "letter"}
    return {"contact_id": contact_id, "customer_id": contact_id.partition("-")[0], **about, **columns}


STANDARD = (
    *(
        "remind",
        "paid",
        "unclear",
        "unassigned",
        "empty",
        "paused",
        "promised",
        "credit",
        "small",
        "completed",
    ),
    *("waiting", "called", "ordered", "many", "tied", "repeated", "older", "succession", "closed"),
    *("excluded", "reopened", "own", "both"),
)

LEDGER: Mapping[str, Sequence[Row]] = {
    "customers": [
        *(customer(customer_id) for customer_id in STANDARD),
        customer("unreachable", email="nobody"),
        customer("key", tags="big, key"),
    ],
    "invoices": [
        invoice("remind-1", "remind", "2026-11-13"),
        invoice("remind-2", "remind", None, "40.00", issued_on="2026-11-16"),
        invoice("paid-1", "paid", "2026-10-31", "50.00"),
        invoice("paid-2", "paid", "2026-10-31", "60.00", disputed_on="2026-11-03"),
        invoice("paid-3", "paid", "2026-10-31", "70.00", recorded_on="2026-11-20"),
        invoice("unclear-1", "unclear", "2026-11-01"),
        invoice("unassigned-1", "unassigned", "2026-11-01"),
        invoice("empty-1", "empty", "2026-11-01"),
        invoice("paused-1", "paused", "2026-11-01"),
        invoice("promised-1", "promised", "2026-11-01"),
        invoice("promised-2", "promised", "2026-11-02"),
        invoice("credit-1", "credit", "2026-11-01"),
        invoice("small-1", "small", "2026-11-01", "7.50"),
        invoice("completed-1", "completed", "2026-10-20"),
        invoice("waiting-1", "waiting", "2026-11-23"),
        invoice("called-1", "called", "2026-11-10"),
        invoice("ordered-1", "ordered", "2026-11-10"),
        *(invoice(f"many-{n}", "many", f"2026-11-1{2 - n}", "6000.00") for n in (0, 1, 2)),
        invoice("many-3", "many", "2026-12-01"),
        invoice("tied-1", "tied", "2026-11-10"),
        invoice("tied-2", "tied", "2026-11-10", "250.00", currency="USD"),
        invoice("tied-3", "tied", "2026-11-10", "125.00"),
        invoice("key-1", "key", "2026-10-30", "1200.00"),
        invoice("repeated-1", "repeated", "2026-09-10", issued_on="2026-08-10"),
        invoice("older-1", "older", "2026-11-10"),
        invoice("older-2", "older", "2026-10-20", recorded_on="2026-11-12"),
        invoice("succession-1", "succession", "2026-10-20"),
        invoice("succession-2", "succession", "2026-11-05"),
        invoice("closed-1", "closed", "2026-09-05", issued_on="2026-09-01"),
        invoice("excluded-1", "excluded", "2026-10-20"),
        invoice("excluded-2", "excluded", "2026-11-05"),
        invoice("reopened-1", "reopened", "2026-10-20", disputed_on="2026-11-01", dispute_resolved_on="2026-11-12"),
        invoice("reopened-2", "reopened", "2026-11-05"),
        invoice("own-1", "own", "2026-11-10"),
        invoice("both-1", "both", "2026-11-09"),
        invoice("both-2", "both", "2026-11-10"),
        invoice("both-3", "both", "2026-11-10"),
        *(invoice(f"unreachable-{n:02}", "unreachable", f"2026-11-{n:02}") for n in range(1, 13)),
    ],
    "payments": [
        {"payment_id": "Z1", "customer_id": "paid", "invoice_id": "paid-1", "amount": "50.00", "paid_on": "2026-11-02"},
        {
            "payment_id": "Z2",
            "customer_id": "credit",
            "amount": "120.00",
            "paid_on": "2026-11-03",
            "kind": "credit_note",
        },
        {
            "payment_id": "Z3",
            "customer_id": "remind",
            "invoice_id": "remind-1",
            "amount": "9.50",
            "paid_on": "2026-11-15",
        },
        {
            "payment_id": "Z4",
            "customer_id": "older",
            "invoice_id": "succession-1",
            "amount": "100.00",
            "paid_on": "2026-11-04",
        },
    ],
    "pauses": [
        {"pause_id": "P1", "scope": "customer", "customer_id": "paused", "paused_from": "2026-11-12"}
        | {"paused_until": "2026-12-01"},
        {"pause_id": "P2", "scope": "organisation", "paused_from": "2026-09-07", "paused_until": "2026-09-09"},
        {"pause_id": "P4", "scope": "invoice", "invoice_id": "excluded-1", "paused_from": "2026-11-12"},
        {"pause_id": "P3", "scope": "invoice", "invoice_id": "promised-2", "paused_from": "2026-11-12"},
    ],
    "promises": [
        {"promise_id": "S1", "customer_id": "promised", "promised_on": "2026-11-12", "pay_by": "2026-11-20"},
        {"promise_id": "S2", "customer_id": "ordered", "promised_on": "2026-11-03", "pay_by": "2026-11-13"},
    ],
    "assignments": [
        {"assignment_id": "A1", "customer_id": "unassigned", "workflow": "unassigned", "assigned_from": "2026-11-05"},
        {"assignment_id": "A2", "customer_id": "empty", "workflow": "nothing", "assigned_from": "2026-11-05"}
        | {"assigned_until": "2026-12-24"},
        {"assignment_id": "A4", "customer_id": "called", "workflow": "key_accounts", "assigned_from": "2026-10-01"},
        {"assignment_id": "A5", "customer_id": "called", "workflow": "standard", "assigned_from": "2026-11-02"},
        {"assignment_id": "A6", "customer_id": "own", "workflow": "single", "assigned_from": "2026-11-12"}
        | {"invoice_id": "own-1"},
        *(
            {"assignment_id": f"B{n}", "customer_id": "both", "workflow": "single", "assigned_from": "2026-11-01"}
            | {"invoice_id": f"both-{n}"}
            for n in (2, 3)
        ),
        {"assignment_id": "A3", "customer_id": "repeated", "workflow": "key_accounts", "assigned_from": "2026-08-01"},
    ],
    "contacts": [
        contact("completed-1", "completed-1", "first", "2026-10-21"),
        contact("completed-2", "completed-1", "reminder_2", "2026-10-28"),
        contact("called-1", None, None, "2026-11-13", channel="call"),
        # About another invoice of its own workflow, and told before the one that counts.
        contact("both-1", "both-2", "call", "2026-11-13", channel="fax") | {"workflow": "single"},
        contact("both-2", None, None, "2026-11-13", channel="visit"),
        contact("both-3", "both-3", "call", "2026-11-16", channel="fax") | {"workflow": "single"},
        contact("both-4", "both-2", None, "2026-11-16", channel="call") | {"workflow": "single"},
        contact("older-1", "older-1", "reminder_1", "2026-11-12"),
        *(
            contact(f"repeated-{on}", "repeated-1", "call", on) | {"workflow": "key_accounts"}
            for on in ("2026-10-12", "2026-10-26")
        ),
        *(contact(f"unreachable-{n:02}", None, None, f"2026-10-{n:02}", channel="call") for n in range(1, 13)),
    ],
}


def write_books(path: Path, ledger: Mapping[str, Sequence[Row]] = LEDGER) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, names in COLUMNS.items():
            connection.execute(f"create table {table} ({', '.join(f'{name} text' for name in names.split())})")
            for row in ledger.get(table, ()):
                complete = {"currency": "EUR", **row} if table == "payments" else row
                marks = ", ".join("?" * len(complete))
                connection.execute(
                    f"insert into {table} ({', '.join(complete)}) values ({marks})", [*complete.values()]
                )


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


class Books:
    """A business at which some days go by: pull, decide, record, send, change the books, and explain."""

    def __init__(
        self,
        home: Path,
        instance: dg.DagsterInstance,
        ledger: Mapping[str, Sequence[Row]] = LEDGER,
        policy: str = POLICY,
    ) -> None:
        self.database, self.clock = home / "billing.sqlite", MovingClock()
        environment = {"BILLING_DATABASE_URL": f"sqlite:///{self.database}"}
        write_books(self.database, ledger)
        self.pipeline = Pipeline(settings_at(home, policy, self.clock, environment), instance)

    @property
    def warehouse(self) -> Warehouse:
        return self.pipeline.warehouse

    def run(self) -> str:
        """The daily job of today; returns the batch's id."""
        result = self.pipeline.daily()
        assert result.success
        return result.run_id

    def pull(self) -> None:
        """The sources only: nothing is decided."""
        tables = [dg.AssetKey(["source", table]) for table in COLUMNS]
        assert self.pipeline.daily(asset_selection=tables).success

    def change(self, statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(statements)

    def attempt(self, batch_id: str, customer_id: str, result: Result | None) -> str:
        """Sends one reminder of a batch, with this outcome (None: it never came); returns the reminder's id."""
        outbox, now = Outbox(self.warehouse, "invoice"), self.clock()
        waiting = outbox.to_send(batch_id)
        going, _ = outbox.begin_attempts(batch_id, waiting[waiting["customer_id"] == customer_id], now, now.date(), 3)
        if result:
            outbox.record_results(going, result, now + timedelta(seconds=1), now.date())
        return str(going["reminder_id"].iloc[0])

    def explain(self, customer_id: str, on: date | None = None) -> Explanation:
        return explain(self.pipeline.settings, customer_id, on or self.pipeline.settings.today())


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Books:
    """The ledger above after the daily run of TODAY, with an order event and a vanished invoice. Read only."""
    made = Books(tmp_path_factory.mktemp("books"), instance)
    made.pull()
    with made.warehouse.transaction() as connection:
        connection.execute("update source.invoices set missing_since = '2026-11-14' where invoice_id = 'unclear-1'")
        connection.execute(
            "insert into dunning.sent_history by name select 'o1' as reminder_id, 'order' as stream, 'b' as batch_id,"
            " 'buyer' as customer_id, 1 as occurrence, 1 as attempt, 'accepted' as outcome, now() as attempted_at,"
            " date '2026-11-15' as contact_on"
        )
        connection.execute(
            "insert into source.customer_links by name"
            " select unnest(['buyer', 'ordered']) as customer_id, 'one' as person_id, 'shop' as source, customer_key"
            " from source.customer_keys where customer_id = 'ordered'"
        )
    derive(made.warehouse, made.pipeline.settings.policy, Days(TODAY, TODAY))
    return made


@pytest.fixture(scope="module")
def story(books: Books) -> Callable[..., Explanation]:
    """Explanations of the ledger above, each made once."""
    return cache(lambda customer_id, on=TODAY: books.explain(customer_id, on))


def said(told: Explanation, title: str = "", heading: str = "") -> str:
    """The sentences under a title, of the part with a heading; without a title all of them, and the outcomes."""
    steps = [step for part in told.parts if heading in part.heading for step in part.steps if title in step.title]
    outcomes = [] if title else list(told.outcomes)
    return "\n".join([*outcomes, *(sentence for step in steps for sentence in step.sentences)])


def rules(told: Explanation, title: str) -> set[str]:
    return {rule for part in told.parts for step in part.steps if step.title == title for rule in step.rules}


OWED, CARRIES, WORKFLOW, ACTION = "What is owed", "Which invoice carries", "Which workflow", "Which action"
BACK, WHEN = "What holds it back", "When it goes if nothing changes"
CONTACTS, MADE = "Contacts so far", "As it was decided"

HELD = {
    "source_unclear": ("unclear", TODAY, "no longer shows are left: N-unclear-1 (since Sat 14 Nov 2026)", "1.1"),
    "no_workflow": ("unassigned", TODAY, "There is no workflow", "3.1"),
    "empty_workflow": ("empty", TODAY, "Workflow nothing has no actions", "6"),
    "organisation_paused": ("closed", date(2026, 9, 8), "Nobody is reminded: pause P2 holds everybody", "6.1"),
    "customer_paused": ("paused", TODAY, "held: pause P1 (until Tue 1 Dec 2026)", "6.1"),
    "promise_to_pay": (
        "promised",
        TODAY,
        "held: pause P3 (without an end) and promise S1 (up to Fri 20 Nov 2026)",
        "6.2",
    ),
    "net_balance_not_positive": ("credit", TODAY, "the net balance is -20.00 EUR", "1.4"),
    "below_minimum_amount": ("small", TODAY, "7.50 EUR open, less than 10.00 EUR", "6.3"),
    "no_contact_address": ("unreachable", TODAY, "email is not valid (nobody)", "6.4"),
    "workflow_completed": ("completed", TODAY, "Workflow standard is completed", "4.6"),
    "waiting_for_trigger": ("waiting", TODAY, "almost_due is Fri 20 Nov 2026, in 4 days", "4.1"),
    "minimum_contact_delay": (
        "called",
        TODAY,
        "The last contact (call) is too recent: Fri 13 Nov 2026 + 5 days = Wed 18 Nov 2026",
        "5.1",
    ),
    "contact_cap": (
        "ordered",
        TODAY,
        "Sun 15 Nov 2026, 1 day ago: reminders wait 3 days, at most 5 past Thu 12 Nov 2026, so until Tue 17 Nov 2026",
        "5.4",
    ),
    "non_working_day": ("remind", date(2026, 11, 11), "Wed 11 Nov 2026 is a day off: Armistice Day", "5.3"),
}
"""For each reason a customer and a day on which it holds, and what is told of it with which rule."""


@pytest.mark.parametrize("reason", HELD)
def test_each_reason_is_told_with_its_figures_and_its_rule(story: Callable[..., Explanation], reason: str) -> None:
    customer_id, on, sentence, rule = HELD[reason]
    told = story(customer_id, on)
    assert f"Not reminded ({reason})" in told.outcomes[0]
    assert sentence in said(told, BACK)
    assert rule in rules(told, BACK)


def test_every_reason_but_two_that_need_a_batch_or_no_invoice_is_told_above() -> None:
    assert {*HELD, "rejected"} == set(REASONS)


TOLD = [
    (
        "remind",
        OWED,
        "Invoice N-remind-1 (id remind-1): 90.50 EUR of 100.00 EUR open, due Fri 13 Nov 2026, 3 days overdue.",
    ),
    ("remind", OWED, "due Mon 16 Nov 2026 (its date of issue, for want of a due date), today."),
    ("remind", OWED, "In EUR: 130.50 EUR open in 2 invoices; the net balance is 130.50 EUR."),
    ("remind", OWED, "the minimum of 10.00 EUR is reached."),
    ("remind", CARRIES, "of 2 invoices that can be chased it has the oldest due date, Fri 13 Nov 2026."),
    (
        "remind",
        CARRIES,
        "without a break since Thu 1 Oct 2026; it was recorded on that day, and no invoice carried before.",
    ),
    ("remind", WORKFLOW, "Workflow standard, which is the default."),
    ("remind", WORKFLOW, "it asks that open_balance is at least 100,000; it is 130.50 EUR."),
    ("remind", WORKFLOW, "it asks that tags contains 'key'; it is empty."),
    ("remind", ACTION, "Passed over: almost_due (day -2); it expired on Fri 13 Nov 2026, from which the days count."),
    (
        "remind",
        ACTION,
        "reminder_1, action 2 of 3. Its trigger date: due date Fri 13 Nov 2026 + 1 day = Sat 14 Nov 2026",
    ),
    ("remind", BACK, "The reminder lists 2 invoices with 130.50 EUR open."),
    ("remind", WHEN, "Sat 14 Nov 2026 is a day off (a Saturday): the next working day is Mon 16 Nov 2026."),
    ("remind", WHEN, "It goes on Mon 16 Nov 2026."),
    ("unassigned", WORKFLOW, "None, by assignment A1 (billing), in force from Thu 5 Nov 2026, which says unassigned."),
    (
        "empty",
        WORKFLOW,
        "by assignment A2 (billing), in force from Thu 5 Nov 2026 up to the day before Thu 24 Dec 2026.",
    ),
    ("paused", OWED, "15 days overdue; held by pause P1."),
    ("paused", OWED, "Pause P1 (billing) holds the customer from Thu 12 Nov 2026 on; work resumes on Tue 1 Dec 2026."),
    ("paused", OWED, "Nothing in EUR can be chased now, since all of it is held."),
    ("paused", CARRIES, "No invoice carries"),
    ("paused", WHEN, "No day can be given: more than time stands before it (customer_paused)."),
    (
        "promised",
        OWED,
        "Promise S1 (billing) of Thu 12 Nov 2026: everything will be paid by Fri 20 Nov 2026; reminders wait",
    ),
    ("ordered", OWED, "it was promised, and the promise was broken."),
    ("ordered", OWED, "will be paid by Fri 13 Nov 2026; that day has passed."),
    ("ordered", CARRIES, "It has carried without a break since Sat 14 Nov 2026; no invoice carried before."),
    (
        "credit",
        OWED,
        "100.00 EUR open in 1 invoice, less 120.00 EUR paid or credited without an invoice; the net balance is",
    ),
    ("completed", ACTION, "reminder_1 (Wed 21 Oct 2026 by hand as first) and reminder_2 (Wed 28 Oct 2026 by hand)."),
    ("completed", ACTION, "No action is left: reminder_2 was the last, and workflow standard repeats nothing."),
    (
        "waiting",
        ACTION,
        "due date Mon 23 Nov 2026 - 2 days = Sat 21 Nov 2026, a Saturday; the next working day, Mon 23 Nov 2026, is "
        "not before the due date, so it is moved back to the last working day before, Fri 20 Nov 2026; not reached",
    ),
    (
        "called",
        WHEN,
        "Trigger date Wed 11 Nov 2026; last contact Fri 13 Nov 2026 + 5 days = Wed 18 Nov 2026: due on Wed 18",
    ),
    ("called", CONTACTS, "Fri 13 Nov 2026: call; recorded by hand."),
    (
        "ordered",
        WHEN,
        "It is due on Mon 16 Nov 2026; the contact cap, which is not looked ahead for, defers it further.",
    ),
    (
        "tied",
        CARRIES,
        "Due on the same day: N-tied-1 (100.00 EUR) and N-tied-3 (125.00 EUR); with the same highest total,",
    ),
    ("tied", CARRIES, "250.00 USD, worth 125.00 EUR, the lowest id wins: tied-2 before tied-3."),
    (
        "key",
        WORKFLOW,
        "Workflow key_accounts, by the smart rule 'key accounts': tags contains 'key' (it is 'big, key') and",
    ),
    ("key", WORKFLOW, "open_balance is at least 1,000 (it is 1,200.00 EUR)."),
    ("key", ACTION, "Passed over: courtesy (day 2); the logic is contextual, and a later action has been reached."),
    (
        "repeated",
        ACTION,
        "Behind for invoice N-repeated-1: call (Mon 12 Oct 2026 by hand and Mon 26 Oct 2026 by hand).",
    ),
    ("repeated", ACTION, "Passed over: nudge (day 10); the ladder never goes back"),
    (
        "repeated",
        ACTION,
        "call again, repetition 2 (at most 2). Its trigger date: last executed on Mon 26 Oct 2026 + 14 days",
    ),
    ("repeated", WHEN, "due on Mon 9 Nov 2026.\nThat has passed: it goes on Mon 16 Nov 2026."),
    (
        "older",
        CARRIES,
        "since Thu 12 Nov 2026; it was recorded on that day and is before invoice N-older-1, which had carried.",
    ),
    ("older", ACTION, "contacts about other invoices do not count for it."),
    ("older", OWED, "In EUR: 200.00 EUR open in 2 invoices; the net balance is 200.00 EUR."),
    ("succession", CARRIES, "since Wed 4 Nov 2026; invoice N-succession-1, which carried before, was paid."),
    ("called", WORKFLOW, "Workflow standard, by assignment A5 (billing), in force from Mon 2 Nov 2026."),
    (
        "called",
        WORKFLOW,
        "Assignment A4 to key_accounts is in force too, but it began on Thu 1 Oct 2026, and of several",
    ),
    (
        "excluded",
        CARRIES,
        "since Thu 12 Nov 2026; invoice N-excluded-1, which carried before, could not any more: a pause",
    ),
    ("excluded", CARRIES, "Due earlier, but not chased: N-excluded-1 (a pause holds it)."),
    (
        "reopened",
        CARRIES,
        "since Thu 12 Nov 2026; it could be chased again, and is before invoice N-reopened-2, which had",
    ),
    ("own", WORKFLOW, "Workflow single, by assignment A6 (billing), in force from Thu 12 Nov 2026."),
    ("own", CARRIES, "carries itself.\nIt has carried without a break since Thu 12 Nov 2026; it did not carry before."),
    ("unreachable", OWED, "Invoice N-unreachable-10 (id unreachable-10)"),
    ("unreachable", OWED, "And 2 more invoices with later due dates."),
    ("unreachable", CONTACTS, "Mon 12 Oct 2026: call; recorded by hand.\nSun 11 Oct 2026"),
    ("unreachable", CONTACTS, "Sat 3 Oct 2026: call; recorded by hand.\nAnd 2 earlier ones."),
]


@pytest.mark.parametrize(("customer_id", "title", "sentence"), TOLD, ids=[f"{one[0]}: {one[2]}" for one in TOLD])
def test_the_story_names_the_figures(
    story: Callable[..., Explanation], customer_id: str, title: str, sentence: str
) -> None:
    assert sentence in said(story(customer_id), title)


def test_a_customer_who_owes_nothing_is_told_what_was_paid_last_and_what_does_not_count(
    story: Callable[..., Explanation],
) -> None:
    told = story("paid")
    assert told.outcomes == ("Not reminded (no_open_invoices): nothing is owed.",)
    assert [step.title for part in told.parts for step in part.steps] == [OWED, CONTACTS]
    assert said(told, OWED).splitlines() == [
        "Nothing: of the invoices that count none is open.",
        "The latest payment: 50.00 EUR on Mon 2 Nov 2026, for invoice N-paid-1 (Z1).",
        "Invoice N-paid-3 with 70.00 EUR open does not count: it was recorded on Fri 20 Nov 2026 only.",
        "Invoice N-paid-2 with 60.00 EUR open does not count: it has been disputed since Tue 3 Nov 2026.",
    ]


def test_invoices_under_a_workflow_of_their_own_are_told_each_in_a_part_of_its_own(
    story: Callable[..., Explanation],
) -> None:
    told = story("many")
    assert [part.heading for part in told.parts if part.heading] == [
        "The customer's other invoices",
        *(f"Invoice N-many-{n}, under a workflow of its own" for n in (2, 1, 0)),
    ]
    assert told.outcomes[1:] == (
        "To be reminded: notice of single about invoice N-many-2.",
        "To be reminded: notice of single about invoice N-many-1.",
        "Invoice N-many-0: not reminded (contact_cap).",
    )
    assert "it carries itself" in said(told, CARRIES, "N-many-0")
    assert "by the smart rule 'large invoices': total is at least 5,000 (it is 6,000.00 EUR)." in said(
        told, WORKFLOW, "N-many-0"
    )
    assert "At most 2 reminders" in said(told, BACK, "N-many-0")
    assert "N-many-2 and N-many-1 come first." in said(told, BACK, "N-many-0")
    assert "Invoice N-many-3 carries: no other can be chased." in said(told, CARRIES, "other invoices")


TOMORROW = TODAY + timedelta(days=1)

AFTERWARDS = {
    "customers": [customer(f"C{number}") for number in range(1, 10)],
    "invoices": [
        *(invoice(f"F{number}", f"C{number}", "2026-11-10") for number in range(1, 10)),
        invoice("G6", "C6", "2026-11-12", "70.00"),
    ],
}
"""Customers who are all reminded on TODAY; what becomes of it, and is known afterwards, differs."""


@pytest.fixture(scope="module")
def afterwards(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Books:
    """The day after a live batch, of which some was sent. Read only."""
    made = Books(tmp_path_factory.mktemp("afterwards"), instance, AFTERWARDS)
    batch_id = made.run()
    made.attempt(batch_id, "C1", Result("accepted"))
    refused = Result("rejected", 400, "invalid", "the address was refused")
    made.attempt(batch_id, "C2", refused)
    made.attempt(batch_id, "C3", None)
    retried = made.attempt(batch_id, "C7", refused)
    made.change(
        "insert into payments (payment_id, customer_id, invoice_id, currency, amount, paid_on, recorded_on) values"
        " ('Z1', 'C4', 'F4', 'EUR', '100', '2026-11-15', null),"
        " ('Z2', 'C5', 'F5', 'EUR', '100', '2026-11-15', '2026-11-17'),"
        " ('Z3', 'C6', 'F6', 'EUR', '100', '2026-11-14', '2026-11-14')"
    )
    made.clock.move_to(TOMORROW)
    made.pull()
    derive(made.warehouse, made.pipeline.settings.policy, Days(TOMORROW, TOMORROW))
    recorder = Recorder(made.warehouse, made.pipeline.settings.policy, TOMORROW, lambda: "a")
    recorder.retry(retried, made.clock())
    recorder.contact("C8", TOMORROW, channel="call")
    return made


@pytest.fixture(scope="module")
def aftermath(afterwards: Books) -> Callable[..., Explanation]:
    """Explanations on the day after, each made once."""
    return cache(lambda customer_id, on=TOMORROW: afterwards.explain(customer_id, on))


def test_a_decision_is_told_as_it_was_made_with_what_came_of_it(aftermath: Callable[..., Explanation]) -> None:
    told = aftermath("C1", TODAY)
    assert told.outcomes == ("To be reminded: reminder_1 of standard about invoice N-F1.",)
    assert re.match(
        r"Batch \S+, frozen on Mon 16 Nov 2026 at 09:30: remind, reminder_1 of standard about invoice N-F1; "
        r"Klaviyo accepted it at 09:30\.\nWhat is known today of that day gives the same decision\.$",
        said(told, MADE),
    )
    assert "accepted by Klaviyo (on the day itself)." in said(told, CONTACTS)


def test_what_was_accepted_is_behind_on_the_day_after(aftermath: Callable[..., Explanation]) -> None:
    told = aftermath("C1")
    assert told.outcomes == (
        "Not reminded (waiting_for_trigger): reminder_2 goes on Mon 23 Nov 2026 if nothing changes.",
    )
    assert "Behind for invoice N-F1: reminder_1 (Mon 16 Nov 2026)." in said(told, ACTION)
    assert "last contact Mon 16 Nov 2026 + 5 days = Sat 21 Nov 2026: due on Sat 21 Nov 2026." in said(told, WHEN)
    assert "the next working day is Mon 23 Nov 2026." in said(told, WHEN)


def test_a_rejection_is_told_with_its_error_and_with_what_lifts_it(aftermath: Callable[..., Explanation]) -> None:
    told = aftermath("C2")
    assert told.outcomes == ("Not reminded (rejected).",)
    assert "Klaviyo rejected this very reminder on Mon 16 Nov 2026: the address was refused." in said(told, BACK)
    assert re.search(r"after `dunning retry [0-9a-f-]{36}`\.", said(told, BACK))
    assert "and goes on the first working day from then on which the rejection no longer stands." in said(told, WHEN)
    assert {"6.5", "9.3"} <= rules(told, BACK)
    on_the_day = aftermath("C2", TODAY)
    assert on_the_day.outcomes == (
        "As it was decided: To be reminded: reminder_1 of standard about invoice N-F2.",
        "By what is known today: Not reminded (rejected).",
    )
    assert "Klaviyo rejected it (the address was refused) at 09:30" in said(on_the_day, MADE)
    assert "reason: empty as it was made, rejected by what is known today." in said(on_the_day, MADE)


def test_a_rejection_that_was_lifted_is_told_among_the_contacts(aftermath: Callable[..., Explanation]) -> None:
    told = aftermath("C7")
    assert told.outcomes == ("To be reminded: reminder_1 of standard about invoice N-F7.",)
    assert "rejected by Klaviyo (the address was refused), lifted by `dunning retry`" in said(told, CONTACTS)


@pytest.mark.parametrize(
    ("heading", "sentence"),
    [
        ("customer", "The last contact (visit) is too recent: Fri 13 Nov 2026 + 5 days"),
        ("N-both-2", "The last contact (call about invoice N-both-2) is too recent: Mon 16 Nov 2026 + 1 day"),
    ],
)
def test_the_last_contact_told_is_one_that_counts_for_the_level(
    story: Callable[..., Explanation], heading: str, sentence: str
) -> None:
    assert sentence in said(story("both"), BACK, heading)


def test_what_may_have_been_sent_counts_for_the_delay_and_executes_nothing(
    aftermath: Callable[..., Explanation],
) -> None:
    told = aftermath("C3")
    assert "No action of standard has been executed for invoice N-F3 yet." in said(told, ACTION)
    assert "Whether reminder_1 of Mon 16 Nov 2026 reached Klaviyo is unknown" in said(told, ACTION)
    assert "The last contact (reminder_1 of standard about invoice N-F3) is too recent" in said(told, BACK)
    assert "whether Klaviyo got it is unknown." in said(told, CONTACTS)


def test_a_payment_that_was_dated_back_is_told_beside_the_decision_as_it_was_made(
    aftermath: Callable[..., Explanation],
) -> None:
    told = aftermath("C4", TODAY)
    assert told.outcomes == (
        "As it was decided: To be reminded: reminder_1 of standard about invoice N-F4.",
        "By what is known today: Not reminded (no_open_invoices): nothing is owed.",
    )
    assert "There is no decision by what is known today." in said(told, MADE)
    assert "100.00 EUR on Sun 15 Nov 2026, for invoice N-F4 (Z1)" in said(told, OWED)


def test_a_payment_that_was_recorded_later_changes_nothing_of_the_day_before(
    aftermath: Callable[..., Explanation],
) -> None:
    assert "gives the same decision" in said(aftermath("C5", TODAY), MADE)
    assert aftermath("C5").outcomes == ("Not reminded (no_open_invoices): nothing is owed.",)


def test_each_column_that_differs_is_told_with_both_values(aftermath: Callable[..., Explanation]) -> None:
    told = aftermath("C6", TODAY)
    assert "carrying_invoice_id: F6 as it was made, G6 by what is known today." in said(told, MADE)
    assert "trigger_on: Wed 11 Nov 2026 as it was made, Fri 13 Nov 2026 by what is known today." in said(told, MADE)
    assert "nothing was sent of it (the batch is sending)" in said(told, MADE)
    assert "since Sat 14 Nov 2026; invoice N-F6, which carried before, was paid." in said(told, CARRIES)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (("name: reminder_1, day: 1,", "name: reminder_one, day: 1,"), "which makes the whole difference."),
        (("max_deferral: 5", "max_deferral: 6"), "which makes no difference."),
    ],
    ids=["in the name of the action", "in something else"],
)
def test_a_changed_policy_is_told_with_the_difference_that_it_makes(
    afterwards: Books, changed: tuple[str, str], sentence: str
) -> None:
    policy = parse_policy(POLICY.replace(*changed))
    told = explain(replace(afterwards.pipeline.settings, loaded=policy), "C9", TODAY)
    assert f"The policy has changed since, {sentence}" in said(told, MADE)


def test_a_day_without_a_live_batch_is_compared_with_the_decisions_that_were_derived(
    aftermath: Callable[..., Explanation],
) -> None:
    assert MADE not in [step.title for part in aftermath("C1").parts for step in part.steps]
    told = aftermath("C8")
    assert told.outcomes == (
        "Not reminded (minimum_contact_delay): reminder_1 goes on Mon 23 Nov 2026 if nothing changes.",
    )
    assert "No live batch was made on that day" in said(told, MADE)
    assert "It says: remind, reminder_1 of standard about invoice N-F8." in said(told, MADE)
    assert "last_contact_on: empty as it was made, Tue 17 Nov 2026 by what is known today." in said(told, MADE)


def test_unknown_customers_and_days_that_cannot_be_derived_are_refused_in_a_sentence(
    books: Books, tmp_path: Path
) -> None:
    with pytest.raises(DunningError, match="there is no customer 'remnd'; similar: remind"):
        books.explain("remnd")
    with pytest.raises(DunningError, match="2026-11-17 cannot be derived"):
        books.explain("remind", TODAY + timedelta(days=1))
    with pytest.raises(DunningError, match="2019-12-31 cannot be derived"):
        books.explain("remind", date(2019, 12, 31))
    assert "no_open_invoices" in books.explain("remind", date(2020, 1, 1)).outcomes[0]
    with pytest.raises(DunningError, match="nothing to explain yet: run `dunning run --as-of 2026-11-16`"):
        explain(settings_at(tmp_path, POLICY, books.clock), "remind", TODAY)


def test_explaining_writes_nothing_and_leaves_nothing_behind(books: Books) -> None:
    before = books.pipeline.settings.warehouse_path.read_bytes()
    books.explain("many")
    assert books.pipeline.settings.warehouse_path.read_bytes() == before
    assert list((books.pipeline.settings.home / "staging").iterdir()) == []


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """The demo's business, pulled and decided."""
    home = tmp_path_factory.mktemp("sample")
    environment = {"BILLING_DATABASE_URL": f"sqlite:///{home / 'billing.sqlite'}"}
    write_billing_database(home / "billing.sqlite", TODAY)
    pipeline = Pipeline(settings_at(home, SAMPLE_POLICY, MovingClock(), environment), instance)
    fed = [*pulled_sources(pipeline.settings.policy)["billing"].tables]
    assert pipeline.daily(asset_selection=[dg.AssetKey(["source", table]) for table in fed]).success
    derive(pipeline.warehouse, pipeline.settings.policy, Days(TODAY, TODAY))
    return pipeline


def decisions(warehouse: Warehouse, customer_key: int) -> tuple[Decision, ...]:
    with warehouse.transaction() as connection:
        key = {"day": TODAY, "customer_key": customer_key}
        return read_decisions(connection, "dunning.decisions where as_of = $day", key)


@pytest.mark.parametrize(
    "most",
    [pytest.param(1, id="one customer of each reason"), pytest.param(50, id="many", marks=pytest.mark.long)],
)
def test_what_is_explained_is_what_the_daily_job_decides(sample: Pipeline, most: int) -> None:
    chosen = sample.warehouse.fetch(
        "select customer_id, customer_key from dunning.decisions"
        " qualify row_number() over (partition by reason order by customer_id) <= $most",
        {"most": most},
    )
    assert len(chosen) >= 7
    for customer_id, customer_key in chosen.itertuples(index=False):
        decided = decisions(sample.warehouse, int(customer_key))
        with scratch_of_customer(sample.settings, customer_id) as scratch:
            derive(scratch, sample.settings.policy, Days(TODAY, TODAY))
            assert decisions(scratch, int(customer_key)) == decided


def test_an_invoice_has_carried_since_the_first_of_all_days_on_which_it_did(
    books: Books, story: Callable[..., Explanation]
) -> None:
    days = list(Days(TODAY - timedelta(days=13), TODAY))
    with scratch_copy(books.pipeline.settings) as scratch:
        derive(scratch, books.pipeline.settings.policy, Days(days[0], TODAY), WHAT_IS_OWED)
        rows = scratch.fetch("select as_of, customer_id, invoice_id from dunning.carrying_invoices")
    carried = {(row.as_of.date(), row.customer_id, row.invoice_id) for row in rows.itertuples()}
    for customer_id, invoice_id in (("older", "older-2"), ("succession", "succession-2"), ("ordered", "ordered-1")):
        broken_off = max(day for day in days if (day, customer_id, invoice_id) not in carried)
        since = texts.day(broken_off + timedelta(days=1))
        assert f"without a break since {since};" in said(story(customer_id), CARRIES)


def test_days_off_are_those_of_the_rules() -> None:
    of_customers = "country: US, subdivision: CA, by_customer_country: true"
    policy = parse_policy(POLICY.replace("country: FR", of_customers))
    for country in ("FR", "DE", "US", None, "XX"):
        calendar = WorkingDays.of(policy, pd.Series([country], dtype="str"), range(2025, 2028))
        days_off = DaysOff(policy, country)
        for day in Days(date(2026, 1, 1), date(2026, 12, 31)):
            moved = calendar.forward(np.array([day], dtype="datetime64[D]"))[0]
            assert days_off.next_working_day(day) == moved.astype(date), (country, day)
            assert (days_off.why(day) is None) == (moved == np.datetime64(day))
    assert DaysOff(policy, "DE").why(date(2026, 10, 3)) == "a Saturday"
    assert DaysOff(policy, "DE").why(date(2026, 5, 1)) == "Labor Day"


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123450, "EUR", "1,234.50 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1500, "JPY", "1,500 JPY"),
        (10**15 + 1, "KWD", "1,000,000,000,000.001 KWD"),
    ],
)
def test_amounts_are_written_exactly(minor: int, currency: str, text: str) -> None:
    assert texts.money(minor, currency) == text


def test_an_amount_in_base_currency_has_all_its_decimals() -> None:
    assert texts.exact(Fraction(49999999, 10**4), "EUR") == "4,999.9999 EUR"


def test_the_command_prints_paragraphs_with_the_rules_and_wraps_them_on_a_terminal_only(
    story: Callable[..., Explanation],
) -> None:
    piped, terminal = (
        Console(file=io.StringIO(), width=60, force_terminal=on_terminal) for on_terminal in (False, True)
    )
    for console in (piped, terminal):
        print_explanation(story("remind"), console)
    lines = piped.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[:4] == [
        "Company remind (remind) on Mon 16 Nov 2026",
        "  To be reminded: reminder_1 of standard about invoice N-remind-1.",
        "",
        "What is owed  rules 1.2, 1.4, 6.3",
    ]
    assert max(map(len, lines)) > 60
    wrapped = re.sub(r"\x1b\[[0-9;]*m", "", terminal.file.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert max(map(len, wrapped)) <= 60
    assert " ".join(wrapped).split() == " ".join(lines).split()


def test_the_command_explains_and_refuses(
    books: Books, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = books.pipeline.settings
    monkeypatch.setenv("DUNNING_POLICY", str(settings.policy_file))
    monkeypatch.setenv("DUNNING_HOME", str(settings.home))
    with pytest.raises(SystemExit) as told:
        main(["explain", "paid", "--as-of", "2020-01-01"])
    assert told.value.code == 0
    assert "Company paid (paid) on Wed 1 Jan 2020" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main(["explain", "paidd"])
    assert refused.value.code == 1
    assert "there is no customer 'paidd'; similar: paid" in capsys.readouterr().err


DOCUMENTED = {
    "customers": [customer("000003", name="Atelier Lumière")],
    "invoices": [
        invoice("4711", "000003", "2026-11-04", "480.00", number="4711", issued_on="2026-10-05"),
        invoice("4720", "000003", "2026-11-20", "96.40", number="4720", issued_on="2026-10-21"),
    ],
    "payments": [
        {"payment_id": "R7", "customer_id": "000003", "invoice_id": "4711", "amount": "80.00", "paid_on": "2026-11-06"}
    ],
}


DOCUMENTED_POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 8}]}]
sending: {live: true}
"""


def test_the_documented_example_is_what_is_printed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    document = (Path(__file__).parents[1] / "docs" / "decisions.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```text\n(.*?)^```$", document, re.M | re.S)
    books = Books(tmp_path, instance, DOCUMENTED, DOCUMENTED_POLICY + SOURCES)
    books.clock.move_to(date(2026, 11, 13))
    books.pull()
    with books.warehouse.transaction() as connection:
        connection.execute(
            "insert into dunning.sent_history by name select 'r1' as reminder_id, 'invoice' as stream, 'b' as batch_id,"
            " '000003' as customer_id, 'customer' as level, '4711' as carrying_invoice_id, 'standard' as workflow,"
            " 'reminder_1' as action, 1 as occurrence, 1 as attempt, unnest(['attempting', 'accepted']) as outcome,"
            " timestamptz '2026-11-09 08:30:00+01' as attempted_at, date '2026-11-09' as contact_on,"
            " (select customer_key from source.customer_keys where customer_id = '000003') as customer_key,"
            " (select invoice_key from source.invoice_keys where invoice_id = '4711') as invoice_key"
        )
    printed = io.StringIO()
    print_explanation(books.explain("000003"), Console(file=printed))
    assert printed.getvalue() == example
