"""Small cities to look at, and the reference tables of a town made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.simulate import CityPlan, Summary, Truth, read_truth


@dataclass(frozen=True)
class Made:
    """A city on disk."""

    plan: CityPlan
    path: Path
    summary: Summary

    @property
    def truth(self) -> Truth:
        return read_truth(self.path)


PLANS = (
    CityPlan(seed=3, outlets=40, cdrs=3_000, territories=2, wholesalers=5, duplicates=0.05),
    CityPlan(
        seed=4,
        outlets=100,
        cdrs=9_000,
        territories=4,
        wholesalers=9,
        switches=3,
        duplicates=0.1,
        disorder_s=90,
        group_wait_s=120,
    ),
    CityPlan(
        seed=5,
        outlets=30,
        days=2,
        cdrs=4_000,
        territories=1,
        wholesalers=2,
        switches=1,
        cdr_format="parquet",
        disorder_s=5,
        group_wait_s=0,
    ),
)


REFERENCE = {
    "territories": "territory_id,name,parent_id\nT,Town,\n",
    "cells": "cell_id,territory_id\nT.1,T\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\n"
    "W1,One,+8613800000001,,zh\nW2,Two,+8613800000002,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\n"
    "A,Shop A,kiosk,T,2020-01-01,\nB,Shop B,kiosk,T,2020-01-01,\nN,Nobody's,kiosk,T,2020-01-01,\n",
    "assignments": "outlet_id,wholesaler_id,valid_from\n"
    "A,W1,2020-01-01T00:00:00Z\nB,W1,2020-01-01T00:00:00Z\nB,W2,2026-03-02T12:00:00Z\n",
    # Two batches whose ICCIDs run on and whose IMSIs do not, and one of 20 digits.
    "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
    "1,RED,8986000000000000000,460000000000000,10\n"
    "2,BLUE,8986000000000000010,460000000000500,10\n"
    "3,GREEN,89860100000000000000,460000000000900,5\n",
}

Town = Callable[..., Path]
