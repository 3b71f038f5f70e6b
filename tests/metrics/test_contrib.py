"""The alert rules and the Grafana board in contrib/ go with the series, and promtool takes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from knet_trio import DropCause
from knet_trio.metrics import SERIES
from knet_trio.metrics.series import KINDS, OUTCOMES, REASONS
from tests.metrics.boards import RULES, board_queries, read_board, rule_queries
from tests.metrics.scraping import promtool

ROOT = Path(__file__).parents[2]
QUERIES = [*board_queries("1m"), *rule_queries()]
# Of the samples of a histogram.
ENDS = ("_bucket", "_sum", "_count")
VALUES = {"kind": set(KINDS), "direction": {"tx", "rx"}, "to": {"up", "down"}}


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE)


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", RULES)


def test_the_rules_fire_when_they_should() -> None:
    promtool("test", "rules", Path(__file__).with_name("rules.yml"))


def test_every_rule_is_tried() -> None:
    tried = set(re.findall(r"alertname: (\w+)", Path(__file__).with_name("rules.yml").read_text()))
    assert tried == set(alerts())


def test_the_documentation_has_every_alert() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert re.findall(r"^\| `(Knet\w+)` \|", page, re.MULTILINE) == alerts()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_there_is(query: str) -> None:
    known = {one.name for one in SERIES}
    known |= {f"{one.name}{end}" for one in SERIES if one.kind == "histogram" for end in ENDS}
    asked = set(re.findall(r"\bknet_\w+", query))
    assert asked <= known
    assert asked or query.startswith("up{")


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_chooses_by_values_that_there_are(query: str) -> None:
    values = {**VALUES, "cause": set(map(str, DropCause)), "reason": set(map(str, REASONS))}
    values["outcome"] = set(OUTCOMES)
    for label, wanted in re.findall(r'(\w+)!?=~?"([^"]*)"', query):
        if label in values:
            assert set(wanted.split("|")) <= values[label]
        else:
            assert label in ("instance", "host_name", "job")


def test_lost_messages_are_what_the_page_on_drops_says() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ((?:data|mess)[^|]*) \| (?:messages: )?yes \|",
        (ROOT / "docs" / "drops.md").read_text(),
        re.MULTILINE,
    )
    lost = {cause for cause, _ in rows}
    (query,) = re.findall(r'alert: KnetMessagesLost\n +expr: .*cause=~"([^"]*)"', RULES.read_text())
    # That is what somebody has asked for.
    assert set(query.split("|")) == lost - {"forwarding_disabled"}


def test_the_panels_of_the_board_are_told_apart_and_explained() -> None:
    panels = read_board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = [panel for panel in panels if panel["type"] != "row"]
    assert all(panel["description"] and panel["targets"] for panel in shown)
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in panels]
    for number, (x, y, w, h) in enumerate(places):
        assert x + w <= 24
        for other_x, other_y, other_w, other_h in places[:number]:
            apart = x >= other_x + other_w or other_x >= x + w
            assert apart or y >= other_y + other_h or other_y >= y + h


def test_the_board_shows_every_series() -> None:
    text = " ".join(board_queries("1m"))
    assert [one.name for one in SERIES if one.name not in text] == []
