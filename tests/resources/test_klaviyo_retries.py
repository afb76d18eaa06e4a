import pytest

from dunning_pipeline.resources.klaviyo import (
    InvalidEvents,
    KeyRefused,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    ScopeMissing,
    Throttled,
    Unreachable,
    UnreadableAnswer,
    pause_before_retry,
)
from dunning_pipeline.resources.klaviyo_retries import LONGEST_PAUSE_SECONDS, MOST_ATTEMPTS, MOST_SECONDS_WAITED


@pytest.mark.parametrize("error", [OutcomeUnknown("time-out"), Unreachable("refused", temporary=True)])
def test_the_pause_grows_exponentially_with_full_jitter(error: KlaviyoError) -> None:
    assert [pause_before_retry(attempt, error, lambda: 1.0) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert pause_before_retry(4, error, lambda: 0.25) == 2
    assert pause_before_retry(4, error, lambda: 0.0) == 0


def test_no_pause_is_longer_than_the_longest() -> None:
    assert 2 ** (MOST_ATTEMPTS - 2) <= LONGEST_PAUSE_SECONDS


def test_when_throttled_the_pause_is_what_klaviyo_says_unless_it_is_too_long() -> None:
    assert pause_before_retry(1, Throttled("no", 7), lambda: 0.5) == 7
    assert pause_before_retry(1, Throttled("no", MOST_SECONDS_WAITED), lambda: 0.5) == MOST_SECONDS_WAITED
    assert pause_before_retry(1, Throttled("no", MOST_SECONDS_WAITED + 1), lambda: 0.5) is None


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused("no", 404),
        KeyRefused("no", 401),
        ScopeMissing("no", 403),
        InvalidEvents("no", 400),
        UnreadableAnswer("no"),
        Unreachable("a wrong address"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(error: KlaviyoError) -> None:
    assert pause_before_retry(1, error, lambda: 0.5) is None


@pytest.mark.parametrize("error", [OutcomeUnknown("time-out"), Throttled("no", 1)])
def test_nothing_is_tried_for_ever(error: KlaviyoError) -> None:
    assert pause_before_retry(MOST_ATTEMPTS - 1, error, lambda: 0.5) is not None
    assert pause_before_retry(MOST_ATTEMPTS, error, lambda: 0.5) is None
