-- The columns that the preset reads, as ERPNext 15 declares them: erpnext/selling/doctype/customer/customer.json,
-- erpnext/accounts/doctype/{sales_invoice,payment_ledger_entry}; frappe/contacts/doctype/address, frappe/geo/doctype/country.
create table `tabCustomer` (name varchar(140) primary key, customer_name varchar(140), email_id varchar(140),
    mobile_no varchar(140), language varchar(140), default_currency varchar(140), customer_group varchar(140),
    territory varchar(140), customer_primary_address varchar(140), _user_tags text, creation datetime(6),
    modified datetime(6));
create table `tabAddress` (name varchar(140) primary key, country varchar(140));
create table `tabCountry` (name varchar(140) primary key, code varchar(140));
create table `tabSales Invoice` (name varchar(140) primary key, customer varchar(140), posting_date date, due_date date,
    currency varchar(140), party_account_currency varchar(140), grand_total decimal(21,9), rounded_total decimal(21,9),
    base_grand_total decimal(21,9), base_rounded_total decimal(21,9), outstanding_amount decimal(21,9),
    is_return int, return_against varchar(140), docstatus int, status varchar(140), creation datetime(6),
    modified datetime(6));
create table `tabPayment Ledger Entry` (name varchar(140) primary key, posting_date date, account_type varchar(140),
    party_type varchar(140), party varchar(140), voucher_type varchar(140), voucher_no varchar(140),
    against_voucher_type varchar(140), against_voucher_no varchar(140), amount decimal(21,9),
    account_currency varchar(140), amount_in_account_currency decimal(21,9), delinked int, creation datetime(6),
    modified datetime(6));

insert into `tabCountry` values ('France', 'fr');
insert into `tabAddress` values ('Harbour-Billing', 'France');
insert into `tabCustomer` values
    ('1', 'Harbour', 'a@harbour.test', '+33199000001', 'fr', 'EUR', 'Commercial', 'All', 'Harbour-Billing', ',key-account',
        '2026-01-01', '2026-01-01'),
    ('2', 'Kontor', 'b@kontor.test', '', 'de', '', 'Commercial', 'All', null, null, '2026-01-01', '2026-01-01'),
    ('3', 'Mills', 'c@mills.test', null, 'en', null, 'Commercial', 'All', null, null, '2026-01-01', '2026-01-01'),
    ('4', 'Closed', 'd@closed.test', null, 'en', null, 'Commercial', 'All', null, null, '2026-01-01', '2026-01-01'),
    ('5', 'Nets', 'e@nets.test', null, 'en-US', null, 'Commercial', 'All', null, null, '2026-01-01', '2026-01-01'),
    ('6', 'Ahead', 'f@ahead.test', null, 'en', null, 'Commercial', 'All', null, null, '2026-01-01', '2026-02-01');
insert into `tabSales Invoice` values
    ('101', '1', '2026-10-01', '2026-10-31', 'EUR', 'EUR', 99.99, 100, 99.99, 100, 60, 0, null, 1, 'Partly Paid', '2026-10-01', '2026-11-03'),
    ('102', '1', '2026-10-02', null, 'EUR', 'EUR', 999, 0, 999, 0, 999, 0, null, 0, 'Draft', '2026-10-02', '2026-10-02'),
    ('103', '2', '2026-09-01', '2026-10-01', 'EUR', 'EUR', 50, 0, 50, 0, 0, 0, null, 1, 'Paid', '2026-09-01', '2026-10-02'),
    ('104', '3', '2026-10-11', '2026-11-10', 'EUR', 'EUR', 200, 0, 200, 0, 150, 0, null, 1, 'Partly Paid', '2026-10-11', '2026-11-05'),
    ('105', '4', '2026-10-01', '2026-10-31', 'EUR', 'EUR', 70, 0, 70, 0, 0, 0, null, 2, 'Cancelled', '2026-10-01', '2026-10-09'),
    ('106', '5', '2026-10-06', '2026-11-05', 'USD', 'USD', 80, 0, 73.6, 0, 80, 0, null, 1, 'Overdue', '2026-10-06', '2026-10-06'),
    ('107', '6', '2026-10-01', '2026-10-31', 'EUR', 'EUR', 30, 0, 30, 0, 30, 0, null, 1, 'Overdue', '2026-10-01', '2026-10-01'),
    ('109', '2', '2026-09-02', '2026-09-02', 'USD', 'EUR', 110, 0, 99, 0, 0, 0, null, 1, 'Paid', '2026-09-02', '2026-09-02'),
    ('204', '3', '2026-11-05', '2026-11-05', 'EUR', 'EUR', -50, 0, -50, 0, 0, 1, '104', 1, 'Return', '2026-11-05', '2026-11-05');
insert into `tabPayment Ledger Entry` values
    ('a1', '2026-10-01', 'Receivable', 'Customer', '1', 'Sales Invoice', '101', 'Sales Invoice', '101', 100, 'EUR', 100, 0, '2026-10-01', '2026-10-01'),
    ('a2', '2026-11-02', 'Receivable', 'Customer', '1', 'Payment Entry', 'PE-1', 'Sales Invoice', '101', -40, 'EUR', -40, 0, '2026-11-03', '2026-11-03'),
    ('a3', '2026-09-01', 'Receivable', 'Customer', '2', 'Sales Invoice', '103', 'Sales Invoice', '103', 50, 'EUR', 50, 0, '2026-09-01', '2026-09-01'),
    ('a4', '2026-10-02', 'Receivable', 'Customer', '2', 'Journal Entry', 'JV-1', 'Sales Invoice', '103', -50, 'EUR', -50, 0, '2026-10-02', '2026-10-02'),
    ('a5', '2026-10-11', 'Receivable', 'Customer', '3', 'Sales Invoice', '104', 'Sales Invoice', '104', 200, 'EUR', 200, 0, '2026-10-11', '2026-10-11'),
    ('a6', '2026-11-05', 'Receivable', 'Customer', '3', 'Sales Invoice', '204', 'Sales Invoice', '104', -50, 'EUR', -50, 0, '2026-11-05', '2026-11-05'),
    ('a7', '2026-10-01', 'Receivable', 'Customer', '4', 'Sales Invoice', '105', 'Sales Invoice', '105', 70, 'EUR', 70, 1, '2026-10-01', '2026-10-09'),
    ('a8', '2026-10-06', 'Receivable', 'Customer', '5', 'Sales Invoice', '106', 'Sales Invoice', '106', 73.6, 'USD', 80, 0, '2026-10-06', '2026-10-06'),
    ('a9', '2026-10-01', 'Receivable', 'Customer', '6', 'Sales Invoice', '107', 'Sales Invoice', '107', 30, 'EUR', 30, 0, '2026-10-01', '2026-10-01'),
    ('b1', '2026-11-04', 'Receivable', 'Customer', '6', 'Payment Entry', 'PE-6', 'Payment Entry', 'PE-6', -50, 'EUR', -50, 0, '2026-11-04', '2026-11-04'),
    ('b2', '2026-11-04', 'Receivable', 'Customer', '5', 'Payment Entry', 'PE-5', 'Sales Invoice', '106', -80, 'USD', -80, 1, '2026-11-04', '2026-11-05'),
    ('b3', '2026-09-02', 'Receivable', 'Customer', '2', 'Sales Invoice', '109', 'Sales Invoice', '109', 99, 'EUR', 99, 0, '2026-09-02', '2026-09-02'),
    ('b4', '2026-09-02', 'Receivable', 'Customer', '2', 'Sales Invoice', '109', 'Sales Invoice', '109', -99, 'EUR', -99, 0, '2026-09-02', '2026-09-02');
