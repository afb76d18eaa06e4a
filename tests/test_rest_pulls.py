"""Pulling from REST APIs as every run does, and what is decided on it: Stripe, Xero and what any API may do."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from rest_apis import (
    CUT,
    STRIPE_KEY,
    XERO_CLIENT,
    XERO_SECRET,
    XERO_TENANT,
    XERO_TOKEN,
    Api,
    Asked,
    Reply,
    Stripe,
    Xero,
    serving,
    throttled_by_stripe,
    throttled_by_xero,
    unused_address,
)
from support import MovingClock, settings_at

from dunning_pipeline import pulling
from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.errors import SourceError
from dunning_pipeline.partitions import Days
from dunning_pipeline.preflight import check
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.rest_client import ATTEMPTS
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CUSTOMERS, INVOICES, Table

POLICY = """\
organisation: {time_zone: %s, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
sources:
  billing: %s
"""
STRIPE = "{kind: stripe, key: '${STRIPE_API_KEY}', url: '${API_URL}'}"
XERO = "{kind: xero, token: '${XERO_TOKEN}', tenant: '${XERO_TENANT}', url: '${API_URL}'}"
ENVIRONMENT = {
    "STRIPE_API_KEY": STRIPE_KEY,
    "XERO_TOKEN": XERO_TOKEN,
    "XERO_TENANT": XERO_TENANT,
    "XERO_CLIENT_ID": XERO_CLIENT,
    "XERO_CLIENT_SECRET": XERO_SECRET,
}
MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 16), date(2026, 11, 17), date(2026, 11, 18)


@dataclass
class Books:
    """A source behind an address, and the pipeline that pulls from it."""

    home: Path
    url: str
    source: str
    zone: str = "Europe/Paris"
    clock: MovingClock = field(default_factory=MovingClock)
    slept: list[float] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        environment = {**ENVIRONMENT, "API_URL": self.url}
        settings = settings_at(self.home, POLICY % (self.zone, self.source), self.clock, environment)
        return replace(settings, sleep=self.slept.append)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home / "warehouse.duckdb")

    def pull(self, day: date | None = None, table: Table = INVOICES, *, full: bool = False) -> Loaded:
        if day:
            self.clock.move_to(day)
        return pull(self.settings, self.warehouse, table, "run", full=full)[1]

    def decide(self, day: date) -> dict[str, str]:
        """`remind`, or the reason why not, by customer, after a pull of everything on a day."""
        for table in (CUSTOMERS, INVOICES):
            self.pull(day, table)
        for derivation in DERIVATIONS:
            derive_and_replace(derivation, self.warehouse, self.settings.policy, Days(day, day), run_id="run")
        rows = self.rows(
            "select customer_id, coalesce(reason, decision) from dunning.decisions where as_of = $day", day
        )
        return {str(customer): str(outcome) for customer, outcome in rows}

    def rows(self, query: str, day: date | None = None) -> list[list[object]]:
        frame = self.warehouse.fetch(query, {"day": day} if day else {})
        return [[None if pd.isna(value) else value for value in row] for row in frame.to_numpy(dtype=object).tolist()]

    def invoice(self, invoice_id: str, columns: str) -> list[object]:
        (row,) = self.rows(f"select {columns} from source.invoices where invoice_id = '{invoice_id}'")
        return [value.date() if isinstance(value, pd.Timestamp) else value for value in row]

    def payments(self) -> list[list[object]]:
        found = self.rows("select payment_id, amount_minor, paid_on from source.payments order by payment_id")
        return [[name, amount, pd.Timestamp(str(day)).date()] for name, amount, day in found]


@pytest.fixture
def stripe(tmp_path: Path) -> Iterator[tuple[Stripe, Books]]:
    api = Stripe(largest_page=2)
    with serving(api) as url:
        yield api, Books(tmp_path, url, STRIPE)


@pytest.fixture
def xero(tmp_path: Path) -> Iterator[tuple[Xero, Books]]:
    api = Xero(largest_page=2)
    with serving(api) as url:
        yield api, Books(tmp_path, url, XERO)


def test_open_invoices_of_stripe_become_rows_with_exact_amounts_days_and_links(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    for number in range(5):
        api.bill(f"in_{number}")
    api.bill("in_jpy", currency="jpy", total=5000, amount_remaining=5000)
    api.bill("in_kwd", currency="kwd", total=5120, amount_remaining=5120)
    api.bill("in_isk", currency="isk", total=50000, amount_remaining=50000)
    api.bill("in_mga", currency="mga", total=700, amount_remaining=700)
    assert books.pull().written == 9
    columns = "customer_id, number, issued_on, due_on, currency, total_minor, outstanding_minor, status, pay_url"
    assert books.invoice("in_3", columns) == [
        "cus_1", "IN_3-0001", date(2026, 10, 1), date(2026, 10, 31), "EUR", 10000, 10000, "open",
        "https://invoice.stripe.com/i/in_3",
    ]  # fmt: skip
    amounts = books.rows("select currency, total_minor from source.invoices where currency <> 'EUR' order by 1")
    assert amounts == [["ISK", 500], ["JPY", 5000], ["KWD", 5120], ["MGA", 70000]]
    assert books.payments() == []


def test_customers_of_stripe_come_with_their_open_invoices(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    for number in range(4):
        api.bill(f"in_{number}", customer=f"cus_{number % 2}")
    books.pull(table=CUSTOMERS)
    columns = "customer_id, name, email, country, language"
    assert books.rows(f"select {columns} from source.customers order by 1") == [
        ["cus_0", "Customer cus_0", "cus_0@shop.dev", "FR", "fr"],
        ["cus_1", "Customer cus_1", "cus_1@shop.dev", "FR", "fr"],
    ]


@pytest.mark.parametrize(
    ("zone", "due_on"), [("Europe/Paris", date(2026, 10, 31)), ("Pacific/Auckland", date(2026, 11, 1))]
)
def test_a_time_due_is_a_day_of_the_organisation_s_zone(stripe: tuple[Stripe, Books], zone: str, due_on: date) -> None:
    api, books = stripe
    books.zone = zone
    api.bill("in_1")
    books.pull()
    assert books.invoice("in_1", "due_on") == [due_on]


def test_what_stripe_charges_by_itself_is_left_out_with_the_reason(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.bill("in_1")
    api.bill("in_auto", collection_method="charge_automatically", due_date=None)
    loaded = books.pull()
    assert (loaded.written, loaded.rejected, loaded.left_out) == (1, 0, 1)
    ((row, reason),) = [map(str, found) for found in books.rows("select row, reason from source.rejected_rows")]
    assert reason == "left out: Stripe charges it automatically"
    assert '"in_auto"' in row
    told = (
        "1 rows of billing.invoices were left out (Stripe charges it automatically); source.rejected_rows has them all"
    )
    assert told in [sentence for _, sentence in findings(books)]


def test_what_stripe_charges_by_itself_is_taken_where_the_policy_says_so(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    books.source = STRIPE.replace("stripe,", "stripe, include_automatic: true,", 1)
    api.bill("in_auto", collection_method="charge_automatically", due_date=None)
    assert books.pull().written == 1
    assert books.invoice("in_auto", "issued_on, due_on") == [date(2026, 10, 1), None]


def test_an_invoice_paid_between_two_pulls_is_an_observed_payment_and_no_reminder(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    for number in range(3):
        api.bill(f"in_{number}", customer=f"cus_{number}")
    assert books.decide(MONDAY) == {"cus_0": "remind", "cus_1": "remind", "cus_2": "remind"}
    api.pay("in_1")
    assert books.decide(TUESDAY) == {"cus_0": "remind", "cus_2": "remind"}
    assert books.payments() == [["observed:in_1:1", 10000, TUESDAY]]
    assert books.invoice("in_1", "status, outstanding_minor, missing_since") == ["open", 0, None]
    assert [asked.path for asked in api.asked].count("/v1/invoices/in_1") == 1
    books.pull(WEDNESDAY)
    assert books.payments() == [["observed:in_1:1", 10000, TUESDAY]]
    assert [asked.path for asked in api.asked].count("/v1/invoices/in_1") == 1


def test_a_partial_payment_is_observed_on_the_day_it_is_seen(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.bill("in_1")
    books.pull(MONDAY)
    api.invoices["in_1"] |= {"amount_paid": 2500, "amount_remaining": 7500}
    assert books.pull(TUESDAY).observed == 1
    assert books.payments() == [["observed:in_1:1", 2500, TUESDAY]]


def test_an_invoice_voided_or_given_up_at_stripe_ends_on_the_day_that_stripe_tells(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    api.bill("in_void")
    api.bill("in_lost")
    books.pull(MONDAY)
    api.void("in_void", at=1_794_870_000)
    api.invoices["in_lost"]["status"] = "uncollectible"
    loaded = books.pull(TUESDAY)
    assert (loaded.looked_up, loaded.vanished, loaded.observed) == (2, 0, 0)
    assert books.invoice("in_void", "status, voided_on, missing_since") == ["void", date(2026, 11, 17), None]
    assert books.invoice("in_lost", "status, written_off_on") == ["written_off", TUESDAY]
    assert books.payments() == []


def test_an_invoice_that_stripe_no_longer_knows_is_void_from_that_day_on(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.bill("in_1")
    books.pull(MONDAY)
    del api.invoices["in_1"]
    assert books.decide(TUESDAY) == {}
    assert books.invoice("in_1", "status, voided_on, missing_since") == ["void", TUESDAY, None]


@pytest.mark.parametrize(
    "fault",
    [
        Reply({"error": {"message": "boom"}}, 500),
        Reply({"error": {"message": "no permission"}}, 403),
        Reply({"id": "in_other", "object": "invoice"}),
        Reply({"id": "in_1", "object": "invoice", "currency": "eur", "status": "sleeping"}),
        Reply(text="<html>maintenance</html>"),
    ],
    ids=["fault", "forbidden", "another one", "unknown status", "no JSON"],
)
def test_a_look_up_without_a_clear_answer_leaves_the_invoice_missing(
    stripe: tuple[Stripe, Books], fault: Reply
) -> None:
    api, books = stripe
    api.bill("in_1")
    books.pull(MONDAY)
    api.pay("in_1")
    api.faults.extend([None, *[fault] * ATTEMPTS])
    loaded = books.pull(TUESDAY)
    assert (loaded.looked_up, loaded.vanished, loaded.observed) == (0, 1, 0)
    assert books.invoice("in_1", "status, missing_since") == ["open", TUESDAY]


def test_an_invoice_of_which_nobody_knows_what_became_is_neither_chased_nor_paid(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    api.bill("in_1")
    books.pull(MONDAY)
    api.pay("in_1")
    api.faults.extend([None, None, *[Reply({"error": {}}, 500)] * ATTEMPTS])
    assert books.decide(TUESDAY) == {"cus_1": "source_unclear"}
    assert books.payments() == []
    assert books.decide(WEDNESDAY) == {}
    assert books.invoice("in_1", "outstanding_minor, missing_since") == [0, None]
    assert books.payments() == [["observed:in_1:1", 10000, WEDNESDAY]]


def test_look_ups_of_one_pull_are_bounded_and_the_next_one_goes_on(
    stripe: tuple[Stripe, Books], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, books = stripe
    monkeypatch.setattr(pulling, "MOST_LOOK_UPS", 2)
    for number in range(5):
        api.bill(f"in_{number}")
    books.pull(MONDAY)
    for number in range(5):
        api.pay(f"in_{number}")
    first, second, third = (books.pull(TUESDAY) for _ in range(3))
    assert [loaded.looked_up for loaded in (first, second, third)] == [2, 2, 1]
    assert [loaded.vanished for loaded in (first, second, third)] == [3, 0, 0]
    assert len(books.payments()) == 5


def test_an_invoice_that_stripe_charges_by_itself_from_now_on_is_no_longer_chased_until_it_is_paid(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    api.bill("in_1")
    books.pull(MONDAY)
    api.invoices["in_1"] |= {"collection_method": "charge_automatically", "due_date": None}
    loaded = books.pull(TUESDAY)
    assert (loaded.vanished, loaded.looked_up) == (1, 0)
    assert books.invoice("in_1", "status, missing_since") == ["open", TUESDAY]
    api.pay("in_1")
    assert books.pull(WEDNESDAY).looked_up == 1
    assert books.invoice("in_1", "outstanding_minor, missing_since") == [0, None]


def test_ids_are_looked_up_without_the_prefix_that_they_have_here(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    books.source = STRIPE.replace("stripe,", "stripe, id_prefix: fr-,", 1)
    api.bill("in_1")
    api.bill("in_2")
    books.pull(MONDAY)
    api.pay("in_1")
    del api.invoices["in_2"]
    assert books.pull(TUESDAY).looked_up == 2
    assert books.invoice("fr-in_1", "outstanding_minor, status") == [0, "open"]
    assert books.invoice("fr-in_2", "status") == ["void"]


def test_an_invoice_that_a_moving_list_skipped_is_looked_up_and_goes_on_being_owed(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    for number in range(4):
        api.bill(f"in_{number}", customer=f"cus_{number}")
    books.pull(MONDAY)
    whole = [api.invoices[f"in_{number}"] for number in (3, 2, 0)]
    books.clock.move_to(TUESDAY)
    api.faults.append(Reply({"object": "list", "has_more": False, "data": whole}))
    loaded = books.pull()
    assert (loaded.looked_up, loaded.vanished) == (1, 0)
    assert books.invoice("in_1", "status, outstanding_minor, missing_since") == ["open", 10000, None]


def test_records_on_two_pages_of_a_moving_list_count_once_and_the_newest_counts(tmp_path: Path) -> None:
    def page(asked: Asked) -> Reply:
        """Newest first; after the first page an invoice is added, and one on it is changed."""
        moved = asked.one("offset") != ""
        rows = [{"id": f"I{number}", "total": "10", "at": "2026-11-01T00:00:00Z"} for number in range(5)]
        if moved:
            rows.append({"id": "I5", "total": "10", "at": "2026-11-02T00:00:00Z"})
            rows[3] |= {"total": "12", "at": "2026-11-02T00:00:00Z"}
        start = int(asked.one("offset", "0"))
        return Reply({"data": rows[::-1][start : start + 2]})

    source = (
        "{kind: rest, url: '${API_URL}', tables: {invoices: {path: /list, records: data, pagination: {kind: offset},"
        " columns: {id: invoice_id, total: total, at: updated_at},"
        " values: {customer_id: C1, issued_on: 2026-10-01, currency: EUR}}}}"
    )
    with serving(Api(page)) as url:
        books = Books(tmp_path, url, source)
        (staged,), loaded = pull(books.settings, books.warehouse, INVOICES, "run")
    assert (staged.pulled, staged.duplicates, loaded.written) == (6, 1, 5)
    assert books.rows("select invoice_id, total_minor from source.invoices order by 1") == [
        ["I0", 1000], ["I1", 1000], ["I2", 1000], ["I3", 1200], ["I4", 1000],
    ]  # fmt: skip


def test_throttling_faults_and_broken_pages_change_nothing_but_the_time_it_takes(
    stripe: tuple[Stripe, Books], tmp_path: Path
) -> None:
    api, books = stripe
    for number in range(7):
        api.bill(f"in_{number}")
    calm = Books(tmp_path / "calm", books.url, STRIPE)
    assert calm.pull().written == 7
    fault = Reply({"error": {}}, 500)
    api.faults.extend([throttled_by_stripe(), fault, None, CUT, fault, None, throttled_by_stripe(), CUT, None])
    assert books.pull().written == 7
    query = "select columns(lambda c: c not like '%_key') from source.invoices order by all"
    pd.testing.assert_frame_equal(books.warehouse.fetch(query), calm.warehouse.fetch(query))


def test_a_pull_that_breaks_off_leaves_what_was_there_and_the_next_one_is_whole(
    stripe: tuple[Stripe, Books],
) -> None:
    api, books = stripe
    for number in range(5):
        api.bill(f"in_{number}")
    books.pull(MONDAY)
    api.pay("in_0")
    api.bill("in_5")
    before = books.rows("select * from source.invoices order by all")
    for intact in range(3):
        api.faults.extend([*[None] * intact, *[CUT] * ATTEMPTS])
        with pytest.raises(SourceError, match=r"source billing: GET /v1/invoices"):
            books.pull(TUESDAY)
        assert books.rows("select * from source.invoices order by all") == before
    loaded = books.pull(TUESDAY)
    assert (loaded.written, loaded.looked_up, loaded.observed) == (5, 1, 1)


@pytest.mark.parametrize("interruptions", [10, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_pulls_that_break_off_at_random_moments_leave_what_undisturbed_ones_would(
    stripe: tuple[Stripe, Books], interruptions: int
) -> None:
    api, books = stripe
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    calm = Books(books.home / "calm", books.url, STRIPE)
    broken = month = 0
    while broken < interruptions:
        day = MONDAY + timedelta(days=month)
        month += 1
        change_some(api, chance, month)
        calm.pull(day)
        for _ in range(4):
            last = [CUT, Reply({}, 403), Reply({}, 500)][chance.randrange(3)]
            api.faults.extend([*[None] * chance.randrange(2 * month), *[last] * ATTEMPTS])
            with suppress(SourceError):
                books.pull(day)
                api.faults.clear()
                break
            api.faults.clear()
            broken += 1
        books.pull(day)
    assert_same(books, calm)


PULL = """\
import sys
from datetime import date
from pathlib import Path
from test_rest_pulls import STRIPE, Books
home, url, day = sys.argv[1:]
Books(Path(home), url, STRIPE).pull(date.fromisoformat(day))
"""


def pull_apart(api: Stripe, books: Books, day: date, kill_at: int, after: float) -> bool:
    """Pulls in a process of its own, killed so many seconds after a request of it; tells whether it was."""
    process = subprocess.Popen(
        [sys.executable, "-c", PULL, str(books.home), books.url, day.isoformat()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])},
    )
    last = len(api.asked) + kill_at
    api.notice = lambda number: threading.Timer(after, process.kill).start() if number == last else None
    return process.wait() != 0


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_pulls_that_are_killed_and_begun_again_leave_what_one_pull_would(
    stripe: tuple[Stripe, Books], kills: int
) -> None:
    """Killed with SIGKILL at random moments; uninterrupted pulls beside them tell what must come out."""
    api, books = stripe
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    calm, hit, month = Books(books.home / "calm", books.url, STRIPE), 0, 0
    for number in range(9):
        api.bill(f"in_{number}")
    while hit < kills:
        assert month < 5 * kills, "hardly any process was met while it ran"
        day = MONDAY + timedelta(days=month)
        change_some(api, chance, month)
        calm.pull(day)
        hit += pull_apart(api, books, day, chance.randint(1, 6), chance.uniform(0, 0.3))
        books.pull(day)
        month += 1
    assert_same(books, calm)


def change_some(api: Stripe, chance: random.Random, month: int) -> None:
    """Some invoices are billed, and some paid or removed."""
    for number in range(3):
        api.bill(f"in_{month}_{number}", customer=f"cus_{number}")
    for id in chance.sample(sorted(api.invoices), 2):
        chance.choice([api.pay, api.invoices.pop])(id)


def assert_same(books: Books, calm: Books) -> None:
    for table in ("invoices", "payments", "rejected_rows"):
        query = f"select columns(lambda c: c not like '%_key') from source.{table} order by all"
        pd.testing.assert_frame_equal(books.warehouse.fetch(query), calm.warehouse.fetch(query), obj=table)


def test_a_key_that_is_refused_is_told_without_showing_it(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.faults.append(Reply({"error": {"message": f"the key {STRIPE_KEY} has expired"}}, 401))
    with pytest.raises(SourceError, match=r"GET /v1/invoices answered 401 .*the key \*\*\* has expired"):
        books.pull()


def test_invoices_of_xero_become_rows_on_the_days_that_xero_means(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    books.zone = "America/New_York"
    ids = [api.bill(number) for number in range(5)]
    api.bill(9, Type="ACCPAY")
    api.bill(8, Status="DRAFT")
    assert books.pull().written == 5
    columns = "number, issued_on, due_on, currency, total_minor, outstanding_minor, status"
    assert books.invoice(ids[3], columns) == [
        "INV-0003", date(2026, 10, 1), date(2026, 10, 31), "EUR", 10000, 10000, "open",
    ]  # fmt: skip
    assert {asked.headers.get("xero-tenant-id") for asked in api.asked} == {XERO_TENANT}
    books.pull(table=CUSTOMERS)
    assert len(books.rows("select * from source.customers where email like 'c%@shop.dev'")) == 3


def test_xero_is_asked_for_what_changed_since_whatever_became_of_it(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    paid, partly, voided, same = (api.bill(number) for number in range(4))
    books.pull(MONDAY)
    api.now = datetime(2026, 11, 17, 6, tzinfo=UTC)
    api.pay(paid)
    api.pay(partly, 40.10)
    api.change(voided, Status="VOIDED", AmountDue=0.0)
    new = api.bill(7)
    loaded = books.pull(TUESDAY)
    assert api.asked[-1].headers["If-Modified-Since"] == "2026-11-16T05:00:00"
    assert (loaded.vanished, loaded.looked_up, loaded.observed) == (0, 0, 2)
    observed = [[f"observed:{paid}:1", 10000, TUESDAY], [f"observed:{partly}:1", 4010, TUESDAY]]
    assert books.payments() == observed
    assert books.invoice(voided, "status, voided_on") == ["void", TUESDAY]
    assert books.invoice(new, "status, outstanding_minor") == ["open", 10000]
    assert books.invoice(same, "status, missing_since") == ["open", None]
    books.pull(WEDNESDAY)
    assert books.invoice(voided, "status, voided_on") == ["void", TUESDAY]
    assert books.payments() == observed


def test_a_full_pull_of_xero_looks_up_what_is_no_longer_authorised(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    paid, voided, gone = (api.bill(number) for number in range(3))
    books.pull(MONDAY)
    api.pay(paid)
    api.change(voided, Status="VOIDED", AmountDue=0.0)
    del api.invoices[gone]
    loaded = books.pull(TUESDAY, full=True)
    assert (loaded.looked_up, loaded.vanished, loaded.observed) == (3, 0, 1)
    assert books.payments() == [[f"observed:{paid}:1", 10000, TUESDAY]]
    assert [books.invoice(id, "status, voided_on") for id in (voided, gone)] == [["void", TUESDAY]] * 2


def test_xero_s_throttling_is_waited_for(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    for number in range(4):
        api.bill(number)
    api.faults.extend([throttled_by_xero(30), None, throttled_by_xero(1), CUT, None])
    assert books.pull().written == 4
    assert {30.0, 1.0} <= set(books.slept)


def test_xero_s_daily_limit_is_told_and_not_waited_for(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    api.faults.append(throttled_by_xero(5400))
    with pytest.raises(SourceError, match=r"GET /Invoices answered 429 .* asks to wait for 5400 s; try again then"):
        books.pull()


def test_a_custom_connection_gets_itself_tokens_and_another_one_when_it_expires(xero: tuple[Xero, Books]) -> None:
    api, books = xero
    books.source = (
        "{kind: xero, client_id: '${XERO_CLIENT_ID}', client_secret: '${XERO_CLIENT_SECRET}', url: '${API_URL}',"
        " token_url: '${API_URL}/connect/token'}"
    )
    for number in range(5):
        api.bill(number)
    api.faults.extend([None, None, Reply({"Detail": "TokenExpired"}, 401)])
    assert books.pull().written == 5
    assert [asked.path for asked in api.asked].count("/connect/token") == 2
    (form, *_) = [asked.body for asked in api.asked if asked.path == "/connect/token"]
    assert "scope=accounting.transactions.read+accounting.contacts.read" in form


def findings(books: Books) -> Sequence[tuple[str, str]]:
    return [(found.level, found.sentence) for found in check(books.settings) if "billing" in found.sentence]


def test_the_check_tells_that_an_api_is_reachable_and_what_its_fields_are(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.bill("in_1")
    api.invoices["in_1"]["customer"].pop("phone")
    (_, customers), absent, (_, invoices), *_ = findings(books)
    assert customers.startswith("billing.customers: reachable, 1 rows, ")
    assert absent == (
        "note",
        "billing.customers: no record on the first page has customer.phone; see that they are right",
    )
    assert invoices.startswith("billing.invoices: reachable, 1 rows, ")


def test_the_check_tells_which_fields_there_are_where_a_needed_one_is_not(stripe: tuple[Stripe, Books]) -> None:
    api, books = stripe
    api.bill("in_1")
    del api.invoices["in_1"]["total"]
    level, sentence = findings(books)[-1]
    assert level == "wrong"
    assert sentence.startswith("billing.invoices: the mapping names column 'total', but the source yields id, object")


def test_the_check_tells_what_is_wrong_with_an_api(stripe: tuple[Stripe, Books]) -> None:
    _, books = stripe
    books.url = unused_address()
    (level, sentence), *_ = findings(books)
    assert level == "wrong"
    assert sentence == "source billing: GET /v1/invoices: 127.0.0.1 cannot be reached"
