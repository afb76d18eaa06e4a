"""Presets on tables as Odoo, ERPNext and Tryton have them: the same business is decided the same, and stays so."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import database
from support import MovingClock, decided, pull_tables, settings_at

from dunning_pipeline.policy import PolicyError, SqlSource, parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings

SERVERS = {"odoo": "postgresql", "erpnext": "mariadb", "tryton": "postgresql"}
FRIDAY, MONDAY, TUESDAY = date(2026, 11, 13), date(2026, 11, 16), date(2026, 11, 17)

BASE = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 30}]}]
"""
POLICY = BASE + 'sources: {erp: {kind: sql, url: "${ERP_DATABASE_URL}", preset: %s}}\n'


class Erp:
    """A system with its sample business, and the pipeline that pulls from it by its preset."""

    def __init__(self, name: str, url: str, home: Path) -> None:
        self.name, self.url, self.home, self.clock = name, url, home, MovingClock()
        self.policy = POLICY % name
        self.run("")

    def run(self, suffix: str) -> None:
        """Runs the statements of a file, which end lines with semicolons."""
        text = (Path(__file__).parent / "presets" / f"{self.name}{suffix}.sql").read_text(encoding="utf-8")
        with sa.create_engine(self.url, poolclass=sa.NullPool).begin() as connection:
            for statement in text.split(";\n"):
                lines = [line for line in statement.splitlines() if not line.startswith("--")]
                if "".join(lines).strip():
                    connection.exec_driver_sql("\n".join(lines))

    @property
    def settings(self) -> Settings:
        variables = ("ERP_DATABASE_URL", f"{self.name.upper()}_DATABASE_URL")
        return settings_at(self.home, self.policy, self.clock, dict.fromkeys(variables, self.url))

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def decide(self, day: date) -> Mapping[str, tuple[object, ...]]:
        """What is decided of each customer after a pull: reason, carrying invoice and its due date, open amount."""
        self.clock.move_to(day)
        pull_tables(self.settings)
        return self.decide_again(day)

    def decide_again(self, day: date) -> Mapping[str, tuple[object, ...]]:
        """What is decided of a day by what is known now."""
        decided(self.settings, day)
        rows = self.warehouse.fetch(
            """
            select c.name, coalesce(d.reason, d.decision), d.carrying_invoice_id, strftime(v.due_on, '%m-%d'),
                sum(o.open_minor)::bigint, any_value(o.currency)
            from dunning.decisions as d
            join source.customers as c using (customer_id)
            join dunning.open_invoices as o on o.customer_id = d.customer_id and o.as_of = d.as_of
            left join dunning.carrying_invoices as v on v.customer_id = d.customer_id and v.as_of = d.as_of
            where d.as_of = $day group by all
            """,
            {"day": day},
        )
        return {name: tuple(rest) for name, *rest in rows.astype(object).where(rows.notna(), None).to_numpy().tolist()}


@pytest.fixture(params=SERVERS)
def erp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Erp]:
    with database(SERVERS[request.param], tmp_path) as url:
        yield Erp(request.param, url, tmp_path / "home")


def test_drafts_payments_credit_notes_currencies_and_money_ahead_are_decided_alike_everywhere(erp: Erp) -> None:
    assert erp.decide(MONDAY) == {
        "Harbour": ("remind", "101", "10-31", 6000, "EUR"),
        "Mills": ("remind", "104", "11-10", 15000, "EUR"),
        "Nets": ("remind", "106", "11-05", 8000, "USD"),
        "Ahead": ("net_balance_not_positive", None, None, 3000, "EUR"),
    }
    assert erp.warehouse.fetch("select * from source.rejected_rows").empty


def test_the_examples_of_the_documents_decide_the_same(erp: Erp) -> None:
    plain = erp.decide(MONDAY)
    text = (Path(__file__).parents[1] / "docs" / "sources-erp.md").read_text(encoding="utf-8")
    (erp.policy,) = [
        block for block in re.findall(r"^```yaml\n(organisation:.*?)^```$", text, re.M | re.S) if erp.name in block
    ]
    assert erp.decide(MONDAY) == plain


def test_what_changes_in_the_system_changes_the_decisions_of_the_next_day_and_not_those_before(erp: Erp) -> None:
    friday = erp.decide(FRIDAY)
    erp.run("_changes")
    assert erp.decide(TUESDAY) == {
        "Kontor": ("remind", "108", "11-16", 2500, "EUR"),
        "Mills": ("remind", "104", "11-10", 20000, "EUR"),
        "Nets": ("remind", "106", "11-05", 8000, "USD"),
        "Ahead": ("net_balance_not_positive", None, None, 3000, "EUR"),
    }
    assert erp.decide_again(FRIDAY) == friday


def test_customers_come_with_address_language_and_country(erp: Erp) -> None:
    pull_tables(erp.settings)
    rows = erp.warehouse.fetch("select name, email, phone, country, language from source.customers order by name")
    customers = {name: rest for name, *rest in rows.to_numpy().tolist()}
    assert customers["Harbour"][:3] == ["a@harbour.test", "+33199000001", "FR"]
    assert customers["Harbour"][3].startswith("fr")
    assert customers["Mills"][0] == "c@mills.test"


def test_only_invoices_and_customers_that_changed_are_pulled_again(erp: Erp) -> None:
    pull_tables(erp.settings)
    erp.run("_changes")
    erp.clock.move_to(TUESDAY)
    loaded = pull_tables(erp.settings)
    assert loaded["customers"].written < 6
    assert loaded["invoices"].written < 7


def test_tables_of_the_policy_go_before_those_of_the_preset() -> None:
    policy = parse_policy(
        BASE + "sources: {erp: {kind: sql, url: $, preset: odoo, tables: {payments: paid}}}".replace("$", '"${U}"')
    )
    source = policy.sources["erp"]
    assert isinstance(source, SqlSource)
    assert source.tables["payments"].table == "paid"
    assert str(source.tables["invoices"].query).startswith("-- Odoo")
    assert source.tables["invoices"].watermark == "updated_at"


@pytest.mark.parametrize("preset", SERVERS)
def test_every_preset_maps_customers_invoices_and_payments(preset: str) -> None:
    source = parse_policy(POLICY % preset).sources["erp"]
    assert isinstance(source, SqlSource)
    assert set(source.tables) == {"customers", "invoices", "payments"}


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        PolicyError, match=r'preset: "odo" is not allowed: odoo or erpnext or tryton; did you mean odoo'
    ):
        parse_policy(POLICY % "odo")


def test_a_database_needs_tables_or_a_preset() -> None:
    with pytest.raises(PolicyError, match=r"sources\.erp: either tables or preset is needed"):
        parse_policy(BASE + 'sources: {erp: {kind: sql, url: "${ERP_DATABASE_URL}"}}')
