"""Sending a batch: refuse what may not go, then chunk by chunk attempt, request, record (RULES 9).

An act of its own, never a side effect of deriving a table. What is sent was frozen before; nothing is decided here.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from random import random
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import SecretStr

from dunning_pipeline.errors import DunningError, SendingRefused
from dunning_pipeline.guards import why_unusual
from dunning_pipeline.outbox import Batch, Outbox, OutOfDate, Result
from dunning_pipeline.recheck import Recheck, recheck_of, with_present_amounts
from dunning_pipeline.resources.klaviyo import (
    BULK_HEAD,
    BULK_TAIL,
    MOST_BYTES,
    MOST_EVENTS,
    InvalidEvents,
    Klaviyo,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    Throttled,
    Unreachable,
    pause_before_retry,
)
from dunning_pipeline.resources.klaviyo_addresses import is_loopback, will_be_dropped
from dunning_pipeline.resources.klaviyo_bodies import sizes
from dunning_pipeline.resources.order_facts import NOT_LISTED
from dunning_pipeline.runs import JOBS
from dunning_pipeline.settings import Settings
from dunning_pipeline.unknown import resolve_unknown

PAGE = 10_000
"""Reminders read at once, and decided afresh at once where something changed (RULES 9.4)."""
MOST_LOOKS = 5
MOST_UNANSWERED_IN_A_ROW = 10
"""Requests without an answer, one after the other, after which Klaviyo counts as down."""
MOST_DOUBTFUL = 3
"""Single events refused for no reason that points at them, after which the request as such must be wrong."""

UNLISTED = Result("dropped", error_code=NOT_LISTED, error_detail="not on sending.allow_list")
UNDELIVERABLE = Result(
    "rejected",
    error_code="undeliverable",
    error_detail="no mail can reach the address: Klaviyo accepts events for example.com, test.com and the like, and "
    "drops them without a word",
)


@dataclass
class Report:
    """What became of a batch: the last outcome of each reminder in this run, and what is left.

    `already` had a final outcome before this run, most of them: accepted. `left` can be sent by another run of the
    same day, `unresolved` among them may have been accepted.
    """

    batch: Batch
    already: int = 0
    results: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    error: DunningError | None = None

    @property
    def outcomes(self) -> dict[str, int]:
        """Reminders by their last outcome in this run."""
        return dict(Counter(self.results.values()))

    @property
    def accepted(self) -> int:
        """Reminders that Klaviyo accepted in this run."""
        return self.outcomes.get("accepted", 0)

    @property
    def unresolved(self) -> int:
        """Reminders of which nobody knows whether Klaviyo accepted them."""
        return self.outcomes.get("unknown", 0)

    @property
    def left(self) -> int:
        """Reminders without a final outcome."""
        final = sum(self.outcomes.get(outcome, 0) for outcome in ("accepted", "rejected", "dropped"))
        return self.batch.size - self.already - final


def send_batch(
    batch_id: str | None,
    outbox: Outbox,
    settings: Settings,
    *,
    confirmed: bool = False,
    klaviyo: Klaviyo | None = None,
    recheck: Recheck | None = None,
) -> Report:
    """Sends a batch, by default the newest live one of the outbox's stream.

    What an earlier run of today left unknown is looked up first, where the key may read events. Each chunk of at most
    1,000 events and 5 MB is one request; its attempts are recorded before it and its outcomes right after it. A chunk
    without an answer is tried again later in the run. An error of the request or the key ends the run (`Report.error`),
    one of single events does not.

    Args:
        batch_id: the batch, or None.
        outbox: where its reminders are.
        settings: the policy, the clock, the key.
        confirmed: whether somebody looked at the batch and lets it go although it is unusually large.
        klaviyo: the account; by default that of the settings' address and key.
        recheck: what is known of the batch beyond its decision; by default what may be assumed of an earlier run's.

    Raises:
        SendingRefused: the batch may not be sent: sending is off, it is not of today, not live, superseded,
            unusually large and not confirmed, or another run is sending.
    """
    with _sending_lock(settings, outbox.stream):
        batch = _sendable(batch_id, outbox, settings, confirmed=confirmed)
        klaviyo = klaviyo or _klaviyo(settings)
        resolve_unknown(outbox, klaviyo, settings)
        ids = outbox.ids_to_send(batch.batch_id)
        report = Report(batch, already=batch.size - len(ids))
        _Sender(outbox, settings, klaviyo, report, recheck or recheck_of(batch, outbox, settings)).send(ids)
        if not report.left:
            outbox.finish(batch.batch_id)
        return report


def may_send(settings: Settings) -> str | None:
    """Why nothing may be sent with these settings, as a sentence; None when it may."""
    if not settings.policy.sending.live:
        return "sending.live is false in the policy: this is a dry run, nothing is sent"
    if not settings.environment.get("KLAVIYO_API_KEY"):
        return "the environment variable KLAVIYO_API_KEY is not set"
    if not settings.home.is_absolute():
        return f"DUNNING_HOME must be an absolute path when live, not {settings.home}"
    return None


@dataclass(frozen=True)
class _Piece:
    """What goes with one request. `unanswered`: how often it had no answer; `single`: it is no bulk request."""

    reminders: pd.DataFrame
    unanswered: int = 0
    single: bool = False

    def again(self, rows: "pd.Series[bool] | slice" = slice(None), **changed: Any) -> "_Piece":
        """Some of its reminders once more, one attempt later."""
        chosen = self.reminders[rows]
        return replace(self, reminders=chosen.assign(attempts=chosen["attempts"] + 1), **changed)


@dataclass
class _Sender:
    """One run of sending: takes pieces off a queue until nothing is left or the request itself is refused.

    What waits for its time stands in `later` and holds up nobody. Day, batch and what is known of the reminders are
    looked at again before each request.
    """

    outbox: Outbox
    settings: Settings
    klaviyo: Klaviyo
    report: Report
    recheck: Recheck
    page: pd.DataFrame = field(default_factory=pd.DataFrame)
    queue: deque[_Piece] = field(default_factory=deque)
    later: list[tuple[datetime, _Piece]] = field(default_factory=list)
    doubtful: list[_Piece] = field(default_factory=list)
    doubt: InvalidEvents | None = None
    took_some: bool = False
    throttled: int = 0
    unreachable: int = 0
    unanswered: int = 0

    def send(self, ids: "pd.Series[str]") -> None:
        """Sends the reminders of `ids_to_send`, and keeps an error in the report."""
        try:
            for page in self._pages(ids):
                self.page = page
                addressable = self._addressable(page)
                self.queue.extend(map(_Piece, chunks(addressable, self.settings.events_per_request)))
                self._send_queue()
            self._send_later()
            self._send_doubtful()
        except DunningError as error:
            self.report.error = error

    def _pages(self, ids: "pd.Series[str]") -> Iterator[pd.DataFrame]:
        """The reminders in pieces, so that memory holds few bodies, and that can be decided afresh in one go."""
        for start in range(0, len(ids), PAGE):
            page = self.outbox.to_send(self.report.batch.batch_id, ids.iloc[start : start + PAGE])
            yield with_present_amounts(page, self.outbox.stream)

    def _send_queue(self) -> None:
        while self.queue:
            self._send_piece(self.queue.popleft())

    def _send_later(self) -> None:
        while self.later:
            due, piece = self.later.pop(min(range(len(self.later)), key=lambda place: self.later[place][0]))
            self._sleep((due - self.settings.clock()).total_seconds())
            self.queue.append(piece)
            self._send_queue()

    def _send_doubtful(self) -> None:
        """Single events that were refused for no reason that points at them: at fault only if Klaviyo took others."""
        if self.doubt and not self.took_some:
            raise self.doubt
        self.queue.extend(self.doubtful)
        self._send_queue()
        self._send_later()

    def _addressable(self, pending: pd.DataFrame) -> pd.DataFrame:
        """Without those whom no event may reach: not on the allow list; or Klaviyo would drop it without a word."""
        unreachable = pd.Series(False, pending.index)
        if not is_loopback(self.settings.klaviyo_url):
            unreachable = pd.Series([bool(_undeliverable(body)) for body in pending["body"]], pending.index, dtype=bool)
        unlisted = ~listed(pending["body"], self.settings.policy.sending.allow_list)
        self._record(pending[unlisted], UNLISTED, self._now())
        refused = pending[unreachable & ~unlisted]
        if len(refused):
            self.outbox.reject(refused, UNDELIVERABLE, *self._now())
            self.report.results.update(dict.fromkeys(refused["reminder_id"], "rejected"))
        return pending[~unreachable & ~unlisted]

    def _send_piece(self, piece: _Piece) -> None:
        """Attempts a piece and records what came of it. Outcomes are dated like their attempts: it may be after
        midnight when the answer comes."""
        self.klaviyo.wait(single=piece.single)
        chunk, left = self._begin(piece.reminders)
        if chunk.empty:
            return
        piece = replace(piece, reminders=chunk)
        self.report.requests += 1
        try:
            if piece.single:
                self.klaviyo.create_event(chunk["body"].iloc[0])
            else:
                self.klaviyo.create_events(chunk["body"])
        except InvalidEvents as error:
            self._narrow(piece, error, left)
        except OutcomeUnknown as error:
            self._record(chunk, _result("unknown", error), left)
            self._try_later(piece, error)
        except RequestRefused as error:
            self._record(chunk, _result("not_delivered", error), left)
            self._try_soon(piece, error)
        else:
            self._record(chunk, Result("accepted", 202), left)
            self.took_some = True
            self.throttled = self.unreachable = self.unanswered = 0

    def _begin(self, reminders: pd.DataFrame) -> tuple[pd.DataFrame, tuple[datetime, date]]:
        """Records the attempts of what may leave now, and drops what may not (RULES 9.2, 9.4)."""
        if not self.recheck.covers(reminders):
            self._look_again(reminders)
        for _ in range(MOST_LOOKS):
            _refuse_another_day(self.report.batch, self.settings)
            left = self._now()
            try:
                going, dropped = self.outbox.begin_attempts(
                    self.report.batch.batch_id,
                    reminders,
                    *left,
                    self.settings.policy.max_invoice_reminders_per_customer_and_day,
                    self.recheck.changed(reminders),
                    self.recheck.known_until,
                )
            except OutOfDate:
                self._look_again(reminders)
            else:
                self.report.results.update(dict.fromkeys(dropped["reminder_id"], "dropped"))
                return going, left
        raise SendingRefused(
            f"batch {self.report.batch.batch_id}: each of the {MOST_LOOKS} times that its reminders were looked at "
            "again, something more was pulled or recorded meanwhile; the next run goes on"
        )

    def _look_again(self, reminders: pd.DataFrame) -> None:
        """Decides afresh whom these reminders are for, and with them the rest of the page."""
        page = self.page[~self.page["reminder_id"].isin([*self.report.results, *reminders["reminder_id"]])]
        self.recheck.look(pd.concat([reminders, page]))

    def _try_later(self, piece: _Piece, error: OutcomeUnknown) -> None:
        """Tries a piece again when the others have had their turn; the outcome stays unknown where that is no use."""
        self.unanswered += 1
        if self.unanswered == MOST_UNANSWERED_IN_A_ROW:
            raise error
        pause = pause_before_retry(piece.unanswered + 1, error, random)
        if pause is not None:
            due = self.settings.clock() + timedelta(seconds=pause)
            self.later.append((due, piece.again(unanswered=piece.unanswered + 1)))

    def _try_soon(self, piece: _Piece, error: RequestRefused) -> None:
        """Waits and tries the same again where all other pieces would fare no better, unless that is no use either."""
        self.throttled += isinstance(error, Throttled)
        self.unreachable += isinstance(error, Unreachable)
        pause = pause_before_retry(max(self.throttled, self.unreachable), error, random)
        if pause is None:
            raise error
        self._sleep(pause)
        self.queue.appendleft(piece.again())

    def _narrow(self, piece: _Piece, error: InvalidEvents, left: tuple[datetime, date]) -> None:
        """Rejects the events that the error names; the others go again, singly where it names none (RULES 9.3).

        A single event whose error points nowhere is at fault only if Klaviyo takes others: it waits for them. Where
        it takes none, the request as such is wrong, and the run ends without rejecting anybody.
        """
        chunk = piece.reminders
        named = {found.event: found for found in error.errors if found.event is not None and found.event < len(chunk)}
        if not named and len(chunk) == 1 and not self.took_some:
            self._record(chunk, _result("not_delivered", error), left)
            self.doubtful.append(piece.again())
            self.doubt = error
            if len(self.doubtful) == MOST_DOUBTFUL:
                raise error
            return
        if not named and len(chunk) == 1:
            named = {0: error.errors[0]}
        for place in sorted(named):
            result = Result("rejected", error.status, named[place].code, named[place].detail)
            self._record(chunk.iloc[[place]], result, left)
        faulty = pd.Series([place in named for place in range(len(chunk))], chunk.index)
        self._record(chunk[~faulty], _result("not_delivered", error), left)
        if named and not faulty.all():
            self.queue.appendleft(piece.again(~faulty))
        elif not named:
            self.queue.extend(piece.again(slice(place, place + 1), single=True) for place in range(len(chunk)))

    def _now(self) -> tuple[datetime, date]:
        return self.settings.clock(), self.settings.today()

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.klaviyo.sleep(seconds)

    def _record(self, reminders: pd.DataFrame, result: Result, left: tuple[datetime, date]) -> None:
        if len(reminders):
            self.outbox.record_results(reminders, result, *left)
            self.report.results.update(dict.fromkeys(reminders["reminder_id"], result.outcome))


def chunks(pending: pd.DataFrame, most_events: int = MOST_EVENTS) -> Iterator[pd.DataFrame]:
    """Reminders in pieces that fit one bulk request: at most 1,000 events and 5 MB, no id twice."""
    room = MOST_BYTES - len(BULK_HEAD) - len(BULK_TAIL)
    start = used = 0
    for place, size in enumerate(sizes(pending["body"])):
        if place > start and (place - start == most_events or used + size + 1 > room):
            yield pending.iloc[start:place]
            start, used = place, 0
        used += size + 1
    if start < len(pending):
        yield pending.iloc[start:]


def _sendable(batch_id: str | None, outbox: Outbox, settings: Settings, *, confirmed: bool) -> Batch:
    """The batch, if RULES 9.1 and 9.2 let it be sent, and either its size is usual or somebody confirmed it."""
    refusal = may_send(settings)
    if refusal:
        raise SendingRefused(refusal)
    if confirmed and batch_id is None:
        raise SendingRefused("only a batch that is named can be confirmed: say which one by its batch_id")
    batch = outbox.newest_live() if batch_id is None else outbox.batch(batch_id)
    if batch is None:
        wanted = f"no batch {batch_id}" if batch_id else "no live batch"
        raise SendingRefused(f"there is {wanted} of the {outbox.stream} stream: run {JOBS[outbox.stream]} first")
    if not batch.live:
        raise SendingRefused(f"batch {batch.batch_id} is not live: dry runs, replays and backfills are never sent")
    newest = outbox.newest_live()
    if newest and newest.batch_id != batch.batch_id:
        raise SendingRefused(f"batch {batch.batch_id} was superseded by {newest.batch_id}, which is newer")
    _refuse_another_day(batch, settings)
    unusual = why_unusual(outbox, batch, settings.policy.sending)
    if unusual and not confirmed:
        raise SendingRefused(unusual)
    return batch


def _refuse_another_day(batch: Batch, settings: Settings) -> None:
    today: date = settings.today()
    if batch.as_of != today:
        raise SendingRefused(
            f"batch {batch.batch_id} is of {batch.as_of}, and today is {today}: only today's batch is ever sent"
        )


@contextmanager
def _sending_lock(settings: Settings, stream: str) -> Iterator[None]:
    """One run sends a stream at a time; the operating system frees the lock of a killed one."""
    lock = FileLock(settings.home / f"sending-{stream}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SendingRefused("another run is sending at this moment; nothing was sent by this one") from None
    try:
        yield
    finally:
        lock.release()


def _klaviyo(settings: Settings) -> Klaviyo:
    return Klaviyo(settings.klaviyo_url, SecretStr(settings.environment["KLAVIYO_API_KEY"]), settings.sleep)


def listed(bodies: "pd.Series[str]", allow_list: Sequence[str]) -> "pd.Series[bool]":
    """Whether reminders are addressed to somebody on the allow list; without one everybody is."""
    allowed = {entry.lower() for entry in allow_list}
    if not allowed:
        return pd.Series(True, bodies.index)
    found = [not allowed.isdisjoint(_identifiers(body).values()) for body in bodies]
    return pd.Series(found, bodies.index, dtype=bool)


def _undeliverable(body: str) -> bool:
    """Whether Klaviyo would take the event and drop it, so that a contact would count that never was."""
    return will_be_dropped(_identifiers(body).get("email", ""))


def _identifiers(body: str) -> dict[str, str]:
    profile = json.loads(body)["attributes"]["profile"]["data"]["attributes"]
    return {name: str(value).lower() for name, value in profile.items()}


def _result(outcome: str, error: KlaviyoError) -> Result:
    code = error.errors[0].code if error.errors else None
    return Result(outcome, error.status, code, str(error))
