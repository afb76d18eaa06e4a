"""Reads tables of REST APIs into Parquet files of text, a page at a time, and asks for single records by id.

Settings say how: there is no code for any particular system here. Requests are made by rest_client.py, the way from
page to page is in rest_pages.py, and what the texts mean is staging.py's.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import tenacity

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import LookUp, RestSource, TableRequest
from dunning_pipeline.policy_file import JSON_DATE, UNIX_MILLISECONDS, UNIX_SECONDS
from dunning_pipeline.resources import records
from dunning_pipeline.resources.clock import Clock, system_clock
from dunning_pipeline.resources.rest_client import Refused, RestClient
from dunning_pipeline.resources.rest_pages import PageRequest, first_page, next_page
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Raw
from dunning_pipeline.resources.watermarks import Watermark, highest

READS = 3
"""How often a list is read from its beginning when the server no longer knows the page that comes next."""

MOST_PAGES = 100_000
MOST_FAILED_LOOK_UPS = 3
"""After so many look-ups without an answer the others of a pull are left for the next one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LookedUp:
    """What became of invoices that were asked for by id.

    `raw`: what was read of those that are there. `gone`: ids that the source no longer has. Those in neither stay
    unclear: there was no answer, or none about that invoice.
    """

    raw: Raw
    gone: tuple[str, ...]


class _PageLost(SourceError):
    """The server refuses the next page of a list that it began: what that page starts from may be gone."""


@dataclass(frozen=True)
class RestSourceReader:
    """An API named `name` in the policy; `${VAR}` in its settings are of `environment`.

    `time_zone`: of times without one. `clock`: watermarks do not go beyond its now. `sleep`: how to wait before a
    request is repeated.
    """

    name: str
    source: RestSource
    environment: Mapping[str, str] = field(repr=False)
    time_zone: str = "UTC"
    clock: Clock = system_clock
    sleep: Callable[[float], None] = time.sleep

    def read(self, request: TableRequest, target: Path, since: Watermark | None = None) -> Raw:
        """Writes the fields that the mapping names, a column for each path, to `target` as text.

        Returns:
            Records that are no mappings as unreadable; those that `leave_out` names; the latest time of a change.

        Raises:
            SourceError: the API is unreachable, refuses a request, or its pages have no end. Nothing was read then.
        """
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PageLost),
            stop=tenacity.stop_after_attempt(READS),
            sleep=self.sleep,
            reraise=True,
        ):
            with attempt:
                return self._read(request, target, since)
        raise AssertionError  # tenacity returns or raises

    def _read(self, request: TableRequest, target: Path, since: Watermark | None) -> Raw:
        # What changes while pages are read may stand on a page that is behind us: the next pull begins before now.
        begun, reached = self.clock(), since
        with _Rows(request, target) as rows:
            for found in self._pages(request, since):
                rows.write(found)
                reached = highest(self._times(request, found), reached)
        return Raw(
            unreadable=_rejects(rows.unreadable),
            watermark=reached and reached.capped(begun, self.time_zone),
            left_out=_rejects(rows.left_out),
        )

    def columns(self, request: TableRequest) -> tuple[str, ...]:
        """Paths of the fields on the first page; those of the mapping where it is empty. Raises SourceError."""
        found = next(self._pages(request, None))
        seen = dict.fromkeys(path for record in found for path in records.paths(record))
        inside = (path for path in request.columns if any(records.field(record, path) is not None for record in found))
        return tuple(dict.fromkeys([*seen, *inside])) if found else tuple(request.columns)

    def look_up(self, request: TableRequest, ids: Sequence[str], target: Path) -> LookedUp:
        """Asks for single invoices by the id that the source knows; writes those that are there like `read`."""
        gone, failed = [], 0
        with _Rows(request, target, known=True) as rows:
            for wanted in ids:
                if not request.look_up or failed == MOST_FAILED_LOOK_UPS:
                    break
                try:
                    record = self._look_up(request.look_up, wanted)
                except Refused as refused:
                    gone += [wanted] if refused.is_gone else []
                    failed += not refused.is_gone
                except SourceError:
                    failed += 1
                else:
                    rows.write([record] if _id(request, record) == wanted else [])
        return LookedUp(Raw(_rejects(rows.unreadable), left_out=_rejects(rows.left_out)), tuple(gone))

    def _look_up(self, look_up: LookUp, wanted: str) -> Any:
        data = self._client.get(look_up.path.replace("{id}", quote(wanted, safe="")), look_up.params).data
        return records.field(data, look_up.record) if look_up.record else data

    @cached_property
    def _client(self) -> RestClient:
        return RestClient(self.name, self.source, self.environment, self.clock, self.sleep)

    def _pages(self, request: TableRequest, since: Watermark | None) -> Iterator[list[Any]]:
        """The records of each page, at least of one."""
        params, headers = dict(request.params), dict[str, str]()
        if request.since and since:
            value = _written(self._instant(since.less(request.overlap)), request.since.format)
            params |= request.since.params
            params |= {request.since.parameter: value} if request.since.parameter else {}
            headers |= {request.since.header: value} if request.since.header else {}
        page: PageRequest | None = first_page(PageRequest(request.path, params), request.pagination)
        loop = _LoopGuard(self.name, request.path)
        while page:
            answer = self._get(page, headers)
            found = self._found(request, answer.data)
            loop.require_new(page, found)
            yield found
            try:
                page = next_page(page, request.pagination, answer, found)
            except SourceError as error:
                raise SourceError(f"source {self.name}: GET {request.path}: {error}") from None

    def _get(self, page: PageRequest, headers: Mapping[str, str]) -> Any:
        try:
            return self._client.get(page.address, page.params, headers)
        except Refused as refused:
            if page.number and (refused.is_gone or refused.status == 400):
                raise _PageLost(str(refused)) from None
            raise

    def _found(self, request: TableRequest, data: Any) -> list[Any]:
        """The list of records. Anything else is an error: it must not be taken for an empty list."""
        if data is None:
            return []
        found = records.field(data, request.records) if request.records else data
        if not isinstance(found, list):
            has = f"; it has {', '.join(data)}" if isinstance(data, dict) and data else ""
            where = f"at '{request.records}'" if request.records else "in itself; name its path as records"
            raise SourceError(f"source {self.name}: GET {request.path}: the answer has no list {where}{has}")
        return found

    def _times(self, request: TableRequest, found: Sequence[Any]) -> Iterator[datetime]:
        """When each record changed last, where it tells."""
        if not request.watermark:
            return
        for record in found:
            written = records.text(records.field(record, request.watermark))
            if written:
                yield self._moment(request, written)

    def _moment(self, request: TableRequest, written: str) -> datetime:
        try:
            return self._instant(_parsed(written, request.watermark_format))
        except (ValueError, ArithmeticError):
            raise SourceError(
                f"source {self.name}: GET {request.path}: '{written}' at '{request.watermark}' is no time of the form "
                f"{request.watermark_format or '2026-11-22T09:00:00+00:00'}; give its form as watermark_format"
            ) from None

    def _instant(self, moment: Any) -> datetime:
        """A time in UTC; one without a zone is of the source's."""
        aware: datetime = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(self.time_zone))
        return aware.astimezone(UTC)


class _Rows:
    """Writes the records of a table, and keeps those apart that cannot be read, or are to be left out.

    `known`: they are of invoices that were taken before; that one of these is settled is not left out.
    """

    def __init__(self, request: TableRequest, target: Path, *, known: bool = False) -> None:
        self.request, self.known = request, known
        self.schema = pa.schema([(path, pa.string()) for path in request.columns])
        self.target = target
        self.unreadable: list[tuple[str, str]] = []
        self.left_out: list[tuple[str, str]] = []

    def __enter__(self) -> "_Rows":
        self.writer = pq.ParquetWriter(self.target, self.schema)
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()

    def write(self, found: Sequence[Any]) -> None:
        rows = [row for record in found if (row := self._row(record))]
        if rows:
            self.writer.write_batch(records.columns(rows, self.schema))

    def _row(self, record: Any) -> dict[str, str | None] | None:
        if not isinstance(record, dict):
            self.unreadable.append((json.dumps(record, default=str), "the record is no mapping of fields"))
            return None
        row = records.texts(record, self.schema.names)
        settled = bool(self.request.settled) and records.holds(record, self.request.settled or {})
        for rule in () if settled and self.known else self.request.leave_out:
            if records.holds(record, rule.when):
                self.left_out.append((json.dumps(row, ensure_ascii=False), f"left out: {rule.reason}"))
                return None
        if settled:
            row |= {path: "0" for path, targets in self.request.columns.items() if "outstanding" in targets}
        return row


class _LoopGuard:
    """Notices a list of pages that has no end: a page that was there before, or far too many of them."""

    def __init__(self, name: str, path: str) -> None:
        self.what = f"source {name}: GET {path}"
        self.asked: set[str] = set()
        self.seen: set[bytes] = set()

    def require_new(self, page: PageRequest, found: Sequence[Any]) -> None:
        asked = f"{page.address} {sorted(page.params.items())}"
        content = hashlib.blake2b(repr(found).encode(errors="replace")).digest()
        if asked in self.asked or (found and content in self.seen):
            raise SourceError(
                f"{self.what}: page {page.number + 1} is one that was read before, so the pages have no end; see that "
                "the pagination's parameter is the one the API knows"
            )
        if page.number >= MOST_PAGES:
            raise SourceError(f"{self.what}: more than {MOST_PAGES} pages; a larger page size is needed")
        self.asked.add(asked)
        self.seen.add(content)


def _rejects(rows: Sequence[tuple[str, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), ()]
    return pa.table(list(map(pa.array, columns, [pa.string()] * 2)), schema=REJECTS_SCHEMA)


def _id(request: TableRequest, record: Any) -> str | None:
    """The invoice's id in a record, which must be the one that was asked for."""
    paths = (path for path, targets in request.columns.items() if "invoice_id" in targets)
    return next((records.text(records.field(record, path)) for path in paths), None)


def _parsed(written: str, form: str | None) -> datetime:
    """A time as a field tells it. Raises ValueError."""
    if form == UNIX_SECONDS:
        return _EPOCH + timedelta(microseconds=int(Decimal(written) * 1_000_000))
    if form == UNIX_MILLISECONDS:
        return _EPOCH + timedelta(microseconds=int(Decimal(written) * 1_000))
    if form == JSON_DATE:
        match = re.fullmatch(r"/Date\((-?\d+)([+-]\d{4})?\)/", written)
        if not match:
            raise ValueError
        return _EPOCH + timedelta(milliseconds=int(match[1]))
    return datetime.strptime(written, form) if form else datetime.fromisoformat(written)


def _written(moment: datetime, form: str) -> str:
    """A time, in whole seconds of UTC, as the source wants it."""
    whole = moment.replace(microsecond=0)
    match form:
        case "iso":
            return whole.strftime("%Y-%m-%dT%H:%M:%SZ")
        case "http":
            return format_datetime(whole, usegmt=True)
        case str() if form == UNIX_SECONDS:
            return str(int(whole.timestamp()))
        case str() if form == UNIX_MILLISECONDS:
            return str(int(whole.timestamp()) * 1000)
        case str() if form == JSON_DATE:
            return f"/Date({int(whole.timestamp()) * 1000}+0000)/"
        case _:
            return whole.strftime(form)
