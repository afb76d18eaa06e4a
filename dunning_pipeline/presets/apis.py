"""Kinds of sources that are settings of other kinds: each a YAML file here, which a policy could spell out itself.

Only how a policy's few settings are put into the file's; nothing is read here from any system.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from dunning_pipeline.policy import RestSource, Source, StripeSource, XeroSource
from dunning_pipeline.policy_file import read_document


def as_rest(source: Source) -> Source:
    """The source that a Stripe or Xero account is read as; any other source as it is."""
    match source:
        case StripeSource():
            return _stripe(source)
        case XeroSource():
            return _xero(source)
        case _:
            return source


def _stripe(stripe: StripeSource) -> RestSource:
    source = _read_as("stripe", stripe, auth={"bearer": stripe.key})
    return _without_left_out(source) if stripe.include_automatic else source


def _xero(xero: XeroSource) -> RestSource:
    client = {"token_url": xero.token_url, "client_id": xero.client_id, "client_secret": xero.client_secret}
    auth = {"bearer": xero.token} if xero.token else {"client_credentials": {**client, "scope": xero.scope}}
    headers = {"xero-tenant-id": xero.tenant} if xero.tenant else {}
    return _read_as("xero", xero, auth=auth, headers=headers)


def _read_as(name: str, source: StripeSource | XeroSource, **settings: Any) -> RestSource:
    own = {"kind": "rest", "url": source.url, "id_prefix": source.id_prefix, "time_zone": source.time_zone}
    preset = settings_of(name)
    headers = {**preset.get("headers", {}), **settings.pop("headers", {})}
    return RestSource.model_validate({**preset, **own, **settings, "headers": headers})


def _without_left_out(source: RestSource) -> RestSource:
    tables = {table: request.model_copy(update={"leave_out": ()}) for table, request in source.tables.items()}
    return source.model_copy(update={"tables": tables})


@cache
def settings_of(name: str) -> dict[str, Any]:
    """The settings in a preset's file."""
    document = read_document(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")
    assert isinstance(document.data, dict), document.problems
    return document.data
