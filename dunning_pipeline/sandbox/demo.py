"""`dunning demo`: the real jobs, sensors and sender on sample data, against a Klaviyo and a shop in this process.

In a home of its own, never in the user's: DUNNING_HOME/demo, which starts afresh on another day.
"""

import json
import shutil
import time
from datetime import date
from itertools import islice
from pathlib import Path

import dagster as dg
from rich.console import Console

from dunning_pipeline.errors import DunningError
from dunning_pipeline.explain_order import DECISIONS, explain_order
from dunning_pipeline.local_run import dagster_instance, run_daily, run_orders, run_send
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.reports import day_report, frozen_events, sent_counts
from dunning_pipeline.resources.clock import today
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import ORDER_REASON_TAG
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, running
from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY, write_billing_database
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, ShopifyShop
from dunning_pipeline.sandbox.shopify import running as running_shop
from dunning_pipeline.sandbox.shopify.samples import sample_orders
from dunning_pipeline.sensors import order_edits_sensor, send_reminders_sensor
from dunning_pipeline.settings import Settings
from dunning_pipeline.terminal import print_counts, print_day

DEMO_POLICY = f"""{SAMPLE_POLICY}\
  storefront:
    kind: shopify
    shop: "${{SHOPIFY_SHOP}}"
    token: "${{SHOPIFY_TOKEN}}"
    edited_by_apps: {{customer_portal: [Cleverific], staff: [Shopify Web]}}
"""
"""The sample business, whose customers also order in a shop."""

SHOWN_REMINDERS = 3
SHOP_ORDERS = 100
DEMO_SANDBOX_URL, DEMO_SHOP_URL = "http://127.0.0.1:8765", "http://127.0.0.1:8766"
"""Where `dunning sandbox` listens by default: what a UI opened on the demo would send to, and pull from."""


def run_demo(outer: Settings, out: Console) -> None:
    """Runs the daily job for today, lets customers edit orders, runs what the sensors ask for, and tells of it.

    Args:
        outer: gives the clock and DUNNING_HOME; its policy is not used.
        out: where to print.
    """
    started = time.monotonic()
    policy = parse_policy(DEMO_POLICY, "the demo's policy")
    day = today(outer.clock, policy.organisation.zone)
    home = _prepared_home(outer.home.resolve() / "demo", day)
    account, shop = (
        KlaviyoAccount(clock=outer.clock),
        ShopifyShop(sample_orders(SHOP_ORDERS, outer.clock()), clock=outer.clock),
    )
    with running(account) as url, running_shop(shop) as shop_url:
        settings = Settings(
            loaded=policy,
            policy_file=home / "dunning.yaml",
            home=home,
            clock=outer.clock,
            environment={**_environment(home), "KLAVIYO_URL": url, "SHOPIFY_SHOP": shop_url},
        )
        out.print(
            f"[bold]Demo for {day}[/bold], stand-ins for Klaviyo and a shop on this machine, everything in {home}\n"
        )
        with dagster_instance(home) as instance:
            batch_id = run_daily(settings, instance, day, {})
            _print_decisions(settings, batch_id, day, out)
            _send(settings, instance, batch_id, out)
            _orders(settings, instance, shop, out)
    _print_received(account, out)
    _print_where_to_look(settings, out)
    out.print(f"\nDone in {time.monotonic() - started:.0f} s.")


def _prepared_home(home: Path, day: date) -> Path:
    """The demo's home with the sample business of the day; yesterday's makes way."""
    marker = home / "sample_day"
    if home.exists() and any(home.iterdir()) and not marker.exists():
        raise DunningError(f"{home} holds something else than a demo; the demo makes that folder itself")
    if marker.exists() and marker.read_text() != day.isoformat():
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    marker.write_text(day.isoformat())
    write_billing_database(_billing_database(home), day)
    (home / "dunning.yaml").write_text(DEMO_POLICY, encoding="utf-8")
    lines = {**_environment(home), "DUNNING_HOME": str(home), "DUNNING_POLICY": str(home / "dunning.yaml")}
    (home / "environment").write_text("".join(f"{name}='{value}'\n" for name, value in lines.items()))
    return home


def _environment(home: Path) -> dict[str, str]:
    return {
        "BILLING_DATABASE_URL": f"sqlite:///{_billing_database(home)}",
        "KLAVIYO_API_KEY": DEFAULT_KEY,
        "KLAVIYO_URL": DEMO_SANDBOX_URL,
        "SHOPIFY_SHOP": DEMO_SHOP_URL,
        "SHOPIFY_TOKEN": DEFAULT_TOKEN,
    }


def _billing_database(home: Path) -> Path:
    return home / "billing.sqlite"


def _print_decisions(settings: Settings, batch_id: str, day: date, out: Console) -> None:
    warehouse = Warehouse(settings.warehouse_path)
    print_day(day_report(warehouse, day), out)
    out.print(f"\n[bold]{SHOWN_REMINDERS} of the reminders, as Klaviyo gets them[/bold]")
    for event in frozen_events(warehouse, batch_id, SHOWN_REMINDERS):
        out.print_json(json.dumps(event))


def _send(settings: Settings, instance: dg.DagsterInstance, batch_id: str, out: Console) -> None:
    """What the daemon does: evaluate the sensor, run the job that it asks for."""
    context = dg.build_sensor_context(instance=instance, resources={"settings": settings})
    tick = send_reminders_sensor.evaluate_tick(context)
    if not tick.run_requests:
        out.print(f"\nThe send sensor asks for nothing: {tick.skip_message}")
        return
    (request,) = tick.run_requests
    out.print(f"\nThe send sensor asks for a run of send_reminders, with run key {request.run_key}.")
    run_send(settings, instance, request.run_config)
    counts = sent_counts(Warehouse(settings.warehouse_path), batch_id)
    if counts:
        print_counts("Outcomes of sending", "outcome", "reminders", counts, out)
    else:
        out.print("Nothing was sent: Klaviyo accepted every reminder of today in an earlier run.")


def _orders(settings: Settings, instance: dg.DagsterInstance, shop: ShopifyShop, out: Console) -> None:
    """Customers edit orders, and the order side reminds of what that left to pay."""
    out.print("\n[bold]Orders that customers edit[/bold]")
    _evaluate_orders(settings, instance, out)
    out.print("Edits count from the first run on; those of before are told to nobody.")
    owing, paid, by_staff = _editable(shop, 3)
    shop.add_item(owing, "12.50")
    shop.add_item(paid, "8.00")
    shop.pay(paid)
    shop.add_item(by_staff, "30.00", app="Shopify Web")
    out.print(
        f"The customer of {owing} adds an item for 12.50; that of {paid} one for 8.00, and pays it; an employee adds "
        f"one to {by_staff}."
    )
    run_id = _evaluate_orders(settings, instance, out)
    warehouse = Warehouse(settings.warehouse_path)
    for name in (owing, paid, by_staff):
        for step in explain_order(settings, name, settings.today()):
            if step.title == DECISIONS:
                out.print(f"  {name}", *step.sentences, sep="\n    ", markup=False)
    for event in frozen_events(warehouse, run_id, 1) if run_id else []:
        out.print_json(json.dumps(event))


def _evaluate_orders(settings: Settings, instance: dg.DagsterInstance, out: Console) -> str | None:
    """What the daemon does every few seconds; the id of the run, if one was asked for."""
    context = dg.build_sensor_context(instance=instance, resources={"settings": settings})
    tick = order_edits_sensor.evaluate_tick(context)
    if not tick.run_requests:
        out.print(f"The order sensor asks for nothing: {tick.skip_message}")
        return None
    (request,) = tick.run_requests
    out.print(f"The order sensor asks for a run of order_reminders: {request.tags[ORDER_REASON_TAG]}.")
    return run_orders(settings, instance)


def _editable(shop: ShopifyShop, number: int) -> list[str]:
    """Names of orders that are paid, not shipped, never edited and have an address."""
    fitting = (
        order.name
        for order in shop.orders
        if order.customer
        and order.customer.email
        and not order.edited
        and order.outstanding_minor == 0
        and order.fulfilment == "UNFULFILLED"
    )
    return list(islice(fitting, number))


def _print_received(account: KlaviyoAccount, out: Console) -> None:
    requests = sum(request.method == "POST" for request in account.requests)
    out.print(f"The sandbox received {len(account.events)} events; requests: {requests}.")


def _print_where_to_look(settings: Settings, out: Console) -> None:
    published = settings.home / "published" / settings.warehouse_path.name
    out.print("\n[bold]Where to look[/bold]")
    out.print(f"  warehouse            {settings.warehouse_path}")
    out.print(f"  a copy for readers   {published}")
    out.print("  Dagster's UI on it   make dev DEMO=1   (to send from there, run `dunning sandbox` beside it)")
    out.print("  run it again         nobody is reminded twice on a day")
