"""Work side by side comes back in order, or fails as it would one after the other."""

from threading import Barrier

import pytest

from dunning_pipeline.threads import side_by_side


@pytest.mark.parametrize("number", [0, 1, 5])
def test_results_are_in_the_order_of_the_items(number: int) -> None:
    assert side_by_side(lambda item: 2 * item, range(number)) == [2 * item for item in range(number)]


def test_so_many_are_worked_on_at_once() -> None:
    all_there = Barrier(5)
    assert sorted(side_by_side(lambda _: all_there.wait(timeout=10), range(5), threads=5)) == [*range(5)]


@pytest.mark.parametrize("number", [1, 5])
def test_an_error_is_raised_where_the_work_was_asked_for(number: int) -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda item: item / 0, range(number))
