"""Addresses: of people whom no mail reaches, and of Klaviyo itself.

Whether an address is well-formed is decided in rules/contacts; nothing is looked up.
"""

import ipaddress
import re
from urllib.parse import urlsplit

DROPPED_DOMAINS = ("example.com", "example.net", "example.org", "test.com")
RESERVED_ENDINGS = ("example", "invalid", "localhost", "test")
"""Top-level domains that will never exist (RFC 2606)."""

_USER = re.compile(r"//[^/@]*@")


def will_be_dropped(email: str) -> bool:
    """Whether Klaviyo accepts an event for this address with 202 and then drops it silently, or no mail could arrive.

    For the sender: rather a rejection that shows than a contact that never was. Other identifiers (a phone number,
    an external id) are never dropped.
    """
    local, at, domain = email.strip().lower().rstrip(".").rpartition("@")
    if not local or not at:
        return False
    if domain in DROPPED_DOMAINS or domain.rpartition(".")[2] in RESERVED_ENDINGS:
        return True
    return any(domain.endswith(f".{reserved}") for reserved in DROPPED_DOMAINS[:3])


def is_loopback(url: str) -> bool:
    """Whether the address leads to this very machine, as the sandbox's does: `localhost`, `127.0.0.0/8` or `::1`."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """The address without the user and password it may hold, for messages."""
    return _USER.sub("//***@", url)
