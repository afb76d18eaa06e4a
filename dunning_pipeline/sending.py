"""Sending a batch: refuse what may not go, then chunk by chunk attempt, request, record (RULES 9).

An act of its own, never a side effect of deriving a table. What is sent was frozen before; nothing is decided here.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import SecretStr

from dunning_pipeline.errors import DunningError, SendingRefused
from dunning_pipeline.outbox import Batch, Outbox, Result
from dunning_pipeline.policy import undecided_settings
from dunning_pipeline.resources.klaviyo import (
    BULK_HEAD,
    BULK_TAIL,
    MOST_BYTES,
    MOST_EVENTS,
    MOST_SECONDS_WAITED,
    MOST_THROTTLED_ATTEMPTS,
    InvalidEvents,
    Klaviyo,
    KlaviyoError,
    OutcomeUnknown,
    Throttled,
)
from dunning_pipeline.settings import Settings

MOST_DOUBTFUL = 3
"""Single events refused for no reason that points at them, after which the request as such must be wrong."""


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


def send_batch(batch_id: str | None, outbox: Outbox, settings: Settings) -> Report:
    """Sends a batch, by default the newest live one of the outbox's stream.

    Each chunk of at most 1,000 events and 5 MB is one request; its attempts are recorded before it and its outcomes
    right after it. An error of the request or the key ends the run (`Report.error`), one of single events does not.

    Raises:
        SendingRefused: the batch may not be sent: sending is off, it is not of today, not live, superseded,
            larger than `sending.max_batch`, or another run is sending.
    """
    with _sending_lock(settings):
        batch = _sendable(batch_id, outbox, settings)
        pending = outbox.to_send(batch.batch_id)
        report = Report(batch, already=batch.size - len(pending))
        _Sender(outbox, settings, _klaviyo(settings), report).send(pending)
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
    ignored = undecided_settings(settings.policy)
    if ignored:
        return f"the policy sets {', '.join(ignored)}, which has no effect yet: nothing is sent against its intention"
    return None


@dataclass
class _Sender:
    """One run of sending: takes chunks off a queue until nothing is left or the request itself is refused.

    Day and batch are looked at again before each request, those that wait for Klaviyo's limits included.
    """

    outbox: Outbox
    settings: Settings
    klaviyo: Klaviyo
    report: Report
    throttled: int = 0
    doubtful: list[pd.DataFrame] = field(default_factory=list)
    doubt: InvalidEvents | None = None

    def send(self, pending: pd.DataFrame) -> None:
        self._send_all(chunks(self._drop_unlisted(pending)))
        if self.report.accepted:
            self._send_all(self.doubtful)
        elif self.report.error is None:
            self.report.error = self.doubt

    def _send_all(self, pieces: Iterable[pd.DataFrame]) -> None:
        queue = deque(pieces)
        while queue and self.report.error is None:
            try:
                _refuse_another_day(self.report.batch, self.settings)
                queue.extendleft(reversed(self._send_chunk(queue.popleft())))
            except SendingRefused as refusal:
                self.report.error = refusal

    def _drop_unlisted(self, pending: pd.DataFrame) -> pd.DataFrame:
        """Drops what is not addressed to somebody on the allow list, where there is one."""
        allowed = {entry.lower() for entry in self.settings.policy.sending.allow_list}
        if not allowed:
            return pending
        listed = pd.Series([bool(allowed & _identifiers(body)) for body in pending["body"]], pending.index, dtype=bool)
        self._record(pending[~listed], Result("dropped", error_detail="not on sending.allow_list"), self._now())
        return pending[listed]

    def _send_chunk(self, chunk: pd.DataFrame) -> list[pd.DataFrame]:
        """Attempts a chunk and records what came of it; returns what must be tried again.

        Outcomes are dated like their attempts: the answer may come after midnight.
        """
        left = self._now()
        most = self.settings.policy.max_invoice_reminders_per_customer_and_day
        chunk, second = self.outbox.begin_attempts(self.report.batch.batch_id, chunk, *left, most)
        self.report.results.update(dict.fromkeys(second["reminder_id"], "dropped"))
        if chunk.empty:
            return []
        self.report.requests += 1
        try:
            self.klaviyo.create_events(chunk["body"].tolist())
        except InvalidEvents as error:
            return self._narrow(chunk, error, left)
        except Throttled as error:
            self._record(chunk, _result("not_delivered", error), left)
            return self._wait(chunk, error)
        except OutcomeUnknown as error:
            self._record(chunk, _result("unknown", error), left)
        except KlaviyoError as error:
            self._record(chunk, _result("not_delivered", error), left)
            self.report.error = error
        else:
            self._record(chunk, Result("accepted", 202), left)
            self.throttled = 0
        return []

    def _wait(self, chunk: pd.DataFrame, error: Throttled) -> list[pd.DataFrame]:
        """Waits as told, unless it is too often or too long, which is left to a later run."""
        self.throttled += 1
        if self.throttled >= MOST_THROTTLED_ATTEMPTS or error.retry_after > MOST_SECONDS_WAITED:
            self.report.error = error
            return []
        self.klaviyo.sleep(error.retry_after)
        return [_tried_again(chunk)]

    def _narrow(self, chunk: pd.DataFrame, error: InvalidEvents, left: tuple[datetime, date]) -> list[pd.DataFrame]:
        """Rejects the events that the error names; the others go again, singly where it names none (RULES 9.3).

        A single event whose error points nowhere is at fault only if Klaviyo takes others: it waits for them. Where
        it takes none, the request as such is wrong, and the run ends without rejecting anybody.
        """
        named = {found.event: found for found in error.errors if found.event is not None}
        if not named and len(chunk) == 1:
            if not self.report.accepted:
                self._record(chunk, _result("not_delivered", error), left)
                self.doubtful.append(_tried_again(chunk))
                self.doubt = error
                if len(self.doubtful) == MOST_DOUBTFUL:
                    self.report.error = error
                return []
            named = {0: error.errors[0]}
        faulty = pd.Series([place in named for place in range(len(chunk))], chunk.index)
        for place in sorted(named):
            result = Result("rejected", error.status, named[place].code, named[place].detail)
            self._record(chunk.iloc[[place]], result, left)
        again = chunk[~faulty]
        self._record(again, _result("not_delivered", error), left)
        again = _tried_again(again)
        if named:
            return [again] if len(again) else []
        return [again.iloc[[place]] for place in range(len(again))]

    def _now(self) -> tuple[datetime, date]:
        return self.settings.clock(), self.settings.today()

    def _record(self, reminders: pd.DataFrame, result: Result, left: tuple[datetime, date]) -> None:
        if len(reminders):
            self.outbox.record_results(reminders, result, *left)
            self.report.results.update(dict.fromkeys(reminders["reminder_id"], result.outcome))


def _tried_again(chunk: pd.DataFrame) -> pd.DataFrame:
    return chunk.assign(attempts=chunk["attempts"] + 1)


def chunks(pending: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Reminders in pieces that fit one bulk request: at most 1,000 events and 5 MB, no id twice."""
    room = MOST_BYTES - len(BULK_HEAD) - len(BULK_TAIL)
    start = used = 0
    for place, size in enumerate(len(body.encode()) + 1 for body in pending["body"]):
        if place > start and (place - start == MOST_EVENTS or used + size > room):
            yield pending.iloc[start:place]
            start, used = place, 0
        used += size
    if start < len(pending):
        yield pending.iloc[start:]


def _sendable(batch_id: str | None, outbox: Outbox, settings: Settings) -> Batch:
    """The batch, if RULES 9.1 and 9.2 let it be sent."""
    refusal = may_send(settings)
    if refusal:
        raise SendingRefused(refusal)
    batch = outbox.newest_live() if batch_id is None else outbox.batch(batch_id)
    if batch is None:
        wanted = f"no batch {batch_id}" if batch_id else "no live batch"
        raise SendingRefused(f"there is {wanted} of the {outbox.stream} stream: run daily_dunning for today first")
    if not batch.live:
        raise SendingRefused(f"batch {batch.batch_id} is not live: dry runs, replays and backfills are never sent")
    newest = outbox.newest_live()
    if newest and newest.batch_id != batch.batch_id:
        raise SendingRefused(f"batch {batch.batch_id} was superseded by {newest.batch_id}, which is newer")
    _refuse_another_day(batch, settings)
    most = settings.policy.sending.max_batch
    if batch.size > most:
        raise SendingRefused(f"batch {batch.batch_id} has {batch.size} reminders, more than sending.max_batch ({most})")
    return batch


def _refuse_another_day(batch: Batch, settings: Settings) -> None:
    today: date = settings.today()
    if batch.as_of != today:
        raise SendingRefused(
            f"batch {batch.batch_id} is of {batch.as_of}, and today is {today}: only today's batch is ever sent"
        )


@contextmanager
def _sending_lock(settings: Settings) -> Iterator[None]:
    """One run sends at a time; the operating system frees the lock of a killed one."""
    lock = FileLock(settings.home / "sending.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SendingRefused("another run is sending at this moment; nothing was sent by this one") from None
    try:
        yield
    finally:
        lock.release()


def _klaviyo(settings: Settings) -> Klaviyo:
    return Klaviyo(settings.klaviyo_url, SecretStr(settings.environment["KLAVIYO_API_KEY"]))


def _identifiers(body: str) -> set[str]:
    profile = json.loads(body)["attributes"]["profile"]["data"]["attributes"]
    return {str(value).lower() for value in profile.values()}


def _result(outcome: str, error: KlaviyoError) -> Result:
    code = error.errors[0].code if error.errors else None
    return Result(outcome, error.status, code, str(error))
