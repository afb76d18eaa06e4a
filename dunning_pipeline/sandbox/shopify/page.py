"""The page that shows the orders of the Shopify stand-in and lets something happen to them.

Presentation only: all that came from outside is escaped, nothing of a request's headers is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from dunning_pipeline.rules.money import known_currencies
from dunning_pipeline.sandbox.klaviyo.page import STYLE, table
from dunning_pipeline.sandbox.shopify.controls import ACTIONS
from dunning_pipeline.sandbox.shopify.faults import FAULTS
from dunning_pipeline.sandbox.shopify.orders import Order
from dunning_pipeline.sandbox.shopify.shop import Received, ShopifyShop

SHOWN_ORDERS = 100
SHOWN_REQUESTS = 100
SHOWN_PLANNED = 20


def render(shop: ShopifyShop) -> str:
    """The HTML page: orders that changed last, requests, and forms to make something happen."""
    orders = list(reversed(shop.orders[-SHOWN_ORDERS:]))
    received = list(reversed(shop.received[-SHOWN_REQUESTS:]))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Shopify sandbox</title><style>{STYLE}</style></head><body>"
        "<h1>Shopify sandbox</h1>"
        "<p>A stand-in on this machine. None of these orders is real.</p>"
        f"<h2>Do something to an order</h2>{_action_form(orders)}"
        f"<h2>Orders, latest change first</h2>{_orders(orders)}"
        f"<h2>Requests, newest first</h2>{_requests(received)}"
        f"<h2>Make it fail</h2>{_fault_forms(shop.faults.planned())}</body></html>"
    )


def _action_form(orders: Sequence[Order]) -> str:
    names = "".join(f'<option value="{escape(order.name)}">' for order in orders)
    actions = "".join(f"<option>{escape(action)}</option>" for action in ACTIONS)
    return (
        f'<datalist id="orders">{names}</datalist><form method="post" action="/orders">'
        '<label>Order <input name="order" list="orders" required size="8"></label> '
        f'<label><select name="action" aria-label="Action">{actions}</select></label> '
        '<label>amount <input name="amount" size="7" placeholder="10.00"></label> <button>Do it</button></form>'
    )


def _orders(orders: Sequence[Order]) -> str:
    if not orders:
        return "<p>None yet.</p>"
    headings = ("Changed", "Order", "Customer", "Total", "Outstanding", "Payment", "Fulfilment", "Edits")
    return table(headings, [_order_row(order) for order in orders])


def _order_row(order: Order) -> str:
    cancelled = " (cancelled)" if order.cancelled_at else ""
    edits = ", ".join(each.app or "no app" for each in order.agreements if each.reason == "ORDER_EDIT")
    customer = order.customer.email or order.customer.name if order.customer else "guest"
    return (
        f'<td class="time">{_moment(order.updated_at)}</td><td>{escape(order.name)}{cancelled}</td>'
        f'<td>{escape(customer)}</td><td class="number">{_amount(order.total_minor, order.currency)}</td>'
        f'<td class="number">{_amount(order.outstanding_minor, order.currency)}</td>'
        f"<td>{escape(order.financial_status)}</td><td>{escape(order.fulfilment)}</td><td>{escape(edits)}</td>"
    )


def _requests(received: Sequence[Received]) -> str:
    if not received:
        return "<p>None yet.</p>"
    headings = ("Time", "Path", "Status", "Yields", "Points", "Error", "Fault")
    return table(headings, [_request_row(each) for each in received])


def _request_row(each: Received) -> str:
    return (
        f'<td class="time">{_moment(each.at)}</td><td>{escape(each.path)}</td><td class="number">{each.status}</td>'
        f'<td>{escape(each.query)}</td><td class="number">{each.cost:,}</td>'
        f"<td>{escape(each.error)}</td><td>{escape(each.fault)}</td>"
    )


def _fault_forms(planned: Sequence[str]) -> str:
    names = "".join(f"<option>{escape(name)}</option>" for name in FAULTS)
    waiting = ", ".join(planned[:SHOWN_PLANNED]) + (" …" if len(planned) > SHOWN_PLANNED else "")
    return (
        f"<p>Planned for the next requests: {escape(waiting) or 'nothing'}.</p>"
        '<form method="post" action="/faults">'
        '<label>The next <input name="times" type="number" value="1" min="1"></label> '
        '<label><select name="of" aria-label="Requests"><option>queries</option><option>grants</option></select> '
        f'meet <select name="fault" aria-label="Fault">{names}</select></label> <button>Plan</button></form>'
        '<form method="post" action="/faults"><button>Forget what is planned</button></form>'
        '<form method="post" action="/conditions">'
        '<label>Latency <input name="latency" type="number" value="0" min="0" step="any"> s</label> '
        '<label>clock ahead by <input name="skew" type="number" value="0" step="any"> s</label> '
        '<label>points a second <input name="rate" type="number" min="1" placeholder="no limit"></label> '
        '<label>without the field <input name="without" placeholder="none"></label> <button>Set</button></form>'
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _amount(minor: int, currency: str) -> str:
    digits = known_currencies()[currency]
    return f"{minor / 10**digits:,.{digits}f} {currency}"
