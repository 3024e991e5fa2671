"""Tiles, tables and notes as HTML, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from IPython.display import HTML

NOTHING, MINUS = "–", "−"
DAY_S, YEAR_S = 86_400, 365.25 * 86_400
TEXT = ("text", str)
COUNT = ("number", "{:,.0f}".format)
TENTH = ("number", "{:,.1f}".format)
KM = ("number", lambda metres: f"{metres / 1000:,.1f}")
MINUTES = ("number", lambda seconds: f"{seconds / 60:,.0f}")
SHARE = ("number", lambda share: percent(share))
LIST = ("text", lambda items: " · ".join(str(item) for item in items) or NOTHING)
Form = tuple[str, Callable[..., str]]


def amount(value: float) -> str:
    """A whole number, or one decimal where the number is small."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:,.1f}"


def counted(number: int, name: str) -> str:
    """A count with its noun."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share of 1 as per cent; what is not nothing never reads as nothing."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def offset(seconds: float) -> str:
    """How far a clock is off, in the unit one would say it in."""
    size = abs(seconds)
    if size < 90:
        return f"{seconds:+.0f} s".replace("-", MINUS)
    if size > YEAR_S:
        return f"{seconds / YEAR_S:+,.1f} years".replace("-", MINUS)
    if size > 2 * DAY_S:
        return f"{seconds / DAY_S:+,.1f} d".replace("-", MINUS)
    sign = "+" if seconds > 0 else MINUS
    hours, minutes = divmod(round(size / 60), 60)
    return f"{sign}{hours} h {minutes:02d} min" if hours else f"{sign}{minutes} min"


OFFSET = ("number", offset)


def tiles(values: Iterable[tuple[str, str, str]]) -> HTML:
    """A row of tiles: value, unit, what it is."""
    made = (
        f'<div class="tile"><b>{escape(value)}</b><i>{escape(unit)}</i><span>{escape(name)}</span>'
        "</div>"
        for value, unit, name in values
    )
    return HTML(f'<div class="tiles">{"".join(made)}</div>')


def table(rows: Sequence[Sequence], columns: Sequence[tuple[str, Form]], more: int = 0) -> HTML:
    """Rows under (heading, form) columns; `more` says how many rows were left out."""
    head = "".join(f'<th class="{kind}">{escape(name)}</th>' for name, (kind, _) in columns)
    body = "".join(f"<tr>{_cells(row, columns)}</tr>" for row in rows)
    foot = f'<p class="more">and {more:,} more</p>' if more > 0 else ""
    heading = f"<thead><tr>{head}</tr></thead>"
    return HTML(f'<table class="facts">{heading}<tbody>{body}</tbody></table>{foot}')


def note(text: str) -> HTML:
    """One sentence where there is nothing to draw."""
    return HTML(f'<p class="note">{escape(text)}</p>')


def _cells(row: Sequence, columns: Sequence[tuple[str, Form]]) -> str:
    return "".join(
        f'<td class="{kind}">{NOTHING if value is None else escape(write(value))}</td>'
        for value, (_, (kind, write)) in zip(row, columns, strict=True)
    )
