"""Stand-ins for REST APIs on 127.0.0.1, over real HTTP: what Stripe and Xero document, with throttling and faults."""

import json
import re
import socket
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """A request: `query` has every value of each parameter."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Headers
    body: str = ""

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Reply:
    """An answer. `cut`: only half of the body leaves before the connection closes."""

    data: Any = None
    status: int = 200
    headers: Headers = field(default_factory=dict)
    text: str | None = None
    cut: bool = False

    @property
    def body(self) -> bytes:
        return (json.dumps(self.data) if self.text is None else self.text).encode()


class Hangup:
    """No answer at all: the connection closes."""


CUT = "cut"
"""A fault: the answer breaks off in the middle."""

Fault = Reply | Hangup | str | None


@dataclass
class Api:
    """Answers as `answer` says; `faults` come first, one a request (None: none for that one).

    `notice` is called at each request, with how many there were.
    """

    answer: Callable[[Asked], Reply] = lambda _: Reply({})
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    notice: Callable[[int], None] = lambda _: None

    def reply(self, request: Asked) -> Reply | Hangup:
        self.asked.append(request)
        self.notice(len(self.asked))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Reply | Hangup):
            return fault
        reply = self.handle(request)
        return Reply(reply.data, reply.status, reply.headers, reply.text, cut=True) if fault == CUT else reply

    def handle(self, request: Asked) -> Reply:
        return self.answer(request)


@contextmanager
def serving(api: Api) -> Iterator[str]:
    """Serves an API on a free port of 127.0.0.1; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = Asked(self.command, unquote(parts.path), parse_qs(parts.query), dict(self.headers), body)
            self.send(api.reply(asked))

        do_POST = do_GET  # noqa: N815 - the name http.server calls

        def send(self, reply: Reply | Hangup) -> None:
            self.close_connection = True
            if isinstance(reply, Hangup):
                return
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", "Connection": "close", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def unused_address() -> str:
    """An address of this machine at which nothing answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


STRIPE_KEY = "sk_test_4242424242"


@dataclass
class Stripe(Api):
    """The invoices of a Stripe account, newest first: list with cursor pages, and single ones.

    `largest_page` is how many it gives at most. Unknown parameters are refused, as Stripe does.
    """

    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    largest_page: int = 100

    def bill(self, id: str, customer: str = "cus_1", **changes: Any) -> None:
        """An open invoice of 100.00 EUR, due on 31 October 2026 (Paris), with some fields otherwise."""
        finalized = changes.pop("finalized_at", 1_790_838_000)
        self.invoices[id] = {
            "id": id,
            "object": "invoice",
            "amount_due": 10000,
            "amount_paid": 0,
            "amount_remaining": 10000,
            "collection_method": "send_invoice",
            "created": finalized,
            "currency": "eur",
            "customer": {
                "id": customer,
                "object": "customer",
                "name": f"Customer {customer}",
                "email": f"{customer}@shop.dev",
                "phone": None,
                "address": {"country": "FR"},
                "preferred_locales": ["fr"],
            },
            "due_date": 1_793_487_599,
            "hosted_invoice_url": f"https://invoice.stripe.com/i/{id}",
            "number": f"{id.upper()}-0001",
            "status": "open",
            "status_transitions": {
                "finalized_at": finalized,
                "marked_uncollectible_at": None,
                "paid_at": None,
                "voided_at": None,
            },
            "total": 10000,
            **changes,
        }

    def pay(self, id: str) -> None:
        self.invoices[id] |= {"status": "paid", "amount_paid": self.invoices[id]["total"], "amount_remaining": 0}

    def void(self, id: str, at: int) -> None:
        self.invoices[id] |= {"status": "void"}
        self.invoices[id]["status_transitions"] |= {"voided_at": at}

    def handle(self, request: Asked) -> Reply:
        if request.headers.get("Authorization") != f"Bearer {STRIPE_KEY}":
            return _stripe_error(401, "Invalid API Key provided: sk_****")
        one = re.fullmatch(r"/v1/invoices/([^/]+)", request.path)
        unknown = set(request.query) - ({"expand[]"} if one else {"status", "limit", "starting_after", "expand[]"})
        if unknown:
            return _stripe_error(400, f"Received unknown parameter: {min(unknown)}")
        expanded = set(request.query.get("expand[]", []))
        if one:
            found = self.invoices.get(one[1])
            if not found:
                return _stripe_error(404, f"No such invoice: '{one[1]}'")
            return Reply(found if "customer" in expanded else _with_customer_id(found))
        return self._list(request, "data.customer" in expanded) if request.path == "/v1/invoices" else Reply({}, 404)

    def _list(self, request: Asked, expanded: bool) -> Reply:
        limit, after, status = int(request.one("limit", "10")), request.one("starting_after"), request.one("status")
        if not 1 <= limit <= 100:
            return _stripe_error(400, "Invalid integer: limit")
        newest_first = list(reversed(self.invoices.values()))
        ids = [invoice["id"] for invoice in newest_first]
        if after and after not in ids:
            return _stripe_error(400, f"No such invoice: '{after}'")
        behind = newest_first[ids.index(after) + 1 :] if after else newest_first
        matching = [invoice for invoice in behind if not status or invoice["status"] == status]
        size = min(limit, self.largest_page)
        data = [invoice if expanded else _with_customer_id(invoice) for invoice in matching[:size]]
        return Reply({"object": "list", "url": "/v1/invoices", "has_more": len(matching) > size, "data": data})


def _with_customer_id(invoice: dict[str, Any]) -> dict[str, Any]:
    return {**invoice, "customer": invoice["customer"]["id"]}


def _stripe_error(status: int, message: str) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error"}}, status)


def throttled_by_stripe() -> Reply:
    """Stripe's 429, which does not say how long to wait."""
    return _stripe_error(429, "Request rate limit exceeded.")


XERO_TOKEN, XERO_TENANT = "eyJhbGciOiJSUzI1NiJ9.token", "45e4708e-d862-4111-ab3a-dd8cd03913e1"
XERO_CLIENT, XERO_SECRET = "5A3F1B", "xero-client-secret"


@dataclass
class Xero(Api):
    """A Xero organisation: invoices and contacts by page, changes by If-Modified-Since, tokens for a client.

    `now` is when what is changed here is changed. `largest_page` is how many it gives at most.
    """

    now: datetime = datetime(2026, 11, 16, 6, tzinfo=UTC)
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    contacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    largest_page: int = 1000
    tokens: set[str] = field(default_factory=lambda: {XERO_TOKEN})

    def bill(self, number: int, **changes: Any) -> str:
        """An authorised sales invoice of 100.00 EUR, due on 31 October 2026; returns its id."""
        id = f"243216c5-369e-4056-ac67-{number:012d}"
        contact = f"025867f1-d741-4d6b-b1af-{number % 3:012d}"
        self.contacts.setdefault(
            contact,
            {
                "ContactID": contact,
                "ContactStatus": "ACTIVE",
                "Name": f"Customer {number % 3}",
                "EmailAddress": f"c{number % 3}@shop.dev",
                "IsCustomer": True,
                "UpdatedDateUTC": _xero_date(self.now),
            },
        )
        self.invoices[id] = {
            "Type": "ACCREC",
            "InvoiceID": id,
            "InvoiceNumber": f"INV-{number:04d}",
            "Contact": {"ContactID": contact, "Name": f"Customer {number % 3}"},
            "DateString": "2026-10-01T00:00:00",
            "Date": _xero_date(datetime(2026, 10, 1, tzinfo=UTC)),
            "DueDateString": "2026-10-31T00:00:00",
            "DueDate": _xero_date(datetime(2026, 10, 31, tzinfo=UTC)),
            "Status": "AUTHORISED",
            "Total": 100.00,
            "AmountDue": 100.00,
            "AmountPaid": 0.00,
            "AmountCredited": 0.00,
            "CurrencyCode": "EUR",
            "UpdatedDateUTC": _xero_date(self.now),
            **changes,
        }
        return id

    def change(self, id: str, **changes: Any) -> None:
        self.invoices[id] |= {**changes, "UpdatedDateUTC": _xero_date(self.now)}

    def pay(self, id: str, amount: float = 100.00) -> None:
        left = self.invoices[id]["AmountDue"] - amount
        self.change(id, AmountDue=left, AmountPaid=amount, Status="AUTHORISED" if left else "PAID")

    def handle(self, request: Asked) -> Reply:
        if request.path == "/connect/token":
            return self._token(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return Reply({"Title": "Unauthorized", "Status": 401, "Detail": "TokenExpired: token expired"}, 401)
        one = re.fullmatch(r"/Invoices/([^/]+)", request.path)
        if one:
            found = self.invoices.get(one[1])
            missing = Reply({"Title": "The resource you're looking for cannot be found"}, 404)
            return Reply({"Status": "OK", "Invoices": [found]}) if found else missing
        if request.path == "/Contacts" and request.one("where") == "IsCustomer==true":
            return self._list(request, "Contacts", self.contacts, lambda contact: bool(contact["IsCustomer"]))
        if request.path == "/Invoices" and request.one("where") == 'Type=="ACCREC"':
            statuses = request.one("Statuses").split(",")
            return self._list(
                request,
                "Invoices",
                self.invoices,
                lambda invoice: invoice["Type"] == "ACCREC" and invoice["Status"] in statuses,
            )
        return Reply({"Type": "QueryParseException", "Message": "No such query"}, 400)

    def _token(self, request: Asked) -> Reply:
        known = "Basic " + b64encode(f"{XERO_CLIENT}:{XERO_SECRET}".encode()).decode()
        if request.headers.get("Authorization") != known or "grant_type=client_credentials" not in request.body:
            return Reply({"error": "invalid_client"}, 400)
        token = f"token-{len(self.tokens)}"
        self.tokens = {*self.tokens, token}
        return Reply({"access_token": token, "expires_in": 1800, "token_type": "Bearer"})

    def _list(
        self, request: Asked, name: str, rows: Mapping[str, dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]
    ) -> Reply:
        since = request.headers.get("If-Modified-Since")
        after = datetime.strptime(since, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC) if since else None
        found = [row for id, row in sorted(rows.items()) if wanted(row) and (not after or _changed(row) >= after)]
        size, page = min(int(request.one("pageSize", "100")), self.largest_page), int(request.one("page", "1"))
        pages = {"page": page, "pageSize": size, "pageCount": -(-len(found) // size), "itemCount": len(found)}
        return Reply({"Status": "OK", "pagination": pages, name: found[size * (page - 1) : size * page]})


def _changed(row: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(row["UpdatedDateUTC"][6:-7]) / 1000, UTC)


def _xero_date(moment: datetime) -> str:
    return f"/Date({int(moment.timestamp()) * 1000}+0000)/"


def throttled_by_xero(seconds: int) -> Reply:
    """Xero's 429."""
    return Reply(text="", status=429, headers={"Retry-After": str(seconds), "X-Rate-Limit-Problem": "minute"})
