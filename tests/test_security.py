"""Secrets and addresses: where they must not be after days full of failures; file modes; how YAML is read."""

import io
import json
import os
import re
import sqlite3
import stat
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.cli import main
from dunning_pipeline.history import keep_history
from dunning_pipeline.local_run import dagster_instance
from dunning_pipeline.sandbox.klaviyo import Fault, KlaviyoAccount, running
from dunning_pipeline.sandbox.klaviyo.validation import BULK_POINTER
from dunning_pipeline.scratch import scratch_copy
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ALL_TABLES

ROOT = Path(__file__).parents[1]
KEY = "pk_9d1f0c57e2ab4c61secret"
PASSWORD = "Gehe!m-7731/x"
QUOTED_PASSWORD = "Gehe%21m-7731%2Fx"
SECRETS = (KEY, PASSWORD, QUOTED_PASSWORD)

MONDAY, TUESDAY = date(2026, 11, 16), date(2026, 11, 17)

EMAILS = [f"jane.roe{number}@customer{number}.test" for number in range(6)]
MISTYPED = ("lost.due@customer.test", "lost.line@customer.test", "lost.id@customer.test", "in.name@customer.test")
PHONES = ("+33612345678", "0698765432")
ADDRESSES = (*EMAILS, *MISTYPED, *PHONES)

HOLDING_ADDRESSES = {"source.customers", "source.rejected_rows", "dunning.reminders"}
"""Where customers' addresses belong: what sources yield, and the payload."""

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 0
    actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 2}, {name: reminder_3, day: 3}]
klaviyo: {identify_by: [email, phone]}
sending: {live: true}
quality: {max_rejected: 0.6}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices}
  calls: {kind: files, tables: {contacts: {path: contacts.csv, delimiter: ","}}}
"""


class LeakyDialect(SQLiteDialect_pysqlite):
    """A driver whose errors quote all that they were given, as real ones do."""

    supports_statement_cache = True

    def create_connect_args(self, url):  # type: ignore[no-untyped-def]
        self.told = f"{url.render_as_string(hide_password=False)} with password {url.password} and {dict(url.query)}"
        return [], {}

    def connect(self, *_, **__):  # type: ignore[no-untyped-def]
        raise sqlite3.OperationalError(f"connection failed: {self.told}")


registry.register("leaky", __name__, "LeakyDialect")
LEAKY_URL = f"leaky://reader:{QUOTED_PASSWORD}@db.internal/billing?sslpassword={QUOTED_PASSWORD}"


def refused(email: str) -> Fault:
    """400 for the first event of a bulk request, with Klaviyo quoting the address in its words."""
    detail = f"Invalid email address '{email}' for the profile with phone {PHONES[0]}."
    pointer = f"{BULK_POINTER}/0/attributes/profile/data/attributes/email"
    errors = [{"id": "x", "code": "invalid", "title": email, "detail": detail, "source": {"pointer": pointer}}]
    headers = {"Content-Type": "application/vnd.api+json"}
    return Fault("400 quoting an address", code=400, headers=headers, body=json.dumps({"errors": errors}).encode())


def write_database(path: Path) -> None:
    """Customers with an invoice each, due last week; invoices whose dates are somebody's address."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            create table customers (customer_id text, name text, email text, phone text);
            create table invoices
                (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
        """)
        for number, email in enumerate(EMAILS):
            name = f"Jane {MISTYPED[3]}" if number == 0 else f"Shop {number}"
            phone = PHONES[number % 2]
            connection.execute("insert into customers values (?, ?, ?, ?)", [f"C{number}", name, email, phone])
            dates = ["2026-10-01", "2026-11-09"]
            connection.execute(
                "insert into invoices values (?, ?, ?, ?, 'EUR', '100.00')", [f"F{number}", f"C{number}", *dates]
            )
        for number, text in enumerate(MISTYPED[:1] * 2):
            connection.execute(
                "insert into invoices values (?, 'C1', '2026-10-01', ?, 'EUR', '100.00')", [f"B{number}", text]
            )
        connection.commit()


def spoil(path: Path) -> None:
    """More rows that cannot be read than the policy allows."""
    with closing(sqlite3.connect(path)) as connection:
        for number in range(40):
            row = [f"B1{number}", MISTYPED[2], MISTYPED[0]]
            connection.execute("insert into invoices values (?, ?, '2026-10-01', ?, 'EUR', '1')", row)
        connection.commit()


@dataclass(frozen=True)
class Aftermath:
    """What is left after days of failures: the home, the settings, and what was printed meanwhile."""

    settings: Settings
    printed: str
    events: int
    failures: tuple[str, ...]

    @property
    def home(self) -> Path:
        return self.settings.home


def live_through_failures(home: Path) -> tuple[Settings, int, tuple[str, ...]]:
    """Daily runs and sends in which Klaviyo, the database and the rows go wrong; returns what the failures said."""
    home.mkdir(mode=0o700)
    database = home.parent / "billing.sqlite"
    write_database(database)
    (home / "contacts.csv").write_text(
        f"contact_id,customer_id,contacted_on\n1,C1,2026-11-01\n2,C1,{MISTYPED[1]},x,y\n"
    )
    clock = MovingClock()
    clock.move_to(MONDAY, zone="UTC")
    account = KlaviyoAccount({KEY: ["events:write"]}, clock=clock)
    failures: list[str] = []
    with running(account) as url, dagster_instance(home) as instance:
        environment = {"KLAVIYO_API_KEY": KEY, "KLAVIYO_URL": url, "BILLING_DATABASE_URL": f"sqlite:///{database}"}
        settings = settings_at(home, POLICY, clock, environment)
        pipeline = Pipeline(settings, instance)

        def send(batch_id: str, by: Pipeline = pipeline) -> None:
            clock.advance(minutes=1)
            try:
                by.send(batch_id)
            except Exception as error:
                failures.append(f"{error} {getattr(error, 'description', '')}")

        def daily(of: Pipeline) -> None:
            try:
                assert of.daily().success
            except Exception as error:
                failures.append(str(error))

        batch_id = pipeline.daily().run_id
        account.faults.plan([refused(EMAILS[0]), Fault.unauthorized()])
        send(batch_id)
        account.faults.when(lambda _: Fault.status(503, html=True))
        send(batch_id)
        account.faults.when(lambda _: None)
        wrong = replace(settings, environment={**environment, "KLAVIYO_API_KEY": KEY + "\u00e9\n"})
        send(batch_id, Pipeline(wrong, instance))
        clock.advance(hours=1)
        send(batch_id)
        clock.move_to(TUESDAY, zone="UTC")
        spoil(database)
        daily(pipeline)
        leaking = replace(settings, environment={**environment, "BILLING_DATABASE_URL": LEAKY_URL})
        daily(Pipeline(leaking, instance))
        keep_history(pipeline.warehouse, clock(), thorough=True)
    return settings, len(account.events), tuple(failures)


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """One life through failures for all tests of this module, all that it printed caught at the file descriptors."""
    base = tmp_path_factory.mktemp("security")
    printed = base / "printed"
    with printed.open("wb") as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
        try:
            with redirect_stdout(text), redirect_stderr(text):
                settings, events, failures = live_through_failures(base / "home")
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
    return Aftermath(settings, printed.read_text(encoding="utf-8"), events, failures)


def table_texts(warehouse: Path) -> dict[str, str]:
    """Each table of a warehouse as text."""
    with duckdb.connect(warehouse, read_only=True) as connection:
        names = connection.execute("select schema_name || '.' || table_name from duckdb_tables()").fetchall()
        assert {table.qualified for table in ALL_TABLES} <= {name for (name,) in names}
        return {name: _text(connection.sql(f"from {name}").to_arrow_table()) for (name,) in names}


def _text(table: pa.Table) -> str:
    return str(table.to_pylist())


def found(text: str, wanted: tuple[str, ...] = ADDRESSES) -> set[str]:
    return {one for one in wanted if one in text}


def test_the_failures_happened_and_what_could_be_sent_was(aftermath: Aftermath) -> None:
    said = "\n".join(aftermath.failures)
    for word in ("401", "5 unknown", "quality.max_rejected", "connection failed"):
        assert word in said, said
    assert aftermath.events
    outcomes = table_texts(aftermath.settings.warehouse_path)["dunning.sent_history"]
    assert "'rejected'" in outcomes
    assert "'accepted'" in outcomes


def test_errors_hold_neither_secrets_nor_addresses(aftermath: Aftermath) -> None:
    for failure in aftermath.failures:
        assert not found(failure, (*SECRETS, *ADDRESSES)), failure


def test_what_was_printed_holds_neither_secrets_nor_addresses(aftermath: Aftermath) -> None:
    assert "daily_dunning" in aftermath.printed
    assert not found(aftermath.printed, (*SECRETS, *ADDRESSES))


def test_dagsters_storage_holds_neither_secrets_nor_addresses(aftermath: Aftermath) -> None:
    """Event logs, metadata, run tags, compute logs: every byte of the folder, whatever its form."""
    files = [path for path in (aftermath.home / "dagster").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    for path in files:
        content = path.read_bytes().decode("utf-8", errors="replace")
        assert not found(content, (*SECRETS, *ADDRESSES)), path


def test_tables_hold_no_secrets_and_addresses_only_where_they_belong(aftermath: Aftermath) -> None:
    home = aftermath.home
    for warehouse in (aftermath.settings.warehouse_path, home / "published" / "warehouse.duckdb"):
        texts = table_texts(warehouse)
        assert not {name for name, text in texts.items() if found(text, SECRETS)}
        holding = {name for name, text in texts.items() if found(text)}
        assert holding == HOLDING_ADDRESSES
        assert not found(warehouse.read_bytes().decode("latin-1"), SECRETS)


def test_files_of_the_history_hold_addresses_only_in_bodies(aftermath: Aftermath) -> None:
    files = list((aftermath.home / "history").iterdir())
    assert {path.name.split("-")[0] for path in files} >= {"sent_history", "reminders"}
    for path in files:
        text = _text(duckdb.read_parquet(str(path)).to_arrow_table())
        assert not found(text, SECRETS)
        assert path.name.startswith("reminders-") or not found(text), path.name


def test_nothing_is_left_in_staging(aftermath: Aftermath) -> None:
    assert not [path for path in (aftermath.home / "staging").rglob("*") if path.is_file()]


def test_files_are_their_users_alone(aftermath: Aftermath) -> None:
    home = aftermath.home
    files = [home / "warehouse.duckdb", *(home / "published").iterdir(), *(home / "history").iterdir()]
    assert len(files) > 5
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {"0o600"}
    folders = [home / name for name in ("published", "history", "staging", "dagster")]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folders} == {"0o700"}


def test_files_that_come_and_go_are_their_users_alone(aftermath: Aftermath) -> None:
    with scratch_copy(aftermath.settings) as copy:
        assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(copy.path.parent.stat().st_mode) == 0o700


def test_the_command_says_what_went_wrong_without_secrets(
    aftermath: Aftermath, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**aftermath.settings.environment, "BILLING_DATABASE_URL": LEAKY_URL}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DUNNING_HOME", str(aftermath.home))
    monkeypatch.setenv("DUNNING_POLICY", str(aftermath.settings.policy_file))
    with running(KlaviyoAccount({KEY: ["events:write"]})) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        for arguments in (["check"], ["history", "reconcile", "--since", str(MONDAY)]):
            with pytest.raises(SystemExit):
                main(arguments)
            printed = "".join(capfd.readouterr())
            assert printed
            assert not found(printed, (*SECRETS, *ADDRESSES)), printed


def test_what_holds_a_secret_does_not_show_it() -> None:
    settings = settings_at_root()
    assert KEY not in repr(settings)
    assert KEY not in str(SecretStr(KEY))


def settings_at_root() -> Settings:
    return Settings(ValueError(), Path("x"), Path("x"), MovingClock(), {"KLAVIYO_API_KEY": KEY})  # type: ignore[arg-type]


SOURCES = sorted((ROOT / "dunning_pipeline").rglob("*.py"))


def test_yaml_is_read_safely_and_certificates_are_always_verified() -> None:
    unsafe = re.compile(
        r"yaml\.(load|unsafe_load|full_load|Loader|FullLoader|UnsafeLoader)\b|verify\s*=\s*False|pickle\.load"
    )
    assert not [path.name for path in SOURCES if unsafe.search(path.read_text(encoding="utf-8"))]


def test_keys_come_from_the_environment_alone() -> None:
    """No option, run config or setting takes a key: it would be in the shell's history, or in Dagster's storage."""
    looks = re.compile(
        r"typer\.Option\([^)]*(?:key|token|password)|class \w+\(dg\.Config\):[^@]*\b(?:key|token|password)\b", re.I
    )
    assert not [path.name for path in SOURCES if looks.search(path.read_text(encoding="utf-8"))]
