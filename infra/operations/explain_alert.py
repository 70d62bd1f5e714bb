"""`zerostock alerts explain`: why somebody was or was not told of a stock-out, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console

from infra.settings import Settings
from infra.text import printable
from pipelines.warehouse import Warehouse, open_for_reading
from schemas.errors import UsageError

Row = Mapping[str, Any]

#: Stock-outs of an outlet that are offered when its id is given instead of one of theirs.
_OFFERED: Final = 10

_INCIDENT: Final = """
SELECT
    incident.incident_id AS incident_id, incident.sku AS sku,
    incident.wholesaler_id AS wholesaler_id, wholesalers.name AS wholesaler,
    incident.outlet_id AS outlet_id, outlets.name AS outlet, territories.name AS territory,
    toUnixTimestamp64Milli(incident.opened_at) AS opened_at,
    toUnixTimestamp64Milli(incident.closed_at) AS closed_at,
    incident.withdrawn AS withdrawn
FROM
(
    SELECT * FROM stock_incidents_rows
    WHERE incident_id = {id:String} ORDER BY version DESC LIMIT 1
) AS incident
LEFT JOIN outlets ON outlets.outlet_id = incident.outlet_id
LEFT JOIN territories ON territories.territory_id = outlets.territory_id
LEFT JOIN wholesalers ON wholesalers.wholesaler_id = incident.wholesaler_id
"""
_OF_OUTLET: Final = """
SELECT incident_id, toUnixTimestamp64Milli(opened_at) AS opened_at
FROM stock_incidents WHERE outlet_id = {id:String} ORDER BY opened_at DESC LIMIT {most:UInt32}
"""
_MESSAGES: Final = """
SELECT message_id, body FROM sms_messages WHERE has(incident_ids, {id:String})
"""
#: Answers that came when a stock-out was over bear no id of one.
_EVENTS: Final = """
SELECT toUnixTimestamp64Milli(at) AS at, kind, message_id, detail, by
FROM alert_news
WHERE incident_id = {id:String} OR (incident_id = '' AND message_id IN (
    SELECT message_id FROM sms_messages WHERE has(incident_ids, {id:String})))
ORDER BY at, kind != 'policy_changed', kind
"""

_HELD: Final = {
    "outlet_closed": "the outlet is closed",
    "on_leave": "the wholesaler is on leave",
    "maintenance": "the territory is in maintenance",
    "silenced": "silenced",
    "flapping": "this shelf runs empty again and again",
    "stale": "no message could be sent while it was of use",
    "quiet_hours": "quiet hours",
    "group_wait": "others were being gathered with it",
    "was_not_told": "they never heard that it was empty",
}
_TO: Final = {"phone": "the wholesaler", "backup_phone": "the second phone"}
_WENT: Final = {
    "notified": "told {to}",
    "reminded": "reminded {to}",
    "escalated": "escalated to {to}",
    "note": "told {to} that it is over",
}
_SAID: Final = {
    "acknowledged": "answered: got it", "cannot": "answered: cannot deliver",
    "stop": "asked for no more messages", "start": "asked for messages again",
}  # fmt: skip


class Account(NamedTuple):
    """All that is on record about one stock-out."""

    incident: Row
    events: list[Row]
    messages: dict[str, str]


def explain(settings: Settings, incident_id: str) -> None:
    """Print the account of a stock-out, or the latest ones of the outlet of that id.

    Raises `UsageError` when the warehouse knows neither.
    """
    zone = ZoneInfo(settings.time_zone)
    console = Console(highlight=False)
    warehouse = open_for_reading(data=settings.data, url=settings.warehouse)
    try:
        account = _look_up(warehouse, incident_id)
        if account is None:
            known = warehouse.query(_OF_OUTLET, {"id": incident_id, "most": _OFFERED}).to_pylist()
            if not known:
                raise UsageError(f"no stock-out and no outlet with one is called {incident_id}")
            for row in known:
                line = f"{_time(row['opened_at'], zone, None)}  {row['incident_id']}"
                console.print(printable(line), markup=False, soft_wrap=True)
            return
    finally:
        warehouse.close()
    for line in lines(account, zone):
        console.print(printable(line), markup=False, soft_wrap=True)


def _look_up(warehouse: Warehouse, incident_id: str) -> Account | None:
    found = warehouse.query(_INCIDENT, {"id": incident_id}).to_pylist()
    if not found:
        return None
    bodies = warehouse.query(_MESSAGES, {"id": incident_id}).to_pylist()
    return Account(
        found[0],
        warehouse.query(_EVENTS, {"id": incident_id}).to_pylist(),
        {row["message_id"]: row["body"] for row in bodies},
    )


def lines(account: Account, zone: tzinfo) -> Iterator[str]:
    """The account in words, in the order of time; times are those of `zone`."""
    incident, opened_at = account.incident, account.incident["opened_at"]
    outlet = ", ".join(filter(None, (incident["outlet"], incident["territory"])))
    held_by = " ".join(filter(None, (incident["wholesaler"], f"({incident['wholesaler_id']})")))
    yield f"{incident['incident_id']}: {incident['sku']} at {outlet or incident['outlet_id']}"
    yield (
        f"{'held by ' + held_by if incident['wholesaler_id'] else 'held by nobody'};"
        f" times are those of {zone}"
    )
    yield ""
    yield f"{_time(opened_at, zone, None)}  ran empty"
    shown, closed_at = set(), incident["closed_at"]
    for row in account.events:
        if closed_at is not None and row["at"] > closed_at:
            yield f"{_time(closed_at, zone, opened_at)}  refilled"
            closed_at = None
        if row["kind"] == "resolved":
            continue  # which every stock-out says for itself
        yield f"{_time(row['at'], zone, opened_at)}  {_said(row, zone)}"
        body = account.messages.get(row["message_id"], "")
        if row["kind"] in _WENT and body and row["message_id"] not in shown:
            shown.add(row["message_id"])
            yield f"{'':15}“{body}”"
    if closed_at is not None:
        yield f"{_time(closed_at, zone, opened_at)}  refilled"
    yield ""
    yield _verdict(account)


def _said(row: Row, zone: tzinfo) -> str:
    """One event as a sentence."""
    kind, detail = row["kind"], _detail(row)
    why = detail.get("why", "")
    if kind == "waiting":
        until = detail.get("until")
        lasts = f", until {_time(until, zone, row['at'])}" if until else ", as long as that lasts"
        note = f": {detail['note']}" if detail.get("note") else ""
        by = f" ({row['by']})" if row["by"] not in ("policy", "") else ""
        new = detail.get("policy_at")
        since = f"; the policy changed at {_time(new, zone, row['at'])}" if new else ""
        return f"not told now: {_HELD.get(why, why)}{lasts}{note}{by}{since}"
    if kind == "policy_changed":
        return _new_policy(row, detail, zone)
    if kind == "refilled_in_time":
        waited = detail.get("waited_for", "")
        return f"refilled before anybody was told: {_HELD.get(waited, waited)}"
    to = _addressee(detail.get("to", ""))
    if kind == "not_notified":
        who = f"{to} was not" if to else "nobody was"
        return f"{who} told that it is over: {_HELD.get(why, why)}"
    if kind in _WENT:
        digest = ", in the digest" if detail.get("what") == "digest" else ""
        return _WENT[kind].format(to=to) + digest
    if kind == "delivering":
        due = detail.get("by")
        return "answered: on the way" + (f" by {_time(due, zone, row['at'])}" if due else "")
    if kind == "status":
        code = f" ({detail['code']}: {detail.get('reason', '')})" if detail.get("code") else ""
        return f"the provider says: {detail.get('status', '')}{code}"
    if kind == "withdrawn":
        return "withdrawn: late events show that the shelf was not empty"
    if kind == "overdue":
        return "the delivery that was promised has not come"
    if kind in _SAID:
        text = f" (“{detail['text']}”)" if detail.get("text") else ""
        return _SAID[kind] + text
    return f"{to or 'message'}: {kind}{': ' if why else ''}{why}"


def _new_policy(row: Row, detail: Mapping[str, Any], zone: tzinfo) -> str:
    """What another policy means for a stock-out that waited, or was told."""
    due, was = detail.get("due"), detail.get("was_due")
    if due is None:
        so = "nothing more falls due"
    elif due <= row["at"]:
        so = "it is looked at anew at once"
    else:
        so = f"it is looked at next at {_time(due, zone, row['at'])}"
    before = f" instead of {_time(was, zone, row['at'])}" if was else ""
    return f"policy changed at {_time(detail['changed_at'], zone, row['at'])}, so {so}{before}"


def _verdict(account: Account) -> str:
    """The answer in one sentence."""
    kinds = [row["kind"] for row in account.events]
    told = [row for row in account.events if row["kind"] in ("notified", "escalated")]
    if account.incident["withdrawn"]:
        known = "after somebody was told" if told else "before anybody was told"
        return f"There was no stock-out: that became known {known}."
    if told:
        after = (told[0]["at"] - account.incident["opened_at"]) // 1_000
        spoken = f"{after // 3_600} h {after % 3_600 // 60} min" if after >= 3_600 else f"{after} s"
        answered = {"acknowledged", "delivering", "cannot"}.intersection(kinds)
        return f"Told after {spoken}{'' if answered else '; nobody has answered'}."
    failed = [row for row in account.events if row["kind"] in _FAILED]
    if failed:
        return f"Nobody was told: {_detail(failed[-1]).get('why') or failed[-1]['kind']}."
    reasons = [row for row in account.events if row["kind"] in ("waiting", "refilled_in_time")]
    if reasons:
        detail = _detail(reasons[-1])
        why = detail.get("waited_for") or detail.get("why", "")
        waits = reasons[-1]["kind"] == "waiting" and account.incident["closed_at"] is None
        return f"Nobody {'has been told yet' if waits else 'was told'}: {_HELD.get(why, why)}."
    return "Nothing was decided yet: it is being gathered, or the alerts worker has not come to it."


_FAILED: Final = ("undeliverable", "refused", "failed", "stale")


def _addressee(to: str) -> str:
    return _TO.get(to, f"the channel {to.removeprefix('channel/')}" if to else "")


def _detail(row: Row) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(row["detail"])
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(at: int, zone: tzinfo, since: int | None) -> str:
    """The time, with the day where that is another than that of `since`."""
    local = datetime.fromtimestamp(at / 1_000, zone)
    same = since is not None and datetime.fromtimestamp(since / 1_000, zone).date() == local.date()
    return f"{local:%H:%M:%S}" if same else f"{local:%m-%d %H:%M:%S}"
