"""Two sends of the same batch at the same time, as two real processes."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import Receive, Scope, Send
from test_outbox import POLICY_TEXT, empty_warehouse, freeze, reminders

from dunning_pipeline.outbox import Outbox
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, create_app, serving

PATIENCE_SECONDS = 120.0
POLICY = POLICY_TEXT.replace("Europe/Paris", "UTC")


class Gate:
    """A sandbox that holds every request until it is opened."""

    def __init__(self, account: KlaviyoAccount) -> None:
        self._app = create_app(account)
        self.came = threading.Event()
        self.open = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.set()
        self.open.wait(PATIENCE_SECONDS)
        await self._app(scope, receive, send)


def test_of_two_runs_that_send_the_same_batch_one_stops_with_a_sentence(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    outbox = Outbox(empty_warehouse(tmp_path / "home" / "warehouse.duckdb"), "invoice")
    freeze(outbox, "batch", reminders(["r-1", "r-2"]), at=now, as_of=now.date(), policy=parse_policy(POLICY))
    (tmp_path / "dunning.yaml").write_text(POLICY)
    account = KlaviyoAccount(rates=None)
    gate = Gate(account)
    with serving(gate) as url:
        environment = {
            **os.environ,
            "DUNNING_HOME": str(tmp_path / "home"),
            "DUNNING_POLICY": str(tmp_path / "dunning.yaml"),
            "KLAVIYO_URL": url,
            "KLAVIYO_API_KEY": DEFAULT_KEY,
        }

        def start() -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "dunning_pipeline.cli", "run", "--send", "--confirm-batch", "batch"]
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        with start() as first:
            assert gate.came.wait(PATIENCE_SECONDS)
            with start() as second:
                _, said = second.communicate(timeout=PATIENCE_SECONDS)
            gate.open.set()
            _, problems = first.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 1
    assert "another run is sending at this moment; nothing was sent by this one" in " ".join(said.split())
    assert (first.returncode, problems) == (0, "")
    assert [event.unique_id for event in account.events] == ["r-1", "r-2"]
    assert account.discarded == []
