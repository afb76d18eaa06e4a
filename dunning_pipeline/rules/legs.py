"""What stands, and what was done before, in pieces to replay: courses of the timeline with the contacts that count.

Nothing is sent here; that is calendar_queue.py.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import timing
from dunning_pipeline.rules.contacts import by_hand, counts_from, executed_actions, last_contacts
from dunning_pipeline.rules.ladder import Executed
from dunning_pipeline.rules.spans import begins, cut, numbered
from dunning_pipeline.rules.standing import Records, Window, due_dates
from dunning_pipeline.rules.timeline import Courses


@dataclass(frozen=True)
class Legs:
    """Courses in pieces during which nothing changes but by what is sent, in order of customer, unit and day.

    customer_key. customer, unit, course: numbers from 0 of the customer, of what is decided on (the customer, or an
        invoice of its own workflow: `own`), and of carrying invoice and workflow.
    also: the unit that the carrying invoice is at other times, or -1. A reminder counts for its delay too.
    row: of the carrying invoice. workflow: position in the policy. anchor: datetime64[D].
    before, last_contact: what was executed of the course, and the unit's latest contact (datetime64[D]), as far as
        they count from the first day on whatever is sent meanwhile.
    calendar: the customer's working days.
    """

    customer_key: np.ndarray
    customer: np.ndarray
    unit: np.ndarray
    course: np.ndarray
    also: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    row: np.ndarray
    workflow: np.ndarray
    own: np.ndarray
    anchor: np.ndarray
    before: Executed
    last_contact: np.ndarray
    calendar: timing.WorkingDays

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: np.ndarray) -> "Legs":
        """Some of the legs."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return Legs(**{name: _some(column, rows) for name, column in columns.items()})

    @classmethod
    def of(
        cls, courses: Courses, records: Records, policy: Policy, calendar: timing.WorkingDays, window: Window
    ) -> "Legs":
        """The legs of courses, cut where a contact recorded by hand begins to count.

        Args:
            courses: as from the timeline.
            records: what they were made from.
            policy: workflows.
            calendar: the working days of each row of the records' customers.
            window: the days.
        """
        contacts = _contacts(records.contacts, window)
        courses = _in_order(_cut_at_contacts(courses, contacts, records.invoices, window))
        key, start, row, own = courses.spans.key, courses.spans.start, courses.row, courses.own
        invoice_key = records.invoices["invoice_key"].to_numpy()[row]
        customer = np.cumsum(begins(key)) - 1
        unit = np.cumsum(begins(key) | begins(own) | (own & begins(row))) - 1
        unit_of_invoice = np.full(len(records.invoices), -1)
        unit_of_invoice[row[own]] = unit[own]
        of_records = pd.Index(records.customers["customer_key"]).get_indexer(pd.Index(key[begins(key)]))
        return cls(
            customer_key=key,
            customer=customer,
            unit=unit,
            course=numbered(row * len(policy.workflows) + courses.workflow),
            also=unit_of_invoice[row],
            start=start,
            stop=courses.spans.stop,
            row=row,
            workflow=courses.workflow,
            own=own,
            anchor=anchors(records.invoices, courses, policy),
            before=executed_actions(contacts, policy, invoice_key, courses.workflow, start),
            last_contact=last_contacts(contacts, policy, own, key, invoice_key, start),
            calendar=calendar.take(of_records[customer]),
        )


def _some(column: Any, rows: np.ndarray) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else column.take(rows)


def _contacts(contacts: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Contacts recorded by hand, and real reminders before the window, and from which day on they are `known`."""
    known = counts_from(contacts)
    counting = known <= np.where(by_hand(contacts), window.stop - 1, window.first)
    return contacts.assign(known=known)[counting]


def _cut_at_contacts(courses: Courses, contacts: pd.DataFrame, invoices: pd.DataFrame, window: Window) -> Courses:
    """Courses, cut on the days from which contacts of their customers, or about their customers' invoices, count."""
    later = contacts[contacts["known"] > window.first]
    owner = invoices[["invoice_key", "customer_key"]][invoices["invoice_key"].isin(later["invoice_key"])]
    of_invoices = later[["invoice_key", "known"]].merge(owner, on="invoice_key", validate="m:1")
    cuts = pd.concat([later[["customer_key", "known"]], of_invoices[["customer_key", "known"]]])
    spans, piece = cut(courses.spans, cuts["customer_key"].to_numpy(), cuts["known"].to_numpy())
    return replace(courses.take(piece), spans=spans)


def _in_order(courses: Courses) -> Courses:
    """By customer, then those of the customer, then those of its invoices one by one, each by day."""
    if not courses.own.any():
        return courses
    row = np.where(courses.own, courses.row, -1)
    return courses.take(np.lexsort((courses.spans.start, row, courses.spans.key)))


def anchors(invoices: pd.DataFrame, courses: Courses, policy: Policy) -> np.ndarray:
    """The date that each course's actions count from (RULES 4.1).

    Args:
        invoices: issued_on, due_on; the rows that `courses.row` counts.
        courses: each with a workflow of the policy.
        policy: whose workflows say what their anchor is.

    Returns:
        The due date (for want of one the issue date) or the issue date of each carrying invoice, as datetime64[D].
    """
    by_issue = np.array([workflow.anchor == "issue_date" for workflow in policy.workflows])[courses.workflow]
    issued, due = timing.day_numbers(invoices["issued_on"])[courses.row], due_dates(invoices)[courses.row]
    return dates(np.where(by_issue, issued, due))


def dates(days: np.ndarray) -> np.ndarray:
    """Days since 1970 as datetime64[D]."""
    return days.astype("datetime64[D]")
