"""Loads Markdown: CommonMark with tables and strike-through, front matter, template tags and embedded HTML.

The token stream of markdown-it is mended where handbooks stray from CommonMark, then rendered and read as HTML.
Reading the tokens alone would not do: an HTML table or `<details>` is cut into unrelated tokens at each blank line.
Differs from CommonMark in two ways, both to lose no words: `<placeholder>` in angle brackets, which is no HTML element, stays
text; and indented HTML is HTML, not code.
"""

from __future__ import annotations

import re
from typing import Any

from lxml.html.defs import tags as _html_tags
from markdown_it import MarkdownIt
from markdown_it.token import Token

from knowledge_base.loaders.assembly import DocumentBuilder
from knowledge_base.loaders.front_matter import split_front_matter
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.liquid import drop_template_tags
from knowledge_base.loaders.markup import add_html, parse_html
from knowledge_base.loaders.text import decode, title_from_name
from knowledge_base.records import ParsedDocument

MEDIA_TYPE = "text/markdown"
_KNOWN_TAGS = frozenset(_html_tags) | frozenset(
    "details summary main figure picture slot template dialog bdi data search wbr path g use rect circle".split()  # noqa: SIM905 - words read best as words
)
_OPEN_TAG = re.compile(r"<(?=/?(?P<name>[A-Za-z][\w.-]*))")
_LINK_IN_HTML = re.compile(r"!?\[([^\[\]]+)\]\((?:/|#|https?:|mailto:)[^()\s]*\)")
_STRAY_BOLD = re.compile(r"(?<!\w)\*\*(?=\S)|(?<=\S)\*\*(?!\w)|(?<=\s)\*\*(?=\s|\w)")
"""Bold marks that found no partner; never the power sign in `2**3`."""
_MAX_NESTING = 100
_STARTS_WITH_TAG = re.compile(r"\s*</?(?P<name>[a-z][a-z0-9]*)[\s/>]", re.IGNORECASE)


def load_markdown(data: bytes, name: str, limits: LoadLimits) -> ParsedDocument:
    """Parse Markdown bytes.

    A document of front matter alone (a redirect) is parsed into empty text.

    Raises:
        DocumentError: the bytes are not text, or there is too much of it.
    """
    metadata, body = split_front_matter(decode(data, name))
    builder = DocumentBuilder(name, limits)
    add_html(parse_html(to_html(drop_template_tags(body))), builder)
    title = _title(metadata) or builder.first_top_heading or title_from_name(name)
    return builder.finish(title=title, media_type=MEDIA_TYPE, metadata=metadata)


def to_html(source: str) -> str:
    """Render Markdown to HTML with the stray tokens mended; for reading only, it is not sanitised for a page."""
    # Beyond its nesting limit the parser drops text without a word; the default is a mere 20.
    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])
    tokens = parser.parse(source)
    for token in tokens:
        _mend(token)
        for child in token.children or ():
            _mend(child)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _mend(token: Token) -> None:
    if token.type == "code_block":
        start = _STARTS_WITH_TAG.match(token.content)
        if start is not None and start["name"].lower() in _KNOWN_TAGS:
            token.type = "html_block"
    if token.type in {"html_block", "html_inline"}:
        token.content = _OPEN_TAG.sub(
            lambda match: "<" if match["name"].lower() in _KNOWN_TAGS else "&lt;", token.content
        )
    if token.type == "html_block":
        # Many generators read Markdown inside HTML; CommonMark does not.
        token.content = _STRAY_BOLD.sub("", _LINK_IN_HTML.sub(r"\1", token.content))
    elif token.type == "text":
        token.content = _STRAY_BOLD.sub("", token.content)


def _title(metadata: dict[str, Any]) -> str:
    title, subtitle = metadata.get("title"), metadata.get("subtitle")
    if not isinstance(title, str | int | float):
        return ""
    if isinstance(subtitle, str) and subtitle.rstrip().endswith(":"):
        return f"{subtitle.strip()} {title}"  # "Travel guide:" leads "Frequently Asked Questions" in
    return str(title)
