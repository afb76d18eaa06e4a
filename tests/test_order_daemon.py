"""The order side with Dagster's daemon really running: edits become events, also after a run was killed at it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from order_world import POLICY

from dunning_pipeline.local_run import INSTANCE_SETTINGS
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import ORDER_JOB
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, Fault, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo import running as running_klaviyo
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, ShopifyShop
from dunning_pipeline.sandbox.shopify import running as running_shop

DAEMON = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", "workspace.yaml"]
START_SENSOR = [sys.executable, "-m", "dagster", "sensor", "start", "order_edits_sensor", "-w", "workspace.yaml"]
WORKSPACE = (
    "load_from: [{python_module: {module_name: dunning_pipeline.definitions, location_name: dunning_pipeline}}]\n"
)
PATIENCE_SECONDS = 120


@dataclass
class Shopkeeping:
    """A home, a shop and an account, and the instance that the daemon records its runs in."""

    home: Path
    shop: ShopifyShop
    account: KlaviyoAccount
    environment: Mapping[str, str]
    instance: dg.DagsterInstance

    @contextmanager
    def at_work(self, command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
        """A process in a group of its own, which is gone with all its children in the end."""
        with (self.home / "output.txt").open("ab") as file:
            process = subprocess.Popen(
                command, cwd=self.home, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_until(self, condition: Callable[[], bool], daemon: "subprocess.Popen[bytes]") -> None:
        """Waits for what the daemon is to bring about."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > end or daemon.poll() is not None:
                pytest.fail(f"nothing came of it; exit code {daemon.poll()}\n{self.output()}")
            time.sleep(0.1)

    def output(self) -> str:
        return (self.home / "output.txt").read_text()[-5000:]

    def told(self) -> list[str]:
        """The order of each event that Klaviyo recorded."""
        return [event.properties["order_name"] for event in self.account.events]

    def runs(self) -> list[dg.DagsterRun]:
        """All runs, the newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(job_name=ORDER_JOB)))

    def kill_run(self) -> str:
        """Kills the process of the only run with SIGKILL; returns the run's id."""
        (run,) = self.runs()
        messages = [log.message for log in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)]
        (pid,) = {found[1] for message in messages if (found := re.search(r"in process \(pid: (\d+)\)", message))}
        os.kill(int(pid), signal.SIGKILL)
        return run.run_id

    def accepted(self) -> list[str]:
        """The orders of the events that the history calls accepted."""
        warehouse = Warehouse(self.home / "warehouse.duckdb")
        query = (
            "select o.name from dunning.sent_history join source.orders as o using (order_id)"
            " where outcome = 'accepted' order by attempted_at"
        )
        return warehouse.fetch(query)["name"].tolist()


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Shopkeeping]:
    (tmp_path / "dunning.yaml").write_text(POLICY)
    (tmp_path / "workspace.yaml").write_text(WORKSPACE)
    (tmp_path / "dagster").mkdir()
    shutil.copyfile(INSTANCE_SETTINGS, tmp_path / "dagster" / "dagster.yaml")
    shop, account = ShopifyShop(), KlaviyoAccount()
    with (
        running_shop(shop) as shop_url,
        running_klaviyo(account) as klaviyo_url,
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
    ):
        environment = os.environ | {
            "DUNNING_POLICY": str(tmp_path / "dunning.yaml"),
            "DUNNING_HOME": str(tmp_path),
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "SHOPIFY_SHOP": shop_url,
            "SHOPIFY_TOKEN": DEFAULT_TOKEN,
            "KLAVIYO_URL": klaviyo_url,
            "KLAVIYO_API_KEY": DEFAULT_KEY,
        }
        yield Shopkeeping(tmp_path, shop, account, environment, instance)


@pytest.mark.timeout(400)
def test_a_run_killed_while_it_sends_is_followed_by_one_that_loses_and_repeats_nothing(keeping: Shopkeeping) -> None:
    keeping.shop.place("#1", "50.00")
    keeping.shop.add_item("#1")
    # Klaviyo records the event, and its answer never comes: the run is met between the two.
    keeping.account.faults.plan([Fault.silent(accepted=True)])
    with keeping.at_work(DAEMON) as daemon, keeping.at_work(START_SENSOR) as starting:
        keeping.wait_until(lambda: keeping.told() == ["#1"], daemon)
        assert starting.wait(PATIENCE_SECONDS) == 0
        killed = keeping.kill_run()
        keeping.wait_until(lambda: keeping.runs()[0].status is dg.DagsterRunStatus.SUCCESS, daemon)
        assert [run.run_id for run in keeping.runs()][1:] == [killed]
    assert (keeping.told(), keeping.accepted()) == (["#1"], ["#1"])
