-- A role that reads the masked views of database `analysts` and nothing else, and a user with it.
-- Run it by an administrator, after the views: `python -m infra.analysts.access` prints both.
-- The user has no password and may only come from the server itself until one is set:
--   ALTER USER analyst IDENTIFIED BY '…' HOST ANY

CREATE SETTINGS PROFILE IF NOT EXISTS zerostock_analyst SETTINGS
    readonly = 1,
    max_execution_time = 60,
    max_memory_usage = 4000000000,
    max_result_rows = 1000000,
    max_rows_to_read = 2000000000,
    max_threads = 2;

CREATE ROLE IF NOT EXISTS zerostock_analyst SETTINGS PROFILE 'zerostock_analyst';

GRANT SELECT ON analysts.* TO zerostock_analyst;

CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH no_password HOST LOCAL
    DEFAULT ROLE zerostock_analyst DEFAULT DATABASE analysts;

GRANT zerostock_analyst TO analyst;

CREATE QUOTA IF NOT EXISTS zerostock_analyst KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 1000, errors = 200, execution_time = 1800
    TO zerostock_analyst;
