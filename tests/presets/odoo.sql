-- The columns that the preset reads, as Odoo 18 declares them: addons/account/models/account_move.py,
-- account_move_line.py, account_partial_reconcile.py, account_account.py; odoo/addons/base/models/res_partner.py.
create table res_country (id int primary key, code varchar(2), name jsonb);
create table res_currency (id int primary key, name varchar(3));
create table ir_config_parameter (id int primary key, key varchar, value varchar);
create table res_partner (id int primary key, name varchar, email varchar, phone varchar, lang varchar, parent_id int,
    commercial_partner_id int, country_id int, type varchar, active boolean, create_date timestamp, write_date timestamp);
create table res_partner_category (id int primary key, name jsonb);
create table res_partner_res_partner_category_rel (category_id int, partner_id int);
create table account_account (id int primary key, account_type varchar);
create table account_move (id int primary key, name varchar, move_type varchar, state varchar, date date,
    invoice_date date, invoice_date_due date, partner_id int, commercial_partner_id int, currency_id int,
    amount_total numeric, amount_residual numeric, payment_state varchar, access_token varchar,
    create_date timestamp, write_date timestamp);
create table account_move_line (id int primary key, move_id int references account_move (id), account_id int,
    partner_id int, parent_state varchar, date date, date_maturity date, debit numeric, credit numeric, balance numeric,
    amount_currency numeric, amount_residual_currency numeric, currency_id int, create_date timestamp,
    write_date timestamp);
create table account_partial_reconcile (id int primary key, debit_move_id int, credit_move_id int, amount numeric,
    debit_amount_currency numeric, credit_amount_currency numeric, debit_currency_id int, credit_currency_id int,
    max_date date, create_date timestamp, write_date timestamp);

insert into res_country values (1, 'FR', '{"en_US": "France"}');
insert into res_currency values (1, 'EUR'), (2, 'USD');
insert into ir_config_parameter values (1, 'web.base.url', 'https://erp.test');
insert into res_partner values
    (1, 'Harbour', 'a@harbour.test', '+33199000001', 'fr_FR', null, 1, 1, 'contact', true, '2026-01-01', '2026-01-01'),
    (2, 'Kontor', 'b@kontor.test', null, 'de_DE', null, 2, null, 'contact', true, '2026-01-01', '2026-01-01'),
    (3, 'Mills', 'office@mills.test', null, 'en_US', null, 3, null, 'contact', true, '2026-01-01', '2026-01-01'),
    (4, 'Closed', 'd@closed.test', null, 'en_US', null, 4, null, 'contact', true, '2026-01-01', '2026-01-01'),
    (5, 'Nets', 'e@nets.test', null, 'en_US', null, 5, null, 'contact', true, '2026-01-01', '2026-01-01'),
    (6, 'Ahead', 'f@ahead.test', null, 'en_US', null, 6, null, 'contact', true, '2026-01-01', '2026-01-01'),
    (30, 'Mills, accounts', 'c@mills.test', null, 'en_US', 3, 3, null, 'invoice', true, '2026-01-01', '2026-01-02');
insert into res_partner_category values (1, '{"en_US": "key-account"}');
insert into res_partner_res_partner_category_rel values (1, 1);
insert into account_account values (1, 'asset_receivable'), (2, 'income'), (3, 'asset_cash');
-- invoices: one partly paid, a draft, one paid, one credited in part, one cancelled, one in dollars, one with money ahead
insert into account_move values
    (101, 'INV/2026/0101', 'out_invoice', 'posted', '2026-10-01', '2026-10-01', '2026-10-31', 1, 1, 1, 100.00, 60.00,
        'partial', 'tok', '2026-10-01 08:00', '2026-11-03 08:00'),
    (102, '/', 'out_invoice', 'draft', '2026-10-02', null, null, 1, 1, 1, 999.00, 999.00, 'not_paid', null,
        '2026-10-02 08:00', '2026-10-02 08:00'),
    (103, 'INV/2026/0103', 'out_invoice', 'posted', '2026-09-01', '2026-09-01', '2026-10-01', 2, 2, 1, 50.00, 0.00,
        'paid', null, '2026-09-01 08:00', '2026-10-02 08:00'),
    (104, 'INV/2026/0104', 'out_invoice', 'posted', '2026-10-11', '2026-10-11', '2026-11-10', 30, 3, 1, 200.00, 150.00,
        'partial', null, '2026-10-11 08:00', '2026-11-05 08:00'),
    (105, 'INV/2026/0105', 'out_invoice', 'cancel', '2026-10-01', '2026-10-01', '2026-10-31', 4, 4, 1, 70.00, 0.00,
        'not_paid', null, '2026-10-01 08:00', '2026-10-09 08:00'),
    (106, 'INV/2026/0106', 'out_invoice', 'posted', '2026-10-06', '2026-10-06', '2026-11-05', 5, 5, 2, 80.00, 80.00,
        'not_paid', null, '2026-10-06 08:00', '2026-10-06 08:00'),
    (107, 'INV/2026/0107', 'out_invoice', 'posted', '2026-10-01', '2026-10-01', '2026-10-31', 6, 6, 1, 30.00, 30.00,
        'not_paid', null, '2026-10-01 08:00', '2026-10-01 08:00'),
    (201, 'BNK/1', 'entry', 'posted', '2026-11-02', null, null, 1, 1, 1, 40.00, 0, null, null, '2026-11-03', '2026-11-03'),
    (203, 'BNK/3', 'entry', 'posted', '2026-10-02', null, null, 2, 2, 1, 50.00, 0, null, null, '2026-10-02', '2026-10-02'),
    (204, 'RINV/1', 'out_refund', 'posted', '2026-11-05', '2026-11-05', '2026-11-05', 30, 3, 1, 50.00, 0, 'paid', null,
        '2026-11-05', '2026-11-05'),
    (206, 'BNK/6', 'entry', 'posted', '2026-11-04', null, null, 6, 6, 1, 50.00, 0, null, null, '2026-11-04', '2026-11-04');
insert into account_move_line values
    (1, 101, 1, 1, 'posted', '2026-10-01', '2026-10-31', 100, 0, 100, 100, 60, 1, '2026-10-01', '2026-11-03'),
    (2, 101, 2, 1, 'posted', '2026-10-01', null, 0, 100, -100, -100, 0, 1, '2026-10-01', '2026-10-01'),
    (3, 103, 1, 2, 'posted', '2026-09-01', '2026-10-01', 50, 0, 50, 50, 0, 1, '2026-09-01', '2026-10-02'),
    (4, 104, 1, 30, 'posted', '2026-10-11', '2026-11-10', 200, 0, 200, 200, 150, 1, '2026-10-11', '2026-11-05'),
    (6, 106, 1, 5, 'posted', '2026-10-06', '2026-11-05', 73.6, 0, 73.6, 80, 80, 2, '2026-10-06', '2026-10-06'),
    (7, 107, 1, 6, 'posted', '2026-10-01', '2026-10-31', 30, 0, 30, 30, 30, 1, '2026-10-01', '2026-10-01'),
    (21, 201, 1, 1, 'posted', '2026-11-02', null, 0, 40, -40, -40, 0, 1, '2026-11-03', '2026-11-03'),
    (22, 201, 3, 1, 'posted', '2026-11-02', null, 40, 0, 40, 40, 0, 1, '2026-11-03', '2026-11-03'),
    (23, 203, 1, 2, 'posted', '2026-10-02', null, 0, 50, -50, -50, 0, 1, '2026-10-02', '2026-10-02'),
    (24, 204, 1, 30, 'posted', '2026-11-05', '2026-11-05', 0, 50, -50, -50, 0, 1, '2026-11-05', '2026-11-05'),
    (26, 206, 1, 6, 'posted', '2026-11-04', null, 0, 50, -50, -50, -50, 1, '2026-11-04', '2026-11-04');
insert into account_partial_reconcile values
    (1, 1, 21, 40, 40, 40, 1, 1, '2026-11-02', '2026-11-03', '2026-11-03'),
    (3, 3, 23, 50, 50, 50, 1, 1, '2026-10-02', '2026-10-02', '2026-10-02'),
    (4, 4, 24, 50, 50, 50, 1, 1, '2026-11-05', '2026-11-05', '2026-11-05');
