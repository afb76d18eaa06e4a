"""Reading lists of REST APIs page by page: every way to page, exact fields, and what must not pass for an end."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rest_apis import CUT, Api, Asked, Hangup, Reply, serving
from support import MovingClock

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import RestSource
from dunning_pipeline.resources.rest_client import ATTEMPTS
from dunning_pipeline.resources.rest_source import MOST_FAILED_LOOK_UPS, READS, LookedUp, RestSourceReader
from dunning_pipeline.resources.staging import Raw
from dunning_pipeline.resources.watermarks import Watermark

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECORDS: list[dict[str, Any]] = [{"id": f"r{number}"} for number in range(7)]
COLUMNS = {"id": "invoice_id"}


class Reading:
    """A reader of a stand-in and what it reads."""

    def __init__(self, url: str, folder: Path, zone: str = "UTC") -> None:
        self.url, self.target, self.zone = url, folder / "raw.parquet", zone

    def prepare(self, settings: dict[str, object]) -> tuple[RestSourceReader, Any]:
        table = {"path": "/list", "records": "data", "columns": COLUMNS, **settings}
        source = RestSource.model_validate({"kind": "rest", "url": self.url, "tables": {"invoices": table}})
        reader = RestSourceReader("crm", source, {}, self.zone, MovingClock(NOW), lambda _: None)
        return reader, source.tables["invoices"]

    def read(self, reached: datetime | None = None, **settings: object) -> Raw:
        reader, request = self.prepare(settings)
        return reader.read(request, self.target, Watermark(reached) if reached else None)

    def look_up(self, *ids: str, **settings: object) -> LookedUp:
        reader, request = self.prepare({"look_up": {"path": "/one/{id}"}, **settings})
        return reader.look_up(request, ids, self.target)

    def ids(self, **settings: object) -> list[str]:
        self.read(None, **settings)
        return [row["id"] for row in self.rows]

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.target).to_pylist()
        return found


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def reading(api: Api, tmp_path: Path) -> Iterator[Reading]:
    with serving(api) as url:
        yield Reading(url, tmp_path)


def after_cursor(asked: Asked) -> Reply:
    start = int(asked.one("after", "0"))
    end = start + 3
    return Reply({"data": RECORDS[start:end], "meta": {"next": str(end) if end < len(RECORDS) else None}})


def after_last_record(asked: Asked) -> Reply:
    ids = [record["id"] for record in RECORDS]
    start = ids.index(asked.one("after")) + 1 if asked.one("after") else 0
    return Reply({"data": RECORDS[start : start + 3], "has_more": start + 3 < len(RECORDS)})


def from_offset(asked: Asked) -> Reply:
    start = int(asked.one("skip", "0"))
    return Reply({"data": RECORDS[start : start + 3], "total": len(RECORDS)})


def from_told_offset(asked: Asked) -> Reply:
    start = int(asked.one("offset", "0"))
    more = {"next_offset": start + 3} if start + 3 < len(RECORDS) else {}
    return Reply({"data": RECORDS[start : start + 3], **more})


def numbered(first: int) -> Callable[[Asked], Reply]:
    def answer(asked: Asked) -> Reply:
        start = 3 * (int(asked.one("page")) - first)
        return Reply({"data": RECORDS[start : start + 3], "pages": 3})

    return answer


def linked_in_header(asked: Asked) -> Reply:
    start = int(asked.one("start", "0"))
    following = f'</list?start={start + 3}>; rel="next", </list>; rel="first"'
    return Reply({"data": RECORDS[start : start + 3]}, headers={"Link": following} if start < 6 else {})


def linked_in_answer(asked: Asked) -> Reply:
    start = int(asked.one("start", "0"))
    return Reply({"data": RECORDS[start : start + 3], "next": f"/list?start={start + 3}" if start < 6 else ""})


WAYS: dict[str, tuple[Callable[[Asked], Reply], dict[str, object]]] = {
    "cursor": (after_cursor, {"kind": "cursor", "parameter": "after", "cursor": "meta.next"}),
    "last record": (
        after_last_record,
        {"kind": "cursor", "parameter": "after", "last_record": "id", "more": "has_more"},
    ),
    "last record, empty page": (after_last_record, {"kind": "cursor", "parameter": "after", "last_record": "id"}),
    "offset": (from_offset, {"kind": "offset", "parameter": "skip", "total": "total"}),
    "offset, empty page": (from_offset, {"kind": "offset", "parameter": "skip"}),
    "offset that is told": (from_told_offset, {"kind": "offset", "next": "next_offset"}),
    "page": (numbered(1), {"kind": "page", "pages": "pages"}),
    "page from 0": (numbered(0), {"kind": "page", "first": 0, "pages": "pages"}),
    "page, empty page": (numbered(1), {"kind": "page"}),
    "page, no number of pages told": (numbered(1), {"kind": "page", "pages": "paging.count"}),
    "link": (linked_in_header, {"kind": "link"}),
    "link in the answer": (linked_in_answer, {"kind": "link", "next": "next"}),
}


@pytest.mark.parametrize(("answer", "pagination"), WAYS.values(), ids=WAYS)
def test_all_pages_are_read(
    api: Api, reading: Reading, answer: Callable[[Asked], Reply], pagination: dict[str, object]
) -> None:
    api.answer = answer
    assert reading.ids(pagination=pagination) == [record["id"] for record in RECORDS]


@pytest.mark.parametrize(("answer", "pagination"), WAYS.values(), ids=WAYS)
def test_faults_between_and_within_pages_change_nothing(
    api: Api, reading: Reading, answer: Callable[[Asked], Reply], pagination: dict[str, object]
) -> None:
    api.answer = answer
    api.faults.extend([CUT, None, Reply({}, 429), CUT, None, Hangup(), Reply({}, 500), CUT, None])
    assert reading.ids(pagination=pagination) == [record["id"] for record in RECORDS]


def test_the_parameters_of_the_request_are_on_every_page(api: Api, reading: Reading) -> None:
    api.answer = after_cursor
    params = {"status": "open", "expand[]": ["a", "b"]}
    reading.ids(pagination=WAYS["cursor"][1], params=params)
    assert [(asked.query["status"], asked.query["expand[]"]) for asked in api.asked] == [(["open"], ["a", "b"])] * 3


def test_a_list_without_pages_is_one_request(api: Api, reading: Reading) -> None:
    api.answer = lambda _: Reply(RECORDS)
    assert reading.ids(records=None) == [record["id"] for record in RECORDS]
    assert len(api.asked) == 1


@pytest.mark.parametrize("page", [{"kind": "link"}, {"kind": "link", "next": "next"}])
def test_a_next_page_on_another_host_is_not_asked_for(api: Api, reading: Reading, page: dict[str, object]) -> None:
    other = Api()
    with serving(other) as elsewhere:
        link = f"{elsewhere}/list"
        api.answer = lambda _: Reply({"data": RECORDS, "next": link}, headers={"Link": f'<{link}>; rel="next"'})
        with pytest.raises(SourceError, match=r"points to 127.0.0.1:\d+, and nothing but its own host is asked"):
            reading.read(pagination=page)
    assert other.asked == []


@pytest.mark.parametrize("following", ["/api/v1/list?start=3", "list?start=3", "?start=3"])
def test_an_address_without_a_host_is_one_beside_the_page_it_stands_on(
    api: Api, reading: Reading, following: str
) -> None:
    api.answer = lambda asked: Reply(
        {"data": RECORDS[3:] if asked.query else RECORDS[:3], "next": None if asked.query else following}
    )
    reading.url += "/api/v1"
    assert len(reading.ids(pagination={"kind": "link", "next": "next"})) == len(RECORDS)
    assert [asked.path for asked in api.asked] == ["/api/v1/list"] * 2


ENDLESS: dict[str, tuple[Callable[[Asked], Reply], dict[str, object]]] = {
    "cursor that stands still": (
        lambda _: Reply({"data": [], "meta": {"next": "x"}}),
        {"kind": "cursor", "parameter": "after", "cursor": "meta.next"},
    ),
    "parameter that is not known": (
        lambda _: Reply({"data": RECORDS, "pages": 5}),
        {"kind": "page", "parameter": "seite", "pages": "pages"},
    ),
    "last page for every number": (lambda _: Reply({"data": RECORDS}), {"kind": "page"}),
    "offset that is not known": (lambda _: Reply({"data": RECORDS}), {"kind": "offset"}),
    "link in a circle": (lambda _: Reply({"data": [], "next": "/list"}), {"kind": "link", "next": "next"}),
}


@pytest.mark.parametrize(("answer", "pagination"), ENDLESS.values(), ids=ENDLESS)
def test_pages_without_end_are_noticed(
    api: Api, reading: Reading, answer: Callable[[Asked], Reply], pagination: dict[str, object]
) -> None:
    api.answer = answer
    with pytest.raises(SourceError, match=r"source crm: GET /list: page \d is one that was read before"):
        reading.read(pagination=pagination)
    assert len(api.asked) <= 3


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"items": []}, "the answer has no list at 'data'; it has items"),
        ({"data": None}, "the answer has no list at 'data'; it has data"),
        ({"data": {"a": 1}}, "the answer has no list at 'data'"),
        ("done", "the answer has no list at 'data'"),
    ],
)
def test_an_answer_of_another_shape_is_not_taken_for_an_empty_list(
    api: Api, reading: Reading, data: object, sentence: str
) -> None:
    api.answer = lambda _: Reply(data)
    with pytest.raises(SourceError, match=sentence):
        reading.read()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"data": RECORDS}, "neither true nor false at 'has_more'"),
        ({"data": [], "has_more": True}, "says that there is more, and has no cursor"),
        ({"data": [{"name": "without id"}], "has_more": True}, "says that there is more, and has no cursor"),
    ],
)
def test_an_answer_that_does_not_tell_what_comes_next_is_not_taken_for_the_last(
    api: Api, reading: Reading, data: object, sentence: str
) -> None:
    api.answer = lambda _: Reply(data)
    with pytest.raises(SourceError, match=f"source crm: GET /list: .*{sentence}"):
        reading.read(pagination=WAYS["last record"][1])


def test_an_empty_list_has_the_columns_of_the_mapping(api: Api, reading: Reading) -> None:
    api.answer = lambda _: Reply({"data": []})
    assert reading.ids(columns={"id": "invoice_id", "a.b": "number"}) == []
    assert pq.read_schema(reading.target).names == ["id", "a.b"]


def test_a_page_that_is_refused_halfway_begins_the_list_again(api: Api, reading: Reading) -> None:
    api.answer = after_last_record
    api.faults.extend([None, Reply({"error": "No such invoice: r2"}, 400)])
    assert reading.ids(pagination=WAYS["last record"][1]) == [record["id"] for record in RECORDS]
    assert ["after" in asked.query for asked in api.asked] == [False, True, False, True, True]


def test_a_list_that_is_refused_halfway_each_time_is_given_up(api: Api, reading: Reading) -> None:
    api.answer = after_last_record
    api.faults.extend([None, Reply({}, 404)] * READS)
    with pytest.raises(SourceError, match="GET /list answered 404"):
        reading.read(pagination=WAYS["last record"][1])
    assert len(api.asked) == 2 * READS


def test_fields_are_exact_and_named_by_their_path(api: Api, reading: Reading) -> None:
    body = (
        '{"data": [{"id": 9007199254740993, "sum": {"total": 100.10}, "tags": ["a", "b"], "paid": false, "name": null},'
        ' {"id": "00012", "sum": 5}]}'
    )
    api.answer = lambda _: Reply(text=body)
    columns = {"id": "invoice_id", "sum.total": "total", "tags": "tags", "paid": "paid", "name": "name"}
    reading.read(columns=columns)
    assert reading.rows == [
        {"id": "9007199254740993", "sum.total": "100.10", "tags": '["a", "b"]', "paid": "false", "name": None},
        {"id": "00012", "sum.total": None, "tags": None, "paid": None, "name": None},
    ]


def test_records_that_are_no_mappings_are_unreadable_and_stop_nothing(api: Api, reading: Reading) -> None:
    api.answer = lambda _: Reply({"data": [{"id": "a"}, "b", None, ["c"]]})
    unreadable = reading.read().unreadable.to_pylist()
    assert reading.rows == [{"id": "a"}]
    assert [row["row"] for row in unreadable] == ['"b"', "null", '["c"]']


def test_records_are_left_out_where_all_of_a_rule_holds(api: Api, reading: Reading) -> None:
    api.answer = lambda _: Reply({"data": [{"id": "a", "kind": 1}, {"id": "b", "kind": 2}, {"id": "c", "kind": 2}]})
    rules = [{"when": {"kind": ["2", "3"], "id": "b"}, "reason": "it is a draft"}]
    left_out = reading.read(leave_out=rules).left_out.to_pylist()
    assert [row["id"] for row in reading.rows] == ["a", "c"]
    assert left_out == [{"row": '{"id": "b"}', "reason": "left out: it is a draft"}]


def test_nothing_is_left_of_what_is_settled(api: Api, reading: Reading) -> None:
    api.answer = lambda _: Reply({"data": [{"id": "a", "left": 5, "state": "paid"}, {"id": "b", "left": 5}]})
    reading.read(columns={"id": "invoice_id", "left": "outstanding"}, settled={"state": "paid"})
    assert [row["left"] for row in reading.rows] == ["0", "5"]


CHANGES = {"watermark": "changed", "since": {"parameter": "since"}}


def changed(*times: object) -> Callable[[Asked], Reply]:
    return lambda _: Reply({"data": [{"id": f"{place}", "changed": time} for place, time in enumerate(times)]})


@pytest.mark.parametrize(
    ("written", "form", "zone"),
    [
        ("2026-11-22T09:00:00+00:00", None, "UTC"),
        ("2026-11-22T09:00:00Z", None, "UTC"),
        ("2026-11-22T10:00:00", None, "Europe/Paris"),
        (1795338000, "unix_seconds", "UTC"),
        (1795338000000, "unix_milliseconds", "UTC"),
        ("/Date(1795338000000+0000)/", "/Date(ms)/", "Europe/Paris"),
        ("/Date(1795338000000)/", "/Date(ms)/", "UTC"),
        ("22.11.2026 10:00", "%d.%m.%Y %H:%M", "Europe/Paris"),
    ],
)
def test_the_latest_change_is_the_watermark(
    api: Api, reading: Reading, written: object, form: str | None, zone: str
) -> None:
    reading.zone = zone
    api.answer = changed(None, written)
    watermark = reading.read(watermark="changed", watermark_format=form, since={"parameter": "since"}).watermark
    assert watermark == Watermark(datetime(2026, 11, 22, 9, tzinfo=UTC))


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("iso", "2026-11-22T08:00:00Z"),
        ("http", "Sun, 22 Nov 2026 08:00:00 GMT"),
        ("unix_seconds", "1795334400"),
        ("unix_milliseconds", "1795334400000"),
        ("/Date(ms)/", "/Date(1795334400000+0000)/"),
        ("%Y-%m-%dT%H:%M:%S", "2026-11-22T08:00:00"),
    ],
)
def test_changes_are_asked_for_from_the_watermark_less_the_overlap(
    api: Api, reading: Reading, form: str, written: str
) -> None:
    api.answer = changed()
    since = {"parameter": "updated_at[after]", "format": form}
    reading.read(datetime(2026, 11, 22, 9, 0, 0, 500, tzinfo=UTC), watermark="changed", since=since)
    assert api.asked[0].one("updated_at[after]") == written


def test_changes_may_be_asked_for_by_a_header_and_with_other_parameters(api: Api, reading: Reading) -> None:
    api.answer = changed()
    since = {"header": "If-Modified-Since", "params": {"status": "any"}}
    settings = {"watermark": "changed", "since": since, "params": {"status": "open", "a": "b"}}
    reading.read(None, **settings)
    reading.read(datetime(2026, 11, 22, 9, tzinfo=UTC), **settings)
    whole, part = api.asked
    assert (whole.one("status"), whole.headers.get("If-Modified-Since")) == ("open", None)
    assert (part.one("status"), part.one("a")) == ("any", "b")
    assert part.headers["If-Modified-Since"] == "2026-11-22T08:00:00Z"


def test_nothing_modified_is_an_empty_list_and_keeps_the_watermark(api: Api, reading: Reading) -> None:
    reached = datetime(2026, 11, 22, 9, tzinfo=UTC)
    api.answer = lambda _: Reply(text="", status=304)
    assert reading.read(reached, **CHANGES).watermark == Watermark(reached)
    assert reading.rows == []


def test_a_change_of_the_future_counts_as_now(api: Api, reading: Reading) -> None:
    api.answer = changed("2030-01-01T00:00:00Z")
    assert reading.read(None, **CHANGES).watermark == Watermark(NOW)


def test_a_watermark_of_another_form_is_told(api: Api, reading: Reading) -> None:
    api.answer = changed("/Date(1795338000000)/")
    with pytest.raises(SourceError, match=r"'/Date\(1795338000000\)/' at 'changed' is no time of the form 2026-11-22"):
        reading.read(None, **CHANGES)


def test_single_invoices_are_there_or_gone_or_unclear(api: Api, reading: Reading) -> None:
    replies = {
        "/one/a": Reply({"id": "a"}),
        "/one/b": Reply({}, 404),
        "/one/c/d": Reply({}, 410),
        "/one/e": Reply({"id": "a"}),
        "/one/f": Reply({}, 403),
        "/one/g": Reply({"object": "nothing"}),
    }
    api.answer = lambda asked: replies[asked.path]
    found = reading.look_up("a", "b", "c/d", "e", "f", "g")
    assert reading.rows == [{"id": "a"}]
    assert found.gone == ("b", "c/d")


def test_the_record_may_stand_within_the_answer(api: Api, reading: Reading) -> None:
    api.answer = lambda asked: Reply({"Invoices": [{"id": asked.path[-1], "full": asked.one("full")}]})
    look_up = {"path": "/one/{id}", "params": {"full": True}, "record": "Invoices.0"}
    reading.look_up("a", look_up=look_up, columns={"id": "invoice_id", "full": "number"})
    assert reading.rows == [{"id": "a", "full": "true"}]


@pytest.mark.parametrize(("fault", "asked"), [(Reply({}, 403), 1), (Reply({}, 500), ATTEMPTS), (Hangup(), ATTEMPTS)])
def test_look_ups_stop_where_the_source_does_not_answer_them(
    api: Api, reading: Reading, fault: Reply | Hangup, asked: int
) -> None:
    api.faults.extend([fault] * 100)
    found = reading.look_up(*"abcdefgh")
    assert (reading.rows, found.gone) == ([], ())
    assert len(api.asked) == asked * MOST_FAILED_LOOK_UPS


def paths(reading: Reading, found: Sequence[dict[str, Any]], api: Api, **settings: object) -> tuple[str, ...]:
    api.answer = lambda _: Reply(text=json.dumps({"data": found}))
    reader, request = reading.prepare(settings)
    return reader.columns(request)


def test_the_columns_of_an_api_are_the_paths_on_its_first_page(api: Api, reading: Reading) -> None:
    found = [{"id": 1}, {"id": 2, "customer": {"email": "a"}, "phones": [{"number": "1"}]}]
    columns = {"id": "invoice_id", "phones.0.number": "number"}
    seen = paths(reading, found, api, columns=columns)
    assert seen == ("id", "customer", "customer.email", "phones", "phones.0.number")


def test_of_an_empty_list_the_columns_are_those_that_are_asked_for(api: Api, reading: Reading) -> None:
    assert paths(reading, [], api) == ("id",)
