-- The next day: the first invoice is paid, a new one is submitted, and the return of the third customer is cancelled.
update `tabSales Invoice` set outstanding_amount = 0, status = 'Paid', modified = '2026-11-16 15:00' where name = '101';
insert into `tabPayment Ledger Entry` values
    ('c1', '2026-11-16', 'Receivable', 'Customer', '1', 'Payment Entry', 'PE-8', 'Sales Invoice', '101', -60, 'EUR', -60, 0, '2026-11-16', '2026-11-16'),
    ('c2', '2026-11-16', 'Receivable', 'Customer', '2', 'Sales Invoice', '108', 'Sales Invoice', '108', 25, 'EUR', 25, 0, '2026-11-16', '2026-11-16');
insert into `tabSales Invoice` values
    ('108', '2', '2026-11-16', '2026-11-16', 'EUR', 'EUR', 25, 0, 25, 0, 25, 0, null, 1, 'Unpaid', '2026-11-16 15:00', '2026-11-16 15:00');
update `tabSales Invoice` set docstatus = 2, modified = '2026-11-16 15:00' where name = '204';
update `tabPayment Ledger Entry` set delinked = 1, modified = '2026-11-16 15:00' where name = 'a6';
