"""Parsed documents as JSON and back, between the loader's child process and its parent.

The parent checks what it is given: the child has just read a file that may have been made to take it over.
"""

from __future__ import annotations

from typing import Any

from knowledge_base.records import ParsedDocument, Section


def document_to_json(parsed: ParsedDocument) -> dict[str, Any]:
    """Write the record as what JSON can hold."""
    return {
        "title": parsed.title,
        "text": parsed.text,
        "media_type": parsed.media_type,
        "metadata": parsed.metadata,
        "sections": [[s.start, s.end, list(s.heading_path), s.page] for s in parsed.sections],
    }


def document_from_json(value: dict[str, Any]) -> ParsedDocument:
    """Read the record back and check it.

    Raises:
        KeyError: a field is missing.
        TypeError: a field has the wrong type.
        ValueError: the sections do not cover the text.
    """
    text = _typed(value["text"], str, "text")
    sections = tuple(_section(item) for item in _typed(value["sections"], list, "sections"))
    position = 0
    for section in sections:
        if section.start != position or section.end <= section.start:
            raise ValueError(f"section at {section.start} where {position} was expected")
        position = section.end
    if position != len(text):
        raise ValueError(f"sections end at {position}, the text at {len(text)}")
    return ParsedDocument(
        title=_typed(value["title"], str, "title"),
        text=text,
        sections=sections,
        media_type=_typed(value["media_type"], str, "media_type"),
        metadata=_typed(value["metadata"], dict, "metadata"),
    )


def _section(item: Any) -> Section:
    start, end, path, page = _typed(item, list, "section")
    headings = tuple(_typed(heading, str, "heading") for heading in _typed(path, list, "heading_path"))
    return Section(
        start=_typed(start, int, "start"),
        end=_typed(end, int, "end"),
        heading_path=headings,
        page=None if page is None else _typed(page, int, "page"),
    )


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    return value
