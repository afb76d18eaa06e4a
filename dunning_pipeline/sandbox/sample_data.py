"""A small sample billing business, seeded and dated relative to a given day, and the policy that reads it.

The tables are named as a billing system would name them; the policy's selects map them to the contract.
"""

from __future__ import annotations

import csv
import itertools
import os
import random
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

CUSTOMERS = 300
INVOICES = 2000
DAYS_BACK = 730

SAMPLE_POLICY = """\
organisation:
  time_zone: Europe/Paris
  first_day: "2019-01-01"
  base_currency: EUR
  exchange_rates: {USD: 0.92, GBP: 1.17, JPY: 0.0061, KWD: 3.0}

calendar:
  working_days: [mon, tue, wed, thu, fri, sat, sun]

receivables:
  tolerance: {EUR: "0.05"}
  minimum_amount: {EUR: "10.00", USD: "10.00", GBP: "10.00", JPY: "1500", KWD: "3.000"}

workflows:
  - name: standard
    default: true
    minimum_contact_delay: 5
    actions:
      - {name: almost_due, day: -3}
      - {name: reminder_1, day: 1}
      - {name: reminder_2, day: 8}
      - {name: reminder_3, day: 15}
      - {name: final_notice, day: 30}

klaviyo:
  metric: Invoice Reminder
  identify_by: [email]

sending:
  live: true

sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables:
      customers: >-
        select id as customer_id, company as name, email, phone, country, lang as language,
        currency, labels as tags, created_on as created_at, changed_at as updated_at
        from clients
      invoices: >-
        select bill_no as invoice_id, client_id as customer_id, 'INV-' || bill_no as number,
        issued as issued_on, due as due_on, currency, gross as total,
        case status when 'DRAFT' then 'draft' when 'CANCELLED' then 'void'
        when 'BAD_DEBT' then 'written_off' else 'open' end as status,
        entered_on as recorded_on, cancelled_on as voided_on, bad_debt_on as written_off_on,
        dispute_opened as disputed_on, dispute_closed as dispute_resolved_on,
        pay_link as pay_url, changed_at as updated_at
        from bills
      payments: >-
        select id as payment_id, client_id as customer_id, bill_no as invoice_id,
        case kind when 'CN' then 'credit_note' when 'RF' then 'refund'
        when 'CB' then 'chargeback' else 'payment' end as kind,
        currency, amount, received_on as paid_on, booked_on as recorded_on,
        changed_at as updated_at
        from receipts
      pauses: >-
        select id as pause_id, case scope when 'client' then 'customer' else 'invoice' end as scope,
        client_id as customer_id, bill_no as invoice_id,
        held_from as paused_from, held_until as paused_until
        from holds
      promises: >-
        select id as promise_id, client_id as customer_id, bill_no as invoice_id,
        given_on as promised_on, pay_until as pay_by, holds_reminders as pauses,
        cancelled_on as withdrawn_on
        from payment_promises
"""

# Amounts are TEXT: SQLite would turn a NUMERIC column's decimals into binary floats.
_SCHEMA = """
create table clients (
    id text primary key, company text not null, email text, phone text, country text not null,
    lang text not null, currency text not null, labels text, created_on text not null,
    changed_at text not null
);
create table bills (
    bill_no text primary key, client_id text not null references clients (id), issued text not null,
    due text, currency text not null, gross text not null, status text not null,
    entered_on text not null, cancelled_on text, bad_debt_on text, dispute_opened text,
    dispute_closed text, pay_link text not null, changed_at text not null
);
create table receipts (
    id text primary key, client_id text not null references clients (id),
    bill_no text references bills (bill_no), kind text not null, currency text not null,
    amount text not null, received_on text not null, booked_on text not null, changed_at text not null
);
create table holds (
    id text primary key, scope text not null, client_id text not null references clients (id),
    bill_no text references bills (bill_no), held_from text not null, held_until text
);
create table payment_promises (
    id text primary key, client_id text not null references clients (id),
    bill_no text references bills (bill_no), given_on text not null, pay_until text not null,
    holds_reminders integer not null, cancelled_on text
);
"""

_DECIMALS = {"EUR": 2, "USD": 2, "GBP": 2, "JPY": 0, "KWD": 3}
# Typical amounts of a bill in minor units.
_AMOUNTS = {
    "EUR": (20_00, 3_500_00),
    "USD": (25_00, 4_000_00),
    "GBP": (20_00, 3_000_00),
    "JPY": (3_000, 500_000),
    "KWD": (10_000, 900_000),
}
_LANGUAGES = {"GB": "en", "US": "en", "IE": "en", "DE": "de", "AT": "de", "FR": "fr", "BE": "fr"} | {
    "JP": "en",
    "KW": "en",
}
_CURRENCIES = {"GB": "GBP", "US": "USD", "JP": "JPY", "KW": "KWD"}
_MAILBOXES = {"en": "accounts", "de": "buchhaltung", "fr": "compta"}
# Number ranges that the countries keep free for films and books.
_PHONES = {"GB": "+441632960{:03d}", "FR": "+3319900{:04d}", "DE": "+493023125{:03d}"}
_NAMES = {
    "en": (
        "Amber Birch Bramble Castle Clover Crown Elm Falcon Foxglove Granite Heron Juniper Maple Meadow "
        "Northgate Oakfield Quarry Raven Silver Willow",
        "Bakery|Books|Brewing|Cycles|Dental|Fabrics|Films|Foods|Garden Centre|Glass|Joinery|Kitchens|"
        "Optics|Pottery|Printing|Sports|Travel|Veterinary",
    ),
    "de": (
        "Adler Ahorn Berg Birken Brunnen Eichen Falken Feld Flieder Heide Kastanien Lerchen Mühlen Rosen "
        "Schloss Stern Tannen Ulmen",
        "Apotheke|Bäckerei|Buchhandlung|Café|Druckerei|Gärtnerei|Logistik|Möbel|Optik|Reisen|Tischlerei",
    ),
    "fr": (
        "Boulangerie|Brasserie|Fleurs|Garage|Imprimerie|Librairie|Menuiserie|Optique|Pâtisserie|Voyages",
        "de la Gare|de la Place|des Alpes|des Arts|des Lilas|du Canal|du Château|du Marché|du Moulin|du Pont|"
        "du Vieux Port|Saint-Martin",
    ),
}
_TRANSLITERATE = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "&": "und"})
# The customers of the CSV sample: one of each kind that a reader looks for first.
_CSV_COMPANIES = (
    "Harbour Bakery",
    "Kontor Nord",
    "Atelier Lumière",
    "Linden Apotheke",
    "Twin Mills",
    "Moulin Jumeau",
    "Fairwater Marina",
    "Kleine Brauerei",
    "Old Mill Pottery",
    "Lakeside Hotel",
    "Sakura Trading",
    "Tidewater Nets",
)


@dataclass(eq=False)
class _Client:
    id: str
    company: str
    email: str | None
    phone: str | None
    country: str
    currency: str
    created_on: date
    labels: str | None = None

    @property
    def lang(self) -> str:
        return _LANGUAGES[self.country]


@dataclass(eq=False)
class _Bill:
    client: _Client
    issued: date
    due: date | None
    currency: str
    gross: int
    entered_on: date
    status: str = "SENT"
    cancelled_on: date | None = None
    bad_debt_on: date | None = None
    dispute_opened: date | None = None
    dispute_closed: date | None = None
    bill_no: str = ""

    @property
    def pay_link(self) -> str:
        return f"https://pay.billing.test/{self.bill_no}"

    @property
    def changed_on(self) -> date:
        ends = (self.cancelled_on, self.bad_debt_on, self.dispute_opened, self.dispute_closed)
        return max([self.entered_on, *(day for day in ends if day)])


@dataclass(eq=False)
class _Receipt:
    client: _Client
    bill: _Bill | None
    kind: str
    currency: str
    amount: int
    received_on: date
    booked_on: date


@dataclass(eq=False)
class _Hold:
    client: _Client
    bill: _Bill | None
    held_from: date
    held_until: date | None


@dataclass(eq=False)
class _Promise:
    client: _Client
    bill: _Bill | None
    given_on: date
    pay_until: date
    cancelled_on: date | None


@dataclass
class _Books:
    """The business under construction. Days are offsets from today: -3 was three days ago."""

    today: date
    clients: list[_Client] = field(default_factory=list)
    bills: list[_Bill] = field(default_factory=list)
    receipts: list[_Receipt] = field(default_factory=list)
    holds: list[_Hold] = field(default_factory=list)
    promises: list[_Promise] = field(default_factory=list)

    def day(self, offset: int) -> date:
        return self.today + timedelta(days=offset)

    def client(self, company: str, country: str, *, labels: str | None = None) -> _Client:
        n = len(self.clients) + 1
        client = _Client(
            id=f"{n:06d}",
            company=company,
            email=f"{_MAILBOXES[_LANGUAGES[country]]}@{_slug(company)}.test",
            phone=_PHONES[country].format(n) if country in _PHONES else None,
            country=country,
            currency=_CURRENCIES.get(country, "EUR"),
            created_on=self.day(-DAYS_BACK - 30 - n),
            labels=labels,
        )
        self.clients.append(client)
        return client

    def bill(
        self,
        client: _Client,
        due: int | None,
        gross: int,
        *,
        issued: int | None = None,
        currency: str | None = None,
        entered: int | None = None,
    ) -> _Bill:
        issued = min((due or 0) - 30, 0) if issued is None else issued
        bill = _Bill(
            client=client,
            issued=self.day(issued),
            due=None if due is None else self.day(due),
            currency=currency or client.currency,
            gross=gross,
            entered_on=self.day(issued if entered is None else entered),
        )
        self.bills.append(bill)
        return bill

    def receive(
        self, bill: _Bill, on: int, amount: int | None = None, *, kind: str = "PAY", booked: int | None = None
    ) -> None:
        amount = bill.gross if amount is None else amount
        booked_on = self.day(on if booked is None else booked)
        receipt = _Receipt(bill.client, bill, kind, bill.currency, amount, self.day(on), booked_on)
        self.receipts.append(receipt)

    def credit(self, client: _Client, on: int, amount: int) -> None:
        """Money that was received and applied to no bill."""
        day = self.day(on)
        self.receipts.append(_Receipt(client, None, "PAY", client.currency, amount, day, day))

    def hold(self, client: _Client, start: int, end: int | None = None, *, bill: _Bill | None = None) -> None:
        until = None if end is None else self.day(end)
        self.holds.append(_Hold(client, bill, self.day(start), until))

    def promise(
        self,
        client: _Client,
        given: int,
        pay_until: int,
        *,
        bill: _Bill | None = None,
        cancelled: int | None = None,
    ) -> None:
        cancelled_on = None if cancelled is None else self.day(cancelled)
        self.promises.append(_Promise(client, bill, self.day(given), self.day(pay_until), cancelled_on))

    def put_in_order(self) -> None:
        """Numbers follow the dates, as a billing system would have given them."""
        self.receipts.sort(key=lambda receipt: receipt.booked_on)
        self.bills.sort(key=lambda bill: bill.issued)
        for n, bill in enumerate(self.bills, start=4200):
            bill.bill_no = f"{n:07d}"


def write_billing_database(path: Path, today: date, seed: int = 7) -> None:
    """Replaces `path` at once, so that a reader sees the old database or the new one."""
    books = _business(today, random.Random(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.executescript(_SCHEMA)
        for table, rows in _database_rows(books).items():
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"insert into {table} values ({marks})", rows)
        connection.commit()
    os.replace(unfinished, path)


def write_sample_csv(folder: Path, today: date) -> None:
    """Writes `customers.csv`, `invoices.csv` and `payments.csv` with the contract's own columns."""
    books = _Books(today)
    _add_stories(books)
    books.bills = [bill for bill in books.bills if bill.client.company in _CSV_COMPANIES]
    books.put_in_order()
    clients = [client for client in books.clients if client.company in _CSV_COMPANIES]
    receipts = [receipt for receipt in books.receipts if receipt.client in clients]
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "customers.csv", _CUSTOMER_COLUMNS, map(_customer_row, clients))
    _write_csv(folder / "invoices.csv", _INVOICE_COLUMNS, map(_invoice_row, books.bills))
    _write_csv(folder / "payments.csv", _PAYMENT_COLUMNS, map(_payment_row, range(1, 10_000), receipts))


def _business(today: date, rng: random.Random) -> _Books:
    books = _Books(today)
    _add_stories(books)
    _add_bulk(books, rng)
    books.put_in_order()
    return books


def _slug(company: str) -> str:
    text = company.lower().translate(_TRANSLITERATE)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "-".join("".join(c if c.isalnum() else " " for c in plain).split())


def _decimal(minor: int, currency: str) -> str:
    return str(Decimal(minor).scaleb(-_DECIMALS[currency]))


def _add_stories(books: _Books) -> None:
    """Customers that show one rule each, whatever day today is."""
    topics: tuple[Callable[[_Books], None], ...] = (
        _add_overdue,
        _add_ties,
        _add_paused,
        _add_promised,
        _add_balances,
        _add_without_address,
        _add_disputes_and_ends,
        _add_currencies,
        _add_late_knowledge,
    )
    for add in topics:
        add(books)
    for n, client in enumerate(books.clients):
        _add_paid_history(books, client, bills=n % 3)


def _add_paid_history(books: _Books, client: _Client, bills: int) -> None:
    low, high = _AMOUNTS[client.currency]
    place = int(client.id)
    for n in range(bills):
        due = -75 - 45 * n - place
        bill = books.bill(client, due, low + (high - low) // (n + 4) + 37 * place)
        books.receive(bill, due + 4 * n - place % 6)


def _add_overdue(books: _Books) -> None:
    several = books.client("Harbour Bakery", "IE", labels="key-account")
    for due, gross in ((-40, 480_00), (-12, 1_250_50), (8, 96_40)):
        books.bill(several, due, gross)
    books.bill(books.client("Kontor Nord", "DE"), 2, 640_00)
    books.bill(books.client("Atelier Lumière", "FR"), 20, 310_00)
    books.bill(books.client("Quay Street Books", "GB"), 0, 145_00)
    partly = books.client("Linden Apotheke", "AT")
    books.receive(books.bill(partly, -18, 900_00), -9, 350_00)
    books.bill(partly, -3, 120_00)


def _add_ties(books: _Books) -> None:
    smaller_open = books.client("Twin Mills", "IE")
    books.bill(smaller_open, -16, 100_00)
    books.receive(books.bill(smaller_open, -16, 250_00), -2, 230_00)
    equal = books.client("Moulin Jumeau", "FR")
    for _ in range(2):
        books.bill(equal, -9, 180_00)
    mixed = books.client("Drei Brüder Handel", "DE")
    for currency, gross in (("EUR", 500_00), ("USD", 540_00), ("JPY", 85_000)):
        books.bill(mixed, -22, gross, currency=currency)


def _add_paused(books: _Books) -> None:
    without_end = books.client("Sommer & Söhne", "DE")
    books.bill(without_end, -33, 720_00)
    books.hold(without_end, -10)
    for_now = books.client("Café des Halles", "FR")
    books.bill(for_now, -14, 88_20)
    books.hold(for_now, -5, 10)
    over = books.client("Stonebridge Stables", "GB")
    books.bill(over, -20, 410_00)
    books.hold(over, -15, 0)
    one_bill = books.client("Papeterie du Port", "BE")
    books.hold(one_bill, -8, 12, bill=books.bill(one_bill, -28, 230_00))
    books.bill(one_bill, -6, 77_00)
    every_bill = books.client("Hafen Logistik", "DE")
    for due in (-25, -4):
        books.hold(every_bill, -3, bill=books.bill(every_bill, due, 1_400_00))


def _add_promised(books: _Books) -> None:
    running = books.client("Orchard Press", "IE")
    books.bill(running, -19, 560_00)
    books.promise(running, -2, 6)
    one_bill = books.client("Fromagerie Alpine", "FR")
    books.promise(one_bill, -4, 0, bill=books.bill(one_bill, -30, 205_00))
    books.bill(one_bill, -11, 198_00)
    broken = books.client("Nordlicht Druck", "DE")
    books.promise(broken, -12, -4, bill=books.bill(broken, -26, 1_120_00))
    kept = books.client("Green Lane Cycles", "GB")
    bill = books.bill(kept, -21, 330_00)
    books.promise(kept, -15, -7, bill=bill)
    books.receive(bill, -7)
    books.bill(kept, 14, 275_00)
    withdrawn = books.client("Maison Verte", "FR")
    books.bill(withdrawn, -17, 640_00)
    books.promise(withdrawn, -6, 9, cancelled=-1)


def _add_balances(books: _Books) -> None:
    in_credit = books.client("Fairwater Marina", "IE")
    books.bill(in_credit, -13, 100_00)
    books.credit(in_credit, -10, 120_00)
    small = books.client("Kleine Brauerei", "DE")
    books.receive(books.bill(small, -24, 207_50), -20, 200_00)
    at_minimum = books.client("Petit Bistro", "FR")
    books.receive(books.bill(at_minimum, -24, 60_00), -22, 50_00)
    tolerated = books.client("Copper Kettle", "IE")
    books.receive(books.bill(tolerated, -15, 99_95), -11, 99_90)
    charged_back = books.client("Ridgeway Tools", "US")
    bill = books.bill(charged_back, -35, 815_00)
    books.receive(bill, -34)
    books.receive(bill, -6, -815_00, kind="CB")
    overpaid = books.client("Imprimerie Blanche", "BE")
    books.receive(books.bill(overpaid, -50, 150_00), -45, 190_00)
    books.bill(overpaid, -8, 300_00)
    refunded = books.client("Weaver & Lamb", "GB")
    bill = books.bill(refunded, -38, 400_00)
    books.receive(bill, -30, 450_00)
    books.receive(bill, -21, -50_00, kind="RF")
    credited = books.client("Glaserei Kristall", "AT")
    books.receive(books.bill(credited, -10, 500_00), -5, 125_00, kind="CN")


def _add_without_address(books: _Books) -> None:
    for company, country, email in (
        ("Old Mill Pottery", "GB", None),
        ("Schreinerei Wald", "DE", "buchhaltung(at)schreinerei-wald"),
    ):
        client = books.client(company, country)
        client.email = email
        books.bill(client, -12, 260_00)


def _add_disputes_and_ends(books: _Books) -> None:
    part = books.client("Lakeside Hotel", "IE")
    books.bill(part, -45, 2_300_00).dispute_opened = books.day(-20)
    books.bill(part, -7, 640_00)
    resolved = books.bill(books.client("Bäckerei Sonne", "AT"), -27, 118_00)
    resolved.dispute_opened, resolved.dispute_closed = books.day(-22), books.day(-3)
    books.bill(books.client("Garage Dubois", "FR"), -31, 930_00).dispute_opened = books.day(-12)
    ended = books.client("Pine Valley Films", "US")
    _cancel(books, books.bill(ended, -60, 75_00), -58)
    _write_off(books, books.bill(ended, -300, 210_00), -40)
    books.bill(ended, 30, 99_00).status = "DRAFT"


def _cancel(books: _Books, bill: _Bill, on: int) -> None:
    bill.status, bill.cancelled_on = "CANCELLED", books.day(on)


def _write_off(books: _Books, bill: _Bill, on: int) -> None:
    bill.status, bill.bad_debt_on = "BAD_DEBT", books.day(on)


def _add_currencies(books: _Books) -> None:
    yen = books.client("Sakura Trading", "JP")
    books.receive(books.bill(yen, -10, 128_000), -4, 28_000)
    books.bill(books.client("Gulf Pearl", "KW"), -16, 145_250)
    books.bill(books.client("Liberty Diner", "US"), -5, 432_10)


def _add_late_knowledge(books: _Books) -> None:
    books.bill(books.client("Tidewater Nets", "IE"), None, 170_00, issued=-25)
    older_bill_entered_today = books.client("Lumen Optik", "DE")
    books.bill(older_bill_entered_today, -2, 350_00)
    books.bill(older_bill_entered_today, -15, 90_00, entered=0)
    booked_today = books.client("Vélo Express", "BE")
    books.receive(books.bill(booked_today, -9, 480_00), -5, booked=0)


def _add_bulk(books: _Books, rng: random.Random) -> None:
    clients = [books.client(company, country) for company, country in _bulk_companies(books, rng)]
    for client in rng.sample(clients, 6):
        client.email = None
    for client in rng.sample(clients, 20):
        client.labels = rng.choice(["key-account", "wholesale", "wholesale,key-account"])
    while len(books.bills) < INVOICES:
        _add_bulk_bill(books, rng.choice(clients), rng)
    for client in rng.sample(clients, 8):
        books.credit(client, -rng.randint(0, 90), rng.randint(5, 60) * 10 ** _DECIMALS[client.currency])


def _bulk_companies(books: _Books, rng: random.Random) -> list[tuple[str, str]]:
    wanted = CUSTOMERS - len(books.clients)
    abroad = ["JP"] * 8 + ["KW"] * 6
    countries = abroad + rng.choices(
        ["FR", "DE", "GB", "US", "IE", "AT", "BE"], weights=[24, 24, 12, 9, 14, 10, 7], k=wanted - len(abroad)
    )
    names = {lang: iter(_shuffled_names(lang, rng)) for lang in sorted(_NAMES)}
    return [(next(names[_LANGUAGES[country]]), country) for country in countries]


def _shuffled_names(lang: str, rng: random.Random) -> list[str]:
    first, last = (words.split("|") if "|" in words else words.split() for words in _NAMES[lang])
    # German compounds: "Berg" and "Bäckerei" are written as one with a hyphen.
    joint = "-" if lang == "de" else " "
    names = [joint.join(pair) for pair in itertools.product(first, last)]
    rng.shuffle(names)
    return names


def _add_bulk_bill(books: _Books, client: _Client, rng: random.Random) -> None:
    issued = -rng.randint(0, DAYS_BACK)
    term = rng.choice([14, 30, 30, 30, 45, 60])
    currency = client.currency if rng.random() < 0.96 else "EUR"
    due = None if rng.random() < 0.01 else issued + term
    bill = books.bill(client, due, rng.randint(*_AMOUNTS[currency]), issued=issued, currency=currency)
    settle = _leave_unpaid if rng.random() < _unpaid_share(issued + term) else _settle
    settle(books, bill, issued, issued + term, rng)


def _unpaid_share(due: int) -> float:
    if due >= 0:
        return 0.7
    return 0.3 if due > -60 else 0.035


def _settle(books: _Books, bill: _Bill, issued: int, due: int, rng: random.Random) -> None:
    late = rng.randint(1, 45) if rng.random() < 0.3 else -rng.randint(0, 10)
    on = min(max(due + late, issued), 0)
    part = bill.gross // rng.randint(2, 5)
    how = rng.choices(["whole", "parts", "credit note", "overpaid", "cancelled", "bad debt"], [84, 7, 4, 2, 2, 1])[0]
    if how == "cancelled":
        _cancel(books, bill, rng.randint(issued, 0))
    elif how == "bad debt":
        _write_off(books, bill, on)
    elif how == "whole":
        books.receive(bill, on)
    elif how == "overpaid":
        books.receive(bill, on, bill.gross + part)
        books.receive(bill, rng.randint(on, 0), -part, kind="RF")
    else:
        kind = "CN" if how == "credit note" else "PAY"
        books.receive(bill, rng.randint(issued, on), part, kind=kind)
        books.receive(bill, on, bill.gross - part)


def _leave_unpaid(books: _Books, bill: _Bill, issued: int, due: int, rng: random.Random) -> None:
    on = rng.randint(issued, 0)
    part = bill.gross // rng.randint(2, 5)
    how = rng.choices(["open", "part", "credit note", "chargeback", "disputed", "resolved"], [74, 13, 4, 3, 4, 2])[0]
    if how == "part":
        books.receive(bill, on, part)
    elif how == "credit note":
        books.receive(bill, on, part, kind="CN")
    elif how == "chargeback":
        books.receive(bill, on)
        books.receive(bill, rng.randint(on, 0), -bill.gross, kind="CB")
    elif how in {"disputed", "resolved"}:
        bill.dispute_opened = books.day(on)
        bill.dispute_closed = books.day(rng.randint(on, 0)) if how == "resolved" else None


_Row = tuple[object, ...]


def _database_rows(books: _Books) -> dict[str, list[_Row]]:
    return {
        "clients": [_client_record(client) for client in books.clients],
        "bills": [_bill_record(bill) for bill in books.bills],
        "receipts": [_receipt_record(n, receipt) for n, receipt in enumerate(books.receipts, start=1)],
        "holds": [_hold_record(n, hold) for n, hold in enumerate(books.holds, start=1)],
        "payment_promises": [_promise_record(n, promise) for n, promise in enumerate(books.promises, start=1)],
    }


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _changed_at(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _bill_no(bill: _Bill | None) -> str | None:
    return None if bill is None else bill.bill_no


def _client_record(client: _Client) -> _Row:
    return (
        client.id,
        client.company,
        client.email,
        client.phone,
        client.country,
        client.lang,
        client.currency,
        client.labels,
        _iso(client.created_on),
        _changed_at(client.created_on),
    )


def _bill_record(bill: _Bill) -> _Row:
    return (
        bill.bill_no,
        bill.client.id,
        _iso(bill.issued),
        _iso(bill.due),
        bill.currency,
        _decimal(bill.gross, bill.currency),
        bill.status,
        _iso(bill.entered_on),
        _iso(bill.cancelled_on),
        _iso(bill.bad_debt_on),
        _iso(bill.dispute_opened),
        _iso(bill.dispute_closed),
        bill.pay_link,
        _changed_at(bill.changed_on),
    )


def _receipt_record(n: int, receipt: _Receipt) -> _Row:
    return (
        _receipt_id(n),
        receipt.client.id,
        _bill_no(receipt.bill),
        receipt.kind,
        receipt.currency,
        _decimal(receipt.amount, receipt.currency),
        _iso(receipt.received_on),
        _iso(receipt.booked_on),
        _changed_at(receipt.booked_on),
    )


def _receipt_id(n: int) -> str:
    return f"R{n:06d}"


def _hold_record(n: int, hold: _Hold) -> _Row:
    scope = "client" if hold.bill is None else "bill"
    return (
        f"H{n:03d}",
        scope,
        hold.client.id,
        _bill_no(hold.bill),
        _iso(hold.held_from),
        _iso(hold.held_until),
    )


def _promise_record(n: int, promise: _Promise) -> _Row:
    return (
        f"P{n:03d}",
        promise.client.id,
        _bill_no(promise.bill),
        _iso(promise.given_on),
        _iso(promise.pay_until),
        1,
        _iso(promise.cancelled_on),
    )


_CUSTOMER_COLUMNS = ("customer_id", "name", "email", "phone", "country", "language", "currency", "tags")
_INVOICE_COLUMNS = (
    "invoice_id",
    "customer_id",
    "number",
    "issued_on",
    "due_on",
    "currency",
    "total",
    "status",
    "disputed_on",
    "pay_url",
)
_PAYMENT_COLUMNS = ("payment_id", "customer_id", "invoice_id", "kind", "currency", "amount", "paid_on")


def _customer_row(client: _Client) -> _Row:
    return _client_record(client)[: len(_CUSTOMER_COLUMNS)]


def _invoice_row(bill: _Bill) -> _Row:
    return (
        bill.bill_no,
        bill.client.id,
        f"INV-{bill.bill_no}",
        _iso(bill.issued),
        _iso(bill.due),
        bill.currency,
        _decimal(bill.gross, bill.currency),
        "open",
        _iso(bill.dispute_opened),
        bill.pay_link,
    )


def _payment_row(n: int, receipt: _Receipt) -> _Row:
    return (
        _receipt_id(n),
        receipt.client.id,
        _bill_no(receipt.bill),
        "payment",
        receipt.currency,
        _decimal(receipt.amount, receipt.currency),
        _iso(receipt.received_on),
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[_Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
