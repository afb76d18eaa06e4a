"""A business that pulls, decides and sends without Dagster: the same functions in the same order, but fast.

Its books are CSV files; what is in them is known to the pipeline from the next pull on.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from support import MovingClock, settings_at

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.assets.reminders import reminder_pieces
from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.partitions import Days
from dunning_pipeline.pulling import pull
from dunning_pipeline.recording import Recorder
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sending import Report, send_batch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CUSTOMERS, INVOICES, PAYMENTS, Table

POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: 2024-01-01}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 1
    actions: [{name: first, day: 1}, {name: second, day: 2}, {name: third, day: 3}, {name: fourth, day: 4}]
    repeat_last: {every: 1}
sending: {live: true}
sources:
  books:
    kind: files
    tables: {customers: {path: customers.csv}, invoices: {path: invoices.csv}, payments: {path: payments.csv}}
"""
COLUMNS: Mapping[Table, Sequence[str]] = {
    CUSTOMERS: ("customer_id", "name", "email"),
    INVOICES: (
        "invoice_id", "customer_id", "issued_on", "due_on", "currency", "total",
        "status", "voided_on", "written_off_on", "disputed_on",
    ),
    PAYMENTS: ("payment_id", "customer_id", "invoice_id", "currency", "amount", "paid_on"),
}  # fmt: skip
Row = dict[str, str]


@dataclass
class World:
    """The business at `home`, whose events go to the server at `url`. `books` hold rows by their id."""

    home: Path
    url: str
    clock: MovingClock
    policy: str = POLICY
    books: dict[Table, dict[str, Row]] = field(default_factory=lambda: {table: {} for table in COLUMNS})
    runs: int = 0

    def __post_init__(self) -> None:
        self.settings = settings_at(self.home, self.policy, self.clock, {"KLAVIYO_URL": self.url})
        self.warehouse = Warehouse(self.settings.warehouse_path)
        self.outbox = Outbox(self.warehouse, "invoice")

    @property
    def today(self) -> date:
        return self.settings.today()

    @property
    def record(self) -> Recorder:
        self.runs += 1
        return Recorder(self.warehouse, self.settings.policy, self.today, lambda: str(self.runs))

    def customer(self, customer_id: str, email: str | None = None) -> None:
        email = f"{customer_id}@shop.test" if email is None else email
        self.enter(CUSTOMERS, customer_id=customer_id, name=f"Customer {customer_id}", email=email)

    def invoice(self, invoice_id: str, customer_id: str, total: str, days_overdue: int = 1, **columns: str) -> None:
        due = (self.today - timedelta(days=days_overdue)).isoformat()
        owed = {"invoice_id": invoice_id, "customer_id": customer_id, "currency": "EUR", "total": total}
        self.enter(INVOICES, **owed, issued_on=due, due_on=due, **columns)

    def payment(self, customer_id: str, invoice_id: str, amount: str) -> None:
        paid = {"customer_id": customer_id, "invoice_id": invoice_id, "currency": "EUR", "amount": amount}
        payment_id = f"p-{len(self.books[PAYMENTS]) + 1}"
        self.enter(PAYMENTS, payment_id=payment_id, **paid, paid_on=self.today.isoformat())

    def enter(self, table: Table, **columns: str) -> None:
        """Writes a row into the books, or some of its columns anew."""
        row = self.books[table].setdefault(columns[table.key[0]], dict.fromkeys(COLUMNS[table], ""))
        row.update(columns)

    def pull(self, *tables: Table, run_id: str | None = None) -> None:
        """Pulls tables, all by default, as a run of its own or as the one named."""
        self.runs += 1
        for table in tables or COLUMNS:
            with (self.home / f"{table.name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS[table])
                writer.writeheader()
                writer.writerows(self.books[table].values())
            pull(self.settings, self.warehouse, table, run_id or f"run-{self.runs}")

    def decide(self) -> str:
        """Does what daily_dunning does for today, and returns the id of the batch."""
        self.runs += 1
        batch_id = f"run-{self.runs}"
        self.pull(run_id=batch_id)
        days = Days(self.today, self.today)
        for derivation in DERIVATIONS:
            derive_and_replace(derivation, self.warehouse, self.settings.policy, days, batch_id)
        batch = Batch(batch_id, "invoice", self.today, size=0, live=True, state="planned")
        pieces = reminder_pieces(self.warehouse, self.settings, days, batch_id)
        self.outbox.freeze_pieces(batch, pieces, self.settings.policy, self.clock())
        self.clock.advance(seconds=10)
        return batch_id

    def send(self, outbox: Outbox | None = None, settings: Settings | None = None) -> Report:
        """Sends the newest batch."""
        report = send_batch(None, outbox or self.outbox, settings or self.settings)
        self.clock.advance(seconds=10)
        return report

    def outcomes(self) -> list[tuple[str, str, str]]:
        """Customer, outcome and detail of each row of the history but `attempting`, in order of time."""
        rows = self.warehouse.fetch(
            "select customer_id, outcome, error_detail from dunning.sent_history where outcome <> 'attempting'"
            " order by attempted_at, customer_id, attempt"
        )
        return [tuple(row) for row in rows.astype(object).fillna("").to_numpy()]
