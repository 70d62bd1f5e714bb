"""What the channel job reads and writes: data sets and tables."""

from __future__ import annotations

from pipelines.batch.engine.columns import Dataset, imsi, month, number, text, time, whole
from pipelines.batch.engine.tables import ResultTable

# A call without a length or place still shows that its SIM is in use.
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

RANKING = ResultTable("outlet_ranking")
SCORECARD = ResultTable("wholesaler_scorecard")
CASES = ResultTable("diversion_cases")
EVIDENCE = ResultTable("diversion_evidence")
COMMISSION = ResultTable("commission")
LINES = ResultTable("commission_lines")
HALLS = ResultTable("hall_assessment")

TABLES = (RANKING, SCORECARD, CASES, EVIDENCE, COMMISSION, LINES, HALLS)
