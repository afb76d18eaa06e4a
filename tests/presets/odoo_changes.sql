-- The next day: the first invoice is paid, a new one is posted, and the credit note of the third customer is taken back.
update account_move set amount_residual = 0, payment_state = 'paid', write_date = '2026-11-16 15:00' where id = 101;
insert into account_move values
    (108, 'INV/2026/0108', 'out_invoice', 'posted', '2026-11-16', '2026-11-16', '2026-11-16', 2, 2, 1, 25.00, 25.00,
        'not_paid', null, '2026-11-16 15:00', '2026-11-16 15:00'),
    (208, 'BNK/8', 'entry', 'posted', '2026-11-16', null, null, 1, 1, 1, 60.00, 0, null, null, '2026-11-16', '2026-11-16');
insert into account_move_line values
    (8, 108, 1, 2, 'posted', '2026-11-16', '2026-11-16', 25, 0, 25, 25, 25, 1, '2026-11-16', '2026-11-16'),
    (28, 208, 1, 1, 'posted', '2026-11-16', null, 0, 60, -60, -60, 0, 1, '2026-11-16', '2026-11-16');
insert into account_partial_reconcile values (8, 1, 28, 60, 60, 60, 1, 1, '2026-11-16', '2026-11-16', '2026-11-16');
delete from account_partial_reconcile where id = 4;
update account_move set state = 'cancel', write_date = '2026-11-16 15:00' where id = 204;
update account_move_line set parent_state = 'cancel' where move_id = 204;
