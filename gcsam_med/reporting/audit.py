"""What `prepare` found in the data, as parts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gcsam_med.reporting.page import Column, Part, Row, Table

MAX_ROWS = 50


def audit_parts(audit: Mapping[str, Any]) -> list[Part]:
    """Show an ``audit.json`` of any layout: numbers and texts as facts, lists as folded tables."""
    facts: list[tuple[str, str]] = []
    tables: list[Part] = []
    for key, value in audit.items():
        title = str(key).replace("_", " ")
        if key == "schema":
            continue
        if isinstance(value, Mapping):
            facts += [(f"{title}: {name}", _short(item)) for name, item in list(value.items())[:MAX_ROWS]]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            facts.append((title, f"{len(value):,}"))
            if value:
                tables.append(Part(table=_table(title, value), folded=f"Show {title} ({len(value):,})"))
        else:
            facts.append((title, _short(value)))
    return [Part("Audit", facts=facts), *tables] if facts else []


def _table(title: str, items: Sequence[Any]) -> Table:
    more = f", the first {MAX_ROWS}" if len(items) > MAX_ROWS else ""
    shown = list(items[:MAX_ROWS])
    if all(isinstance(item, Mapping) for item in shown):
        names = list(dict.fromkeys(name for item in shown for name in item))
        rows = [Row([_short(item.get(name)) for name in names]) for item in shown]
        return Table(f"{title}{more}", [Column(str(n).replace("_", " ")) for n in names], rows)
    return Table(f"{title}{more}", [Column(title)], [Row([_short(item)]) for item in shown])


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_short(v)}" for k, v in list(value.items())[:12])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_short(v) for v in list(value)[:12]) + (", ..." if len(value) > 12 else "")
    return str(value)
