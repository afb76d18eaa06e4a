"""Pulling tables as every run does: what changed, what vanished, what went wrong in the middle."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from databases import SERVERS, database
from support import MovingClock, settings_at

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import PolicyError
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CUSTOMERS, INVOICES, PAYMENTS, Table

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: %s, payments: payments}
"""
WHOLE = "invoices"
CHANGES = "{table: invoices, watermark: updated_at}"

SCHEMA = """
create table customers (customer_id varchar(40), name varchar(40), email varchar(80));
create table invoices (invoice_id varchar(40), customer_id varchar(40), issued_on varchar(10), due_on varchar(10),
    currency varchar(3), total varchar(20), updated_at varchar(19));
create table payments (payment_id varchar(40), customer_id varchar(40), invoice_id varchar(40), currency varchar(3),
    amount varchar(20), paid_on varchar(10))
"""


@dataclass
class Company:
    """A billing system in SQLite and the pipeline that pulls from it."""

    home: Path
    clock: MovingClock

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.home / "billing.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def bill(self, invoice_id: str, total: str = "100.00", updated_at: str = "2026-11-16 07:00:00") -> None:
        self.run(
            f"insert into invoices values ('{invoice_id}', 'C1', '2026-10-01', '2026-10-31', 'EUR', '{total}',"
            f" '{updated_at}')"
        )

    def settings(self, invoices: str = WHOLE, policy: str = POLICY) -> Settings:
        return settings_of(self.home, f"sqlite:///{self.home / 'billing.db'}", invoices, policy, self.clock)

    def pull(
        self, invoices: str = WHOLE, table: Table = INVOICES, *, full: bool = False, policy: str = POLICY
    ) -> Loaded:
        return pull(self.settings(invoices, policy), self.warehouse, table, "run", full=full)[1]

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home / "warehouse.duckdb")

    def invoices(self, columns: str = "invoice_id, total_minor") -> dict[str, object]:
        rows = self.warehouse.fetch(f"select {columns} from source.invoices order by invoice_id").to_numpy()
        return dict(list(rows))


def settings_of(home: Path, url: str, invoices: str, policy: str, clock: MovingClock) -> Settings:
    return settings_at(home, policy % invoices, clock, {"BILLING_DATABASE_URL": url})


@pytest.fixture
def company(tmp_path: Path) -> Company:
    company = Company(tmp_path, MovingClock())
    company.run(*SCHEMA.split(";"))
    company.bill("A")
    company.bill("B")
    return company


def test_only_what_changed_is_pulled_again(company: Company) -> None:
    company.pull(CHANGES)
    company.run("update invoices set total = '90.00' where invoice_id = 'A'")
    company.bill("C", updated_at="2026-11-16 08:00:01")
    company.pull(CHANGES)
    company.run("update invoices set total = '1.00' where invoice_id = 'B'")
    assert company.pull(CHANGES).written == 1
    assert company.invoices() == {"A": 9000, "B": 10000, "C": 10000}


def test_a_full_pull_takes_everything_again(company: Company) -> None:
    company.pull(CHANGES)
    company.bill("C", updated_at="2026-11-16 08:30:00")
    company.pull(CHANGES)
    company.run("update invoices set total = '90.00', updated_at = '2026-01-01 00:00:00'")
    assert company.pull(CHANGES).written == 0
    assert company.pull(CHANGES, full=True).written == 3
    assert set(company.invoices().values()) == {9000}


@pytest.mark.parametrize("change", ["{table: invoices, watermark: updated_at, overlap: 2h}", "invoices"])
def test_other_settings_make_the_next_pull_a_full_one(company: Company, change: str) -> None:
    company.pull(CHANGES)
    company.bill("C", updated_at="2026-11-16 08:30:00")
    company.pull(CHANGES)
    assert company.pull(change).written == 3


def test_what_a_whole_table_no_longer_has_is_missing_until_it_is_back(company: Company) -> None:
    company.pull()
    company.run("delete from invoices where invoice_id = 'A'")
    assert company.pull().vanished == 1
    assert company.invoices("invoice_id, missing_since")["A"] == pd.Timestamp(2026, 11, 16)
    company.bill("A")
    company.pull()
    assert pd.isna(company.invoices("invoice_id, missing_since")["A"])


def test_an_invoice_that_was_paid_or_void_is_not_missed(company: Company) -> None:
    company.bill("C")
    company.run(
        "insert into payments values ('P', 'C1', 'A', 'EUR', '100.00', '2026-11-01')",
        "alter table invoices add column status text",
        "update invoices set status = 'void' where invoice_id = 'B'",
    )
    company.pull()
    company.pull(table=PAYMENTS)
    company.run("delete from invoices")
    assert company.pull().vanished == 1
    missing = company.invoices("invoice_id, missing_since is not null")
    assert missing == {"A": False, "B": False, "C": True}


@pytest.mark.parametrize("invoices", [CHANGES, "{table: invoices, complete: false}"])
def test_what_a_part_of_a_table_does_not_have_is_left_alone(company: Company, invoices: str) -> None:
    company.pull(invoices)
    company.run("delete from invoices where invoice_id = 'A'")
    assert company.pull(invoices).vanished == 0
    assert company.invoices() == {"A": 10000, "B": 10000}


def test_a_column_that_is_gone_stops_the_pull_and_keeps_what_it_filled(company: Company) -> None:
    company.pull()
    company.run("alter table invoices drop column due_on")
    with pytest.raises(SourceError, match=r"billing.invoices: column 'due_on' is gone.*pull with `dunning run --full`"):
        company.pull()
    assert set(company.invoices("invoice_id, due_on").values()) == {pd.Timestamp(2026, 10, 31)}
    assert company.pull(full=True).written == 2
    assert company.pull().written == 2


def test_a_column_that_was_renamed_is_told_with_what_there_is(company: Company) -> None:
    company.pull()
    company.run("alter table invoices rename column total to gross")
    with pytest.raises(SourceError, match=r"column 'total' is needed, but the source yields .*gross"):
        company.pull()
    assert company.invoices() == {"A": 10000, "B": 10000}


def test_columns_that_are_new_or_fill_nothing_do_no_harm(company: Company) -> None:
    company.run("alter table invoices add column note text")
    company.pull()
    company.run("alter table invoices drop column note", "alter table invoices add column memo text")
    assert company.pull().written == 2


def test_a_prefix_stands_before_every_id_of_the_source(company: Company) -> None:
    company.run("insert into payments values ('P', 'C1', 'A', 'EUR', '10.00', '2026-11-01')")
    company.run("insert into customers values ('C1', 'Ada', 'ada@shop.dev')")
    prefixed = POLICY.replace("kind: sql", "kind: sql\n    id_prefix: fr-")
    for table in (CUSTOMERS, INVOICES, PAYMENTS):
        company.pull(table=table, policy=prefixed)
    assert company.invoices("invoice_id, customer_id") == {"fr-A": "fr-C1", "fr-B": "fr-C1"}
    (payment,) = company.warehouse.fetch("select payment_id, customer_id, invoice_id from source.payments").to_numpy()
    assert list(payment) == ["fr-P", "fr-C1", "fr-A"]
    (customer,) = company.warehouse.fetch("select customer_id, email from source.customers").to_numpy()
    assert list(customer) == ["fr-C1", "ada@shop.dev"]


COMPLETE = POLICY.replace("payments: payments", "payments: {table: payments, complete: true}")


def paid(company: Company) -> dict[str, int]:
    """What was paid of each invoice."""
    rows = company.warehouse.fetch("select invoice_id, sum(amount_minor)::bigint from source.payments group by 1")
    return dict(list(rows.to_numpy()))


def test_a_payment_that_a_complete_list_no_longer_has_is_taken_back_until_it_is_there_again(company: Company) -> None:
    company.run("insert into payments values ('P', 'C1', 'A', 'EUR', '10.00', '2026-11-01')")
    company.run("insert into payments values ('Q', 'C1', 'B', 'EUR', '5.00', '2026-11-01')")
    company.pull(table=INVOICES)
    assert company.pull(table=PAYMENTS, policy=COMPLETE).taken_back == 0
    company.run("delete from payments where payment_id = 'P'")
    company.clock.advance(days=1)
    assert company.pull(table=PAYMENTS, policy=COMPLETE).taken_back == 1
    assert company.pull(table=PAYMENTS, policy=COMPLETE).taken_back == 0
    assert paid(company) == {"A": 0, "B": 500}
    (reversal,) = company.warehouse.fetch(
        "select payment_id, amount_minor, kind, paid_on from source.payments where payment_id like 'reversed%'"
    ).to_numpy()
    assert list(reversal) == ["reversed:P:1", -1000, "chargeback", pd.Timestamp(2026, 11, 17)]
    company.run("insert into payments values ('P', 'C1', 'A', 'EUR', '12.00', '2026-11-01')")
    assert company.pull(table=PAYMENTS, policy=COMPLETE).taken_back == 1
    assert paid(company) == {"A": 1200, "B": 500}


def test_a_payment_that_a_list_lacks_stays_where_the_policy_does_not_call_it_complete(company: Company) -> None:
    company.run("insert into payments values ('P', 'C1', 'A', 'EUR', '10.00', '2026-11-01')")
    company.pull(table=PAYMENTS)
    company.run("delete from payments")
    assert company.pull(table=PAYMENTS).taken_back == 0
    assert paid(company) == {"A": 1000}


def test_a_list_that_lacks_most_payments_is_not_believed_unless_told_so(company: Company) -> None:
    company.run(*(f"insert into payments values ('P{at}', 'C1', 'A', 'EUR', '1.00', '2026-11-01')" for at in range(30)))
    company.pull(table=PAYMENTS, policy=COMPLETE)
    company.run("delete from payments where payment_id > 'P2'")
    with pytest.raises(SourceError, match=r"billing.payments: 17 payments are gone .* pull with `dunning run --full`"):
        company.pull(table=PAYMENTS, policy=COMPLETE)
    assert paid(company) == {"A": 3000}
    company.run("delete from payments where payment_id > 'P1'")
    assert company.pull(table=PAYMENTS, policy=COMPLETE, full=True).taken_back == 28


PULL_ALL = """\
import sys
from pathlib import Path
from support import MovingClock
from test_pulling import pull_all, settings_of
home, url, invoices = sys.argv[1:]
pull_all(settings_of(Path(home), url, invoices, Path(home, "policy").read_text(), MovingClock()))
"""
ROWS = 4_000
WEEKS = 2


def pull_all(settings: Settings) -> None:
    for table in (CUSTOMERS, INVOICES, PAYMENTS):
        pull(settings, Warehouse(settings.warehouse_path), table, "run")


def write_business(url: str, week: int) -> None:
    """What a billing system holds in a week: more rows than in the one before, and some of those changed."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    numbers = range(ROWS * (week + 1))
    day, updated = f"2026-10-0{week + 1}", f"2026-10-0{week + 1} 06:00:00"
    customers = [{"id": f"C{at}", "name": f"Customer {at}", "email": f"{at}@shop.dev"} for at in range(50)]
    new = numbers[ROWS * week :]
    invoices = [{"id": f"I{at}", "customer": f"C{at % 50}", "day": day, "updated": updated} for at in new]
    payments = [{"id": f"P{at}", "customer": f"C{at % 50}", "invoice": f"I{at}", "day": day} for at in new[::3]]
    with engine.begin() as connection:
        if week == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(sa.text(statement))
            connection.execute(sa.text("insert into customers values (:id, :name, :email)"), customers)
        changed = "update invoices set total = :total, updated_at = :updated where invoice_id like :some"
        connection.execute(sa.text(changed), {"total": f"{week + 1}.50", "updated": updated, "some": f"I%{week}"})
        billed = "insert into invoices values (:id, :customer, :day, '2026-10-31', 'EUR', '10.00', :updated)"
        connection.execute(sa.text(billed), invoices)
        paid = "insert into payments values (:id, :customer, :invoice, 'EUR', '4.00', :day)"
        connection.execute(sa.text(paid), payments)


def tables(warehouse: Warehouse) -> Mapping[str, pd.DataFrame]:
    """What the source tables hold, in one order. Integer keys may differ: the order in which they are given may."""
    return {
        name: warehouse.fetch(f"select columns(lambda c: c not like '%_key') from source.{name} order by all")
        for name in ("customers", "invoices", "payments", "rejected_rows", "watermarks")
    }


def assert_same(left: Warehouse, right: Warehouse) -> None:
    expected = tables(right)
    for name, frame in tables(left).items():
        pd.testing.assert_frame_equal(frame, expected[name], obj=name)


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_pulls_that_are_killed_and_begun_again_leave_what_one_pull_would(tmp_path: Path, kills: int) -> None:
    """Killed with SIGKILL at random moments; an uninterrupted pull beside it tells what must come out."""
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    url = f"sqlite:///{tmp_path / 'billing.db'}"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for home in (killed, whole):
        home.mkdir()
        (home / "policy").write_text(POLICY)
    hit = 0
    for week in range(WEEKS):
        write_business(url, week)
        started = time.monotonic()
        pull_apart(whole, url)
        seconds = time.monotonic() - started
        for _ in range(kills // WEEKS):
            hit += pull_apart(killed, url, kill_after=chance.uniform(0.4, 1.0) * seconds)
        pull_apart(killed, url)
        assert_same(Warehouse(killed / "warehouse.duckdb"), Warehouse(whole / "warehouse.duckdb"))
    assert hit >= kills / 3, "hardly any process was met while it ran"


def pull_apart(home: Path, url: str, kill_after: float | None = None) -> bool:
    """Pulls in a process of its own; tells whether it was killed before its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PULL_ALL, str(home), url, CHANGES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])},
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(kill_after)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    return process.wait() != 0


@contextmanager
def cutting(server: tuple[str, int], after: Callable[[], int]) -> Iterator[int]:
    """A port that leads to a server, and of which every connection is cut after so many bytes of answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_relay, args=(client, server, after()), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _relay(client: socket.socket, server: tuple[str, int], left: int) -> None:
    upstream = socket.create_connection(server)

    def ask() -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                upstream.sendall(data)

    threading.Thread(target=ask, daemon=True).start()
    with suppress(OSError):
        while left > 0 and (data := upstream.recv(min(65536, left))):
            client.sendall(data)
            left -= len(data)
    for end in (client, upstream):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("cuts", [5, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_pulls_whose_connection_is_cut_and_begun_again_leave_what_one_pull_would(
    tmp_path: Path, kind: str, cuts: int
) -> None:
    """Cut after a random number of bytes, in the middle of a batch more often than not."""
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    with database(kind, tmp_path) as url:
        address = sa.make_url(url)
        write_business(url, 0)
        write_business(url, 1)
        server = address.host or "127.0.0.1", address.port or {"postgresql": 5432, "mariadb": 3306}[kind]
        with cutting(server, lambda: chance.randrange(200, 1_500_000)) as port:
            # Without encryption, whose handshake would be all that is ever cut.
            plain = {"sslmode": "disable"} if kind == "postgresql" else {"ssl_disabled": "true"}
            through = address.set(host="127.0.0.1", port=port).update_query_dict(plain)
            broken = settings_of(
                tmp_path / "cut", through.render_as_string(hide_password=False), CHANGES, POLICY, MovingClock()
            )
            for _ in range(cuts):
                with suppress(SourceError):
                    pull_all(broken)
        for home in ("cut", "whole"):
            pull_all(settings_of(tmp_path / home, url, CHANGES, POLICY, MovingClock()))
        assert_same(*(Warehouse(tmp_path / home / "warehouse.duckdb") for home in ("cut", "whole")))


def test_a_policy_cannot_ask_for_a_complete_list_of_changes(company: Company) -> None:
    with pytest.raises(PolicyError, match="true is not allowed beside a watermark: only changes are pulled then"):
        company.settings("{table: invoices, watermark: updated_at, complete: true}")
