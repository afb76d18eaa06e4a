"""From one page of a REST API to the request for the next; pure. Fetching belongs in rest_client.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import CursorPages, LinkPages, NumberedPages, OffsetPages, Pagination
from dunning_pipeline.resources import records
from dunning_pipeline.resources.rest_client import Answer


@dataclass(frozen=True)
class PageRequest:
    """What a page is asked for with: a path or an address, and parameters. `number` counts pages from 0."""

    address: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    number: int = 0
    offset: int = 0

    def after(self, **changes: str) -> "PageRequest":
        """The next page, with other parameters."""
        return replace(self, params={**self.params, **changes}, number=self.number + 1)


def first_page(request: PageRequest, pagination: Pagination | None) -> PageRequest:
    """The request with what the first page needs."""
    match pagination:
        case NumberedPages(parameter=parameter, first=first):
            return replace(request, params={**request.params, parameter: str(first)})
        case _:
            return request


def next_page(
    request: PageRequest, pagination: Pagination | None, answer: Answer, found: Sequence[Any]
) -> PageRequest | None:
    """The request for the page after this one; None when it was the last.

    A page that is shorter than asked for is not taken for the last one: servers cap what they give.

    Args:
        request: what this page was asked for with.
        pagination: how the source divides into pages.
        answer: this page.
        found: the records on it.

    Raises:
        SourceError: the answer does not tell what the pagination says that it tells.
    """
    match pagination:
        case CursorPages():
            return _after_cursor(request, pagination, answer, found)
        case OffsetPages():
            return _after_offset(request, pagination, answer, found)
        case NumberedPages():
            return _after_number(request, pagination, answer, found)
        case LinkPages(next=path):
            link = records.text(records.field(answer.data, path)) if path else answer.link
            return PageRequest(urljoin(answer.url, link), number=request.number + 1) if link else None
        case _:
            return None


def _after_cursor(request: PageRequest, pages: CursorPages, answer: Answer, found: Sequence[Any]) -> PageRequest | None:
    more = records.field(answer.data, pages.more) if pages.more else True
    if not isinstance(more, bool) and answer.data is not None:
        raise SourceError(f"the answer has neither true nor false at '{pages.more}', which tells if there is more")
    if not more or (pages.last_record and not pages.more and not found):
        return None
    place = answer.data if pages.cursor else found[-1] if found else None
    cursor = records.text(records.field(place, pages.cursor or str(pages.last_record)))
    if cursor:
        return request.after(**{pages.parameter: cursor})
    if pages.more or pages.last_record:
        raise SourceError("the answer says that there is more, and has no cursor to go on from")
    return None


def _after_offset(request: PageRequest, pages: OffsetPages, answer: Answer, found: Sequence[Any]) -> PageRequest | None:
    if pages.next:
        offset = records.text(records.field(answer.data, pages.next))
        return request.after(**{pages.parameter: offset}) if offset else None
    reached = request.offset + len(found)
    total = _number(answer.data, pages.total)
    if not found or (total is not None and reached >= total):
        return None
    return replace(request.after(**{pages.parameter: str(reached)}), offset=reached)


def _after_number(
    request: PageRequest, pages: NumberedPages, answer: Answer, found: Sequence[Any]
) -> PageRequest | None:
    count = _number(answer.data, pages.pages)
    if not found if count is None else request.number + 1 >= count:
        return None
    return request.after(**{pages.parameter: str(request.number + 1 + pages.first)})


def _number(data: Any, path: str | None) -> int | None:
    """A count in the answer; None where the answer has none, so that an empty page is the end."""
    count = records.text(records.field(data, path)) if path else None
    return int(count) if count and count.isdecimal() else None
