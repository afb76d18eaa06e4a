-- The next day: the first invoice is paid, a new one is posted, and what was credited to the third customer is taken back.
insert into account_move values
    (8, 1, '2026-11-16', 'posted', '2026-11-16', null), (28, 1, '2026-11-16', 'posted', '2026-11-16', null);
insert into account_move_reconciliation values (2, '2026-11-16', '2026-11-16', null);
insert into account_move_line values
    (8, 8, 1, 2, 25, 0, null, null, '2026-11-16', null, 'valid', '2026-11-16', null),
    (28, 28, 1, 1, 0, 60, null, null, null, 2, 'valid', '2026-11-16', null);
update account_move_line set reconciliation = 2, write_date = '2026-11-16 15:00' where id in (1, 21);
insert into account_invoice values
    (108, '108', 'out', 'posted', '2026-11-16', 2, 1, 1, 8, null, 25, '2026-11-16 15:00', null);
update account_invoice set state = 'paid', write_date = '2026-11-16 15:00' where id = 101;
delete from "account_invoice-account_move_line" where id = 2;
delete from account_move_line where id = 24;
