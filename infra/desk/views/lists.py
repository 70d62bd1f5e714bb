"""The views that are one table each."""

from __future__ import annotations

from typing import Final

from infra.desk.tables import Column, Listing

LISTINGS: Final = (
    Listing(
        "/outlets",
        "Outlets",
        "SIMs on hand in every shop, the emptiest first.",
        """SELECT s.outlet_id AS outlet_id, o.name AS outlet, t.name AS territory, s.sku AS sku,
                  s.on_hand AS on_hand, w.name AS wholesaler, s.as_of AS as_of
           FROM stock_on_hand AS s
           LEFT JOIN outlets AS o ON o.outlet_id = s.outlet_id
           LEFT JOIN territories AS t ON t.territory_id = o.territory_id
           LEFT JOIN wholesalers AS w ON w.wholesaler_id = s.wholesaler_id""",
        (
            Column("outlet_id", "Outlet", link="/outlets/"),
            Column("outlet", "Name"),
            Column("territory", "Territory"),
            Column("sku", "SKU"),
            Column("on_hand", "On hand (SIMs)", number=True),
            Column("wholesaler", "Wholesaler"),
            Column("as_of", "As of (UTC)"),
        ),
        "on_hand",
        down=False,
    ),
    Listing(
        "/ranking",
        "Ranking",
        "Sales, growth, stock-outs and cover of every shop.",
        "SELECT * FROM outlet_ranking",
        (
            Column("period", "Period"),
            Column("outlet_id", "Outlet", link="/outlets/"),
            Column("sales", "Sales (SIMs)", number=True),
            Column("growth", "Growth (share)", number=True),
            Column("shelf_days_out", "Days out (shelf-days)", number=True),
            Column("lost_sales", "Lost sales (SIMs)", number=True),
            Column("days_of_cover", "Cover (days)", number=True),
            Column("status", "Status"),
        ),
        "sales",
        filled_by="zerostock batch channel",
    ),
    Listing(
        "/wholesalers",
        "Wholesalers",
        "Delivery timeliness, papers and stock-outs of every wholesaler.",
        "SELECT * FROM wholesaler_scorecard",
        (
            Column("period", "Period"),
            Column("wholesaler_id", "Wholesaler"),
            Column("timeliness", "On time (share)", number=True),
            Column("incidents", "Stock-outs", number=True),
            Column("stock_outs_open", "Open", number=True),
            Column("activations", "New subscribers", number=True),
            Column("completeness", "Papers complete (share)", number=True),
            Column("diversion_cases", "Diversion cases", number=True),
        ),
        "stock_outs_open",
        filled_by="zerostock batch channel",
    ),
    Listing(
        "/diversion",
        "Diversion",
        "SIMs used away from where they were sold.",
        "SELECT * FROM diversion_cases",
        (
            Column("period", "Period"),
            Column("outlet_id", "Outlet", link="/outlets/"),
            Column("wholesaler_id", "Wholesaler"),
            Column("sims", "Sample (SIMs)", number=True),
            Column("away", "Away (SIMs)", number=True),
            Column("share", "Share", number=True),
            Column("level", "Level"),
            Column("status", "Status"),
        ),
        "share",
        filled_by="zerostock batch channel",
    ),
    Listing(
        "/batch-runs",
        "Batch runs",
        "What the batch jobs read, refused and wrote.",
        "SELECT * FROM batch_runs",
        (
            Column("started_at", "Started (UTC)"),
            Column("job", "Job"),
            Column("period", "Period"),
            Column("rows_read", "Read (rows)", number=True),
            Column("rows_rejected", "Refused (rows)", number=True),
            Column("rows_written", "Written (rows)", number=True),
            Column("status", "Status"),
        ),
        "started_at",
        filled_by="zerostock batch",
    ),
    # Not the payload: it holds subscribers' numbers. `zerostock dead-letters` shows it.
    Listing(
        "/dead-letters",
        "Dead letters",
        "Input that could not be used. `zerostock dead-letters` shows the bytes and replays them.",
        "SELECT source, position, received_at, reason FROM dead_letters",
        (
            Column("received_at", "Received (UTC)"),
            Column("source", "Source"),
            Column("position", "Position", number=True),
            Column("reason", "Reason"),
        ),
        "received_at",
    ),
)
