"""What a run is given from outside: the policy, the clock, the folders, the environment. Read once, then handed on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import Policy, load_policy
from dunning_pipeline.resources.clock import Clock, system_clock, today

DEFAULT_POLICY = "dunning.yaml"
DEFAULT_HOME = "data"
KLAVIYO_URL = "https://a.klaviyo.com"


@dataclass(frozen=True)
class Settings:
    """The surroundings of a run. `loaded` is the policy, or the error that reading it gave."""

    loaded: Policy | DunningError
    policy_file: Path
    home: Path
    clock: Clock
    environment: Mapping[str, str] = field(repr=False)

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

    def require_derivable(self, day: date) -> None:
        """Raises DunningError unless `day` lies between `organisation.first_day` and today."""
        first = self.policy.organisation.first_day
        if not first <= day <= self.today():
            raise DunningError(f"{day} cannot be derived; allowed: from {first} (organisation.first_day) to today")


def load_settings(environment: Mapping[str, str] | None = None, clock: Clock = system_clock) -> Settings:
    """Settings from the environment variables DUNNING_POLICY and DUNNING_HOME (CONTRACT, Settings)."""
    environment = os.environ if environment is None else environment
    policy_file = Path(environment.get("DUNNING_POLICY") or DEFAULT_POLICY)
    loaded: Policy | DunningError
    try:
        loaded = load_policy(policy_file)
    except DunningError as error:
        loaded = error
    return Settings(
        loaded=loaded,
        policy_file=policy_file,
        home=Path(environment.get("DUNNING_HOME") or DEFAULT_HOME),
        clock=clock,
        environment=environment,
    )
