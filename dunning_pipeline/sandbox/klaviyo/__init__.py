"""A loopback stand-in for Klaviyo's API, with a page that shows what it received and can make it fail."""

from dunning_pipeline.sandbox.klaviyo.account import ALL_SCOPES, DEFAULT_KEY, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo.conditions import Conditions
from dunning_pipeline.sandbox.klaviyo.faults import FAULTS, Fault, Faults
from dunning_pipeline.sandbox.klaviyo.limits import DEFAULT_RATES, UNLIMITED, RateLimit
from dunning_pipeline.sandbox.klaviyo.server import Switch, create_app, running
from dunning_pipeline.sandbox.serving import Ending, serving

__all__ = [
    "ALL_SCOPES",
    "DEFAULT_KEY",
    "DEFAULT_RATES",
    "FAULTS",
    "UNLIMITED",
    "Conditions",
    "Ending",
    "Fault",
    "Faults",
    "KlaviyoAccount",
    "RateLimit",
    "Switch",
    "create_app",
    "running",
    "serving",
]
