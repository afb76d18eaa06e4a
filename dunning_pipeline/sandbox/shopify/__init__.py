"""A loopback stand-in for a Shopify shop's Admin API, with a page that lets something happen to its orders."""

from dunning_pipeline.sandbox.shopify.bucket import Bucket
from dunning_pipeline.sandbox.shopify.faults import FAULTS
from dunning_pipeline.sandbox.shopify.orders import PORTAL, Customer, Order
from dunning_pipeline.sandbox.shopify.samples import sample_orders
from dunning_pipeline.sandbox.shopify.server import create_app, running
from dunning_pipeline.sandbox.shopify.shop import (
    ALL_SCOPES,
    DEFAULT_CLIENT,
    DEFAULT_TOKEN,
    ShopifyShop,
    sample_shop,
)

__all__ = [
    "ALL_SCOPES",
    "DEFAULT_CLIENT",
    "DEFAULT_TOKEN",
    "FAULTS",
    "PORTAL",
    "Bucket",
    "Customer",
    "Order",
    "ShopifyShop",
    "create_app",
    "running",
    "sample_orders",
    "sample_shop",
]
