"""An answer's text as safe HTML: a small part of Markdown, citation marks as links to the cited place, nothing else.

Text of models and documents is untrusted. HTML in it is shown as text, and so are links and images of any kind: an image address
written by a poisoned document would carry what the model read to its author (EchoLeak, CVE-2025-32711). The rules for links, images
and HTML are switched off in the parser, not filtered from its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chatbot.records import Citation
from ui.document_page import source_link
from ui.fragments import esc

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline

_ALLOWED = (
    "paragraph",
    "newline",
    "list",
    "backticks",
    "emphasis",
    "fence",
    "table",
    "escape",
    "balance_pairs",
)


def render_answer_text(text: str, citations: Sequence[Citation] = ()) -> str:
    r"""Markdown to HTML. Marks `[n]` of known citations become links; others stay small inert numbers.

    >>> render_answer_text("Two **weeks** <b>![x](http://evil.example/p)</b>")
    '<p>Two <strong>weeks</strong> &lt;b&gt;![x](http://evil.example/p)&lt;/b&gt;</p>\n'
    """
    by_number = {citation.number: citation for citation in citations}
    return str(_parser().render(text, {"citations": by_number}))


def citation_href(citation: Citation) -> str:
    """Where a citation opens."""
    return source_link(citation.document_id, citation.start, citation.end)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("zero", {"html": False, "linkify": False, "breaks": True}).enable(list(_ALLOWED))
    parser.inline.ruler.before("backticks", "citation", _parse_citation)
    parser.add_render_rule("citation", _render_citation)
    return parser


def _parse_citation(state: StateInline, silent: bool) -> bool:
    """Reads `[12]`."""
    if state.src[state.pos] != "[":
        return False
    end = state.src.find("]", state.pos, state.pos + 4)
    digits = state.src[state.pos + 1 : end] if end > 0 else ""
    if not (digits.isascii() and digits.isdigit()):
        return False
    if not silent:
        token = state.push("citation", "", 0)
        token.content = digits
    state.pos = end + 1
    return True


def _render_citation(
    _renderer: Any,
    tokens: Sequence[Any],
    index: int,
    _options: Any,
    env: Mapping[str, Mapping[int, Citation]],
) -> str:
    number = int(tokens[index].content)
    citation = env["citations"].get(number)
    if citation is None:
        return f"<span class='t-chip'>{number}</span>"
    place = " · ".join(part for part in (citation.title, citation.heading) if part)
    return (
        f"<a class='t-chip' href='{esc(citation_href(citation))}' target='_blank' rel='noopener' "
        f"title='{esc(place)}' aria-label='Citation {number}: {esc(place)}, opens in a new tab'>{number}</a>"
    )
