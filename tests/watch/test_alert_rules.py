"""Alert rules and dashboard: well-formed, and about metrics that exist under these names."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.health import Gauges, Pulse
from pipelines.stream import metrics

INFRA = Path(metrics.__file__).parents[2] / "infra"
RULES = yaml.safe_load((INFRA / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((INFRA / "grafana" / "zerostock.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


class Nobody:
    """A worker without partitions."""

    def offsets(self) -> dict[Any, Any]:
        return {}

    def settled(self) -> bool:
        return False


def known() -> dict[str, set[str]]:
    """The labels of each sample that a worker can show."""
    found: dict[str, set[str]] = {}
    for family in Gauges(Nobody(), Pulse(1), list).collect():
        found[family.name] = set(getattr(family, "_labelnames", ()))
    for collector in (v for v in vars(metrics).values() if hasattr(v, "_labelnames")):
        labels = set(collector._labelnames)
        for family in collector.collect():
            ends = {
                "counter": ["_total"],
                "gauge": [""],
                "histogram": ["_bucket", "_sum", "_count"],
            }
            for end in ends[family.type]:
                found[family.name + end] = labels | ({"le"} if end == "_bucket" else set())
    return found


def test_the_names_are_found() -> None:
    assert {"zerostock_sms_messages_total", metrics.STALLED} <= known().keys()
    assert "source" in known()[metrics.WATERMARK_DELAY]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_is_about_metrics_that_exist(expression: str) -> None:
    names = known()
    used = set(re.findall(r"\bzerostock_\w+", expression))
    assert used or 'up{job="zerostock"}' in expression
    assert used <= names.keys()
    labels = set().union(*(names[name] for name in used)) | {"instance", "job"}
    grouped = {
        label for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(", ")
    }
    matched = set(re.findall(r"(\w+)=~?\"", expression))
    assert grouped | matched <= labels
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Zerostock[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "action"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_names_are_used_once() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for expr in EXPRESSIONS for name in re.findall(r"\bzerostock_\w+", expr)}
    missing = {n for n in known() if n not in shown and not n.endswith(("_sum", "_count"))}
    assert missing == set()


def test_names_of_metrics_are_spelled_in_one_place_only() -> None:
    root = INFRA.parent
    for folder in ("schemas", "pipelines", "alerts", "infra"):
        for path in (root / folder).rglob("*.py"):
            if path == Path(metrics.__file__):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                text = node.value if isinstance(node, ast.Constant) else None
                assert not (isinstance(text, str) and text in known()), f"{path}: {text}"


def test_the_scrape_file_reads_the_rules() -> None:
    config = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["rules.yml"]
    assert config["scrape_configs"][0]["job_name"] == "zerostock"
