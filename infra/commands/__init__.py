"""The commands: thin functions that read options and call the parts.

stream          run, ingest, worker, webhook
alerting        alerts, soon-empty, hand-over, refused-numbers
warehouse       query, ask, tables, migrate
dead_letters    dead-letters, reconcile
jobs            batch, schedule
desk            serve, users
simulate_bench  simulate, bench
options         options that several commands take
"""
