"""What the channel job reads and writes: data sets and tables."""

from __future__ import annotations

import pyarrow as pa

from pipelines.batch.engine.columns import Dataset, imsi, month, number, text, time, whole
from pipelines.batch.engine.tables import REAL, TEXT, TIME, WHOLE, ResultTable

# A call that nobody knows the length or place of shows that its SIM lives.
CALLS = Dataset(
    "cdr",
    (text("call_id"), time("start_time"), imsi("imsi"),
     number("duration_s", least=0, most=1e9, required=False), text("cell_id", required=False)),
    optional=True,
    folders=("",),
    calls=True,
)  # fmt: skip

MARKS = Dataset(
    "hall_marks",
    (month("period"), text("outlet_id"), whole("target", least=1),
     *(number(name, least=0, most=100) for name in ("inspection", "satisfaction", "complaints"))),
    optional=True,
    folders=("channel", "utility", ""),
)  # fmt: skip

RANKING = ResultTable(
    "outlet_ranking",
    ("period", "outlet_id"),
    {
        "period": TEXT, "outlet_id": TEXT, "wholesaler_id": TEXT, "territory_id": TEXT,
        "sales": WHOLE, "sales_before": WHOLE, "growth": REAL, "sales_rank": WHOLE,
        "deliveries": WHOLE, "received": WHOLE, "on_hand": WHOLE, "shelf_days": WHOLE,
        "shelf_days_out": WHOLE, "stock_out_rate": REAL, "daily_sales": REAL, "lost_sales": REAL,
        "days_of_cover": REAL, "status": TEXT, "promote": pa.uint8(), "reasons": TEXT,
    },
)  # fmt: skip

SCORECARD = ResultTable(
    "wholesaler_scorecard",
    ("period", "wholesaler_id"),
    {
        "period": TEXT, "wholesaler_id": TEXT, "incidents": WHOLE, "due": WHOLE, "on_time": WHOLE,
        "timeliness": REAL, "stock_outs_open": WHOLE, "activations": WHOLE,
        "complete_papers": WHOLE, "completeness": REAL, "diversion_cases": WHOLE,
        "diversion_alarms": WHOLE, "diverted_sims": WHOLE,
    },
)  # fmt: skip

CASES = ResultTable(
    "diversion_cases",
    ("period", "case_id"),
    {
        "case_id": TEXT, "case_key": TEXT, "evidence_hash": TEXT, "period": TEXT,
        "outlet_id": TEXT, "wholesaler_id": TEXT, "sims": WHOLE, "away": WHOLE, "share": REAL,
        "low": REAL, "high": REAL, "level": TEXT,
    },
)  # fmt: skip

EVIDENCE = ResultTable(
    "diversion_evidence",
    ("period", "case_id", "imsi"),
    {
        "period": TEXT, "case_id": TEXT, "imsi": WHOLE, "iccid": TEXT, "activated_at": TIME,
        "calls": WHOLE, "seconds": WHOLE, "seconds_away": WHOLE, "away_share": REAL,
    },
)  # fmt: skip

COMMISSION = ResultTable(
    "commission",
    ("period", "role", "outlet_id"),
    {
        "period": TEXT, "role": TEXT, "outlet_id": TEXT, "activations": WHOLE, "base_fen": WHOLE,
        "target": WHOLE, "attainment": REAL, "factor": REAL, "clawback_fen": WHOLE,
        "amount_fen": WHOLE, "explanation": TEXT,
    },
)  # fmt: skip

LINES = ResultTable(
    "commission_lines",
    ("period", "outlet_id", "kind", "imsi"),
    {
        "period": TEXT, "outlet_id": TEXT, "wholesaler_id": TEXT, "kind": TEXT, "imsi": WHOLE,
        "iccid": TEXT, "sku": TEXT, "activated_at": TIME, "fee_fen": WHOLE, "amount_fen": WHOLE,
        "explanation": TEXT,
    },
)  # fmt: skip

HALLS = ResultTable(
    "hall_assessment",
    ("period", "outlet_id"),
    {
        "period": TEXT, "outlet_id": TEXT, "sales": WHOLE, "target": WHOLE, "sales_score": REAL,
        "inspection": REAL, "satisfaction": REAL, "complaints": REAL, "service_score": REAL,
        "score": REAL,
    },
)  # fmt: skip

TABLES = (RANKING, SCORECARD, CASES, EVIDENCE, COMMISSION, LINES, HALLS)
