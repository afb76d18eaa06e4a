"""The page that shows what the Klaviyo stand-in received.

Presentation only: all that came from outside is escaped, nothing of a request's headers is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

from dunning_pipeline.sandbox.klaviyo.faults import FAULTS
from dunning_pipeline.sandbox.klaviyo.records import RecordedEvent, RequestRecord

SHOWN_EVENTS = 200
SHOWN_REQUESTS = 100
SHOWN_PLANNED = 20

STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 1rem; opacity: .75; }
ul.counts { display: flex; flex-wrap: wrap; gap: .6rem; list-style: none; padding: 0; }
ul.counts li { background: var(--soft); border-radius: .5rem; padding: .5rem .9rem; }
ul.counts b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
td.time { white-space: nowrap; }
td.id { font: .8rem ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--soft); border-radius: .5rem; margin: .4rem 0; overflow-x: auto; padding: .6rem; }
summary { cursor: pointer; }
form { margin: .5rem 0; }
input[type=number] { width: 6rem; }
"""


def render(
    events: Sequence[RecordedEvent],
    requests: Sequence[RequestRecord],
    counts: Mapping[str, int],
    planned: Sequence[str] = (),
) -> str:
    """Return the HTML page: counts by label, newest events and requests, planned faults; all given oldest first."""
    newest = list(reversed(events[-SHOWN_EVENTS:]))
    log = list(reversed(requests[-SHOWN_REQUESTS:]))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Klaviyo sandbox</title><style>{STYLE}</style></head><body>"
        "<h1>Klaviyo sandbox</h1>"
        "<p>A stand-in on this machine. Nothing shown here has reached Klaviyo or anyone.</p>"
        f"{_counts(counts)}<h2>Events, newest first</h2>{_events(newest)}"
        f"<h2>Requests, newest first</h2>{_requests(log)}"
        f"<h2>Make it fail</h2>{_controls(planned)}</body></html>"
    )


def _counts(counts: Mapping[str, int]) -> str:
    items = "".join(f"<li><b>{number:,}</b>{escape(label)}</li>" for label, number in counts.items())
    return f'<ul class="counts">{items}</ul>'


def _events(events: Sequence[RecordedEvent]) -> str:
    if not events:
        return "<p>None yet.</p>"
    headings = ("Time", "Metric", "Customer", "Profile", "Step", "Value", "Unique id and event")
    return table(headings, [_event_row(event) for event in events])


def _event_row(event: RecordedEvent) -> str:
    return (
        f'<td class="time">{_moment(event.time)}</td>'
        f"<td>{escape(event.metric)}</td>"
        f"<td>{_property(event, 'customer_name')}</td>"
        f"<td>{escape(_profile(event))}</td>"
        f"<td>{_step(event)}</td>"
        f'<td class="number">{_value(event)}</td>'
        f'<td class="id"><details><summary>{escape(event.unique_id)}</summary>'
        f"<pre>{escape(_as_json(event))}</pre></details></td>"
    )


def _requests(requests: Sequence[RequestRecord]) -> str:
    if not requests:
        return "<p>None yet.</p>"
    return table(("Time", "Method", "Path", "Status", "Events", "Fault"), [_request_row(each) for each in requests])


def _request_row(request: RequestRecord) -> str:
    return (
        f'<td class="time">{_moment(request.at)}</td><td>{escape(request.method)}</td>'
        f'<td>{escape(request.path)}</td><td class="number">{request.status}</td>'
        f'<td class="number">{request.events:,}</td><td>{escape(request.fault or "")}</td>'
    )


def _controls(planned: Sequence[str]) -> str:
    names = "".join(f"<option>{escape(name)}</option>" for name in FAULTS)
    waiting = ", ".join(planned[:SHOWN_PLANNED]) + (" …" if len(planned) > SHOWN_PLANNED else "")
    return (
        f"<p>Planned for the next requests: {escape(waiting) or 'nothing'}.</p>"
        '<form method="post" action="/faults">'
        f'<label>The next <input name="times" type="number" value="1" min="1"></label> '
        '<label><select name="method" aria-label="Method"><option>POST</option><option>GET</option></select> requests '
        f'meet <select name="fault" aria-label="Fault">{names}</select></label> <button>Plan</button></form>'
        '<form method="post" action="/faults"><button>Forget what is planned</button></form>'
        '<form method="post" action="/conditions">'
        '<label>Latency <input name="latency" type="number" value="0" min="0" step="any"> s</label> '
        '<label>events show within <input name="processing" type="number" value="0" min="0" step="any"> s</label> '
        '<label>clock ahead by <input name="skew" type="number" value="0" step="any"> s</label> '
        "<button>Set</button></form>"
    )


def table(headings: Sequence[str], rows: Sequence[str]) -> str:
    """An HTML table; the cells of rows are markup."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _profile(event: RecordedEvent) -> str:
    return event.email or event.external_id or event.phone_number or event.profile_id


def _step(event: RecordedEvent) -> str:
    workflow, action = _property(event, "workflow"), _property(event, "action")
    if workflow or action:
        return f"{workflow} / {action}"
    return _property(event, "occurrence")


def _property(event: RecordedEvent, name: str) -> str:
    value = event.properties.get(name)
    return "" if value is None else escape(str(value))


def _value(event: RecordedEvent) -> str:
    if event.value is None:
        return ""
    return escape(f"{event.value:,} {event.value_currency or ''}".strip())


def _as_json(event: RecordedEvent) -> str:
    shown = {
        "event_id": event.event_id,
        "received_at": event.received_at.isoformat(),
        "time": event.time.isoformat(),
        "metric": event.metric,
        "profile": {
            "id": event.profile_id,
            "email": event.email,
            "phone_number": event.phone_number,
            "external_id": event.external_id,
        },
        "value": event.value,
        "value_currency": event.value_currency,
        "unique_id": event.unique_id,
        "backfill": event.backfill,
        "properties": event.properties,
    }
    return json.dumps(shown, indent=2, ensure_ascii=False)
