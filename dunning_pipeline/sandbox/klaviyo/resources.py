"""How records look in the answers of the endpoints that read: JSON:API resource objects.

Which records are answered is decided elsewhere.
"""

from __future__ import annotations

import uuid
from typing import Any

from dunning_pipeline.sandbox.klaviyo.records import Metric, Profile, RecordedEvent


def event_resource(event: RecordedEvent) -> dict[str, Any]:
    """Return an event as GET /api/events shows it; the unique_id comes back as `$event_id`."""
    special = {
        "$event_id": event.unique_id,
        "$value": event.value,
        "$currency_code": event.value_currency,
    }
    given = {key: value for key, value in special.items() if value is not None}
    return {
        "type": "event",
        "id": event.event_id,
        "attributes": {
            "timestamp": int(event.time.timestamp()),
            "event_properties": {**event.properties, **given},
            "datetime": event.time.isoformat(sep=" "),
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, event.event_id)),
        },
        "relationships": {
            "profile": {"data": {"type": "profile", "id": event.profile_id}},
            "metric": {"data": {"type": "metric", "id": event.metric_id}},
        },
    }


def metric_resource(metric: Metric) -> dict[str, Any]:
    """Return a metric as GET /api/metrics shows it."""
    created = metric.created.isoformat(timespec="seconds")
    return {
        "type": "metric",
        "id": metric.metric_id,
        "attributes": {
            "name": metric.name,
            "created": created,
            "updated": created,
            "integration": {
                "object": "integration",
                "id": "0",
                "key": "api",
                "name": "API",
                "category": "API",
            },
        },
    }


def profile_resource(profile: Profile, with_subscriptions: bool) -> dict[str, Any]:
    """Return a profile as GET /api/profiles shows it, nobody is ever suppressed."""
    identifiers = profile.identifiers
    attributes: dict[str, Any] = {
        "email": identifiers.get("email"),
        "phone_number": identifiers.get("phone_number"),
        "external_id": identifiers.get("external_id"),
        "created": profile.created.isoformat(timespec="seconds"),
        "updated": profile.updated.isoformat(timespec="seconds"),
        "last_event_date": profile.last_event.isoformat() if profile.last_event else None,
        "properties": {},
    }
    if with_subscriptions:
        attributes["subscriptions"] = {"email": {"marketing": _never_subscribed()}}
    return {"type": "profile", "id": profile.profile_id, "attributes": attributes}


def _never_subscribed() -> dict[str, Any]:
    return {
        "can_receive_email_marketing": True,
        "consent": "NEVER_SUBSCRIBED",
        "suppression": [],
        "list_suppressions": [],
    }


def account_resource(account_id: str) -> dict[str, Any]:
    """Return the account as GET /api/accounts shows it."""
    return {
        "type": "account",
        "id": account_id,
        "attributes": {
            "test_account": True,
            "contact_information": {"organization_name": "Klaviyo sandbox"},
            "timezone": "UTC",
            "preferred_currency": "USD",
            "public_api_key": account_id,
            "locale": "en-US",
        },
    }
