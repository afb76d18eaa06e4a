"""Contacts that another system made, recorded in Klaviyo as events of the past that start no flow.

So profiles there show one history. Nobody is contacted by it, and nothing here depends on it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

import pandas as pd
from pydantic import SecretStr

from dunning_pipeline.errors import SendingRefused
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.klaviyo import Klaviyo, OutcomeUnknown, Throttled
from dunning_pipeline.resources.klaviyo_addresses import is_loopback, will_be_dropped
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.decisions import usable_identifiers
from dunning_pipeline.rules.events import reminder_ids
from dunning_pipeline.sending import chunks, listed, may_send
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CONTACTS, CUSTOMERS, MANUAL

STREAM = "contact"
"""Keeps these ids apart from those of reminders."""

MOST_TRIES = 5
PAUSE_SECONDS = 5.0

KLAVIYO_NAMES = {"email": "email", "phone": "phone_number", "external_id": "external_id"}


@dataclass(frozen=True)
class Recorded:
    """Events that Klaviyo accepted, and contacts left out: without an address that works, or not on the allow list."""

    events: int
    unreachable: int
    unlisted: int


def refuse_events(settings: Settings) -> None:
    """Raises SendingRefused where reminders may not be sent either."""
    refusal = may_send(settings)
    if refusal:
        raise SendingRefused(refusal)


def record_events(settings: Settings, warehouse: Warehouse, contact_ids: pd.Series) -> Recorded:
    """Has an event recorded for each contact, dated as it was; one that Klaviyo has already is recorded once.

    Args:
        settings: policy, key and clock.
        warehouse: holds the contacts.
        contact_ids: which of them; those that were recorded by hand or imported count.

    Raises:
        SendingRefused: reminders may not be sent either.
        KlaviyoError: Klaviyo did not take them. Those before are recorded; the same can be done again.
    """
    refuse_events(settings)
    policy = settings.policy
    contacts = _contacts(warehouse, contact_ids)
    identifiers = usable_identifiers(contacts, policy)
    if "email" in identifiers and not is_loopback(settings.klaviyo_url):
        dropped = identifiers["email"].map(will_be_dropped, na_action="ignore").fillna(value=False).astype(bool)
        identifiers["email"] = identifiers["email"].mask(dropped)
    reachable = identifiers.notna().any(axis=1)
    bodies = pd.DataFrame({"body": list(_bodies(contacts[reachable], identifiers[reachable], policy))}, dtype="str")
    going = bodies[listed(bodies["body"], policy.sending.allow_list)]
    client = Klaviyo(settings.klaviyo_url, SecretStr(settings.environment["KLAVIYO_API_KEY"]), settings.sleep)
    for chunk in chunks(going, settings.events_per_request):
        _create(client, chunk["body"].tolist())
    return Recorded(len(going), int((~reachable).sum()), len(bodies) - len(going))


def event_ids(contact_ids: pd.Series) -> "pd.Series[str]":
    """The unique ids of the events of contacts."""
    return reminder_ids(STREAM, contact_ids.to_frame().assign(kind="imported"))


def _contacts(warehouse: Warehouse, contact_ids: pd.Series) -> pd.DataFrame:
    query = f"""
        select c.*, i.number, people.name, people.email, people.phone, people.external_id
        from {CONTACTS.qualified} as c semi join wanted_contacts using (contact_id)
        left join {CUSTOMERS.qualified} as people using (customer_key)
        left join source.invoices as i on i.invoice_id = c.invoice_id
        where c.source = $source order by c.contacted_on, c.contact_id
    """
    with warehouse.transaction() as connection:
        connection.register("wanted_contacts", contact_ids.to_frame("contact_id"))
        return fetch(connection, query, {"source": MANUAL})


def _bodies(contacts: pd.DataFrame, identifiers: pd.DataFrame, policy: Policy) -> Iterator[str]:
    """Entries of a bulk request, one a contact."""
    zone = policy.organisation.zone
    records: list[dict[Any, Any]] = contacts.to_dict("records")
    people: list[dict[Any, Any]] = identifiers.to_dict("records")
    for event_id, contact, person in zip(event_ids(contacts["contact_id"]), records, people, strict=True):
        yield json.dumps(_entry(event_id, contact, person, policy, zone), ensure_ascii=False)


def _entry(
    event_id: str, contact: Mapping[str, Any], person: Mapping[str, Any], policy: Policy, zone: tzinfo
) -> dict[str, object]:
    day = contact["contacted_on"].date()
    at = datetime.combine(day, policy.calendar.send_at, zone)
    properties = {
        "reminder_id": event_id,
        "customer_id": contact["customer_id"],
        "customer_name": contact["name"],
        "workflow": contact["workflow"],
        "action": contact["action"],
        "carrying_invoice_number": contact["number"] if pd.notna(contact["number"]) else contact["invoice_id"],
        "channel": contact["channel"],
        "sent_on": day.isoformat(),
        "imported": True,
    }
    event = {
        "properties": {name: value for name, value in properties.items() if pd.notna(value)},
        "time": at.isoformat(timespec="seconds"),
        "unique_id": event_id,
        "metric": {"data": {"type": "metric", "attributes": {"name": policy.klaviyo.metric}}},
    }
    profile = {KLAVIYO_NAMES[name]: value for name, value in person.items() if pd.notna(value)}
    return {
        "type": "event-bulk-create",
        "attributes": {
            "backfill": True,
            "profile": {"data": {"type": "profile", "attributes": profile}},
            "events": {"data": [{"type": "event", "attributes": event}]},
        },
    }


def _create(client: Klaviyo, bodies: list[str]) -> None:
    """Repeats what may, or may not, have been accepted: the ids let Klaviyo record it once."""
    for place in range(1, MOST_TRIES + 1):
        try:
            client.create_events(bodies)
        except (Throttled, OutcomeUnknown) as error:
            if place == MOST_TRIES:
                raise
            client.sleep(error.retry_after if isinstance(error, Throttled) else PAUSE_SECONDS * place)
        else:
            return
