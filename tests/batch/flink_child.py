"""Runs one job on a job server and writes its rows: flink_child.py JOB WHEN ROOT ENDPOINT OUT.

A process of its own, because Beam's worker threads outlive the job in the process that has them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from batch_harness import compute_tables  # noqa: E402

if __name__ == "__main__":
    job, when, root, endpoint, out = sys.argv[1:]
    args = ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]
    tables = compute_tables(job, Path(root), when, args=args, parts=3)
    Path(out).write_text(json.dumps(tables, default=str))
