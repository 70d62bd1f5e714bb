"""Who held the outlet of a row, as people call them."""

from __future__ import annotations


def holder(row: str) -> str:
    """The column `wholesaler` of the rows called `row`, to which `w` joins the wholesalers."""
    return (
        f"multiIf({row}.wholesaler_id = '', '(nobody)',"
        f" w.name = '', {row}.wholesaler_id, w.name) AS wholesaler"
    )
