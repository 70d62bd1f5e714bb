"""The commands: thin functions that read options and call the parts.

stream      run, ingest, worker, webhook
alerting    alerts, soon-empty, hand-over, refused-numbers
warehouse   query, ask, tables, migrate
refused     dead-letters, reconcile
jobs        batch, schedule
desk        serve, users
making      simulate, bench
options     what several of them take
"""
