"""The policy file: what is accepted, and how all else is refused, with its line and what is allowed."""

import json
import re
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
from pydantic import ValidationError

from dunning_pipeline.policy import (
    SCHEMA_FILE,
    SOURCE_TABLES,
    FileSource,
    MissingVariable,
    Policy,
    PolicyError,
    RestSource,
    SqlSource,
    json_schema,
    load_policy,
    parse_policy,
    policy_hash,
    resolve,
    resolve_secret,
)
from dunning_pipeline.policy_file import NUMBERS, read_document
from dunning_pipeline.rules.smart_rules import FIGURES, INVOICE_AMOUNTS

ROOT = Path(__file__).parents[1]

EXAMPLE = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, exchange_rates: {USD: 0.92}, paused: false}
calendar:     {working_days: [mon, tue, wed, thu, fri], holidays: {country: FR, subdivision: null, by_customer_country: false}, send_at: "08:30"}
receivables:  {tolerance: {EUR: "0.05"}, minimum_amount: {EUR: "10.00"}}
workflows:
  - name: standard
    default: true
    carried_by: customer            # or invoice
    anchor: due_date                # or issue_date
    logic: standard                 # or contextual
    minimum_contact_delay: 5
    actions: [{name: almost_due, day: -3}, {name: reminder_1, day: 1}, {name: reminder_2, day: 8, was: [second]}]
    repeat_last: {every: 14, limit: 3}        # optional
  - {name: key_accounts, actions: [{name: courtesy, day: 10}]}
  - {name: large_invoices, carried_by: invoice, actions: [{name: large, day: 0}]}
smart_rules:
  - {name: key accounts, when: {tags: {contains: key-account}, open_balance: {at_least: "10000"}}, workflow: key_accounts}
  - {name: large invoices, for: invoice, when: {total: {at_least: "50000"}}, workflow: large_invoices}
smart_rules_override_manual: false
max_invoice_reminders_per_customer_and_day: 3
contact_cap: {days: 1, max_deferral: 5}     # optional
order_reminders: {enabled: true, metric: Cleverific Order Outstanding Balance Reminder, every_hours: 24, edited_by: [customer_portal], start_at: null,
                  stop_on: fulfilled, tolerance: {}, max_reminders: null, stop_after_days: null, quiet_hours: {from: "21:00", to: "08:00"}}
klaviyo:      {metric: Invoice Reminder, invoices_listed: 50, identify_by: [email]}
sending:      {live: false, allow_list: [], max_batch: 10000, max_growth: 3}
quality:      {max_rejected: 0.01, max_source_age: {invoices: 36h, orders: 1h}}
sources:
  billing:    {kind: sql, url: "${BILLING_DATABASE_URL}", tables: {invoices: "select id as invoice_id, total from invoices", customers: customers}}
  exports:    {kind: files, tables: {invoices: {path: "exports/*.csv", columns: {invoiceNumber: invoice_id}, date_format: "%m/%d/%Y"}}}
  storefront: {kind: shopify, shop: acme.myshopify.com, token: "${SHOPIFY_TOKEN}", edited_by_apps: {customer_portal: [Cleverific]}}
  stripe:     {kind: stripe, key: "${STRIPE_API_KEY}"}
"""  # noqa: E501

MINIMAL = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows:
  - name: standard
    actions: [{name: first, day: 1}]
"""


def policy_with(yaml: str) -> Policy:
    return parse_policy(MINIMAL + dedent(yaml))


def refusals(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    lines = str(caught.value).splitlines()
    assert [str(problem) for problem in caught.value.problems] == lines
    return lines


def refusal(yaml: str, text: str = MINIMAL) -> str:
    """The one refusal of some keys below the minimal policy, without the file's name."""
    (line,) = refusals(text + yaml)
    return line.removeprefix("dunning.yaml:")


def workflow(keys: str = "", actions: str = "[{name: first, day: 1}]") -> str:
    """A policy of one workflow, whose keys begin in line 4."""
    lines = [
        "organisation: {time_zone: Europe/Paris, base_currency: EUR}",
        "workflows:",
        "  - name: standard",
    ]
    return "\n".join([*lines, *([f"    {keys}"] if keys else []), f"    actions: {actions}"]) + "\n"


def source(yaml: str) -> str:
    return f"sources:\n  billing: {yaml}\n"


def table(yaml: str) -> str:
    return source(f"{{kind: sql, url: 'sqlite:///x.db', tables: {{invoices: {yaml}}}}}")


def test_the_example_of_the_contract_is_accepted_in_full() -> None:
    policy = parse_policy(EXAMPLE)
    standard = policy.workflow("standard")
    assert standard is not None
    assert standard.default
    assert standard.action_names == {
        "almost_due": "almost_due",
        "reminder_1": "reminder_1",
        "reminder_2": "reminder_2",
        "second": "reminder_2",
    }
    assert policy.organisation.exchange_rates == {"USD": Decimal("0.92")}
    assert policy.calendar.send_at == time(8, 30)
    assert policy.receivables.tolerance_minor == {"EUR": 5}
    assert policy.receivables.minimum_amount_minor == {"EUR": 1000}
    assert [rule.for_ for rule in policy.smart_rules] == ["customer", "invoice"]
    assert policy.smart_rules[0].when["open_balance"].operators == {"at_least": Decimal(10000)}
    assert policy.order_reminders.quiet_hours is not None
    assert policy.order_reminders.quiet_hours.from_ == time(21)
    assert policy.quality.max_source_age == {"invoices": timedelta(hours=36), "orders": timedelta(hours=1)}
    assert [each.kind for each in policy.sources.values()] == ["sql", "files", "shopify", "stripe"]


def test_the_shipped_policy_is_accepted_and_sends_nothing() -> None:
    policy = load_policy(ROOT / "dunning.yaml")
    assert policy.sending.live is False
    sample = policy.sources["sample"]
    assert isinstance(sample, FileSource)
    assert list(sample.tables) == ["customers", "invoices", "payments"]


def test_the_commented_sources_of_the_shipped_policy_are_accepted_too() -> None:
    text = (ROOT / "dunning.yaml").read_text()
    examples = re.sub("^  # ", "  ", text[text.index("  # exports:") :], flags=re.MULTILINE)
    policy = policy_with("sources:\n" + examples)
    assert list(policy.sources) == ["exports", "billing", "stripe", "storefront"]


def test_the_commented_workflows_and_smart_rules_of_the_shipped_policy_are_accepted_too() -> None:
    text, _, _ = (ROOT / "dunning.yaml").read_text().partition("klaviyo:")
    text = re.sub("^  # (?=exchange_rates|- name|  )", "  ", text, flags=re.MULTILINE)
    policy = parse_policy(re.sub("^# ?(?=smart_rules|  - |max_)", "", text, flags=re.MULTILINE))
    assert [workflow.name for workflow in policy.workflows] == ["standard", "key_accounts", "large_invoices"]
    assert [rule.for_ for rule in policy.smart_rules] == ["customer", "invoice"]


def test_defaults_are_those_of_the_rules() -> None:
    policy = parse_policy(MINIMAL)
    standard = policy.workflows[0]
    assert (standard.minimum_contact_delay, standard.logic, standard.anchor) == (5, "standard", "due_date")
    assert policy.organisation.first_day == date(2020, 1, 1)
    assert policy.organisation.language == "en"
    assert policy.calendar.working_weekdays == {0, 1, 2, 3, 4}
    assert policy.calendar.holidays.country is None
    assert policy.klaviyo.identify_by == ("email",)
    assert policy.order_reminders.metric == "Cleverific Order Outstanding Balance Reminder"
    assert policy.sending.live is False
    assert policy.contact_cap is None
    assert policy.workflow("nobody") is None


def test_a_workflow_may_have_an_explicit_empty_list_of_actions() -> None:
    assert parse_policy(workflow(actions="[]")).workflows[0].actions == ()


def test_the_policy_keeps_its_text_and_hash_outside_its_settings() -> None:
    policy = parse_policy(MINIMAL)
    assert policy.text == MINIMAL
    assert policy.hash == policy_hash(MINIMAL)
    assert len(policy.hash) == 64
    assert not {"text", "hash", "_text"} & set(policy.model_dump())


def test_the_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parse_policy(MINIMAL).sending.live = True


@pytest.mark.parametrize(
    ("currency", "written", "minor"),
    [
        ("EUR", "0.05", 5),
        ("EUR", '"10"', 1000),
        ("JPY", "100", 100),
        ("KWD", '"0.125"', 125),
        ("EUR", "1.10", 110),
        ("EUR", "123456789012.34", 12345678901234),
    ],
)
def test_money_is_exact_in_minor_units_of_its_currency(currency: str, written: str, minor: int) -> None:
    policy = policy_with(f"receivables: {{tolerance: {{{currency}: {written}}}}}")
    assert policy.receivables.tolerance_minor == {currency: minor}
    order_side = policy_with(f"order_reminders: {{tolerance: {{{currency}: {written}}}}}")
    assert order_side.order_reminders.tolerance_minor == {currency: minor}


def test_times_days_and_norway_need_no_quotes() -> None:
    policy = parse_policy(
        dedent("""\
        organisation: {time_zone: Europe/Oslo, base_currency: NOK, first_day: 2024-02-29, language: pt-BR}
        calendar: {send_at: 21:00, holidays: {country: NO}}
        workflows: [{name: standard, actions: []}]
        order_reminders: {start_at: 2026-01-01T00:00:00+00:00}
        """)
    )
    assert policy.organisation.first_day == date(2024, 2, 29)
    assert policy.organisation.zone.key == "Europe/Oslo"
    assert policy.organisation.language == "pt_BR"
    assert policy.calendar.send_at == time(21)
    assert policy.calendar.holidays.country == "NO"
    assert policy.order_reminders.start_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_every_operator_of_smart_rules_is_read() -> None:
    rule = policy_with("""
        smart_rules:
          - name: all
            workflow: standard
            when:
              country: {is: FR, is_not: DE, in: [FR, BE], not_in: [US], is_empty: false}
              tags: {contains: vip}
              open_balance: {at_least: 1.5, more_than: "1", at_most: 9, less_than: 10, between: [1, "2.50"]}
              issued_on: {at_least: 2024-01-31}
        """).smart_rules[0]
    assert rule.when["country"].operators == {
        "is": "FR",
        "is_not": "DE",
        "in": ("FR", "BE"),
        "not_in": ("US",),
        "is_empty": False,
    }
    assert rule.when["open_balance"].operators["between"] == (Decimal(1), Decimal("2.50"))
    assert rule.when["open_balance"].operators["at_least"] == Decimal("1.5")
    assert rule.when["issued_on"].operators == {"at_least": date(2024, 1, 31)}


def test_mappings_of_databases_and_files_have_one_shape() -> None:
    policy = policy_with("""
        sources:
          billing:
            kind: sql
            url: sqlite:///x.db
            id_prefix: b-
            time_zone: UTC
            tables:
              customers: billing.customers
              invoices: "-- ours\\nSELECT 1 as invoice_id"
              payments: {table: payments, minor_units: true, values: {currency: USD},
                         columns: {invoiceNumber: [payment_id, invoice_id], amount: amount}}
          exports: {kind: files, tables: {customers: customers.csv, invoices: {path: i.csv, delimiter: ";"}}}
        """)
    database, files = policy.sources["billing"], policy.sources["exports"]
    assert isinstance(database, SqlSource)
    assert isinstance(files, FileSource)
    billing, exports = database.tables, files.tables
    assert (billing["customers"].table, billing["customers"].query) == ("billing.customers", None)
    assert (billing["invoices"].table, billing["invoices"].query) == (None, "-- ours\nSELECT 1 as invoice_id")
    assert billing["payments"].columns == {
        "invoiceNumber": ("payment_id", "invoice_id"),
        "amount": ("amount",),
    }
    assert billing["payments"].values == {"currency": "USD"}
    assert billing["payments"].minor_units is True
    assert exports["customers"].path == "customers.csv"
    assert (exports["customers"].delimiter, exports["invoices"].delimiter) == (None, ";")
    assert (exports["customers"].columns, exports["customers"].date_format) == ({}, None)


def test_an_anchor_and_its_alias_stand_for_the_same_list() -> None:
    policy = parse_policy(MINIMAL.replace("actions: [", "actions: &steps [") + "  - {name: b, actions: *steps}\n")
    assert policy.workflows[0].actions == policy.workflows[1].actions


BAD_VALUES = {
    "organisation: {time_zone: Europe/Pari, base_currency: EUR}": (
        'organisation.time_zone: "Europe/Pari" is not allowed: an IANA time zone such as Europe/Paris'
        "; did you mean Europe/Paris?"
    ),
    "organisation: {time_zone: ../etc, base_currency: EUR}": (
        'organisation.time_zone: "../etc" is not allowed: an IANA time zone such as Europe/Paris'
    ),
    "organisation: {time_zone: UTC, base_currency: euro}": (
        'organisation.base_currency: "euro" is not allowed: an ISO 4217 currency code such as EUR'
    ),
    "organisation: {time_zone: UTC, base_currency: XAU}": (
        'organisation.base_currency: "XAU" is not allowed: an ISO 4217 currency code such as EUR'
    ),
    "organisation: {time_zone: UTC, base_currency: EUR, paused: yes}": (
        'organisation.paused: "yes" is not allowed: true or false'
    ),
    "organisation: {time_zone: UTC, base_currency: EUR, language: klingon}": (
        'organisation.language: "klingon" is not allowed: a language such as en, fr or pt-BR'
    ),
    "organisation: {time_zone: UTC, base_currency: EUR, first_day: 2020-02-30}": (
        'organisation.first_day: "2020-02-30" is not allowed: a day such as 2024-01-31'
    ),
    "organisation: {time_zone: UTC, base_currency: EUR, exchange_rates: {USD: 0}}": (
        "organisation.exchange_rates.USD: 0 is not allowed: a number greater than 0, such as 0.92"
    ),
    "organisation: {time_zone: UTC, base_currency: EUR, exchange_rates: {dollar: 1}}": (
        'organisation.exchange_rates.dollar: "dollar" is not allowed: an ISO 4217 currency code such as EUR'
    ),
    "klaviyo: {metric: 5}": "klaviyo.metric: 5 is not allowed: a name of 1 to 127 characters",
    "calendar: {working_days: []}": ("calendar.working_days: an empty list is not allowed: at least one entry"),
    "calendar: {working_days: [mon, mon]}": ('calendar.working_days: "mon" is not allowed twice: each value once'),
    "calendar: {working_days: [mon, tuesday]}": (
        'calendar.working_days[1]: "tuesday" is not allowed: '
        "mon or tue or wed or thu or fri or sat or sun; did you mean tue?"
    ),
    "calendar: {working_days: mon}": ('calendar.working_days: "mon" is not allowed: a list, such as [a, b]'),
    'calendar: {send_at: "24:00"}': ('calendar.send_at: "24:00" is not allowed: a time of day from "00:00" to "23:59"'),
    "calendar: {send_at: 8}": 'calendar.send_at: 8 is not allowed: a time of day from "00:00" to "23:59"',
    "calendar: {holidays: {country: XX}}": (
        'calendar.holidays.country: "XX" is not allowed: '
        "a two-letter country code such as FR, of a country whose holidays are known"
    ),
    "calendar: {holidays: {country: France}}": (
        'calendar.holidays.country: "France" is not allowed: '
        "a two-letter country code such as FR, of a country whose holidays are known"
    ),
    "calendar:": "calendar: an empty value is not allowed: a mapping of keys (or leave the key out)",
    "receivables: {tolerance: {EUR: -1}}": (
        'receivables.tolerance.EUR: -1 is not allowed: an amount of money of 0 or more, such as "10.00"'
    ),
    'receivables: {tolerance: {EUR: "1,000"}}': (
        'receivables.tolerance.EUR: "1,000" is not allowed: an amount of money of 0 or more, such as "10.00"'
    ),
    "receivables: {tolerance: {EUR: 1.0000000000000000000000000001}}": (
        "receivables.tolerance.EUR: 1.0000000000000000000000000001 is not allowed: "
        'an amount of money of 0 or more, such as "10.00"'
    ),
    "contact_cap: {days: 0}": "contact_cap.days: 0 is not allowed: a number of days from 1 to 365",
    "contact_cap: {days: true}": "contact_cap.days: true is not allowed: a number of days from 1 to 365",
    "contact_cap: {days: 1, max_deferral: -1}": (
        "contact_cap.max_deferral: -1 is not allowed: a number of days from 0 to 365"
    ),
    "order_reminders: {start_at: 2026-01-01T00:00:00}": (
        'order_reminders.start_at: "2026-01-01T00:00:00" is not allowed: '
        'a point in time with its offset, such as "2024-01-31T09:00:00+01:00"'
    ),
    "order_reminders: {stop_on: paid}": (
        'order_reminders.stop_on: "paid" is not allowed: fulfilled or partially_fulfilled'
    ),
    "klaviyo: {metric: ''}": 'klaviyo.metric: "" is not allowed: a name of 1 to 127 characters',
    f"klaviyo: {{metric: {'a' * 128}}}": (
        f'klaviyo.metric: "{"a" * 57}..." is not allowed: a name of 1 to 127 characters'
    ),
    "klaviyo: {invoices_listed: 4001}": ("klaviyo.invoices_listed: 4001 is not allowed: a number from 1 to 4000"),
    "klaviyo: {identify_by: [fax]}": ('klaviyo.identify_by[0]: "fax" is not allowed: email or phone or external_id'),
    "sending: {live: 1}": "sending.live: 1 is not allowed: true or false",
    "sending: {allow_list: me@example.com}": (
        'sending.allow_list: "me@example.com" is not allowed: a list, such as [a, b]'
    ),
    "quality: {max_rejected: 1.01}": ("quality.max_rejected: 1.01 is not allowed: a share from 0 to 1, such as 0.01"),
    "quality: {max_source_age: {invoices: 36}}": (
        "quality.max_source_age.invoices: 36 is not allowed: "
        "a time span in minutes, hours or days, such as 30m, 36h or 2d"
    ),
    "max_invoice_reminders_per_customer_and_day: 0": (
        "max_invoice_reminders_per_customer_and_day: 0 is not allowed: a number from 1 to 100"
    ),
}


@pytest.mark.parametrize(("yaml", "message"), BAD_VALUES.items(), ids=lambda text: text[:60])
def test_a_bad_value_is_refused_with_what_is_allowed(yaml: str, message: str) -> None:
    flows = "workflows: [{name: standard, actions: []}]\n"
    text = flows if yaml.startswith("organisation") else MINIMAL
    line = len(text.splitlines()) + 1
    assert refusal(yaml + "\n", text) == f"{line}: {message}"


BAD_WORKFLOWS = {
    "minimum_contact_delay: 45": "45 is not allowed: a number of days from 0 to 30",
    'minimum_contact_delay: "5"': '"5" is not allowed: a number of days from 0 to 30',
    "minimum_contact_delay: 2.5": "2.5 is not allowed: a number of days from 0 to 30",
    "carried_by: order": '"order" is not allowed: customer or invoice',
    "anchor: due": '"due" is not allowed: due_date or issue_date',
    "logic: smart": '"smart" is not allowed: standard or contextual',
    "repeat_last: 14": "14 is not allowed: a mapping of keys (or leave the key out)",
}


@pytest.mark.parametrize(("keys", "message"), BAD_WORKFLOWS.items())
def test_a_bad_setting_of_a_workflow_is_refused_in_its_line(keys: str, message: str) -> None:
    assert refusal("", workflow(keys)) == f"4: workflows[0].{keys.split(':', 1)[0]}: {message}"


def test_a_workflow_without_the_key_actions_is_refused() -> None:
    text = "organisation: {time_zone: UTC, base_currency: EUR}\nworkflows:\n  - name: standard\n"
    assert refusal("", text) == (
        "3: workflows[0].actions: is missing: Actions such as {name: reminder_1, day: 1}, "
        "in ascending order of day; [] for none."
    )


def test_a_workflow_cannot_be_named_unassigned() -> None:
    assert refusal("", MINIMAL.replace("standard", "unassigned")) == (
        '3: workflows[0].name: "unassigned" is not allowed: a name; unassigned means that a customer has no workflow'
    )


def test_a_policy_without_workflows_is_refused() -> None:
    text = "organisation: {time_zone: UTC, base_currency: EUR}\n"
    assert refusal("workflows: []", text) == "2: workflows: an empty list is not allowed: at least one entry"
    assert refusal("", text).startswith("1: workflows: is missing: Lists of reminders")


BAD_CONDITIONS = {
    "{}": "when: an empty mapping is not allowed: at least one entry",
    "{country: {}}": "when.country: an empty mapping is not allowed: at least one entry",
    "{country: FR}": 'when.country: "FR" is not allowed: a mapping of keys (or leave the key out)',
    "{country: {is: [FR]}}": "when.country.is: a list is not allowed: text, a number, true or false",
    "{country: {is: null}}": "when.country.is: an empty value is not allowed: text, a number, true or false",
    "{country: {in: FR}}": 'when.country.in: "FR" is not allowed: a list of values',
    "{country: {not_in: []}}": "when.country.not_in: an empty list is not allowed: a list of values",
    "{tags: {contains: 5}}": "when.tags.contains: 5 is not allowed: a tag, as text",
    "{total: {at_least: many}}": (
        'when.total.at_least: "many" is not allowed: a number, or a day such as "2024-01-31"'
    ),
    "{total: {between: [5]}}": (
        "when.total.between: a list is not allowed: a list of two numbers or two days, the lower one first"
    ),
    "{total: {between: [5, 1]}}": (
        "when.total.between: a list is not allowed: a list of two numbers or two days, the lower one first"
    ),
    "{total: {between: [5, 2024-01-31]}}": (
        "when.total.between: a list is not allowed: a list of two numbers or two days, the lower one first"
    ),
    "{email: {is_empty: maybe}}": 'when.email.is_empty: "maybe" is not allowed: true or false',
}


@pytest.mark.parametrize(("condition", "message"), BAD_CONDITIONS.items())
def test_a_condition_of_the_wrong_kind_is_refused(condition: str, message: str) -> None:
    yaml = f"smart_rules:\n  - {{name: r, workflow: standard, when: {condition}}}\n"
    assert refusal(yaml) == f"6: smart_rules[0].{message}"


FUTILE_CONDITIONS = {
    "{open_balance: {contains: vip}}": (
        'when.open_balance.contains: "vip" is not allowed: open_balance is a number, and has no tags: '
        "one of is, is_not, in, not_in, at_least, more_than, at_most, less_than, between"
    ),
    "{open_invoices: {is_empty: true}}": (
        "when.open_invoices.is_empty: true is not allowed: open_invoices is a number, which is never empty: "
        "compare it with 0"
    ),
    '{open_invoices: {is: "2"}}': (
        'when.open_invoices.is: "2" is not allowed: open_invoices is a number, '
        "to be compared with numbers, without quotes"
    ),
    "{overdue_balance: {not_in: [5, many]}}": (
        "when.overdue_balance.not_in: a list is not allowed: overdue_balance is a number, "
        "to be compared with numbers, without quotes"
    ),
    "{open_balance: {is_not: true}}": (
        "when.open_balance.is_not: true is not allowed: open_balance is a number, "
        "to be compared with numbers, without quotes"
    ),
    "{oldest_days_overdue: {at_least: 2026-11-16}}": (
        'when.oldest_days_overdue.at_least: "2026-11-16" is not allowed: oldest_days_overdue is a number, '
        "to be compared with numbers"
    ),
    "{open_balance: {between: [2026-11-16, 2026-11-17]}}": (
        "when.open_balance.between: a list is not allowed: open_balance is a number, to be compared with numbers"
    ),
}


def loading(folder: Path, text: str) -> list[str]:
    """What a file with this text is refused for; nothing if it is taken."""
    file = folder / "dunning.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        load_policy(file)
    except PolicyError as error:
        return [line.removeprefix(str(file)) for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(("condition", "message"), FUTILE_CONDITIONS.items())
def test_a_condition_that_no_number_can_meet_or_fail_is_refused(tmp_path: Path, condition: str, message: str) -> None:
    text = f"{MINIMAL}smart_rules:\n  - {{name: r, workflow: standard, when: {condition}}}\n"
    assert loading(tmp_path, text) == [f":6: smart_rules[0].{message}"]
    # As it may be kept beside a batch that was made by it.
    assert parse_policy(text).smart_rules


@pytest.mark.parametrize(
    "condition",
    [
        "{is: 2, is_not: 3, in: [1, 2.5], not_in: [7], is_empty: false}",
        '{at_least: "1", more_than: 0.5, at_most: 9, less_than: "10.00", between: [1, "2.50"]}',
    ],
)
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_compared_with_numbers(tmp_path: Path, figure: str, condition: str) -> None:
    rule = f"{{name: r, workflow: standard, when: {{{figure}: {condition}}}}}"
    assert loading(tmp_path, f"{MINIMAL}smart_rules: [{rule}]\n") == []


@pytest.mark.parametrize(("level", "refused"), [("customer", False), ("invoice", True)])
def test_an_invoice_s_amounts_are_numbers_in_rules_for_invoices_only(tmp_path: Path, level: str, refused: bool) -> None:
    rules = "".join(
        f"  - {{name: {column}, for: {level}, when: {{{column}: {{is_empty: true}}}}, workflow: w}}\n"
        for column in (*INVOICE_AMOUNTS, "days_overdue")
    )
    flow = f"  - {{name: w, carried_by: {level}, actions: [{{name: first, day: 1}}]}}\n"
    found = loading(tmp_path, f"{MINIMAL}{flow}smart_rules:\n{rules}")
    assert len(found) == (3 if refused else 0)


def test_what_is_a_number_is_what_the_rules_take_for_one() -> None:
    assert {"customer": FIGURES, "invoice": (*FIGURES, *INVOICE_AMOUNTS, "days_overdue")} == NUMBERS


def test_an_unknown_operator_names_the_known_ones() -> None:
    yaml = "smart_rules: [{name: r, workflow: standard, when: {total: {atleast: 5}}}]"
    assert refusal(yaml) == (
        "5: smart_rules[0].when.total.atleast: is not an allowed key: one of is, is_not, in, not_in, "
        "contains, at_least, more_than, at_most, less_than, between, is_empty; did you mean at_least?"
    )


TABLES = " or ".join(SOURCE_TABLES)

BAD_SOURCES = {
    "{url: x}": ": the key kind is missing: one of files, rest, shopify, sql, stripe, xero",
    "{kind: sage}": ': kind "sage" is not allowed: one of files, rest, shopify, sql, stripe, xero',
    "{kind: file, tables: {}}": (
        ': kind "file" is not allowed: one of files, rest, shopify, sql, stripe, xero; did you mean files?'
    ),
    "postgresql://u:secret@h/db": ": this text is not allowed: a mapping of keys (or leave the key out)",
    "{kind: stripe}": ".key: is missing: Secret or restricted key, as ${VAR}.",
    "{kind: stripe, key: sk_live_secret}": (
        ".key: this text is not allowed: the name of an environment variable, as ${VAR}"
    ),
    "{kind: shopify, shop: '${SHOP', token: '${T}'}": (
        ".shop: this text is not allowed: text, with ${VAR} or ${VAR:-fallback} where needed"
    ),
    "{kind: stripe, key: '${KEY}', tables: {}}": (
        ".tables: is not an allowed key: one of id_prefix, time_zone, kind, key, include_automatic, url"
    ),
    "{kind: stripe, key: '${KEY}', time_zone: Mars}": (
        '.time_zone: "Mars" is not allowed: an IANA time zone such as Europe/Paris'
    ),
    "{kind: files, tables: {invoice: a.csv}}": (
        f'.tables.invoice: "invoice" is not allowed: {TABLES}; did you mean invoices?'
    ),
    "{kind: files, tables: {invoices: {path: a.csv, delimiter: '||'}}}": (
        '.tables.invoices.delimiter: "||" is not allowed: one character, such as ";" or "\\t"'
    ),
    "{kind: files, tables: {invoices: {columns: {a: invoice_id}}}}": (
        ".tables.invoices.path: is missing: Path of the file or files; * and ** match several."
    ),
}


@pytest.mark.parametrize(("yaml", "message"), BAD_SOURCES.items())
def test_a_bad_source_is_refused_without_showing_a_secret(yaml: str, message: str) -> None:
    line = refusal(source(yaml))
    assert line == f"6: sources.billing{message}"
    assert "secret@" not in line
    assert "sk_live" not in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pw@host/db",
        "postgresql://host/db?password=pw",
        "postgresql://host/db?sslmode=require&sslpassword=pw",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dpw",
        "mysql://u:${PW:-pw}@host/db",
        "billing",
    ],
)
def test_a_database_url_with_a_password_in_it_is_refused(url: str) -> None:
    line = refusal(source(f"{{kind: sql, url: '{url}', tables: {{}}}}"))
    assert line == (
        "6: sources.billing.url: this text is not allowed: a database URL, or ${VAR}; "
        "a password only as ${VAR}, since the policy is kept in the warehouse"
    )


@pytest.mark.parametrize(
    "url",
    ["${URL}", "sqlite:///x.db", "postgresql://u:${PW}@host/db", "mssql://u@h/db?driver=a", "duckdb://"],
)
def test_a_database_url_without_a_password_is_accepted(url: str) -> None:
    read = policy_with(source(f"{{kind: sql, url: '{url}', tables: {{}}}}")).sources["billing"]
    assert isinstance(read, SqlSource)
    assert read.url == url


REST = "{kind: rest, url: 'https://api.test', tables: {invoices: %s}}"
BAD_REQUESTS = {
    "{path: v1, columns: {id: invoice_id}}": (
        '.path: "v1" is not allowed: a path that begins with one "/", such as /v1/invoices; parameters go into params'
    ),
    "{path: /v1}": (".columns: is missing: Column of the table, or list of them, by the dotted path of the field."),
    "/v1": (".columns: is missing: Column of the table, or list of them, by the dotted path of the field."),
    "{path: /v1, columns: {}}": ".columns: an empty mapping is not allowed: at least one entry",
    "{path: /v1, columns: {a..b: invoice_id}}": (
        '.columns["a..b"]: "a..b" is not allowed: names with dots between them, such as customer.email'
    ),
    "{path: /v1, columns: {id: invoice_id}, pagination: {kind: cursors}}": (
        '.pagination: kind "cursors" is not allowed: one of cursor, link, offset, page; did you mean cursor?'
    ),
    "{path: /v1, columns: {id: invoice_id}, pagination: {kind: cursor, parameter: after}}": (
        ".pagination: either cursor or last_record is needed, and not both"
    ),
    "{path: /v1, columns: {id: invoice_id}, pagination: {kind: page, size: 5}}": (
        ".pagination.size: is not an allowed key: one of kind, parameter, first, pages"
    ),
    "{path: /v1, columns: {id: invoice_id}, watermark: changed}": (
        ": watermark and since go together: where a record tells when it changed, and how changes are asked for"
    ),
    "{path: /v1, columns: {id: invoice_id}, watermark: changed, since: {format: iso}}": (
        ".since: either parameter or header is needed, and not both"
    ),
    "{path: /v1, columns: {id: invoice_id}, look_up: {path: /v1/one}}": (
        '.look_up.path: "/v1/one" is not allowed: a path with {id} in it, such as /v1/invoices/{id}'
    ),
    "{path: /v1, columns: {id: invoice_id}, params: {api_key: sk_live_secret}}": (
        ".params.api_key: this text is not allowed: a secret only as ${VAR}, since the policy is kept in the warehouse"
    ),
}


@pytest.mark.parametrize(("yaml", "message"), BAD_REQUESTS.items())
def test_a_bad_request_of_a_table_is_refused(yaml: str, message: str) -> None:
    assert refusal(source(REST % yaml)) == f"6: sources.billing.tables.invoices{message}"


BAD_APIS = {
    "{kind: rest, url: 'https://u:pw@api.test', tables: {}}": (
        ".url: this text is not allowed: an address such as https://api.example.com/v1, or ${VAR}; "
        "passwords and tokens elsewhere, and only as ${VAR}"
    ),
    "{kind: rest, url: 'https://api.test', headers: {X-Api-Key: sk_live}, tables: {}}": (
        ".headers.X-Api-Key: this text is not allowed: a secret only as ${VAR}, "
        "since the policy is kept in the warehouse"
    ),
    "{kind: rest, url: 'https://api.test', auth: {}, tables: {}}": (
        ".auth: one of bearer, basic, client_credentials is needed, and not several"
    ),
    "{kind: rest, url: 'https://api.test', auth: {bearer: sk_live}, tables: {}}": (
        ".auth.bearer: this text is not allowed: the name of an environment variable, as ${VAR}"
    ),
    "{kind: rest, url: 'https://api.test', tables: {customers: {path: /c, columns: {id: customer_id}, "
    "look_up: {path: '/c/{id}'}}}}": ".tables.customers.look_up: is allowed for invoices only",
    "{kind: xero}": ": either token, or client_id and client_secret are needed, and not both",
    "{kind: xero, token: '${T}', client_id: a, client_secret: '${S}'}": (
        ": either token, or client_id and client_secret are needed, and not both"
    ),
    "{kind: xero, client_id: a}": ": either token, or client_id and client_secret are needed, and not both",
}


@pytest.mark.parametrize(("yaml", "message"), BAD_APIS.items())
def test_a_bad_api_is_refused_without_showing_a_secret(yaml: str, message: str) -> None:
    line = refusal(source(yaml))
    assert line == f"6: sources.billing{message}"
    assert "sk_live" not in line


def test_parameters_of_a_request_are_text_however_they_are_written() -> None:
    table = "{path: /v1, columns: {id: invoice_id}, params: {limit: 100, all: true, 'expand[]': [a, b], key: '${K}'}}"
    read = policy_with(source(REST % table)).sources["billing"]
    assert isinstance(read, RestSource)
    assert read.tables["invoices"].params == {"limit": "100", "all": "true", "expand[]": ("a", "b"), "key": "${K}"}


BAD_TABLES = {
    "delete from invoices": ': "delete from invoices" is not allowed: a table name, or a select statement',
    "{query: drop table x}": '.query: "drop table x" is not allowed: a table name, or a select statement',
    "{table: a b}": '.table: "a b" is not allowed: a table name such as billing.invoices',
    "{table: i, query: select 1}": ": either query or table is needed, and not both",
    "{minor_units: true}": ": either query or table is needed, and not both",
    "{table: i, date_format: ISO}": (
        '.date_format: "ISO" is not allowed: a date format such as "%m/%d/%Y", or one of unix_seconds, '
        "unix_milliseconds, /Date(ms)/"
    ),
    "{table: i, columns: {a: []}}": (".columns.a: an empty list is not allowed: at least one entry"),
    "{table: i, columns: {a: total, b: [number, total]}}": (
        '.columns.b: "total" is not allowed again: each column of the table is filled once'
    ),
    "{table: i, columns: {a: currency}, values: {currency: USD}}": (
        '.values.currency: "currency" is not allowed again: each column of the table is filled once'
    ),
    "{table: i, values: {currency: 5}}": (
        ".values.currency: 5 is not allowed: text (in quotes where it looks like a number)"
    ),
}


@pytest.mark.parametrize(("yaml", "message"), BAD_TABLES.items())
def test_a_bad_mapping_of_a_table_is_refused(yaml: str, message: str) -> None:
    line = refusal(table(yaml if yaml.startswith("{") else f"'{yaml}'"))
    assert line == f"6: sources.billing.tables.invoices{message}"


def test_a_source_cannot_be_named_manual() -> None:
    assert refusal("sources:\n  manual: {kind: files, tables: {}}\n") == (
        '6: sources.manual: "manual" is not allowed: a name of letters, digits, _ and -; '
        "manual is for what people record by hand"
    )


def test_two_defaults_are_refused() -> None:
    text = MINIMAL.replace("    actions", "    default: true\n    actions")
    assert refusal("  - {name: b, default: true, actions: []}\n", text) == (
        '6: workflows[1].default: true is not allowed again: one workflow is the default, and "standard" is it'
    )


def test_a_default_carried_by_invoice_is_refused() -> None:
    assert refusal("", workflow("{default: true, carried_by: invoice}".strip("{}").replace(", ", "\n    "))) == (
        '5: workflows[0].carried_by: "invoice" is not allowed: the default workflow is carried by customer'
    )


def test_two_workflows_of_one_name_are_refused() -> None:
    assert refusal("  - {name: standard, actions: []}\n") == (
        '5: workflows[1].name: "standard" is not allowed again: each workflow has its own name'
    )


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (
            "[{name: a, day: 1}, {name: a, day: 2}]",
            'actions[1].name: "a" is not allowed again: '
            "each action of a workflow has its own name, former names (was) included",
        ),
        (
            "[{name: a, day: 1}, {name: b, day: 2, was: [a]}]",
            'actions[1].was[0]: "a" is not allowed again: '
            "each action of a workflow has its own name, former names (was) included",
        ),
        (
            "[{name: a, day: 1}, {name: b, day: 1}]",
            "actions[1].day: 1 is not allowed again: each action of a workflow has its own day",
        ),
        (
            "[{name: a, day: 5}, {name: b, day: -1}]",
            "actions[1].day: -1 is not allowed after 5: actions stand in ascending order of day",
        ),
    ],
)
def test_actions_that_contradict_each_other_are_refused(actions: str, message: str) -> None:
    assert refusal("", workflow(actions=actions)) == f"4: workflows[0].{message}"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "{name: r, when: {total: {at_least: 1}}, workflow: standrad}",
            'workflow: "standrad" is not allowed: the name of a workflow, one of standard; did you mean standard?',
        ),
        (
            "{name: r, for: invoice, when: {total: {at_least: 1}}, workflow: standard}",
            'workflow: "standard" is not allowed: a smart rule for: invoice names a workflow with carried_by: invoice',
        ),
    ],
)
def test_a_smart_rule_names_a_workflow_of_its_level(rule: str, message: str) -> None:
    assert refusal(f"smart_rules:\n  - {rule}\n").startswith(f"6: smart_rules[0].{message.split(': ', 1)[0]}: ")
    assert refusal(f"smart_rules: [{rule}]").endswith(message.removeprefix("workflow: "))


def test_a_smart_rule_for_customers_cannot_name_an_invoice_workflow() -> None:
    text = workflow("carried_by: invoice") + "smart_rules: [{name: r, when: {a: {is: b}}, workflow: standard}]\n"
    assert refusal("", text) == (
        '6: smart_rules[0].workflow: "standard" is not allowed: '
        "a smart rule for: customer names a workflow with carried_by: customer"
    )


def test_two_smart_rules_of_one_name_are_refused() -> None:
    rule = "{name: r, when: {a: {is: b}}, workflow: standard}"
    assert refusal(f"smart_rules:\n  - {rule}\n  - {rule}\n").startswith(
        '7: smart_rules[1].name: "r" is not allowed again'
    )


@pytest.mark.parametrize(
    "section",
    ["receivables: {tolerance: ", "receivables: {minimum_amount: ", "order_reminders: {tolerance: "],
)
def test_an_amount_with_too_many_decimals_is_refused(section: str) -> None:
    path = section.replace(": {", ".").removesuffix(": ")
    assert refusal(section + '{EUR: "0.005"}}') == f'5: {path}.EUR: "0.005" is not allowed: EUR has 2 decimals'
    assert refusal(section + "{JPY: 0.5}}") == f"5: {path}.JPY: 0.5 is not allowed: JPY has 0 decimals"


def test_a_rate_of_the_base_currency_is_refused() -> None:
    text = MINIMAL.replace("EUR}", "EUR, exchange_rates: {EUR: 1}}")
    assert refusal("", text) == (
        "1: organisation.exchange_rates.EUR: a rate for EUR is not allowed: "
        "it is the base currency, rates are of the others"
    )


@pytest.mark.parametrize(
    ("holidays", "message"),
    [
        ("{subdivision: BY}", '"BY" is not allowed without a country'),
        ("{country: MC, subdivision: BY}", '"BY" is not allowed: one of none for MC'),
        ("{country: GB, subdivision: XX}", '"XX" is not allowed: one of ENG, NIR, SCT, WLS for GB'),
    ],
)
def test_a_subdivision_is_one_of_its_country(holidays: str, message: str) -> None:
    assert refusal(f"calendar: {{holidays: {holidays}}}") == f"5: calendar.holidays.subdivision: {message}"
    assert policy_with("calendar: {holidays: {country: DE, subdivision: BY}}").calendar.holidays.subdivision == "BY"


def test_quiet_hours_that_end_as_they_begin_are_refused() -> None:
    assert refusal('order_reminders: {quiet_hours: {from: "08:00", to: "08:00"}}') == (
        '5: order_reminders.quiet_hours.to: "08:00" is not allowed: quiet hours end at another time than they begin'
    )


def test_everything_that_is_wrong_is_said_at_once_in_order_of_lines() -> None:
    text = dedent("""\
        organisation: {time_zone: Europe/Pari, base_currency: EUR}
        workflow_rules: []
        workflows:
          - name: standard
            default: true
            minimum_contact_delay: 45
            actions: [{name: a, day: 1}, {name: a, day: 2}]
          - name: other
            default: true
        smart_rules:
          - {name: r, when: {a: {is: b}}, workflow: nobody}
        sending: {live: false}
        sending: {live: true}
        sources:
          billing: {kind: sql, tables: {}}
        """)
    places = [line.split(": ")[:2] for line in refusals(text)]
    assert places == [
        ["dunning.yaml:1", "organisation.time_zone"],
        ["dunning.yaml:2", "workflow_rules"],
        ["dunning.yaml:6", "workflows[0].minimum_contact_delay"],
        ["dunning.yaml:7", "workflows[0].actions[1].name"],
        ["dunning.yaml:8", "workflows[1].actions"],
        ["dunning.yaml:9", "workflows[1].default"],
        ["dunning.yaml:11", "smart_rules[0].workflow"],
        ["dunning.yaml:13", "sending"],
        ["dunning.yaml:15", "sources.billing.url"],
    ]


def test_an_unknown_key_names_the_allowed_ones() -> None:
    assert refusal("calender: {}") == (
        "5: calender: is not an allowed key: one of organisation, calendar, receivables, workflows, "
        "smart_rules, smart_rules_override_manual, max_invoice_reminders_per_customer_and_day, contact_cap, "
        "order_reminders, klaviyo, sending, quality, sources; did you mean calendar?"
    )
    assert refusal("contact_cap: {day: 1, days: 1}") == (
        "5: contact_cap.day: is not an allowed key: one of days, max_deferral; did you mean days?"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "dunning.yaml:1: is empty: a policy needs at least organisation and workflows"),
        ("# nothing\n", "dunning.yaml:1: is empty: a policy needs at least organisation and workflows"),
        (
            "null\n",
            "dunning.yaml:1: an empty value is not allowed: the policy is a mapping of keys, such as organisation:",
        ),
        (
            "\n- a\n",
            "dunning.yaml:2: a list is not allowed: the policy is a mapping of keys, such as organisation:",
        ),
        ("a: b: c\n", "dunning.yaml:1: is not YAML: mapping values are not allowed here"),
        ("a:\n\t- b\n", "dunning.yaml:2: is not YAML: a tab is not allowed here: indent with spaces"),
        (
            "a: 1\n---\nb: 2\n",
            "dunning.yaml:2: is not YAML: a second document begins here: the policy is one document",
        ),
        ("a: 1\nb: \x07\n", "dunning.yaml:2: holds a character that is not allowed in YAML"),
        ("a: &a [*a]\n", "dunning.yaml:1: is nested too deeply"),
        ("[" * 2000, "dunning.yaml:1: is nested too deeply"),
    ],
)
def test_a_text_that_is_no_mapping_is_refused_in_a_sentence(text: str, message: str) -> None:
    assert refusals(text) == [message]


def test_aliases_cannot_make_a_small_text_huge() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refusals("\n".join(lines)) == ["dunning.yaml:1: has more than 100000 values"]


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    assert refusal("sending: {}\nsending: {}\n") == "6: sending: is written twice: the first is in line 5"


def test_a_key_that_is_no_text_is_refused() -> None:
    assert refusal("? [a, b]\n: c\n") == "5: a key must be text"


def test_tags_of_other_types_are_refused_and_never_run() -> None:
    assert refusals(MINIMAL + "klaviyo: {metric: !!python/name:os.system x}\n")[0] == (
        "dunning.yaml:5: klaviyo.metric: the tag !!python/name:os.system is not allowed: plain values only"
    )


def test_a_missing_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml: does not exist: name the policy file with DUNNING_POLICY"):
        load_policy(tmp_path / "nowhere.yaml")
    with pytest.raises(PolicyError, match="cannot be read: "):
        load_policy(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused_and_a_byte_order_mark_is_not(tmp_path: Path) -> None:
    file = tmp_path / "dunning.yaml"
    file.write_bytes(b"organisation: \xff\xfe")
    with pytest.raises(PolicyError, match="is not UTF-8 text"):
        load_policy(file)
    file.write_text(MINIMAL, encoding="utf-8-sig")
    assert load_policy(file).text == MINIMAL


def test_no_refusal_speaks_in_the_words_of_a_library() -> None:
    sections = [
        "organisation",
        "calendar",
        "receivables",
        "workflows",
        "smart_rules",
        "contact_cap",
        "klaviyo",
    ]
    sections += ["order_reminders", "sending", "quality", "sources", "smart_rules_override_manual"]
    values = ["5", "text", "[1]", "[[1]]", "{a: 1}", "{1: {a: 1}}", "null", "true", "1.5"]
    for section in sections:
        for value in values:
            try:
                parse_policy(f"{section}: {value}\n")
            except PolicyError as error:
                message = str(error)
                assert "Input should" not in message
                assert "http" not in message
                assert "or the schema" not in message
                assert "[key]" not in message


def test_variables_are_replaced_from_the_environment_or_their_fallback() -> None:
    environment = {"HOST": "db", "EMPTY": ""}
    assert resolve("postgresql://${HOST}:${PORT:-5432}/x", environment) == "postgresql://db:5432/x"
    assert resolve("${EMPTY:-b}${NONE:-}", environment) == "b"
    assert resolve("costs $5", environment) == "costs $5"


@pytest.mark.parametrize("name", ["NONE", "EMPTY"])
def test_a_missing_or_empty_variable_is_named(name: str) -> None:
    with pytest.raises(MissingVariable, match=f"the environment variable {name}, ") as caught:
        resolve("a ${" + name + "}", {"EMPTY": ""})
    assert caught.value.name == name


def test_a_resolved_secret_does_not_show_itself() -> None:
    secret = resolve_secret("${KEY}", {"KEY": "sk_live"})
    assert secret.get_secret_value() == "sk_live"
    assert "sk_live" not in f"{secret!r} {secret}"


def test_the_schema_file_is_current() -> None:
    command = [sys.executable, "-m", "dunning_pipeline.policy"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert SCHEMA_FILE.read_text(encoding="utf-8") == printed, "python -m dunning_pipeline.policy > its file"


def test_every_key_in_the_schema_is_explained() -> None:
    schema = json_schema()
    found = [schema, *schema["$defs"].values()]
    models = [option for part in found for option in part.get("anyOf", [part])]
    bare = [
        (model["title"], key)
        for model in models
        for key, about in model.get("properties", {}).items()
        if not about.get("description") and "$ref" not in about
    ]
    assert bare == []


@pytest.mark.parametrize(
    "text", [EXAMPLE, MINIMAL, (ROOT / "dunning.yaml").read_text()], ids=["example", "minimal", "shipped"]
)
def test_what_is_accepted_is_valid_under_the_schema(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(plain(text), json_schema())


@pytest.mark.parametrize(
    "yaml",
    [
        "calender: {}",
        "sending: {live: yes}",
        "sending: {alive: true}",
        "klaviyo: {invoices_listed: 4001}",
        "calendar: {working_days: []}",
        "calendar: {send_at: '24:00'}",
        "receivables: {tolerance: {EUR: -1}}",
        "smart_rules: [{name: r, workflow: standard, when: {}}]",
        "sources: {a: {kind: sage}}",
        "sources: {a: {kind: stripe, key: sk_live}}",
        "sources: {a: {kind: files, tables: {invoice: a.csv}}}",
        "sources: {a: {kind: rest, url: 'https://api.test', tables: {invoices: /v1}}}",
        "sources: {a: {kind: rest, url: 'https://api.test', tables: {invoices: {path: v1, columns: {a: total}}}}}",
    ],
)
def test_what_the_schema_refuses_is_refused_here_too(yaml: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain(MINIMAL + yaml), json_schema())
    with pytest.raises(PolicyError):
        parse_policy(MINIMAL + yaml)


def plain(text: str) -> object:
    """The data of a policy text as JSON knows it."""
    return json.loads(json.dumps(read_document(text, "").data, default=float))


def test_reading_a_policy_imports_none_of_the_heavy_libraries() -> None:
    heavy = "{'dagster', 'duckdb', 'pandas', 'holidays'}"
    code = f"import sys, dunning_pipeline.policy; print({heavy} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
