"""The way to ClickHouse: one port, two engines, and a loopback server for other processes.

`open_warehouse` and `open_for_reading` choose; `migrate` brings the schema up to date;
`rows` and `reference` say how what flows becomes rows.
"""

from pipelines.warehouse.migrations import migrate
from pipelines.warehouse.open import open_for_reading, open_warehouse
from pipelines.warehouse.port import Warehouse

__all__ = ["Warehouse", "migrate", "open_for_reading", "open_warehouse"]
