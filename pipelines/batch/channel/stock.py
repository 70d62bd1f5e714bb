"""What the channel job asks of the warehouse: movements, stock-outs, papers, decisions.

Sums are made by ClickHouse; frames come back with times in ms UTC. `zone` names the days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from pipelines.core.channel.shelf_days import ShelfDays, shelf_days

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

DAY = 86_400_000

_MS = "toUnixTimestamp64Milli"
_WHEN = (
    "at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')"
    " AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"
)


@dataclass(frozen=True, slots=True)
class Stock:
    """Queries to the warehouse; days are those of a time zone."""

    warehouse: Warehouse
    zone: str

    def newest(self, end: int) -> int | None:
        """The newest movement before `end`, ms; None where there is none.

        One from a clock gone wrong is left out, as in data_until.
        """
        found = self._query(
            f"SELECT count() AS moves, {_MS}(max(at)) AS newest FROM stock_movements"  # noqa: S608 - names of our own
            " WHERE at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"
            " AND at <= (SELECT until FROM data_until)",
            {"end": end},
        )
        return int(found["newest"][0]) if found["moves"][0] else None

    def days(self, start: int, end: int) -> ShelfDays:
        """All shelves on the days that begin in [start, end)."""
        span = {"start": start, "end": end, "zone": self.zone}
        opening = self._query(
            "SELECT outlet_id, sku, sum(toInt64(delta)) AS on_hand FROM stock_movements"
            " WHERE at < fromUnixTimestamp64Milli({start:Int64}, 'UTC') GROUP BY outlet_id, sku",
            span,
        )
        moved = self._query(
            "SELECT outlet_id, sku, dateDiff('day',"  # noqa: S608 - names of our own
            " toDate(fromUnixTimestamp64Milli({start:Int64}, 'UTC'), {zone:String}),"
            " toDate(at, {zone:String})) AS day, sum(toInt64(delta)) AS net,"
            " toInt64(countIf(delta > 0)) AS came, toInt64(countIf(cause = 'first_use')) AS sold"
            f" FROM stock_movements WHERE {_WHEN} GROUP BY outlet_id, sku, day",
            span,
        )
        first = pl.from_epoch(pl.Series([start, end - 1]), time_unit="ms")
        local = first.dt.replace_time_zone("UTC").dt.convert_time_zone(self.zone).dt.date()
        return shelf_days(opening, moved, (local[1] - local[0]).days + 1)

    def sales(self, before: tuple[int, int], start: int, end: int) -> pl.DataFrame:
        """outlet_id, sales, sales_before (in the span `before`; NULL without a movement of the
        outlet before `start`, or of any on the span's first day), deliveries, received."""
        return self._query(
            "WITH fromUnixTimestamp64Milli({start:Int64}, 'UTC') AS month,"
            " fromUnixTimestamp64Milli({before:Int64}, 'UTC') AS earlier,"
            " fromUnixTimestamp64Milli({until:Int64}, 'UTC') AS then"
            " SELECT outlet_id, toInt64(countIf(cause = 'first_use' AND at >= month)) AS sales,"
            " if(min(at) < month AND"
            " (SELECT min(at) FROM stock_movements) < earlier + INTERVAL 1 DAY,"
            " toInt64(countIf(cause = 'first_use' AND at < then AND at >= earlier)), NULL)"
            " AS sales_before,"
            " toInt64(uniqExactIf(event_id, cause = 'delivery' AND at >= month)) AS deliveries,"
            " toInt64(countIf(cause = 'delivery' AND at >= month)) AS received"
            " FROM stock_movements WHERE at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"
            " GROUP BY outlet_id",
            {"before": before[0], "until": before[1], "start": start, "end": end},
        )

    def first_uses(self, start: int, end: int) -> pl.DataFrame:
        """SIMs sold from shelves, and all that are evidence of diversion, whenever they were sold:
        imsi, iccid, outlet_id, sku, wholesaler_id (who held it then), activated_at."""
        return self._query(
            f"SELECT imsi, iccid, outlet_id, sku, wholesaler_id, {_MS}(at) AS activated_at"  # noqa: S608 - names of our own
            f" FROM stock_movements WHERE cause = 'first_use' AND ({_WHEN}"
            " OR imsi IN (SELECT imsi FROM diversion_evidence))",
            {"start": start, "end": end},
        )

    def incidents(self, start: int, end: int) -> pl.DataFrame:
        """Stock-outs by sales that began: wholesaler_id, opened_at, closed_at, delivered."""
        return self._query(
            f"SELECT wholesaler_id, {_MS}(opened_at) AS opened_ms, {_MS}(closed_at) AS closed_ms,"  # noqa: S608 - names of our own
            " refilled_at IS NOT NULL AS delivered FROM stock_outs_by_sales"
            f" WHERE {_WHEN.replace('at ', 'opened_at ')}",
            {"start": start, "end": end},
        ).select(
            "wholesaler_id",
            # Not named so above: ClickHouse would compare the renamed column in WHERE.
            opened_at="opened_ms",
            closed_at=pl.col("closed_ms").cast(pl.Int64),
            delivered=pl.col("delivered").cast(pl.Boolean),
        )

    def complete_papers(self, end: int) -> pl.DataFrame:
        """imsi of subscribers whose complete papers came back by then."""
        return self._query(
            "SELECT DISTINCT imsi FROM registrations WHERE complete = 1"
            " AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')",
            {"end": end},
        )

    def decided(self, end: int) -> pl.DataFrame:
        """imsi, decision: the SIMs of cases on which something was decided before `end`."""
        return self._query(
            "SELECT DISTINCT evidence.imsi AS imsi, decided.decision AS decision"
            " FROM diversion_evidence AS evidence"
            " JOIN diversion_cases AS found ON found.case_id = evidence.case_id"
            " JOIN (SELECT case_key, evidence_hash,"
            " argMax(diversion_decisions.decision, (decided_at, decision_id)) AS decision"
            " FROM diversion_decisions"
            " WHERE decided_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')"
            " GROUP BY case_key, evidence_hash) AS decided"
            " ON decided.case_key = found.case_key AND decided.evidence_hash = found.evidence_hash",
            {"end": end},
        )

    def taken_back(self, period: str) -> pl.DataFrame:
        """imsi of SIMs that other months than `period` took back and did not give back; whether
        for diversion (diverted)."""
        return self._query(
            "SELECT imsi, countIf(kind = 'diverted') > countIf(kind = 'dismissed') AS diverted"
            " FROM commission_lines WHERE kind != 'activation' AND period != {period:String}"
            " AND length(period) = 7"  # not what runs as of a day foresaw
            " GROUP BY imsi HAVING diverted OR countIf(kind = 'dead') > 0",
            {"period": period},
        ).with_columns(pl.col("diverted").cast(pl.Boolean))

    def _query(self, sql: str, parameters: Mapping[str, object]) -> pl.DataFrame:
        found = pl.from_arrow(self.warehouse.query(sql, parameters))
        assert isinstance(found, pl.DataFrame)
        return found
