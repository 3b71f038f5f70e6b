"""The queries of the Grafana board and the alert rules in contrib/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

CONTRIB = Path(__file__).parents[2] / "contrib"
BOARD = CONTRIB / "grafana" / "knet.json"
RULES = CONTRIB / "prometheus" / "knet.rules.yml"


def read_board() -> dict[str, Any]:
    """The board."""
    board: dict[str, Any] = json.loads(BOARD.read_text())
    return board


def board_queries(rates_over: str) -> list[str]:
    """The queries of all panels, for all hosts.

    Args:
        rates_over: The time that rates are over.
    """
    values = {"$__rate_interval": rates_over, "$instance": ".*", "$host": ".*"}
    queries: list[str] = []
    for panel in read_board()["panels"]:
        for target in panel.get("targets", []):
            query: str = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            assert "$" not in query
            queries.append(query)
    return queries


def rule_queries() -> list[str]:
    """What the rules ask for. Each stands in a line of its own."""
    return re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)
