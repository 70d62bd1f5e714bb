"""Names, keys and partitioning of the Kafka topics: the one place that knows them.

| topic            | partitioned by | what it carries                                    |
| ---------------- | -------------- | -------------------------------------------------- |
| sim-events       | SIM block      | uses and placements, with their source's watermark |
| stock-movements  | outlet         | movements, with the SIM partition's watermark      |
| stock-incidents  | wholesaler     | openings and closings, with the outlet partition's |
| stock-levels     | outlet         | on hand per outlet and SKU after each change       |
| sms-messages     | wholesaler     | what became of each message                        |
| anomalies        | SIM block      | what contradicted the rules                        |
| registrations    | SIM block      | papers that came back                              |
| case-events      | case, matter   | events of cases (openings by matter), as sim-events |
| cases            | case           | the same, openings with what they repeat           |
| case-states      | case           | cases and steps as they stand after each change    |
| service-records  | unit           | contacts, inspections, ratings, exams              |
| dead-letters     | source         | what could not be used, with its bytes             |
| ingest-positions | source         | how far each file was read (compacted)             |
"""

from __future__ import annotations

from typing import TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

#: One number, or a column of them.
Numbers = TypeVar("Numbers", int, npt.NDArray[np.int64])

SIM_EVENTS = "sim-events"
STOCK_MOVEMENTS = "stock-movements"
STOCK_INCIDENTS = "stock-incidents"
STOCK_LEVELS = "stock-levels"
SMS_MESSAGES = "sms-messages"
ANOMALIES = "anomalies"
REGISTRATIONS = "registrations"
CASE_EVENTS = "case-events"
CASES = "cases"
CASE_STATES = "case-states"
SERVICE_RECORDS = "service-records"
DEAD_LETTERS = "dead-letters"
INGEST_POSITIONS = "ingest-positions"

#: Consecutive SIMs that share a partition and one entry of the state table.
SIM_BLOCK = 1_000


def block_of(imsi: Numbers) -> Numbers:
    """The SIM block of an IMSI; works on numpy arrays as well."""
    return imsi // SIM_BLOCK


def partition_of_block(block: Numbers, partitions: int) -> Numbers:
    """Neighbouring blocks go to different partitions, so a busy batch spreads; vectorises."""
    return block % partitions


def partition_of_key(key: str, partitions: int) -> int:
    """Stable across processes and machines, unlike `hash`."""
    return crc32(key.encode()) % partitions
