"""Airflow: the month's line loss, then the meters worth a visit.

A run covers Airflow's data interval, so that a backfill computes each month that was missed. The
workers need `zerostock` on their path and ZEROSTOCK_WAREHOUSE in their environment.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum  # type: ignore[import-not-found]
from airflow import DAG  # type: ignore[import-not-found]
from airflow.operators.bash import BashOperator  # type: ignore[import-not-found]

_ZONE = "Asia/Shanghai"
_MONTH = "{{ data_interval_start.in_timezone('Asia/Shanghai').strftime('%Y-%m') }}"


def _run(job: str) -> BashOperator:
    return BashOperator(
        task_id=job,
        bash_command=f"zerostock batch {job} --period {_MONTH}"
        f" --input /data/exports --time-zone={_ZONE}",
    )


with DAG(
    "zerostock_monthly",
    schedule="30 2 1 * *",
    start_date=pendulum.datetime(2026, 1, 1, tz=_ZONE),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=15)},
):
    _run("line-loss") >> _run("meter-suspects")
