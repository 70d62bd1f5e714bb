"""Words that come with the data: statuses, kinds, causes. Here so that they can be translated."""

from __future__ import annotations

from typing import Final

from infra.desk.translation import N_

VALUES: Final = frozenset((
    # stock, ranking; who holds an outlet that nobody holds
    N_("(nobody)"),
    N_("open"), N_("refilled"), N_("ok"), N_("out"), N_("at_risk"), N_("over"), N_("unknown"),
    N_("hall"), N_("partner_hall"), N_("phone_shop"), N_("kiosk"), N_("grocery"),
    N_("delivery"), N_("first_use"), N_("return"), N_("transfer_in"), N_("transfer_out"),
    N_("moved_out"), N_("write_off"),
    # messages and answers
    N_("sent"), N_("delivered"), N_("read"), N_("undelivered"), N_("failed"), N_("canceled"),
    N_("refused"), N_("undeliverable"), N_("stale"),
    N_("acknowledged"), N_("delivering"), N_("cannot"), N_("stop"), N_("start"),
    N_("sms"), N_("page"), N_("provider"), N_("policy"),
    # diversion, commission
    N_("Confirm"), N_("Dismiss"), N_("Open again"),
    N_("alarm"), N_("watch"), N_("this evidence"), N_("other evidence"),
    N_("seller"), N_("shift_lead"), N_("hall_manager"), N_("activation"), N_("dead"),
    N_("diverted"),
    # energy and bills
    N_("region"), N_("voltage"), N_("feeder"), N_("transformer_area"),
    N_("high"), N_("negative"), N_("skipped"), N_("customer"), N_("measured"),
    # which way over a unit's boundary: another "out" than that of a shelf
    N_("side|in"), N_("side|out"),
    N_("estimated"), N_("residential"), N_("commercial"), N_("industrial"),
    N_("property_manager"), N_("demolition_site"), N_("government"),
    # runs
    N_("succeeded"), N_("running"),
    # what contradicts the books, and what was refused
    N_("delivered_twice"), N_("moved_without_transfer"), N_("left_after_use"), N_("not_at_outlet"),
    N_("delivered_after_use"), N_("active_before_delivery"),
    N_("unknown_sim"), N_("unknown_outlet"), N_("unknown_wholesaler"), N_("unknown_type"),
    N_("malformed"), N_("invalid_field"), N_("late"), N_("missing"), N_("unreadable"),
    # papers, logins, the trail
    N_("complete"), N_("incomplete"), N_("not back yet"), N_("zh"), N_("en"),
    N_("viewer"), N_("manager"), N_("admin"), N_("decide"), N_("replay"), N_("log in"),
    N_("log in failed"), N_("password"), N_("add"), N_("role"), N_("disable"), N_("enable"),
    N_("remove"),
))  # fmt: skip
