"""Reads the YAML block that opens many Markdown documents. Knows nothing of Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_BLOCK = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_MAX_CHARACTERS = 64 * 1024
_MAX_DEPTH = 8


def split_front_matter(source: str) -> tuple[dict[str, Any], str]:
    r"""Part the front matter from the body; line ends must be `\n`.

    Broken front matter does not cost the document: it leaves the text, and `front_matter_error` says what was wrong.

    >>> split_front_matter("---\ntitle: Leave\n---\nHello")
    ({'title': 'Leave'}, 'Hello')
    """
    match = _BLOCK.match(source)
    if match is None:
        return {}, source
    body = source[match.end() :]
    block = match["yaml"] or ""
    if len(block) > _MAX_CHARACTERS:
        return {"front_matter_error": f"longer than {_MAX_CHARACTERS} characters"}, body
    try:
        # An alias lets a few lines unfold into gigabytes; no front matter needs one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(block, Loader=yaml.SafeLoader)):
            return {"front_matter_error": "YAML aliases are not read"}, body
        values = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return {"front_matter_error": " ".join(str(error).split())[:200]}, body
    if not isinstance(values, Mapping):
        # Two rules around ordinary prose are no front matter.
        return ({}, source) if isinstance(values, str) else ({}, body)
    return {str(key): as_json(value) for key, value in values.items()}, body


def as_json(value: object, depth: int = 0) -> Any:
    """Turn a parsed value into what JSON can hold; dates become ISO text, anything else its words."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {str(key): as_json(item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set):
        return [as_json(item, depth + 1) for item in value]
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if callable(isoformat) else str(value)
