"""The source viewer: a document's text with the cited place marked, for people who may read it. Pure text to HTML.

Knows nothing of access rules (the store checks them) and of the original file's format. Everything is escaped: a document is data.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from knowledge_base.records import DocumentText, Section
from ui.auth import page


def render_document(document: DocumentText, *, start: int | None = None, end: int | None = None) -> str:
    """A page with the document's text.

    Args:
        document: Text and sections.
        start: Offset of the first character to mark; None marks nothing.
        end: Offset after the last one.
    """
    marked = _valid_range(start, end, len(document.text))
    body = "".join(_render_section(document.text, section, marked) for section in _sections(document))
    info = document.document
    crumbs = (
        f"<div class='crumbs'><a href='/chat/'>Chat</a><span>{html.escape(info.collection)}</span>"
        f"<span>{html.escape(info.path)}</span><a href='/api/documents/{info.id}/file'>Original file</a></div>"
    )
    updated = f"<p class='muted'>Last ingested {info.updated_at:%Y-%m-%d %H:%M} UTC</p>"
    jump = (
        "<script>document.querySelector('mark')?.scrollIntoView({block:'center'})</script>" if marked else ""
    )
    return page(
        info.title, f"{crumbs}<h1>{html.escape(info.title)}</h1>{updated}<article>{body}</article>{jump}"
    )


def _valid_range(start: int | None, end: int | None, length: int) -> tuple[int, int] | None:
    if start is None or end is None or not 0 <= start < end:
        return None
    # The document may have been replaced by a shorter one since the answer: then there is no place to show.
    return (start, end) if end <= length else None


def _sections(document: DocumentText) -> Sequence[Section]:
    return document.sections or (Section(start=0, end=len(document.text), heading_path=(), page=None),)


def _render_section(text: str, section: Section, marked: tuple[int, int] | None) -> str:
    start = section.start
    parts = []
    if section.page is not None:
        parts.append(f"<p class='muted' id='page-{section.page}'>Page {section.page}</p>")
    heading = section.heading_path[-1] if section.heading_path else ""
    first_line, _, _ = text[start : section.end].lstrip().partition("\n")
    if heading and first_line.strip() == heading.strip():
        level = min(len(section.heading_path) + 1, 4)
        heading_at = text.index(first_line, start)
        # The mark may lie in the heading itself; then it stays an ordinary, marked line.
        if marked is None or marked[0] >= heading_at + len(first_line):
            parts.append(f"<h{level}>{html.escape(heading)}</h{level}>")
            start = heading_at + len(first_line)
    parts.append(f"<p>{_mark(text, start, section.end, marked)}</p>")
    return "".join(parts)


def _mark(text: str, start: int, end: int, marked: tuple[int, int] | None) -> str:
    if marked is None or marked[1] <= start or marked[0] >= end:
        return html.escape(text[start:end].strip("\n"))
    left, right = max(start, marked[0]), min(end, marked[1])
    before, inside, after = text[start:left], text[left:right], text[right:end]
    return f"{html.escape(before.lstrip())}<mark>{html.escape(inside)}</mark>{html.escape(after.rstrip())}"


def source_link(document_id: str, start: int, end: int) -> str:
    """Where a citation opens: the viewer at the cited place."""
    return f"/documents/{document_id}?start={start}&end={end}"
