-- The columns that the preset reads, as Tryton declares them: modules/party/{party,contact_mechanism,address}.py,
-- modules/account/move.py, modules/account_invoice/invoice.py. A row has no write_date until it is changed.
create table currency_currency (id int primary key, code varchar(3));
create table country_country (id int primary key, code varchar(2));
create table ir_lang (id int primary key, code varchar);
create table company_company (id int primary key, party int, currency int);
create table party_party (id int primary key, name varchar, code varchar, active boolean, create_date timestamp,
    write_date timestamp);
create table party_party_lang (id int primary key, party int, lang int, create_date timestamp, write_date timestamp);
create table party_address (id int primary key, party int, country int, active boolean, sequence int,
    create_date timestamp, write_date timestamp);
create table party_contact_mechanism (id int primary key, party int, type varchar, value varchar, value_compact varchar,
    active boolean, sequence int, create_date timestamp, write_date timestamp);
create table account_account_type (id int primary key, receivable boolean);
create table account_account (id int primary key, type int);
create table account_move (id int primary key, company int, date date, state varchar, create_date timestamp,
    write_date timestamp);
create table account_move_reconciliation (id int primary key, date date, create_date timestamp, write_date timestamp);
create table account_move_line (id int primary key, move int, account int, party int, debit numeric, credit numeric,
    second_currency int, amount_second_currency numeric, maturity_date date, reconciliation int, state varchar,
    create_date timestamp, write_date timestamp);
create table account_invoice (id int primary key, number varchar, type varchar, state varchar, invoice_date date,
    party int, currency int, account int, move int, cancel_move int, total_amount_cache numeric, create_date timestamp,
    write_date timestamp);
create table "account_invoice-account_move_line" (id int primary key, invoice int, line int);
create table "account_invoice-additional-account_move" (id int primary key, invoice int, move int);

insert into currency_currency values (1, 'EUR'), (2, 'USD');
insert into country_country values (1, 'FR');
insert into ir_lang values (1, 'fr'), (2, 'en');
insert into company_company values (1, 99, 1);
insert into party_party values
    (1, 'Harbour', '00001', true, '2026-01-01', null), (2, 'Kontor', '00002', true, '2026-01-01', null),
    (3, 'Mills', '00003', true, '2026-01-01', null), (4, 'Closed', '00004', true, '2026-01-01', null),
    (5, 'Nets', '00005', true, '2026-01-01', null), (6, 'Ahead', '00006', true, '2026-01-01', '2026-02-01');
insert into party_party_lang values (1, 1, 1, '2026-01-01', null);
insert into party_address values (1, 1, 1, true, null, '2026-01-01', null);
insert into party_contact_mechanism values
    (1, 1, 'email', 'a@harbour.test', null, true, 10, '2026-01-01', null),
    (2, 2, 'email', 'b@kontor.test', null, true, null, '2026-01-01', null),
    (3, 3, 'email', 'office@mills.test', null, true, 20, '2026-01-01', null),
    (4, 3, 'email', 'c@mills.test', null, true, 10, '2026-01-01', null),
    (5, 4, 'email', 'd@closed.test', null, true, null, '2026-01-01', null),
    (6, 5, 'email', 'e@nets.test', null, true, null, '2026-01-01', null),
    (7, 6, 'email', 'f@ahead.test', null, true, null, '2026-01-01', null),
    (8, 1, 'phone', '+33 1 99 00 00 01', '+33199000001', true, 20, '2026-01-01', null);
insert into account_account_type values (1, true), (2, false);
insert into account_account values (1, 1), (2, 2);
insert into account_move values
    (1, 1, '2026-10-01', 'posted', '2026-10-01', null), (3, 1, '2026-09-01', 'posted', '2026-09-01', null),
    (4, 1, '2026-10-11', 'posted', '2026-10-11', null), (5, 1, '2026-10-01', 'posted', '2026-10-01', null),
    (6, 1, '2026-10-06', 'posted', '2026-10-06', null), (7, 1, '2026-10-01', 'posted', '2026-10-01', null),
    (21, 1, '2026-11-02', 'posted', '2026-11-03', null), (23, 1, '2026-10-02', 'posted', '2026-10-02', null),
    (24, 1, '2026-11-05', 'posted', '2026-11-05', null), (25, 1, '2026-10-09', 'posted', '2026-10-09', null),
    (26, 1, '2026-11-04', 'posted', '2026-11-04', null);
insert into account_move_reconciliation values (1, '2026-10-02', '2026-10-02', null);
insert into account_invoice values
    (101, '101', 'out', 'posted', '2026-10-01', 1, 1, 1, 1, null, 100, '2026-10-01', '2026-10-01'),
    (102, null, 'out', 'draft', null, 1, 1, 1, null, null, null, '2026-10-02', null),
    (103, '103', 'out', 'paid', '2026-09-01', 2, 1, 1, 3, null, 50, '2026-09-01', '2026-10-02'),
    (104, '104', 'out', 'posted', '2026-10-11', 3, 1, 1, 4, null, 200, '2026-10-11', '2026-11-05'),
    (105, '105', 'out', 'cancelled', '2026-10-01', 4, 1, 1, 5, 25, 70, '2026-10-01', '2026-10-09'),
    (106, '106', 'out', 'posted', '2026-10-06', 5, 2, 1, 6, null, 80, '2026-10-06', '2026-10-06'),
    (107, '107', 'out', 'posted', '2026-10-01', 6, 1, 1, 7, null, 30, '2026-10-01', null);
-- Of the credit note of 50 the lines are reconciled with nothing yet, but linked to the invoice that they pay.
insert into account_move_line values
    (1, 1, 1, 1, 100, 0, null, null, '2026-10-31', null, 'valid', '2026-10-01', null),
    (2, 1, 2, null, 0, 100, null, null, null, null, 'valid', '2026-10-01', null),
    (3, 3, 1, 2, 50, 0, null, null, '2026-10-01', 1, 'valid', '2026-09-01', '2026-10-02'),
    (4, 4, 1, 3, 120, 0, null, null, '2026-11-10', null, 'valid', '2026-10-11', null),
    (14, 4, 1, 3, 80, 0, null, null, '2026-12-10', null, 'valid', '2026-10-11', null),
    (6, 6, 1, 5, 73.6, 0, 2, 80, '2026-11-05', null, 'valid', '2026-10-06', null),
    (7, 7, 1, 6, 30, 0, null, null, '2026-10-31', null, 'valid', '2026-10-01', null),
    (21, 21, 1, 1, 0, 40, null, null, null, null, 'valid', '2026-11-03', null),
    (23, 23, 1, 2, 0, 50, null, null, null, 1, 'valid', '2026-10-02', null),
    (24, 24, 1, 3, 0, 50, null, null, null, null, 'valid', '2026-11-05', null),
    (26, 26, 1, 6, 0, 50, null, null, null, null, 'valid', '2026-11-04', null);
insert into "account_invoice-account_move_line" values (1, 101, 21), (2, 104, 24);
