"""Tally workers for a test: started, read, and judged against a fold of what was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.child import Child
from services.waiting import wait_until
from wire import Row, create_topic, read, write

_PROGRAM = Path(__file__).with_name("tally_worker.py")

#: One worker a group on the embedded broker, which makes a joining member wait for long sessions;
#: on Kafka short sessions make a killed member's partitions free soon.
SETTINGS = {
    "broker_session_timeout": 2.0,
    "broker_rebalance_timeout": 4.0,
    "broker_heartbeat_interval": 0.5,
    "broker_commit_interval": 0.3,
}


class Tally:
    """A source, a group, and the workers on it."""

    def __init__(self, bootstrap: str, name: str, folder: Path, *, partitions: int = 1) -> None:
        self.bootstrap, self.partitions = bootstrap, partitions
        self.group, self.source, self.effects = f"tally-{name}", f"facts-{name}", f"found-{name}"
        self._folder = folder
        self._written: dict[str, tuple[int, str]] = {}
        self._children: list[Child] = []
        for topic in (self.source, self.effects):
            create_topic(bootstrap, topic, partitions=partitions)
        create_topic(
            bootstrap,
            self.changelog,
            partitions=partitions,
            config={"cleanup.policy": "compact"},
        )

    @property
    def changelog(self) -> str:
        """The changelog topic of the workers' table."""
        return f"{self.group}-tally-changelog"

    def write(self, count: int, *ids: str, keys: int = 7) -> None:
        """Write `count` facts with ids of their own, then those named; keys share partitions."""
        start = len(self._written)
        facts = [f"f{start + i}" for i in range(count)] + list(ids)
        rows = []
        for i, fact in enumerate(facts, start):
            key = f"k{i % keys}"
            partition = (i % keys) % self.partitions
            self._written[fact] = (partition, key)
            body = json.dumps({"id": fact, "key": key}).encode()
            rows.append(Row(body, key.encode(), partition))
        write(self.bootstrap, self.source, rows)

    def folder(self, name: str) -> Path:
        """The data directory of a worker."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self, name: str, *, settings: dict[str, Any] | None = None, **options: Any) -> Child:
        """Start a worker; `options` are those of tally_worker.Options."""
        facts = {
            "bootstrap": self.bootstrap,
            "group": self.group,
            "source": self.source,
            "effects": self.effects,
            "partitions": self.partitions,
            "datadir": str(self.folder(name)),
            "settings": SETTINGS | (settings or {}),
        }
        child = Child(
            [sys.executable, str(_PROGRAM), json.dumps(facts | options)],
            log=self._folder / f"{name}.log",
        )
        self._children.append(child)
        return child

    def close(self) -> None:
        """End all workers."""
        for child in self._children:
            child.kill()

    def done(self) -> set[str]:
        """The ids that some worker has said to be done with."""
        return {line["id"] for child in self._children for line in story(child, "done")}

    def wait_done(self, *, timeout: float = 90) -> None:
        """Wait until all that was written is done, at least once."""
        wait_until(
            lambda: self.done() >= self._written.keys(),
            "all facts to be done",
            timeout=timeout,
            detail=lambda: (
                f"missing {sorted(self._written.keys() - self.done())[:10]}"
                + "".join(child.tail(12) for child in self._children)
            ),
        )

    def judge(self) -> None:
        """Effects and state equal a fold of the source: nothing lost, nothing invented."""
        effects = [
            json.loads(record.value)["id"]
            for partition in range(self.partitions)
            for record in read(self.bootstrap, self.effects, partition=partition)
        ]
        assert set(effects) == self._written.keys()

        expected: dict[tuple[int, str], set[str]] = {}
        for fact, place in self._written.items():
            expected.setdefault(place, set()).add(fact)
        assert self.state() == expected

    def state(self) -> dict[tuple[int, str], set[str]]:
        """What a recovery would find: of each key's records the one furthest in the source."""
        best: dict[tuple[int, str], dict[str, Any]] = {}
        for partition in range(self.partitions):
            for record in read(self.bootstrap, self.changelog, partition=partition):
                place, value = (partition, record.key.decode()), json.loads(record.value)
                if place not in best or value["offset"] >= best[place]["offset"]:
                    best[place] = value
        return {place: set(value["ids"]) for place, value in best.items()}


def story(child: Child, what: str) -> list[dict[str, Any]]:
    """What a worker has said of one kind."""
    mark = f'{{"what": "{what}"'
    return [json.loads(line) for line in child.output().splitlines() if line.startswith(mark)]


def holds(child: Child, partitions: Sequence[int]) -> bool:
    """Whether a worker has last been assigned these partitions and has recovered their state."""
    lines = [
        json.loads(line) for line in child.output().splitlines() if line.startswith('{"what": "')
    ]
    turns = [line for line in lines if line["what"] in ("assigned", "recovered")]
    return (
        len(turns) >= 2
        and turns[-1]["what"] == "recovered"
        and turns[-2].get("partitions") == list(partitions)
    )
