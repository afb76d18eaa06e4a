"""The decision of a day (RULES 5.2, 6): one row per customer, the first reason that applies, one reminder a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise

import pandas as pd
import pytest
import reference
from frames import (
    CUSTOMER,
    EVERY_DAY,
    MONDAY,
    WEEKDAYS_ONLY,
    book,
    day,
    decision,
    invoice,
    payment,
    policy_of,
    reason,
    reasons,
    rules_of,
    run,
)
from reference import Contact, Customer, Decision, Ledger, OrderEvent, Pause, Promise, Rejection, Rules, Workflow

from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.warehouse import declared_rows
from dunning_pipeline.tables import DECISIONS, REASONS

REJECTED_ID = reference.reminder_id("c1", "standard", "A", "step_1")
IN_ORDER = (
    "source_unclear",
    "no_workflow",
    "empty_workflow",
    "organisation_paused",
    "customer_paused",
    "promise_to_pay",
    "net_balance_not_positive",
    "below_minimum_amount",
    "no_contact_address",
    "workflow_completed",
    "waiting_for_trigger",
    "minimum_contact_delay",
    "contact_cap",
    "non_working_day",
    "rejected",
)


@dataclass(frozen=True)
class Situation:
    """Everything that can stand in the way of one reminder, each part to be replaced by one that does."""

    ledger: Ledger = field(default_factory=lambda: book(invoice()))
    rules: Rules = field(default_factory=lambda: rules_of(0))
    as_of: date = MONDAY

    def adding(self, **rows: list) -> Situation:
        tables = {name: getattr(self.ledger, name) + more for name, more in rows.items()}
        return replace(self, ledger=replace(self.ledger, **tables))

    def with_rules(self, **columns: object) -> Situation:
        return replace(self, rules=replace(self.rules, **columns))

    def with_workflow(self, **columns: object) -> Situation:
        return self.with_rules(workflows=(replace(self.rules.workflows[0], **columns),))

    def decision(self) -> Decision:
        return decision(self.ledger, self.rules, self.as_of)


REJECTION = Rejection(REJECTED_ID, MONDAY, email=CUSTOMER.email)
"""Of the first reminder to c1."""


def _vanished(situation: Situation) -> Situation:
    gone = [replace(row, missing_since=day(0)) for row in situation.ledger.invoices]
    return replace(situation, ledger=replace(situation.ledger, invoices=gone))


def _unreachable(situation: Situation) -> Situation:
    return replace(situation, ledger=replace(situation.ledger, customers=[replace(CUSTOMER, email=None)]))


OBSTACLES: dict[str, Callable[[Situation], Situation]] = {
    "source_unclear": _vanished,
    "no_workflow": lambda situation: situation.with_rules(default=None),
    "empty_workflow": lambda situation: situation.with_workflow(actions=()),
    "organisation_paused": lambda situation: situation.adding(pauses=[Pause("zo", "organisation", day(0))]),
    "customer_paused": lambda situation: situation.adding(pauses=[Pause("zc", "customer", day(0), customer_id="c1")]),
    "promise_to_pay": lambda situation: situation.adding(promises=[Promise("s", "c1", day(0), day(9))]),
    "net_balance_not_positive": lambda situation: situation.adding(payments=[payment(None, 10_000, 0)]),
    "below_minimum_amount": lambda situation: situation.with_rules(minimum_amount={"EUR": 10_001}),
    "no_contact_address": _unreachable,
    "workflow_completed": lambda situation: situation.adding(
        contacts=[Contact("c1", day(-9), "A", "standard", "step_1", "an id")]
    ),
    "waiting_for_trigger": lambda situation: situation.with_workflow(actions=rules_of(3).workflows[0].actions),
    "minimum_contact_delay": lambda situation: situation.adding(contacts=[Contact("c1", day(0), kind="recorded")]),
    "non_working_day": lambda situation: situation.with_rules(working_days=EVERY_DAY - {MONDAY.weekday()}),
    "contact_cap": lambda situation: situation.adding(order_events=[OrderEvent("c1", MONDAY)]).with_rules(
        contact_cap=(1, 5)
    ),
    "rejected": lambda situation: situation.adding(rejections=[REJECTION]),
}


def test_nothing_in_the_way_means_remind():
    row = Situation().decision()
    assert row == Decision(
        as_of=MONDAY,
        customer_id="c1",
        level="customer",
        carrying_invoice_id="A",
        workflow="standard",
        assigned_by="default",
        action="step_1",
        action_position=1,
        occurrence=1,
        trigger_on=day(0),
        last_contact_on=None,
        next_due_on=MONDAY,
        decision="remind",
        reason="remind",
        reminder_id=REJECTED_ID,
    )


@pytest.mark.parametrize("reason_given", IN_ORDER)
def test_each_obstacle_alone_gives_its_reason_and_no_reminder(reason_given):
    row = OBSTACLES[reason_given](Situation()).decision()
    assert (row.decision, row.reason, row.reminder_id) == ("skip", reason_given, None)
    dated = reason_given in IN_ORDER[IN_ORDER.index("waiting_for_trigger") :]
    assert (row.next_due_on is not None) is dated


@pytest.mark.parametrize(
    ("first", "second"),
    list(pairwise(IN_ORDER)),
)
def test_of_two_obstacles_the_one_that_stands_earlier_is_named(first, second):
    assert OBSTACLES[first](OBSTACLES[second](Situation())).decision().reason == first


def test_of_all_remaining_obstacles_the_earliest_is_named():
    for place, first in enumerate(IN_ORDER):
        situation = Situation()
        for later in reversed(IN_ORDER[place:]):
            situation = OBSTACLES[later](situation)
        assert situation.decision().reason == first


def test_the_table_knows_every_reason_in_order():
    assert REASONS == IN_ORDER


def test_a_customer_without_a_workflow_still_shows_what_carries():
    row = OBSTACLES["no_workflow"](Situation()).decision()
    assert (row.carrying_invoice_id, row.workflow, row.assigned_by, row.action) == ("A", None, None, None)


def test_deriving_a_day_again_gives_the_same_reminder_and_another_one_of_the_day_holds_it():
    first = Situation().decision()
    same = Situation().adding(contacts=[reference.accepted(first)])
    assert same.decision() == first
    other = Situation().adding(contacts=[Contact("c1", MONDAY, "Z", "standard", "step_1", "another id")]).decision()
    assert (other.reason, other.last_contact_on, other.next_due_on) == ("minimum_contact_delay", MONDAY, day(6))
    assert other.reminder_id is None
    both = same.adding(contacts=[Contact("c1", MONDAY, "Z", "standard", "step_1", "another id")])
    assert both.decision() == first


def test_another_reminder_of_the_day_holds_for_a_day_even_without_a_delay():
    without_delay = Situation().with_workflow(minimum_contact_delay=0)
    row = without_delay.adding(contacts=[Contact("c1", MONDAY, "Z", "standard", "step_1", "another id")]).decision()
    assert (row.reason, row.next_due_on) == ("minimum_contact_delay", day(2))


def test_the_due_date_after_another_reminder_of_the_day_is_a_working_day():
    weekdays = Situation().with_rules(working_days=WEEKDAYS_ONLY)
    row = weekdays.adding(contacts=[Contact("c1", MONDAY, "Z", "standard", "step_1", "another id")]).decision()
    # Monday + 5 is Saturday the 16th.
    assert row.next_due_on == date(2021, 10, 18)


def test_a_reminder_of_the_day_does_not_hold_other_customers():
    ledger = Ledger(
        customers=[CUSTOMER, replace(CUSTOMER, customer_id="c2")],
        invoices=[invoice("A"), invoice("B", customer_id="c2")],
        contacts=[Contact("c1", MONDAY, "Z", "standard", "step_1", "another id")],
    )
    assert reasons(ledger) == {"c1": "minimum_contact_delay", "c2": "remind"}


def rejected_with(rules: Rules | None = None, customer: Customer = CUSTOMER, **columns: object) -> str:
    rules = rules or rules_of(0)
    rejections = [replace(REJECTION, **columns)]
    return reason(book(invoice(), customers=[customer], rejections=rejections), rules)


def test_a_rejection_stands_while_identifiers_and_policy_stay_the_same():
    assert rejected_with() == "rejected"
    assert rejected_with(email="former@harbour-bakery.test") == "remind"
    assert rejected_with(policy_unchanged=False) == "remind"
    assert rejected_with(reminder_id="of another reminder") == "remind"


def test_identifiers_that_are_not_asked_for_do_not_lift_a_rejection():
    assert rejected_with(customer=replace(CUSTOMER, phone="+441632960001")) == "rejected"
    both = rules_of(0, identify_by=("email", "phone"))
    assert rejected_with(both, replace(CUSTOMER, phone="+441632960001")) == "remind"
    assert rejected_with(both, replace(CUSTOMER, phone="+441632960001"), phone="+441632960001") == "rejected"


def test_a_rejection_holds_its_own_day_and_later_ones_but_none_before():
    assert rejected_with(rejected_on=MONDAY - timedelta(days=1)) == "rejected"
    assert rejected_with(rejected_on=MONDAY) == "rejected"
    assert rejected_with(rejected_on=MONDAY + timedelta(days=1)) == "remind"


def test_a_rejected_reminder_is_due_today_still():
    row = OBSTACLES["rejected"](Situation()).decision()
    assert (row.next_due_on, row.action, row.reminder_id) == (MONDAY, "step_1", None)


VALID_EMAILS = (
    "accounts@harbour-bakery.test",
    "a.b+invoices@mail.quay-and-sons.test",
    "o'neill@quay.test",
    "UPPER@QUAY.TEST",
    "1@2.quay.test",
    "x" * 87 + "@quay.test",
)
INVALID_EMAILS = (
    None,
    "",
    " ",
    "nobody",
    "accounts@localhost",
    "@quay.test",
    "a@",
    "a b@quay.test",
    "a@quay .test",
    "a@b@quay.test",
    "a@quay.t",
    "a@quay..test",
    "a,b@quay.test",
    "Quay <a@quay.test>",
    "x" * 100 + "@quay.test",
)


def reasons_by_email(emails: tuple[str | None, ...]) -> set[str]:
    customers = [Customer(str(n), email=email) for n, email in enumerate(emails)]
    invoices = [invoice(f"i{n}", customer_id=str(n)) for n in range(len(emails))]
    found = reasons(book(*invoices, customers=customers))
    assert len(found) == len(emails)
    return set(found.values())


def test_usable_addresses_are_told_from_others():
    assert reasons_by_email(VALID_EMAILS) == {"remind"}
    assert reasons_by_email(INVALID_EMAILS) == {"no_contact_address"}


def test_an_address_may_have_up_to_99_characters():
    assert reasons_by_email(("x" * 89 + "@quay.test",)) == {"remind"}
    assert reasons_by_email(("x" * 90 + "@quay.test",)) == {"no_contact_address"}


def test_blanks_around_an_address_do_not_matter():
    assert reasons_by_email((" a@quay.test ", "a@quay.test\n")) == {"remind"}


@pytest.mark.parametrize(
    ("identify_by", "columns", "reachable"),
    [
        (("email",), {"phone": "+441632960001", "external_id": "C-1"}, False),
        (("phone",), {"email": "a@quay.test"}, False),
        (("phone",), {"phone": "+441632960001"}, True),
        (("phone",), {"phone": "01632 960001"}, False),
        (("phone",), {"phone": "+0441632960"}, False),
        (("external_id",), {"external_id": "C-1"}, True),
        (("external_id",), {"external_id": "  "}, False),
        (("email", "phone"), {"email": "nobody", "phone": "+441632960001"}, True),
        (("phone", "external_id", "email"), {}, False),
    ],
)
def test_one_usable_identifier_of_those_asked_for_is_enough(identify_by, columns, reachable):
    ledger = book(invoice(), customers=[Customer("c1", **columns)])
    expected = "remind" if reachable else "no_contact_address"
    assert reason(ledger, rules_of(1, identify_by=identify_by)) == expected


def test_a_customer_that_no_source_has_cannot_be_reached():
    row = decision(book(invoice(), customers=[]))
    assert (row.customer_id, row.reason) == ("c1", "no_contact_address")


def test_there_is_one_row_per_customer_that_owes_in_order_of_their_keys():
    invoices = [invoice(f"{n}-{k}", k, customer_id=f"c{n}") for n in range(4) for k in range(3)]
    frame = run(book(*invoices, customers=[]), rules_of(1)).decisions
    assert frame["customer_id"].tolist() == ["c0", "c1", "c2", "c3"]
    assert frame["customer_key"].is_monotonic_increasing


def test_the_rows_are_as_the_table_declares_them():
    invoices = [invoice("A"), invoice("B", customer_id="c2"), invoice("C", customer_id="c3", missing_since=day(0))]
    frame = run(book(*invoices), rules_of(1)).decisions
    assert declared_rows(DECISIONS.keyed, frame.assign(run_id="run")).num_rows == 3
    assert set(DECISIONS.column_names) <= {*frame.columns, "run_id"}
    assert frame["occurrence"].tolist() == [1, 1, pd.NA]


def test_no_rows_are_declared_alike():
    frame = run(Ledger(), rules_of(1)).decisions
    assert frame.empty
    assert declared_rows(DECISIONS.keyed, frame.assign(run_id="run")).num_rows == 0


def test_a_policy_whose_only_workflow_is_empty_decides_too():
    rules = Rules((Workflow("standard", ()),), default="standard", working_days=EVERY_DAY)
    assert reason(book(invoice()), rules) == "empty_workflow"


def test_the_hash_of_the_policy_tells_it_from_another():
    assert parse_policy(policy_of(rules_of(1)).text).hash == policy_of(rules_of(1)).hash != policy_of(rules_of(2)).hash
