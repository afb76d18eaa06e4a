"""What a run is given from outside: the policy, the clock, the folders, the environment. Read once, then handed on."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import Policy, load_policy
from dunning_pipeline.resources.clock import Clock, system_clock, today
from dunning_pipeline.resources.klaviyo_bodies import MOST_EVENTS

DEFAULT_POLICY = "dunning.yaml"
DEFAULT_HOME = "data"
KLAVIYO_URL = "https://a.klaviyo.com"

BYTES = {"MB": 1000**2, "GB": 1000**3, "MIB": 1024**2, "GIB": 1024**3}
LEAST_MEMORY = 256 * BYTES["MB"]
"""With less there is no room for DuckDB and pandas themselves, however small the parts."""


@dataclass(frozen=True)
class Settings:
    """The surroundings of a run.

    `loaded` is the policy, or the error that reading it gave; `sleep` takes seconds, and is how to wait before a source
    or Klaviyo is asked again; `events_per_request` is what goes with one request to Klaviyo at most. `memory_limit` is
    in bytes: within it customers are decided in parts.
    """

    loaded: Policy | DunningError
    policy_file: Path
    home: Path
    clock: Clock
    environment: Mapping[str, str] = field(repr=False)
    sleep: Callable[[float], None] = time.sleep
    events_per_request: int = MOST_EVENTS
    memory_limit: int | None = None

    @property
    def policy(self) -> Policy:
        """The policy. Raises PolicyError where the file is wrong, so that a location loads but its jobs fail."""
        if isinstance(self.loaded, Policy):
            return self.loaded
        raise self.loaded

    @property
    def policy_or_none(self) -> Policy | None:
        """The policy, or None where the file is wrong."""
        return self.loaded if isinstance(self.loaded, Policy) else None

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def klaviyo_url(self) -> str:
        """Where Klaviyo is reached; the sandbox sets its own address."""
        return self.environment.get("KLAVIYO_URL") or KLAVIYO_URL

    def today(self) -> date:
        """The as-of date of a live decision: today in the organisation's time zone."""
        return today(self.clock, self.policy.organisation.zone)

    def is_today(self, instant: datetime) -> bool:
        """Whether an instant is of today in the organisation's time zone."""
        return instant.astimezone(self.policy.organisation.zone).date() == self.today()

    def require_derivable(self, day: date) -> None:
        """Raises DunningError unless `day` lies between `organisation.first_day` and today."""
        first = self.policy.organisation.first_day
        if not first <= day <= self.today():
            raise DunningError(f"{day} cannot be derived; allowed: from {first} (organisation.first_day) to today")


def load_settings(environment: Mapping[str, str] | None = None, clock: Clock = system_clock) -> Settings:
    """Settings from the environment: DUNNING_POLICY, DUNNING_HOME and DUNNING_MEMORY_LIMIT (CONTRACT, Settings)."""
    environment = os.environ if environment is None else environment
    policy_file = Path(environment.get("DUNNING_POLICY") or DEFAULT_POLICY)
    loaded: Policy | DunningError
    limit = None
    try:
        loaded = load_policy(policy_file)
        limit = memory_limit(environment.get("DUNNING_MEMORY_LIMIT"))
    except DunningError as error:
        loaded = error
    return Settings(
        loaded=loaded,
        policy_file=policy_file,
        home=Path(environment.get("DUNNING_HOME") or DEFAULT_HOME),
        clock=clock,
        environment=environment,
        memory_limit=limit,
    )


def memory_limit(text: str | None) -> int | None:
    """Bytes from a text such as `2GB`; None without one. Raises DunningError for any other and for too little."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?) ?(MB|GB|MiB|GiB)", text.strip(), re.ASCII | re.IGNORECASE)
    limit = int(Decimal(match[1]) * BYTES[match[2].upper()]) if match else 0
    if limit < LEAST_MEMORY:
        raise DunningError(
            f"DUNNING_MEMORY_LIMIT is '{text}'; allowed: an amount with MB, GB, MiB or GiB, such as 2GB, from 256MB "
            "on; or nothing, for no limit"
        )
    return limit
