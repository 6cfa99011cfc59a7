"""``samovar routes``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .groups import ScriptInfo, pass_script_info

IMPLIED = frozenset({"HEAD", "OPTIONS"})
SORTS: dict[str, Callable[[list[str]], Any]] = {
    "endpoint": lambda row: row[0],
    "methods": lambda row: row[1],
    "domain": lambda row: row[3],
    "rule": lambda row: row[2],
}


@click.command("routes")
@click.option(
    "-s", "--sort", type=click.Choice([*SORTS, "match"]), default="endpoint", help="match: as they are tried."
)
@click.option("--all-methods", is_flag=True, help="Show HEAD and OPTIONS too.")
@pass_script_info
def routes_command(info: ScriptInfo, sort: str, all_methods: bool) -> None:
    """Show the routes of the app."""
    app = info.load_app()
    rows = [_row(rule, all_methods) for rule in app.url_map.iter_rules()]
    if not rows:
        click.echo("The app has no routes.")
        return
    if sort in SORTS:
        rows.sort(key=SORTS[sort])
    titles = ["Endpoint", "Methods", "Rule", "Subdomain" if not app.url_map.host_matching else "Host"]
    click.echo("\n".join(table(titles, rows)))


def _row(rule: Any, all_methods: bool) -> list[str]:
    methods = set(rule.methods or ()) - (frozenset() if all_methods else IMPLIED)
    kind = "WEBSOCKET" if rule.websocket else ", ".join(sorted(methods))
    return [rule.endpoint, kind, rule.rule, (rule.host or rule.subdomain) or ""]


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out rows in columns, leaving out columns that are empty in every row."""
    kept = [index for index in range(len(titles)) if any(row[index] for row in rows)]
    cells = [[row[index] for index in kept] for row in [titles, *rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(kept))]
    cells.insert(1, ["-" * width for width in widths])
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
