"""The sandbox's faults, conditions and controls by themselves: planned here, seen over raw HTTP."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from test_klaviyo_sandbox import bulk_document, entry, single

from dunning_pipeline.sandbox.klaviyo import FAULTS, Fault, Faults, KlaviyoAccount, running

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HEADERS = {
    "Authorization": "Klaviyo-API-Key pk_sandbox",
    "revision": "2026-07-15",
    "Content-Type": "application/vnd.api+json",
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[KlaviyoAccount, str]]:
    account = KlaviyoAccount(clock=lambda: NOON, rates=None)
    with running(account) as url:
        yield account, url


@pytest.fixture
def account(served: tuple[KlaviyoAccount, str]) -> Iterator[KlaviyoAccount]:
    yield served[0]
    served[0].faults.clear()
    served[0].conditions.latency = 0.0
    served[0].conditions.processing_seconds = (0.0, 0.0)
    served[0].conditions.clock_skew = timedelta()


@pytest.fixture
def url(served: tuple[KlaviyoAccount, str]) -> str:
    return served[1]


def post(url: str, document: object, path: str = "/api/events") -> requests.Response:
    return requests.post(url + path, json=document, headers=HEADERS, timeout=5)


def control(url: str, path: str, headers: dict[str, str] | None = None, **fields: str) -> requests.Response:
    return requests.post(url + path, data=fields, headers=headers, timeout=5, allow_redirects=False)


def test_planned_faults_are_met_one_request_each_and_none_means_none() -> None:
    faults = Faults()
    faults.plan([Fault.status(503), None, Fault.lost_answer()])
    faults.plan([Fault.throttled()], "GET")
    assert faults.planned() == ["POST: 503", "POST: no fault", "POST: answer lost after acceptance", "GET: 429"]
    taken = [faults.take(method) for method in ("POST", "POST", "GET", "POST", "POST")]
    assert [fault and fault.name for fault in taken] == ["503", None, "429", "answer lost after acceptance", None]
    assert faults.planned() == []


def test_a_rule_decides_by_the_number_of_the_request_where_nothing_is_planned() -> None:
    faults = Faults()
    faults.when(lambda number: Fault.status(500) if number % 2 == 0 else None)
    faults.plan([Fault.throttled()])
    names = [fault and fault.name for fault in (faults.take("POST") for _ in range(4))]
    assert names == ["429", "500", None, "500"]
    assert faults.take("GET") is None
    faults.clear()
    assert faults.take("POST") is None


def test_many_threads_use_up_a_plan_exactly() -> None:
    faults = Faults()
    faults.plan([Fault.status(503)] * 400)
    taken: list[Fault | None] = []
    threads = [threading.Thread(target=lambda: taken.extend(faults.take("POST") for _ in range(100))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(fault is not None for fault in taken) == 400


def test_a_fault_has_the_answer_that_klaviyo_or_a_proxy_would_give(account: KlaviyoAccount, url: str) -> None:
    account.faults.plan([Fault.throttled(7), Fault.status(503, html=True), Fault.invalid([3])])
    throttled, page, invalid = (post(url, single()) for _ in range(3))
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "7")
    assert "RateLimit-Limit" not in throttled.headers
    assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html")
    (error,) = invalid.json()["errors"]
    assert error["source"]["pointer"].startswith("/data/attributes/events-bulk-create/data/3/")


def test_the_log_tells_what_the_account_did_and_what_went_wrong(account: KlaviyoAccount, url: str) -> None:
    before = len(account.requests)
    account.faults.plan([Fault.reset_before_acceptance(), Fault.reset_after_acceptance()])
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            post(url, bulk_document(entry(unique_id="r-log")), "/api/event-bulk-create-jobs")
    first, second = account.requests[before:]
    assert (first.status, first.fault, first.events) == (0, "reset before acceptance", 1)
    assert (second.status, second.fault, second.events) == (202, "reset after acceptance", 1)
    assert first.body == second.body
    assert account.bodies[-2:] == [first.body, second.body]
    assert [event.unique_id for event in account.events].count("r-log") == 1


def test_the_server_has_the_accounts_date_and_it_can_be_wrong(account: KlaviyoAccount, url: str) -> None:
    assert post(url, single()).headers["Date"] == "Sun, 22 Nov 2026 12:00:00 GMT"
    account.conditions.clock_skew = timedelta(hours=-1)
    assert post(url, single()).headers["Date"] == "Sun, 22 Nov 2026 11:00:00 GMT"


def test_an_event_is_recorded_at_once_and_shows_when_it_was_processed(account: KlaviyoAccount, url: str) -> None:
    account.conditions.processing_seconds = (60, 60)
    post(url, single(unique_id="r-late"))
    assert "r-late" in [event.unique_id for event in account.events]

    def shown() -> list[str]:
        answer = requests.get(f"{url}/api/events", headers=HEADERS, timeout=5).json()
        return [event["attributes"]["event_properties"]["$event_id"] for event in answer["data"]]

    assert "r-late" not in shown()
    account.conditions.clock_skew = timedelta(seconds=60)
    assert "r-late" in shown()


@pytest.mark.parametrize("name", FAULTS)
def test_every_usual_fault_can_be_planned_on_the_page(account: KlaviyoAccount, url: str, name: str) -> None:
    answer = control(url, "/faults", fault=name, times="3")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert account.faults.planned() == [f"POST: {name}"] * 3
    page = requests.get(url, timeout=5).text
    assert f"<option>{name}</option>" in page
    assert f"Planned for the next requests: POST: {name}, POST: {name}, POST: {name}." in page
    control(url, "/faults")
    assert account.faults.planned() == []


def test_conditions_can_be_set_on_the_page(account: KlaviyoAccount, url: str) -> None:
    assert control(url, "/conditions", latency="0.01", processing="90", skew="-3600").status_code == 303
    conditions = account.conditions
    assert (conditions.latency, conditions.processing_seconds) == (0.01, (0.0, 90.0))
    assert conditions.clock_skew == timedelta(hours=-1)


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("/faults", {"fault": "meteor"}, "fault 'meteor' is not known; allowed: 429, 500"),
        ("/faults", {"fault": "429", "times": "many"}, "times 'many' is not a number from 0 to 10000"),
        ("/faults", {"fault": "429", "times": "1e9"}, "times '1e9'"),
        ("/faults", {"fault": "429", "method": "PUT"}, "method 'PUT' is not allowed; allowed: POST, GET"),
        ("/conditions", {"latency": "-1"}, "latency '-1' is not a number from 0 to 60"),
        ("/conditions", {"latency": "nan"}, "latency 'nan'"),
        ("/conditions", {"skew": "tomorrow"}, "skew 'tomorrow'"),
    ],
)
def test_a_wrong_field_is_named_and_changes_nothing(
    account: KlaviyoAccount, url: str, path: str, fields: dict[str, str], says: str
) -> None:
    answer = control(url, path, **fields)
    assert answer.status_code == 400
    assert says in answer.text
    assert account.faults.planned() == []
    assert account.conditions.latency == 0


def test_another_site_cannot_make_it_fail(account: KlaviyoAccount, url: str) -> None:
    answer = control(url, "/faults", {"Sec-Fetch-Site": "cross-site"}, fault="429")
    assert answer.status_code == 403
    assert account.faults.planned() == []
    assert control(url, "/faults", {"Sec-Fetch-Site": "same-origin"}, fault="429").status_code == 303


def test_controls_are_no_requests_of_the_api(account: KlaviyoAccount, url: str) -> None:
    before = len(account.requests)
    control(url, "/faults", fault="429")
    control(url, "/conditions")
    assert len(account.requests) == before
    assert len(account.faults.planned()) == 1
