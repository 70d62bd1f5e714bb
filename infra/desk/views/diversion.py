"""*Diversion case*: the SIMs used elsewhere, what was decided, and deciding."""

from __future__ import annotations

import time
import uuid
from typing import Final
from urllib.parse import quote

import pyarrow as pa

from infra.desk.freshness import of_job
from infra.desk.page import Answer, Page, Redirect, ViewRequest
from infra.desk.parts import ColumnSpec, CustomSection, Facts, Figure, Figures, Row, TableSection
from infra.desk.translation import N_
from infra.desk.views.common import named, not_found
from infra.desk.views.lists import CHANNEL

_CASE: Final = named("(SELECT * FROM diversion_cases WHERE case_id = {case:String})")
_EVIDENCE: Final = """
SELECT imsi, iccid, activated_at, calls, seconds, seconds_away, away_share
FROM diversion_evidence WHERE case_id = {case:String}
ORDER BY away_share DESC, seconds DESC, imsi LIMIT 1001
"""
_HISTORY: Final = """
SELECT decided_at, decision, decided_by, why,
       if(evidence_hash = {hash:String}, 'this evidence', 'other evidence') AS of
FROM diversion_decisions WHERE case_key = {key:String}
ORDER BY decided_at DESC, decision_id
"""
DECISIONS: Final = (N_("confirmed"), N_("dismissed"), N_("suspected"))
_LONGEST: Final = 1_000


def page(request: ViewRequest, trouble: str = "") -> Page:
    """One case and its evidence; 404 for one that there is not."""
    case = _case(request)
    if case is None:
        return not_found(N_("Diversion case"), N_("See all cases"), "/diversion")
    history = request.rows(_HISTORY, {"key": case["case_key"], "hash": case["evidence_hash"]})
    return Page(
        N_("Diversion case"),
        [
            Figures([
                Figure(N_("SIMs used elsewhere"), case["away"]),
                Figure(N_("of a sample of"), case["sims"]),
                Figure(N_("Share"), case["share"], "share", tone="bad"),
                Figure(N_("At least (95 %)"), case["low"], "share"),
                Figure(N_("At most (95 %)"), case["high"], "share"),
            ]),
            Facts([
                Figure(N_("Outlet"), case["outlet"], "text",
                       link=f"/outlets/{quote(case['outlet_id'], '')}"),
                Figure(N_("Wholesaler"), case["wholesaler"], "text",
                       link=f"/wholesalers/{quote(case['wholesaler_id'], '')}"),
                Figure(N_("Period"), case["period"], "text"),
                Figure(N_("Level"), case["level"], "status"),
                Figure(N_("Status"), case["status"], "status"),
            ]),
            CustomSection("decide.html.j2", {"case": case, "decisions": DECISIONS,
                "trouble": trouble,
                                     "most": _LONGEST, "why": request.form.get("why", "")}),
            TableSection(N_("What was decided"), (
                ColumnSpec("decided_at", N_("When"), "time"),
                ColumnSpec("decision", N_("Decision"), "status"),
                ColumnSpec("decided_by", N_("Who"), "text"), ColumnSpec("of", N_("On"), "status"),
                ColumnSpec("why", N_("Why"), "long"),
            ), history, N_("Nothing was decided about this outlet and wholesaler yet.")),
            TableSection(N_("The evidence: SIMs used away from where they were sold"), (
                ColumnSpec("iccid", N_("Card"), "secret", link="/sims/"),
                ColumnSpec("imsi", N_("Subscriber"), "secret"),
                ColumnSpec("activated_at", N_("Activated"), "time"),
                ColumnSpec("calls", N_("Calls"), "number"),
                ColumnSpec("seconds", N_("Call time (s)"), "number"),
                ColumnSpec("seconds_away", N_("Elsewhere (s)"), "number"),
                ColumnSpec("away_share", N_("Share"), "share"),
            ), request.rows(_EVIDENCE, {"case": case["case_id"]}),
                N_("No SIM was used elsewhere."), limit=1000),
        ],
        name=f"{case['outlet']} · {case['wholesaler']}",
        status=422 if trouble else 200,
        freshness=of_job(request, CHANNEL, case["period"]),
    )  # fmt: skip


def decide(request: ViewRequest) -> Answer:
    """A decision was sent; it holds for the evidence that its form showed."""
    case = _case(request)
    if case is None:
        return page(request)
    decision, why = request.form.get("decision", ""), request.form.get("why", "").strip()
    if decision not in DECISIONS:
        return page(request, N_("Choose a decision."))
    if not 0 < len(why) <= _LONGEST:
        return page(request, N_("Give the reason in a sentence: others will read it."))
    if request.form.get("evidence") != case["evidence_hash"]:
        return page(
            request,
            N_("The evidence has changed since you looked. Look again, then decide."),
        )
    if decision == case["status"]:  # sent twice
        return Redirect(f"/diversion/{quote(case['case_id'])}")
    request.warehouse.insert("diversion_decisions", _row(request, case, decision, why))
    request.note("decide", f"{decision}: {case['case_id']}", why)
    return Redirect(f"/diversion/{quote(case['case_id'])}")


def _case(request: ViewRequest) -> Row | None:
    return request.row(_CASE, {"case": request.path["case"]})


def _row(request: ViewRequest, case: Row, decision: str, why: str) -> pa.Table:
    now = pa.array([time.time_ns() // 1_000_000], pa.timestamp("ms", tz="UTC"))
    return pa.table({
        "decision_id": [uuid.uuid4().hex],
        "case_key": [case["case_key"]],
        "evidence_hash": [case["evidence_hash"]],
        "decision": [decision],
        "decided_by": [request.visitor.name],
        "decided_at": now,
        "why": [why],
    })  # fmt: skip
