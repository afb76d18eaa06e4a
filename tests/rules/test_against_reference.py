"""The rules against the plain reference, on ledgers full of ties, boundaries and odd rows.

A ledger is generated from a drawn seed rather than drawn row by row, which would take longer than the rules.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
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
    Decision,
    Invoice,
    Ledger,
    OrderEvent,
    Pause,
    Payment,
    Promise,
    Rejection,
    Rules,
    SmartRule,
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
TAGS = (None, "", "[]", "vip", "VIP", "new,vip", " vip , new ", '["vip", "new"]', '["vip, new"]', "[vip", "old")
CUSTOM_COLUMNS = {
    "segment": (None, "", "  ", "retail", "Retail", "wholesale", "7", "true"),
    "score": (None, "", "7", "7.0", "7.00", "6.99", "7.01", "12", "-3", "seven"),
    "partner": (None, "true", "false", "True", "yes"),
    # Days around CENTRE, one that does not exist and one that is none.
    "renewal": (None, "2026-03-03", "2026-03-04", "2026-03-05", "2026-02-30", "in March"),
}
AMOUNTS = (0, 1, Decimal("2.5"), 10, 92, 100, Decimal("123.45"), 200, 10_000)
TEXT_CONDITIONS = {
    "segment": ("retail", "Retail", "wholesale", 7, True),
    "score": ("7", "7.0", 7, Decimal("7.00"), 12, -3),
    "partner": (True, False, "true", "yes"),
    "country": ("FR", "JP", "ZZ", "Atlantis"),
    "language": ("fr", "ja"),
    "tags": ("vip", "old"),
}
"""What text columns are compared with, by `is`, `is_not`, `in` and `not_in`."""

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
    "contact_cap",
    "non_working_day",
    "rejected",
    "remind",
}
EVERY_CHANGE = {None, "first", "paid", "excluded", "older_invoice", "reopened"}

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
    customers=st.integers(80, 100),
    spread=st.sampled_from([3, 8, 20]),
    trouble=st.sampled_from([0.1, 0.2, 0.3]),
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
        together = [self.workflow(name, "customer") for name in ("standard", "gentle", "empty", "strict")]
        alone = [self.workflow(name, "invoice") for name in ("alone", "each", "empty of its own")]
        workflows = [*together, *alone]
        names = [workflow.name for workflow in together if workflow.actions]
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
            smart_rules=tuple(self.smart_rule(n, workflows) for n in range(self.chance.choice([0, 2, 4, 7]))),
            smart_rules_override_manual=self.happens(0.3),
            max_invoice_reminders=self.chance.choice([1, 1, 2, 3]),
            contact_cap=self.chance.choice([None, (1, 5), (2, 1), (5, 0), (4, 2), (5, 5), (7, 30)]),
        )
        country, subdivision = self.chance.choice(HOLIDAYS)
        return frames.with_holidays(rules, country, subdivision, by_customer_country=self.happens(0.5))

    def all_rates(self) -> dict[str, Decimal]:
        return {"USD": Decimal("0.92"), "JPY": Decimal("0.01"), "KWD": Decimal("2.5")}

    def smart_rule(self, number: int, workflows: Sequence[Workflow]) -> SmartRule:
        level = self.chance.choice(["customer", "invoice"])
        names = [workflow.name for workflow in workflows if workflow.carried_by == level]
        likely = [workflow.name for workflow in workflows if workflow.carried_by == level and workflow.actions]
        return SmartRule(
            f"rule_{number}",
            self.chance.choice([*names, *5 * likely]),
            self.conditions(level),
            level,
        )

    def conditions(self, level: str) -> tuple[tuple[str, str, object], ...]:
        """One or two; a policy file can ask for an operator of a column only once."""
        chosen = [self.condition(level) for _ in range(self.chance.choice([1, 1, 2]))]
        return tuple({condition[:2]: condition for condition in chosen}.values())

    def condition(self, level: str) -> tuple[str, str, object]:
        kinds = [self.about_text, self.about_tags, self.about_a_number, self.about_a_day, self.about_a_figure]
        if level == "invoice" and self.happens(0.8):
            kinds = [self.about_the_invoice]
        column, operator, constant = self.chance.choice(kinds)()
        if self.happens(0.1):
            return column, "is_empty", self.happens(0.5)
        return column, operator, constant

    def about_text(self) -> tuple[str, str, object]:
        column = self.chance.choice(list(TEXT_CONDITIONS))
        return column, *self.equality(TEXT_CONDITIONS[column])

    def about_tags(self) -> tuple[str, str, object]:
        column = self.chance.choice(["tags", "tags", "segment"])
        return column, "contains", self.chance.choice(["vip", "vip", "new", "retail"])

    def about_a_number(self) -> tuple[str, str, object]:
        return self.chance.choice(["score", "score", "segment"]), *self.comparison((7, Decimal("7.00"), 12, -3))

    def about_a_day(self) -> tuple[str, str, object]:
        column = self.chance.choice(["renewal", "created_at", "updated_at"])
        return column, *self.comparison([CENTRE + timedelta(days=n) for n in (-1, 0, 1)])

    def about_a_figure(self) -> tuple[str, str, object]:
        column = self.chance.choice(["open_balance", "overdue_balance", "oldest_days_overdue", "open_invoices"])
        constants = AMOUNTS if column.endswith("_balance") else (0, 1, 2, 3, 5)
        return column, *self.chance.choice([self.comparison, self.comparison, self.equality])(constants)

    def about_the_invoice(self) -> tuple[str, str, object]:
        days = [CENTRE + timedelta(days=n) for n in (-9, -5, 0, 4)]
        compared = {
            "total": AMOUNTS,
            "outstanding": AMOUNTS,
            "days_overdue": (0, 1, 3, 5),
            "issued_on": [day - timedelta(days=20) for day in days],
            "due_on": days,
        }
        matched = {
            "currency": CURRENCIES,
            "status": ("open", "void", "written_off"),
            "number": ("2026-1", "2026-2"),
            "pay_url": ("https://pay.quay.test/1", "https://pay.quay.test/2"),
        }
        column = self.chance.choice([*compared, *compared, *matched])
        return column, *(self.comparison(compared[column]) if column in compared else self.equality(matched[column]))

    def comparison(self, constants: Sequence[object]) -> tuple[str, object]:
        operator = self.chance.choice(["at_least", "more_than", "at_most", "less_than", "between"])
        if operator == "between":
            return operator, tuple(sorted(self.chance.choices(constants, k=2)))
        return operator, self.chance.choice(constants)

    def equality(self, constants: Sequence[object]) -> tuple[str, object]:
        operator = self.chance.choice(["is", "is_not", "in", "not_in"])
        if operator in {"is", "is_not"}:
            return operator, self.chance.choice(constants)
        return operator, tuple(self.chance.sample(constants, 2))

    def workflow(self, name: str, carried_by: str) -> Workflow:
        count = 0 if name.startswith("empty") else self.chance.randint(1, 5)
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
            carried_by=carried_by,
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
        # A ledger without any known customer has no custom column, which rules may ask for.
        if asks_for_custom_columns(rules) or not self.happens(0.05):
            ledger.customers.append(self.customer(customer_id, rules))
        age = self.chance.choice([5, 5, -4])
        invoices = [self.invoice(customer_id, n, age) for n in range(self.chance.randint(0, 5))]
        ledger.invoices += invoices
        for invoice in invoices:
            ledger.payments += self.payments(invoice, rules)
        ids = [invoice.invoice_id for invoice in invoices] + [f"{customer_id}-nowhere"]
        ledger.payments += self.unapplied(customer_id)
        oldest = min(invoices, key=lambda invoice: invoice.due_on or invoice.issued_on, default=None)
        likely = [*ids, *([oldest.invoice_id] * 3 if oldest else [])]
        ledger.pauses += self.pauses(customer_id, likely)
        ledger.promises += self.promises(customer_id, likely)
        ledger.assignments += self.assignments(customer_id, likely, rules)
        ledger.contacts += self.contacts(customer_id, ids, rules)
        ledger.order_events += self.order_events(customer_id)
        if self.happens(0.5):
            ledger.contacts += self.executions_of_a_last_action(customer_id, likely, rules)

    def customer(self, customer_id: str, rules: Rules) -> Customer:
        likely = 0 if not self.happens() else self.chance.randrange(len(EMAILS))
        return Customer(
            customer_id,
            email=EMAILS[likely],
            phone=self.chance.choice(PHONES),
            external_id=self.chance.choice(EXTERNAL_IDS),
            country=self.chance.choice([*COUNTRIES, *5 * [rules.holiday_country]]),
            language=self.chance.choice(["fr", "FR", "ja", None]),
            currency=self.chance.choice([*CURRENCIES, None]),
            tags=self.chance.choice(TAGS),
            custom={column: self.chance.choice(values) for column, values in CUSTOM_COLUMNS.items()},
            created_at=self.maybe(self.instant, 0.9),
            updated_at=self.maybe(self.instant, 0.5),
        )

    def instant(self) -> datetime:
        """Some are of the next day where the organisation is."""
        around_midnight = self.chance.choice([time(0, 0), time(12, 30), time(22, 59, 59), time(23, 0), time(23, 30)])
        return datetime.combine(CENTRE + timedelta(days=self.chance.randint(-2, 1)), around_midnight, UTC)

    def invoice(self, customer_id: str, number: int, age: int) -> Invoice:
        issued_on = self.day(earlier=20)
        status = self.chance.choice(["draft", "void", "written_off", None]) if self.happens() else "open"
        disputed_on = self.maybe(self.day)
        recorded_on = self.day() if self.happens() or self.happens(0.25) else None
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
            dispute_resolved_on=self.maybe(self.day, 0.7) if disputed_on else None,
            missing_since=self.maybe(self.day),
            number=self.chance.choice(["2026-1", "2026-2", None]),
            pay_url=self.chance.choice(["https://pay.quay.test/1", "", None]),
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
        for number in range(self.chance.choice([1, 2]) if self.happens() or self.happens(0.1) else 0):
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
        for number in range(self.chance.choice([1, 2, 3]) if self.happens(0.6) else 0):
            start = self.day()
            invoice_id = self.maybe(lambda: self.chance.choice(invoice_ids), 0.4)
            yield Assignment(
                assignment_id=f"{customer_id}-a{number}",
                customer_id=customer_id,
                workflow=self.workflow_to_assign("invoice" if invoice_id else "customer", rules),
                assigned_from=start,
                assigned_until=None if self.happens(0.3) else start + timedelta(days=self.chance.randint(1, 9)),
                invoice_id=invoice_id,
                recorded_on=self.maybe(self.day),
            )

    def workflow_to_assign(self, level: str, rules: Rules) -> str:
        """Mostly one that is meant for the level."""
        meant = [workflow.name for workflow in rules.workflows if workflow.actions and workflow.carried_by == level]
        every = [workflow.name for workflow in rules.workflows]
        return self.chance.choice([*5 * meant, *every, *2 * ["unassigned"], "of another policy"])

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
                level=self.level_of(workflow),
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
                level=self.level_of(workflow),
            )
            yield self.recorded(contact) if contact.kind == "recorded" else contact

    def level_of(self, workflow: Workflow) -> str:
        """Of a reminder of the workflow, which may have been carried otherwise when it was sent."""
        return workflow.carried_by if self.happens(0.9) else self.chance.choice(["customer", "invoice"])

    def recorded_by_hand(self, contact: Contact) -> Contact:
        dropped = self.chance.choice([(), (), ("carrying_invoice_id",), ("carrying_invoice_id", "workflow", "action")])
        return replace(self.recorded(contact), **dict.fromkeys(dropped))

    def recorded(self, contact: Contact) -> Contact:
        return replace(contact, reminder_id=None, level=None, recorded_on=self.maybe(self.day))

    def order_events(self, customer_id: str) -> Iterable[OrderEvent]:
        for _ in range(self.chance.choice([1, 1, 2, 3]) if self.happens(0.6) else 0):
            yield OrderEvent(customer_id, self.day())

    def with_outcomes_of(self, ledger: Ledger, rules: Rules, today: date) -> Ledger:
        """The ledger after Klaviyo accepted some of the day's reminders, or others in their place, or rejected them.

        Some of those who were reminded got an order event later that day.
        """
        contacts, rejections, orders = list(ledger.contacts), list(ledger.rejections), list(ledger.order_events)
        customers = {customer.customer_id: customer for customer in ledger.customers}
        for row in reference.decide(ledger, rules, today):
            if row.decision == "remind":
                outcome = self.chance.choice(["accepted", "rejected", None])
                if outcome == "accepted":
                    contacts += self.accepted(reference.accepted(row))
                    orders += [OrderEvent(row.customer_id, today)] if self.happens(0.3) else []
                elif outcome == "rejected":
                    customer = customers.get(row.customer_id, Customer(row.customer_id))
                    rejections.append(self.rejection(row, customer, rules))
        return replace(ledger, contacts=contacts, rejections=rejections, order_events=orders)

    def accepted(self, contact: Contact) -> Sequence[Contact]:
        """A reminder, another one of the day, or both; at the invoice level the other is about the same invoice."""
        mine = replace(contact, kind=self.chance.choice(["accepted", "accepted", "unknown"]))
        other = replace(contact, reminder_id=f"not {contact.reminder_id}", action="dropped_step")
        if contact.level == "customer":
            other = replace(other, carrying_invoice_id="gone")
        return self.chance.choice([(mine,), (mine,), (other,), (mine, other)])

    def rejection(self, row: Decision, customer: Customer, rules: Rules) -> Rejection:
        """Mostly one that stands: made on the day or before, with the identifiers of now."""
        usable = reference.usable_identifiers(customer, rules)
        if self.happens():
            usable = usable | {"email": "former@harbour-bakery.test"}
        rejected_on = row.as_of + timedelta(days=self.chance.choice([-3, -1, 0, 0, 1]))
        return Rejection(row.reminder_id, rejected_on, policy_unchanged=not self.happens(), **usable)


def asks_for_custom_columns(rules: Rules) -> bool:
    return any(column in CUSTOM_COLUMNS for rule in rules.smart_rules for column, _, _ in rule.when)


def generated(chosen: Knobs) -> Case:
    generator = Generator(random.Random(chosen.seed), chosen)
    rules = generator.rules()
    days = tuple(CENTRE + timedelta(days=offset) for offset in sorted(generator.chance.sample(range(-4, 7), 4)))
    ledger = generator.ledger(rules)
    return Case(generator.with_outcomes_of(ledger, rules, days[1]), rules, days)


def check_day(case: Case, derived: frames.Derived, as_of: date) -> None:
    """Compares all that both derive for a day."""
    assert_same(case, frames.open_rows(derived), frames.reference_open_rows(case.ledger, case.rules, as_of))
    carried = reference.carrying(case.ledger, case.rules, as_of)
    assert_same(case, frames.carrying_rows(derived), sorted(carried, key=frames.by_invoice))
    expected = reference.decide(case.ledger, case.rules, as_of)
    assert_same(case, frames.decisions(derived), sorted(expected, key=frames.by_unit))


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
    """What concerns some customers, the organisation's pauses and all rejections included."""
    owner = {invoice.invoice_id: invoice.customer_id for invoice in ledger.invoices}

    def concerns(row: object) -> bool:
        whole = isinstance(row, Rejection) or getattr(row, "scope", None) == "organisation"
        return whole or (owner.get(getattr(row, "invoice_id", None)) or row.customer_id) in customer_ids

    return Ledger(*([row for row in getattr(ledger, table.name) if concerns(row)] for table in fields(Ledger)))


def compare(chosen: Knobs) -> None:
    """Some days decided in one call, and the one on which reminders were accepted alone too."""
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    together = frames.run_days(case.ledger, case.rules, case.days[0], case.days[-1])
    for as_of in case.days:
        check_day(case, frames.of_day(together, as_of), as_of)
    check_day(case, frames.run(case.ledger, case.rules, case.days[1]), case.days[1])


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


def default_days() -> Iterable[tuple[Case, date]]:
    for seed in range(DEFAULT_EXAMPLES):
        spread, trouble = ((3, 0.1), (8, 0.2), (20, 0.3))[seed % 3]
        case = generated(Knobs(seed, 90, spread, trouble, organisation_paused=seed == 0))
        yield from ((case, as_of) for as_of in case.days)


def test_generated_ledgers_give_every_reason_and_thousands_of_customer_days():
    rows = [row for case, as_of in default_days() for row in reference.decide(case.ledger, case.rules, as_of)]
    of_customers = Counter(row.reason for row in rows if row.level == "customer")
    of_invoices = Counter(row.reason for row in rows if row.level == "invoice")
    assert set(of_customers) == EVERY_REASON
    assert set(of_invoices) == EVERY_REASON - {"source_unclear"}
    assert min(*of_customers.values(), *of_invoices.values()) >= 10
    assert of_customers.total() >= 2_000


def test_generated_ledgers_change_the_carrying_invoice_for_every_reason():
    rows = [row for case, as_of in default_days() for row in reference.carrying(case.ledger, case.rules, as_of)]
    of_customers = Counter(row.carrying_change for row in rows if row.level == "customer")
    of_invoices = Counter(row.carrying_change for row in rows if row.level == "invoice")
    assert set(of_customers) == EVERY_CHANGE
    assert set(of_invoices) == {None, "first"}
    assert min(*of_customers.values(), *of_invoices.values()) >= 10


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


@settings(FEW, max_examples=5)
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
