"""How much is bought where and when: kinds of outlet, hours of the day, days of the week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SKUS: Final = ("CARD-20", "CARD-50", "DATA-100")


@dataclass(frozen=True)
class Kind:
    """`daily` is SIMs sold on a mean day; `carries` the chances of stocking 1, 2 or 3 SKUs."""

    name: str
    zh: str
    share: float
    daily: float
    carries: tuple[float, float, float]
    hours: tuple[int, ...]


def _day(opens: int, closes: int, *peaks: int) -> tuple[int, ...]:
    """Weights of 24 hours: shut at night, even by day, triple at the peaks."""
    return tuple((3 if h in peaks else 1) if opens <= h < closes else 0 for h in range(24))


KINDS: Final = (
    Kind("hall", "营业厅", 0.01, 24.0, (0, 0, 1), _day(9, 18, 10, 11, 15)),
    Kind("partner_hall", "合作厅", 0.04, 13.0, (0, 0.2, 0.8), _day(9, 20, 11, 18)),
    Kind("phone_shop", "手机店", 0.25, 4.0, (0.2, 0.5, 0.3), _day(9, 22, 12, 18, 19, 20)),
    Kind("kiosk", "报刊亭", 0.40, 0.9, (0.6, 0.4, 0), _day(6, 21, 7, 8, 17)),
    Kind("grocery", "便利店", 0.30, 1.2, (0.5, 0.4, 0.1), _day(7, 23, 18, 19, 20, 21)),
)

#: Monday to Sunday: offices shop at lunch on weekdays, families at the weekend.
WEEKDAYS: Final = (0.9, 0.85, 0.9, 0.95, 1.1, 1.3, 1.2)

#: Calls by hour of the day, all subscribers together.
CALLS: Final = (
    2, 1, 1, 1, 1, 2, 6, 14, 26, 36, 38, 36, 30, 28, 32, 34, 36, 40, 42, 40, 34, 24, 12, 5,
)  # fmt: skip
