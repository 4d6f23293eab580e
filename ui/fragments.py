"""Pieces of HTML that all pages are made of, and the acts that come back from them. Everything that goes in is escaped here.

The pages draw their own HTML instead of using Gradio's inputs: full control over markup, labels and keyboard order, and one way back
for every click and form (`Act`), which handlers check as they would any request. Knows nothing of services or Gradio.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from knowledge_base.database import now
from knowledge_base.errors import UsageError

MAX_FIELD_CHARACTERS = 200_000

ICONS = {
    "up": "M7 10v10H4V10zm3 10h7.2a2 2 0 0 0 2-1.6l1.2-6A2 2 0 0 0 18.4 10H14l.7-3.6A2 2 0 0 0 12.8 4L9 10.2V19a1 1 0 0 0 1 1z",
    "down": "M17 14V4h3v10zm-3-10H6.8a2 2 0 0 0-2 1.6l-1.2 6A2 2 0 0 0 5.6 14H10l-.7 3.6a2 2 0 0 0 1.9 2.4l3.8-6.2V5a1 1 0 0 0-1-1z",
    "again": "M19 12a7 7 0 1 1-2.1-5M19 4v4h-4",
    "pen": "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    "copy": "M9 9h10v11H9zM5 15V4h10",
    "bin": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
    "plus": "M12 5v14M5 12h14",
    "menu": "M4 7h16M4 12h16M4 17h16",
    "send": "M12 19V5M6 11l6-6 6 6",
    "stop": "M7 7h10v10H7z",
    "file": "M7 3h7l4 4v14H7zM14 3v4h4",
    "out": "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
    "funnel": "M4 6h16M7 12h10M10 18h4",
    "clock": "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4l3 2",
}


@dataclass(frozen=True, slots=True)
class Act:
    """Something a person did on a page: the name of the act and its fields, as sent by the browser, so not to be trusted."""

    name: str
    fields: Mapping[str, Sequence[str]]

    def text(self, field: str) -> str:
        """A field's text without edge spaces; empty when it was not sent."""
        values = self.fields.get(field, ())
        return values[-1].strip() if values else ""

    def texts(self, field: str) -> list[str]:
        """All values of a field, as sent for ticked boxes."""
        return list(self.fields.get(field, ()))


def read_act(name: Any, fields: Any) -> Act:
    """Check the shape of what the browser sent.

    Raises:
        UsageError: it is not an act's name with lists of texts, or a text is far too long.
    """
    well_formed = isinstance(name, str) and isinstance(fields, dict)
    if not well_formed or not all(
        isinstance(values, list) and all(isinstance(value, str) for value in values)
        for values in fields.values()
    ):
        raise UsageError("the page sent something unreadable: reload it and try again")
    if any(len(value) > MAX_FIELD_CHARACTERS for values in fields.values() for value in values):
        raise UsageError(f"the text is too long: at most {MAX_FIELD_CHARACTERS:,} characters")
    return Act(name, fields)


def esc(text: object) -> str:
    """Text as HTML text or as a quoted attribute's value."""
    return html.escape(str(text), quote=True)


def icon(name: str) -> str:
    """A line drawing, invisible to screen readers: the button around it carries the words."""
    return (
        "<svg class='t-icon' viewBox='0 0 24 24' aria-hidden='true' focusable='false'>"
        f"<path d='{ICONS[name]}'/></svg>"
    )


def attributes(**values: object) -> str:
    """HTML attributes from names with underscores; None and False are left out, True stands alone.

    >>> attributes(data_act="open", disabled=False, required=True, class_="t-button")
    " data-act='open' required class='t-button'"
    """
    parts = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        shown = name.rstrip("_").replace("_", "-")
        parts.append(f" {shown}" if value is True else f" {shown}='{esc(value)}'")
    return "".join(parts)


def button(
    label: str, act: str, *, kind: str = "", drawn: str = "", only_icon: bool = False, **more: object
) -> str:
    """A button that reports an act.

    Args:
        label: Its words; for a button with a drawing only, what screen readers and the tooltip say.
        act: The act's name.
        kind: `main`, `danger`, `quiet` or nothing.
        drawn: Name of an icon.
        only_icon: Show the drawing without the words.
        **more: Further attributes; `data_*` come back as the act's fields.
    """
    picture = icon(drawn) if drawn else ""
    words = "" if only_icon else f"<span>{esc(label)}</span>"
    spoken = label if only_icon else None
    css = " ".join(part for part in ("t-button", kind, "icon" if only_icon else "") if part)
    own = attributes(type="button", class_=css, data_act=act, aria_label=spoken, title=spoken)
    return f"<button{own}{attributes(**more)}>{picture}{words}</button>"


def form(act: str, body: str, **more: object) -> str:
    """A form that reports an act with its fields when it is sent; `body` is HTML."""
    return f"<form{attributes(data_act=act, autocomplete='off')}{attributes(**more)}>{body}</form>"


def field(label: str, name: str, *, value: str = "", hint: str = "", **more: object) -> str:
    """A labelled one-line input."""
    note = f"<small>{esc(hint)}</small>" if hint else ""
    return f"<label class='t-field'><span>{esc(label)}</span><input{attributes(name=name, value=value)}{attributes(**more)}>{note}</label>"


def choice(
    label: str, name: str, options: Sequence[tuple[str, str]], *, chosen: str = "", **more: object
) -> str:
    """A labelled list to choose one from; options are (value, words)."""
    return f"<label class='t-field'><span>{esc(label)}</span>{select(name, options, chosen=chosen, **more)}</label>"


def select(name: str, options: Sequence[tuple[str, str]], *, chosen: str = "", **more: object) -> str:
    """The list alone; give it `aria_label` where no label stands beside it."""
    items = "".join(
        f"<option{attributes(value=value, selected=value == chosen)}>{esc(words)}</option>"
        for value, words in options
    )
    return f"<select{attributes(name=name)}{attributes(**more)}>{items}</select>"


def notice(text: str, kind: str = "ok") -> str:
    """A line that tells how an act went: kind `ok` or `error`. Empty text gives nothing."""
    if not text:
        return ""
    role = "alert" if kind == "error" else "status"
    # The number makes equal messages differ, so that the second one is shown again.
    return f"<div class='t-notice {kind}' role='{role}' data-at='{now().timestamp()}'>{esc(text)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, caption: str) -> str:
    """A table; cells are HTML, head and caption are text. Without rows the `empty` line."""
    if not rows:
        return f"<p class='t-empty-line'>{esc(empty)}</p>"
    top = "".join(f"<th scope='col'>{esc(name)}</th>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td data-label='{esc(name)}'>{cell}</td>" for name, cell in zip(head, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class='t-scroll'><table class='t-table'><caption>{esc(caption)}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def card(title: str, body: str, *, aside: str = "", css: str = "", heading_id: str = "") -> str:
    """A titled block; body and aside are HTML."""
    head = f"<h2{attributes(id=heading_id or None)}>{esc(title)}</h2>"
    return f"<section class='t-card {css}'><header>{head}{aside}</header>{body}</section>"


def figure(value: str, label: str, hint: str = "") -> str:
    """One number with its name."""
    note = f"<small>{esc(hint)}</small>" if hint else ""
    return f"<div class='t-figure'><strong>{esc(value)}</strong><span>{esc(label)}</span>{note}</div>"


def progress_bar(done: float, total: float, label: str) -> str:
    """A bar; without a known total it moves to and fro."""
    known = attributes(max=total, value=min(done, total)) if total > 0 else ""
    return f"<progress class='t-bar'{known} aria-label='{esc(label)}'></progress>"


def badge(text: str, kind: str = "") -> str:
    """A small word in a pill."""
    return f"<span class='t-badge {kind}'>{esc(text)}</span>"


def ago(at: datetime | None, present: datetime | None = None) -> str:
    """A time as a person would say it, the exact one in the tooltip. Empty for None."""
    if at is None:
        return ""
    exact = f"{at:%Y-%m-%d %H:%M} UTC"
    return f"<time datetime='{at.isoformat()}' title='{exact}'>{describe_age(at, present or now())}</time>"


def describe_age(at: datetime, present: datetime) -> str:
    """How long ago, in words; a date after a week.

    >>> from datetime import UTC, datetime
    >>> describe_age(datetime(2026, 1, 1, 9, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC))
    '3 h ago'
    """
    seconds = (present - at).total_seconds()
    if seconds < 60:
        return "just now"
    for limit, size, unit in ((3_600, 60, "min"), (86_400, 3_600, "h"), (7 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return f"{at:%d %b %Y}"


def describe_seconds(seconds: float) -> str:
    """A duration in words.

    >>> describe_seconds(95), describe_seconds(4000)
    ('1 min 35 s', '1 h 6 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"
