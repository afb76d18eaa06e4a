"""The rules against the plain reference, on ledgers full of ties, boundaries and odd rows.

A ledger is generated from a drawn seed rather than drawn row by row, which would take longer than the rules.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TypeVar

import frames
import pytest
import reference
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from reference import (
    Action,
    Assignment,
    Contact,
    Customer,
    Invoice,
    Ledger,
    Pause,
    Payment,
    Promise,
    Rules,
    Workflow,
)

T = TypeVar("T")

CENTRE = date(2026, 3, 4)
CURRENCIES = ("EUR", "EUR", "EUR", "USD", "JPY", "KWD")
TOTALS = (100, 250, 1_000, 1_000, 9_200, 10_000, 12_345, 1_000_000)
EMAILS = ("accounts@harbour-bakery.test", "a.b+c@mail.quay.test", "nobody", "a b@quay.test", "a@b@quay.test", "", None)
PHONES = ("+441632960001", "01632 960001", "+0441632960", None)
EXTERNAL_IDS = ("C-1", "  ", None)
COUNTRIES = (None, "", "ZZ", "Atlantis", *frames.COUNTRIES)
# Most have a holiday within some days of CENTRE, the subdivisions others than their country.
HOLIDAYS = (
    (None, None),
    ("BG", None),
    ("KR", None),
    ("GH", None),
    ("DE", "BY"),
    ("AU", None),
    ("AU", "WA"),
    ("AU", "VIC"),
    ("US", "TX"),
    ("US", "VT"),
)
EVERY_REASON = {
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
    "non_working_day",
    "remind",
}

DEFAULT_EXAMPLES = 15
FEW = settings(
    max_examples=DEFAULT_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    # A smaller seed is no simpler ledger; what a failure shows is cut down to one customer instead.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=20 * DEFAULT_EXAMPLES, derandomize=False, print_blob=True)


@dataclass(frozen=True)
class Knobs:
    """What a generated ledger looks like: how many customers, how far apart its dates, how often something happens."""

    seed: int
    customers: int
    spread: int
    trouble: float
    organisation_paused: bool = False


@dataclass(frozen=True)
class Case:
    ledger: Ledger
    rules: Rules
    days: tuple[date, ...]


knobs = st.builds(
    Knobs,
    seed=st.integers(0, 2**32 - 1),
    customers=st.integers(50, 70),
    spread=st.sampled_from([3, 8, 20]),
    trouble=st.sampled_from([0.05, 0.15, 0.3]),
    organisation_paused=st.sampled_from([False] * 9 + [True]),
)


@dataclass(frozen=True)
class Generator:
    """Makes a ledger and rules; all that it draws comes from `chance`."""

    chance: random.Random
    knobs: Knobs

    def happens(self, probability: float | None = None) -> bool:
        return self.chance.random() < (self.knobs.trouble if probability is None else probability)

    def day(self, earlier: int = 0) -> date:
        return CENTRE + timedelta(days=self.chance.randint(-self.knobs.spread, self.knobs.spread) - earlier)

    def maybe(self, make: Callable[[], T], probability: float | None = None) -> T | None:
        return make() if self.happens(probability) else None

    def rules(self) -> Rules:
        workflows = tuple(self.workflow(name) for name in ("standard", "gentle", "empty", "strict"))
        names = [workflow.name for workflow in workflows if workflow.actions]
        weekdays = self.chance.choice([range(5), range(5), range(7), self.chance.sample(range(7), 3)])
        rules = Rules(
            workflows=tuple(self.chance.sample(workflows, len(workflows))),
            default=self.chance.choice([*names, *names, *names, "empty", None]),
            working_days=frozenset(weekdays),
            tolerance=self.chance.choice([{}, {"EUR": 5, "JPY": 100}, {"EUR": 1_000, "KWD": 1}]),
            minimum_amount=self.chance.choice([{}, {"EUR": 1_000, "USD": 9_200}, {"EUR": 12_345, "JPY": 2_000}]),
            exchange_rates=self.chance.choice([{}, {"USD": Decimal("0.92")}, self.all_rates()]),
            identify_by=self.chance.choice([("email",), ("email", "phone"), ("phone", "external_id", "email")]),
            organisation_paused=self.knobs.organisation_paused,
        )
        country, subdivision = self.chance.choice(HOLIDAYS)
        return frames.with_holidays(rules, country, subdivision, by_customer_country=self.happens(0.5))

    def all_rates(self) -> dict[str, Decimal]:
        return {"USD": Decimal("0.92"), "JPY": Decimal("0.01"), "KWD": Decimal("2.5")}

    def workflow(self, name: str) -> Workflow:
        count = 0 if name == "empty" else self.chance.randint(1, 5)
        ladder = sorted(self.chance.sample([*range(-8, 0), *range(25)], count))
        if ladder and self.happens(0.4):
            ladder = sorted({self.chance.randint(-3, -1), *ladder[1:]})
        actions = tuple(
            Action(f"step_{n}", day, (f"old_{n}", f"older_{n}") if self.happens(0.3) else ())
            for n, day in enumerate(ladder, start=1)
        )
        return Workflow(
            name,
            actions,
            minimum_contact_delay=self.chance.choice([0, 0, 1, 2, 4, 5, 7, 30]),
            anchor=self.chance.choice(["due_date", "due_date", "issue_date"]),
            logic=self.chance.choice(["standard", "contextual"]),
            repeat_last=self.maybe(self.repeat_last, 0.5),
        )

    def repeat_last(self) -> tuple[int, int | None]:
        return self.chance.choice([1, 2, 3, 5, 7, 14]), self.chance.choice([None, None, 1, 2, 3])

    def ledger(self, rules: Rules) -> Ledger:
        ledger = Ledger()
        for number in range(self.knobs.customers):
            self.add_customer(ledger, f"c{number}", rules)
        for number in range(3):
            if self.happens(0.1):
                start = self.day()
                ledger.pauses.append(Pause(f"z-all-{number}", "organisation", start, start + timedelta(days=2)))
        for table in fields(Ledger):
            self.chance.shuffle(getattr(ledger, table.name))
        return ledger

    def add_customer(self, ledger: Ledger, customer_id: str, rules: Rules) -> None:
        if not self.happens(0.05):
            ledger.customers.append(self.customer(customer_id, rules))
        age = self.chance.choice([5, 5, -4])
        invoices = [self.invoice(customer_id, n, age) for n in range(self.chance.randint(0, 5))]
        ledger.invoices += invoices
        for invoice in invoices:
            ledger.payments += self.payments(invoice, rules)
        ids = [invoice.invoice_id for invoice in invoices] + [f"{customer_id}-nowhere"]
        ledger.payments += self.unapplied(customer_id)
        ledger.pauses += self.pauses(customer_id, ids)
        ledger.promises += self.promises(customer_id, ids)
        ledger.assignments += self.assignments(customer_id, ids, rules)
        ledger.contacts += self.contacts(customer_id, ids, rules)
        if self.happens(0.5):
            oldest = sorted(invoices, key=lambda invoice: invoice.due_on or invoice.issued_on)[:1]
            likely = [*ids, *(invoice.invoice_id for invoice in [*oldest, *oldest, *oldest])]
            ledger.contacts += self.executions_of_a_last_action(customer_id, likely, rules)

    def customer(self, customer_id: str, rules: Rules) -> Customer:
        likely = 0 if not self.happens() else self.chance.randrange(len(EMAILS))
        return Customer(
            customer_id,
            email=EMAILS[likely],
            phone=self.chance.choice(PHONES),
            external_id=self.chance.choice(EXTERNAL_IDS),
            country=self.chance.choice([*COUNTRIES, *5 * [rules.holiday_country]]),
        )

    def invoice(self, customer_id: str, number: int, age: int) -> Invoice:
        issued_on = self.day(earlier=20)
        status = self.chance.choice(["draft", "void", "written_off", None]) if self.happens() else "open"
        disputed_on = self.maybe(self.day)
        recorded_on = self.day() if self.happens() else None
        return Invoice(
            invoice_id=self.chance.choice(["INV-{}-{}", "{}{}", "Z{}-{}"]).format(customer_id, number),
            customer_id=customer_id,
            issued_on=issued_on,
            due_on=None if self.happens() else self.day(earlier=age),
            currency=self.chance.choice(CURRENCIES),
            total_minor=self.chance.choice(TOTALS),
            status=status,
            recorded_on=recorded_on,
            voided_on=self.maybe(self.day),
            written_off_on=self.maybe(self.day),
            disputed_on=disputed_on,
            dispute_resolved_on=self.maybe(self.day, 0.5) if disputed_on else None,
            missing_since=self.maybe(self.day),
        )

    def payments(self, invoice: Invoice, rules: Rules) -> Iterable[Payment]:
        open_minor = invoice.total_minor
        tolerance = rules.tolerance.get(invoice.currency, 0)
        for number in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            exact = [open_minor, open_minor - tolerance, open_minor - tolerance - 1, open_minor + 50]
            amount = self.chance.choice([*exact, open_minor // 3, open_minor // 2])
            kind = self.chance.choice(["payment", "credit_note", None])
            if self.happens():
                amount, kind = -self.chance.choice(TOTALS), self.chance.choice(["refund", "chargeback"])
            elif self.happens(0.1):
                kind = "refund"
            open_minor -= amount
            yield Payment(
                payment_id=f"{invoice.invoice_id}-p{number}",
                customer_id=invoice.customer_id,
                invoice_id=invoice.invoice_id,
                currency=self.chance.choice(CURRENCIES) if self.happens(0.05) else invoice.currency,
                amount_minor=amount,
                paid_on=self.day(),
                kind=kind,
                recorded_on=self.maybe(self.day),
            )

    def unapplied(self, customer_id: str) -> Iterable[Payment]:
        for number in range(self.chance.choice([1, 2]) if self.happens(0.3) else 0):
            yield Payment(
                payment_id=f"{customer_id}-u{number}",
                customer_id=customer_id,
                invoice_id=self.chance.choice([None, f"{customer_id}-nowhere"]),
                currency=self.chance.choice(CURRENCIES),
                amount_minor=self.chance.choice(TOTALS),
                paid_on=self.day(),
                recorded_on=self.maybe(self.day),
            )

    def pauses(self, customer_id: str, invoice_ids: Sequence[str]) -> Iterable[Pause]:
        for number in range(self.chance.choice([1, 2]) if self.happens() else 0):
            scope, start = self.chance.choice(["customer", "invoice"]), self.day()
            yield Pause(
                pause_id=f"{customer_id}-z{number}",
                scope=scope,
                paused_from=start,
                paused_until=None if self.happens(0.3) else start + timedelta(days=self.chance.randint(1, 6)),
                customer_id=customer_id if scope == "customer" or self.happens(0.5) else None,
                invoice_id=self.chance.choice(invoice_ids) if scope == "invoice" else None,
                recorded_on=self.maybe(self.day),
            )

    def promises(self, customer_id: str, invoice_ids: Sequence[str]) -> Iterable[Promise]:
        for number in range(self.chance.choice([1, 2, 3]) if self.happens(0.25) else 0):
            made = self.day(earlier=self.chance.choice([0, 0, 20]))
            yield Promise(
                promise_id=f"{customer_id}-s{number}",
                customer_id=customer_id,
                promised_on=made,
                pay_by=made + timedelta(days=self.chance.randint(0, 6)),
                invoice_id=self.chance.choice([None, None, *invoice_ids]),
                pauses=self.chance.choice([True, True, True, False, None]),
                withdrawn_on=self.maybe(self.day),
                recorded_on=self.maybe(self.day),
            )

    def assignments(self, customer_id: str, invoice_ids: Sequence[str], rules: Rules) -> Iterable[Assignment]:
        meant = [workflow.name for workflow in rules.workflows if workflow.actions]
        names = [*meant, *meant, *meant, "empty", "unassigned", "of another policy"]
        for number in range(self.chance.choice([1, 2, 3]) if self.happens(0.5) else 0):
            start = self.day()
            yield Assignment(
                assignment_id=f"{customer_id}-a{number}",
                customer_id=customer_id,
                workflow=self.chance.choice(names),
                assigned_from=start,
                assigned_until=None if self.happens(0.3) else start + timedelta(days=self.chance.randint(1, 9)),
                invoice_id=self.chance.choice(invoice_ids) if self.happens(0.1) else None,
                recorded_on=self.maybe(self.day),
            )

    def contacts(self, customer_id: str, invoice_ids: Sequence[str], rules: Rules) -> Iterable[Contact]:
        for number in range(self.chance.choice([0, 0, 1, 2, 3])):
            workflow = self.chance.choice(rules.workflows)
            names = [name for action in workflow.actions for name in (action.name, *action.was)]
            contact = Contact(
                customer_id=customer_id,
                contacted_on=self.day(earlier=self.chance.choice([0, 0, 5])),
                carrying_invoice_id=self.chance.choice(invoice_ids),
                workflow=workflow.name,
                action=self.chance.choice([*names, *names, "dropped_step"]),
                reminder_id=f"{customer_id}-r{number}",
                kind=self.chance.choice(["accepted", "accepted", "unknown", "recorded"]),
            )
            yield self.recorded_by_hand(contact) if contact.kind == "recorded" else contact

    def executions_of_a_last_action(
        self, customer_id: str, invoice_ids: Sequence[str], rules: Rules
    ) -> Iterable[Contact]:
        """Several contacts about the last action of one ladder for one invoice, some on the same day."""
        ladders = [workflow for workflow in rules.workflows if workflow.actions]
        likely = [workflow for workflow in ladders if workflow.name == rules.default]
        workflow = self.chance.choice([*ladders, *likely, *likely, *likely])
        last = workflow.actions[-1]
        invoice_id = self.chance.choice(invoice_ids)
        days = [self.day(earlier=self.chance.choice([3, 10, 20])) for _ in range(3)]
        for number in range(self.chance.randint(1, 4)):
            contact = Contact(
                customer_id=customer_id,
                contacted_on=self.chance.choice(days),
                carrying_invoice_id=invoice_id,
                workflow=workflow.name,
                action=self.chance.choice([last.name, last.name, *last.was]),
                reminder_id=f"{customer_id}-l{number}",
                kind=self.chance.choice(["accepted", "accepted", "accepted", "unknown", "recorded"]),
            )
            by_hand = {"reminder_id": None, "recorded_on": self.maybe(self.day)} if contact.kind == "recorded" else {}
            yield replace(contact, **by_hand)

    def recorded_by_hand(self, contact: Contact) -> Contact:
        names_nothing = {"carrying_invoice_id": None, "workflow": None, "action": None} if self.happens(0.5) else {}
        return replace(contact, reminder_id=None, recorded_on=self.maybe(self.day), **names_nothing)

    def with_reminders_of(self, ledger: Ledger, rules: Rules, today: date) -> Ledger:
        """The ledger after some of the day's reminders were accepted, and others in their place."""
        due = [row for row in reference.decide(ledger, rules, today) if row.decision == "remind"]
        chosen = [reference.accepted(row) for row in due if self.happens(0.4)]
        other = [replace(contact, reminder_id="another", carrying_invoice_id="gone") for contact in chosen]
        pairs = zip(chosen, other, strict=True)
        accepted = [self.chance.choice([(mine,), (mine,), (its,), (mine, its)]) for mine, its in pairs]
        return replace(ledger, contacts=ledger.contacts + [contact for some in accepted for contact in some])


def generated(chosen: Knobs) -> Case:
    generator = Generator(random.Random(chosen.seed), chosen)
    rules = generator.rules()
    days = tuple(CENTRE + timedelta(days=offset) for offset in sorted(generator.chance.sample(range(-4, 7), 4)))
    ledger = generator.ledger(rules)
    return Case(generator.with_reminders_of(ledger, rules, days[1]), rules, days)


def check_day(case: Case, as_of: date) -> Counter[str]:
    """Compares all that both derive for a day and returns how often each reason was given."""
    derived = frames.run(case.ledger, case.rules, as_of)
    expected = reference.decide(case.ledger, case.rules, as_of)
    assert_same(case, frames.open_rows(derived), frames.reference_open_rows(case.ledger, case.rules, as_of))
    assert_same(
        case,
        sorted(frames.carrying_ids(derived).items()),
        sorted(frames.reference_carrying_ids(case.ledger, case.rules, as_of).items()),
    )
    assert_same(case, frames.decisions(derived), sorted(expected, key=lambda row: row.customer_id))
    return Counter(row.reason for row in expected)


def assert_same(case: Case, rows: Sequence[object], expected: Sequence[object]) -> None:
    if rows == expected:
        return
    wrong = [row for row in rows if row not in expected]
    missed = [row for row in expected if row not in rows]
    customer_id = getattr((missed or wrong)[0], "customer_id", None) or (missed or wrong)[0][0]
    story = of_customers(case.ledger, {customer_id})
    tables = [f"{table.name}: {getattr(story, table.name)}" for table in fields(Ledger)]
    pytest.fail("\n".join([f"rules: {wrong[:3]}", f"reference: {missed[:3]}", f"{case.rules}", *tables]))


def of_customers(ledger: Ledger, customer_ids: set[str]) -> Ledger:
    """What concerns some customers, the organisation's pauses included."""
    owner = {invoice.invoice_id: invoice.customer_id for invoice in ledger.invoices}

    def concerns(row: object) -> bool:
        whole = getattr(row, "scope", None) == "organisation"
        return whole or (owner.get(getattr(row, "invoice_id", None)) or row.customer_id) in customer_ids

    return Ledger(*([row for row in getattr(ledger, table.name) if concerns(row)] for table in fields(Ledger)))


def compare(chosen: Knobs) -> Counter[str]:
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    return sum((check_day(case, as_of) for as_of in case.days), Counter())


@FEW
@given(knobs)
def test_rules_and_reference_decide_alike(chosen):
    compare(chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
@MANY
@given(knobs)
def test_rules_and_reference_decide_alike_on_many_ledgers(chosen):
    compare(chosen)


def test_generated_ledgers_give_every_reason_and_thousands_of_customer_days():
    given_reasons: Counter[str] = Counter()
    for seed in range(DEFAULT_EXAMPLES):
        spread, trouble = ((3, 0.05), (8, 0.15), (20, 0.3))[seed % 3]
        case = generated(Knobs(seed, 60, spread, trouble, organisation_paused=seed == 0))
        for as_of in case.days:
            given_reasons.update(row.reason for row in reference.decide(case.ledger, case.rules, as_of))
    assert set(given_reasons) == EVERY_REASON
    assert min(given_reasons.values()) >= 10
    assert given_reasons.total() >= 2_000


def check_subset(chosen: Knobs) -> None:
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    chance = random.Random(chosen.seed)
    everybody = sorted({row.customer_id for row in case.ledger.invoices})
    some = set(chance.sample(everybody, chance.randint(1, len(everybody))))
    part = of_customers(case.ledger, some)
    for table in fields(Ledger):
        chance.shuffle(getattr(part, table.name))
    whole, alone = (frames.run(ledger, case.rules, case.days[1]) for ledger in (case.ledger, part))
    assert frames.decisions(alone) == [row for row in frames.decisions(whole) if row.customer_id in some]
    assert frames.open_rows(alone) == [row for row in frames.open_rows(whole) if row.customer_id in some]


@settings(FEW, max_examples=15)
@given(knobs)
def test_a_customer_s_decision_depends_on_no_other_customer_and_no_order_of_rows(chosen):
    check_subset(chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(MANY, max_examples=300)
@given(knobs)
def test_a_customer_s_decision_depends_on_no_other_customer_on_many_ledgers(chosen):
    check_subset(chosen)


@settings(FEW, max_examples=2)
@given(knobs)
@pytest.mark.long
def test_rules_and_reference_send_the_same_reminders_day_after_day(chosen):
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    first, last = CENTRE - timedelta(days=4), CENTRE + timedelta(days=16)
    sent = frames.simulate(case.ledger, case.rules, first, last)
    expected = reference.simulate(case.ledger, case.rules, first, last)
    assert sorted(sent, key=repr) == sorted(expected, key=repr)
