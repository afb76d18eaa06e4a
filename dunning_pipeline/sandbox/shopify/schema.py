"""The part of Shopify's Admin GraphQL schema that orders need, with Shopify's types and nullability.

Declarations only: what the fields yield is in resolving.py. Source: Shopify's Admin API reference, version 2026-10.
"""

from functools import cache

from graphql import GraphQLSchema, build_schema

from dunning_pipeline.rules.money import known_currencies

SDL = """
scalar DateTime
scalar Decimal
scalar URL

enum CurrencyCode { %s }
enum OrderSortKeys { CREATED_AT ID ORDER_NUMBER PROCESSED_AT UPDATED_AT }
enum OrderActionType { ORDER ORDER_EDIT REFUND RETURN UNKNOWN }
enum OrderDisplayFinancialStatus {
  AUTHORIZED EXPIRED PAID PARTIALLY_PAID PARTIALLY_REFUNDED PENDING REFUNDED VOIDED
}
enum OrderDisplayFulfillmentStatus {
  FULFILLED IN_PROGRESS ON_HOLD OPEN PARTIALLY_FULFILLED PENDING_FULFILLMENT REQUEST_DECLINED RESTOCKED SCHEDULED
  UNFULFILLED
}

enum SaleActionType { ORDER RETURN UNKNOWN UPDATE }
enum SaleLineType { ADDITIONAL_FEE ADJUSTMENT DUTY FEE GIFT_CARD PRODUCT SHIPPING TIP UNKNOWN }

interface Node { id: ID! }
type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
type MoneyV2 { amount: Decimal! currencyCode: CurrencyCode! }
type MoneyBag { shopMoney: MoneyV2! presentmentMoney: MoneyV2! }
type App implements Node { id: ID! title: String! }
type CustomerEmailAddress { emailAddress: String! }
type Customer implements Node { id: ID! displayName: String! defaultEmailAddress: CustomerEmailAddress }
type OrderPaymentCollectionDetails { additionalPaymentCollectionUrl: URL }

type LineItem implements Node { id: ID! name: String! title: String! }
type ShippingLine { id: ID title: String! }
interface Sale { id: ID! actionType: SaleActionType! lineType: SaleLineType! quantity: Int totalAmount: MoneyBag! }
type ProductSale implements Sale {
  id: ID! actionType: SaleActionType! lineType: SaleLineType! quantity: Int totalAmount: MoneyBag! lineItem: LineItem!
}
type ShippingLineSale implements Sale {
  id: ID! actionType: SaleActionType! lineType: SaleLineType! quantity: Int totalAmount: MoneyBag!
  shippingLine: ShippingLine
}
type AdjustmentSale implements Sale {
  id: ID! actionType: SaleActionType! lineType: SaleLineType! quantity: Int totalAmount: MoneyBag!
}
type SaleEdge { cursor: String! node: Sale! }
type SaleConnection { edges: [SaleEdge!]! nodes: [Sale!]! pageInfo: PageInfo! }

interface SalesAgreement {
  id: ID! happenedAt: DateTime! reason: OrderActionType! app: App sales(first: Int, after: String): SaleConnection!
}
type OrderAgreement implements SalesAgreement {
  id: ID! happenedAt: DateTime! reason: OrderActionType! app: App sales(first: Int, after: String): SaleConnection!
}
type OrderEditAgreement implements SalesAgreement {
  id: ID! happenedAt: DateTime! reason: OrderActionType! app: App sales(first: Int, after: String): SaleConnection!
}
type RefundAgreement implements SalesAgreement {
  id: ID! happenedAt: DateTime! reason: OrderActionType! app: App sales(first: Int, after: String): SaleConnection!
}
type ReturnAgreement implements SalesAgreement {
  id: ID! happenedAt: DateTime! reason: OrderActionType! app: App sales(first: Int, after: String): SaleConnection!
}
type SalesAgreementEdge { cursor: String! node: SalesAgreement! }
type SalesAgreementConnection { edges: [SalesAgreementEdge!]! nodes: [SalesAgreement!]! pageInfo: PageInfo! }

type Order implements Node {
  id: ID!
  name: String!
  email: String
  phone: String
  edited: Boolean!
  createdAt: DateTime!
  updatedAt: DateTime!
  cancelledAt: DateTime
  customerLocale: String
  currencyCode: CurrencyCode!
  presentmentCurrencyCode: CurrencyCode!
  displayFinancialStatus: OrderDisplayFinancialStatus
  displayFulfillmentStatus: OrderDisplayFulfillmentStatus!
  statusPageUrl: URL!
  totalOutstandingSet: MoneyBag!
  currentTotalPriceSet: MoneyBag!
  totalReceivedSet: MoneyBag!
  paymentCollectionDetails: OrderPaymentCollectionDetails!
  customer: Customer
  agreements(first: Int, after: String): SalesAgreementConnection!
}
type OrderEdge { cursor: String! node: Order! }
type OrderConnection { edges: [OrderEdge!]! nodes: [Order!]! pageInfo: PageInfo! }

type Query {
  orders(
    first: Int, after: String, query: String, sortKey: OrderSortKeys = PROCESSED_AT, reverse: Boolean = false
  ): OrderConnection!
  order(id: ID!): Order
  node(id: ID!): Node
  nodes(ids: [ID!]!): [Node]!
}
"""


@cache
def shopify_schema(without: frozenset[str] = frozenset()) -> GraphQLSchema:
    """The schema; `without` are fields of orders that it no longer has, as after a change of version."""
    declared = SDL % " ".join(known_currencies())
    before, orders, after = declared.partition("type Order implements Node {")
    fields, end, rest = after.partition("\n}")
    kept = "\n".join(line for line in fields.splitlines() if line.strip().partition(":")[0] not in without)
    return build_schema(before + orders + kept + end + rest)
