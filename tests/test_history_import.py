"""Contacts of another system: mapped, taken once, never rewritten, and counted with what is wrong with them."""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from support import MovingClock, settings_at
from test_outbox import empty_warehouse

from dunning_pipeline.errors import SendingRefused, SourceError, TooManyRejectedRows
from dunning_pipeline.history import history_folder, restore_history
from dunning_pipeline.history_events import Recorded, record_events
from dunning_pipeline.history_import import Imported, contacts_file, import_contacts
from dunning_pipeline.reconciling import reconcile
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import Fault, KlaviyoAccount, running

POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
quality: {max_rejected: 0.5}
"""
CONTACTS = "select contact_id, customer_id, contacted_on, source from source.contacts order by contact_id"

Import = Callable[..., Imported]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = empty_warehouse(tmp_path / "warehouse.duckdb")
    with made.transaction() as connection:
        connection.execute("insert into source.customers by name select 'C1' as customer_id, 'billing' as source")
    return made


@pytest.fixture
def take(tmp_path: Path, warehouse: Warehouse) -> Import:
    """Imports a text as a CSV file."""

    def imported(text: str, **mapping: object) -> Imported:
        file = tmp_path / "old [system].csv"
        file.write_text(text, encoding="utf-8")
        return import_contacts(settings_at(tmp_path, POLICY, MovingClock()), warehouse, contacts_file(file, **mapping))

    return imported


def test_contacts_are_mapped_and_recorded_as_by_hand(take: Import, warehouse: Warehouse) -> None:
    text = "ref;client;sent;step\n1;C1;03.11.2026;reminder_1\n2;C1;10.11.2026;\n"
    columns = {"ref": "contact_id", "client": "customer_id", "sent": "contacted_on", "step": "action"}
    imported = take(text, columns=columns, values={"channel": "email"}, date_format="%d.%m.%Y", delimiter=";")
    assert (imported.contacts, imported.known, imported.rejected) == (2, 0, 0)
    rows = warehouse.fetch("select * from source.contacts order by contact_id")
    assert rows["contacted_on"].dt.date.tolist() == [date(2026, 11, 3), date(2026, 11, 10)]
    assert set(rows["source"]) == {"manual"}
    assert set(rows["channel"]) == {"email"}
    assert rows["customer_key"].notna().all()


def test_a_file_imported_twice_is_taken_once_and_nothing_is_rewritten(take: Import, warehouse: Warehouse) -> None:
    take("contact_id,customer_id,contacted_on\n1,C1,2026-11-03\n")
    again = take("contact_id,customer_id,contacted_on\n1,C1,2026-11-09\n2,C1,2026-11-10\n2,C1,2026-11-10\n")
    assert (again.contacts, again.known, again.duplicates) == (1, 1, 1)
    days = warehouse.fetch(CONTACTS)["contacted_on"].dt.date.tolist()
    assert days == [date(2026, 11, 3), date(2026, 11, 10)]


def test_rows_that_cannot_be_read_are_counted_by_reason_and_stored(take: Import, warehouse: Warehouse) -> None:
    imported = take(
        "contact_id,customer_id,contacted_on\n1,C1,2026-11-03\n4,C1,2026-11-04\n2,C1,2026-12-24\n3,C1,soon\n"
    )
    assert (imported.contacts, imported.rejected) == (2, 2)
    assert imported.reasons == {
        "contacted_on is after today (2026-11-16)": 1,
        "contacted_on 'soon' is no date of the form 2026-11-22": 1,
    }
    assert len(warehouse.fetch("select 1 from source.rejected_rows where source = 'manual'")) == 2


def test_with_too_many_rejected_rows_none_is_taken(take: Import, warehouse: Warehouse) -> None:
    with pytest.raises(TooManyRejectedRows, match=r"2 of 3 rows were rejected, more than quality.max_rejected \(0.5\)"):
        take("contact_id,customer_id,contacted_on\n1,C1,2026-11-03\n2,C1,never\n3,C1,never\n")
    assert warehouse.fetch(CONTACTS).empty


def test_contacts_that_count_for_less_than_they_say_are_told(take: Import) -> None:
    head = "contact_id,customer_id,contacted_on,invoice_id,workflow,action\n"
    imported = take(head + "1,C9,2026-11-03,,,\n2,C1,2026-11-03,F1,standard,reminder_1\n3,C1,2026-11-04,F1,old,first\n")
    assert imported.doubts == (
        "1 are with customers that no source has (C9)",
        "1 execute nothing and count for the minimum contact delay only: they name no invoice, or no workflow and "
        "action of the policy (old: first)",
    )


def test_a_missing_column_is_told_with_those_there_are(take: Import) -> None:
    with pytest.raises(SourceError, match="column 'contact_id' is needed, but the source yields id, customer_id"):
        take("id,customer_id,contacted_on\n1,C1,2026-11-03\n")


def test_a_missing_file_and_a_wrong_mapping_are_told(tmp_path: Path, warehouse: Warehouse) -> None:
    settings = settings_at(tmp_path, POLICY, MovingClock())
    with pytest.raises(SourceError, match="source import: no file matches"):
        import_contacts(settings, warehouse, contacts_file(tmp_path / "none.csv"))
    with pytest.raises(SourceError, match="date_format"):
        contacts_file(tmp_path / "none.csv", date_format="soon")


def test_what_was_imported_is_in_the_files_of_the_history_and_comes_back(take: Import, warehouse: Warehouse) -> None:
    take("contact_id,customer_id,contacted_on\n1,C1,2026-11-03\n")
    (file,) = history_folder(warehouse).iterdir()
    assert file.name.startswith("contacts-")
    before = warehouse.fetch(CONTACTS)
    os.unlink(warehouse.path)
    restored = empty_warehouse(warehouse.path)
    assert restore_history(restored, MovingClock()()).rows == {"contacts": 1}
    assert restored.fetch(CONTACTS).equals(before)
    assert len(restored.fetch("select 1 from source.contacts join source.customer_keys using (customer_key)")) == 1


def test_an_id_that_a_source_of_the_policy_has_is_rejected(tmp_path: Path, warehouse: Warehouse) -> None:
    policy = POLICY + "sources: {crm: {kind: files, tables: {contacts: contacts.csv}}}\n"
    with warehouse.transaction() as connection:
        connection.execute(
            "insert into source.contacts by name select '1' as contact_id, 'C1' as customer_id,"
            " date '2026-11-01' as contacted_on, 'crm' as source, 1 as customer_key"
        )
    file = tmp_path / "old.csv"
    file.write_text("contact_id,customer_id,contacted_on\n1,C1,2026-11-03\n2,C1,2026-11-03\n")
    imported = import_contacts(settings_at(tmp_path, policy, MovingClock()), warehouse, contacts_file(file))
    assert (imported.contacts, imported.rejected) == (1, 1)
    (reason,) = imported.reasons
    assert "comes from source 'crm' too" in reason


LIVE = POLICY + "klaviyo: {metric: Reminder}\nsending: {live: true, allow_list: [a@shop.test, c@shop.test]}\n"


def test_contacts_become_events_of_the_past_that_start_no_flow(tmp_path: Path, warehouse: Warehouse) -> None:
    people = [("C1", "a@shop.test", 1), ("C2", "nobody", 2), ("C3", "b@shop.test", 3)]
    with warehouse.transaction() as connection:
        connection.execute("delete from source.customers")
        for customer_id, email, key in people:
            connection.execute("insert into source.customer_keys values (?, ?)", [customer_id, key])
            connection.execute(
                "insert into source.customers by name select ? as customer_id, ? as email, ? as customer_key,"
                " 'Shop' as name, 'billing' as source",
                [customer_id, email, key],
            )
    file = tmp_path / "old.csv"
    file.write_text(
        "contact_id,customer_id,contacted_on,action\n1,C1,2026-11-03,call\n2,C2,2026-11-03,\n3,C3,2026-11-04,\n"
    )
    account = KlaviyoAccount(clock=MovingClock())
    account.faults.plan([Fault.throttled(3), Fault.lost_answer()])
    with running(account) as url:
        settings = settings_at(tmp_path, LIVE, MovingClock(), {"KLAVIYO_URL": url})
        for _ in range(2):
            imported = import_contacts(settings, warehouse, contacts_file(file))
            recorded = record_events(settings, warehouse, imported.contact_ids)
            assert recorded == Recorded(events=1, unreachable=1, unlisted=1)
        assert reconcile(settings, warehouse, date(2026, 11, 1)).agrees
    (event,) = account.events
    assert event.backfill
    assert event.time.date() == date(2026, 11, 3)
    assert event.metric == "Reminder"
    assert event.properties["imported"] is True
    assert (event.properties["customer_name"], event.properties["action"]) == ("Shop", "call")


def test_no_events_are_recorded_where_nothing_may_be_sent(tmp_path: Path, warehouse: Warehouse) -> None:
    with pytest.raises(SendingRefused, match=r"sending\.live is false"):
        record_events(settings_at(tmp_path, POLICY, MovingClock()), warehouse, pd.Series(["1"], dtype="str"))
