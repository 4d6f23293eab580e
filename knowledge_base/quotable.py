"""What of a chunk can be quoted alone: its sentences, each with what it takes along, and the words that say where it stands.

Rules, no model. Knows nothing of questions or ranks. A sentence that ends in a colon or a question mark takes what follows with it: "You can do this
by:" and "Do I lose the days?" answer nothing alone. Bare headings, lone words and the mark of a list item are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge_base.sentences import SentenceSpan, split_sentences

RULES = "1"
"""Raise it whenever the same text is taken apart differently: what was remembered of it then no longer counts."""
_LEAST_WORDS = 4
_WORD = re.compile(r"\w+")
_ITEM_MARK = re.compile(r"(?:[-*•–]|\(?\d{1,3}[.)])\s+")


def quotable(text: str, title: str, heading: str, lead_in_words: int) -> list[tuple[int, int]]:
    """Where in a chunk's text the sentences stand that can be quoted.

    Args:
        text: Of the chunk.
        title: Of its document.
        heading: Its heading path, joined by ` > `.
        lead_in_words: Most words of a sentence together with what it introduces.

    Returns:
        Start and end of each, in order; they overlap where a sentence takes others along.

    >>> text = "Leave. You may ask by: phone. A letter is not enough."
    >>> [text[start:end] for start, end in quotable(text, "Leave", "", 45)]
    ['You may ask by: phone.', 'A letter is not enough.']
    """
    spans = split_sentences(text)
    headings = {words(part) for part in (title, *heading.split(" > "))}
    found = []
    for place, span in enumerate(spans):
        end = _end_with_what_follows(text, spans[place:], lead_in_words)
        if end == span.end and span.text.endswith("?"):
            continue
        # A list item is quoted without its mark: "3." means nothing away from its list.
        mark = _ITEM_MARK.match(span.text)
        start = span.start + (mark.end() if mark and mark.end() < len(span.text) else 0)
        said = words(text[start:end])
        says_enough = len(said) >= _LEAST_WORDS or any(c.isdigit() for c in text[start:end])
        if says_enough and said not in headings:
            found.append((start, end))
    return found


def place_of(title: str, heading: str) -> str:
    """Document title and heading path. A page often opens with its own title as the first heading; said once is enough.

    >>> place_of("Leave", "Leave > Sick leave")
    'Leave > Sick leave'
    """
    parts = heading.split(" > ") if heading else []
    if parts and words(parts[0]) == words(title):
        parts = parts[1:]
    return " > ".join([title, *parts] if title else parts)


def with_place(place: str, text: str) -> str:
    """A sentence as the models that choose and judge evidence read it.

    >>> with_place("Leave > Sick leave", "Tell your manager.")
    'Leave > Sick leave: Tell your manager.'
    """
    return f"{place}: {text}" if place else text


def words(text: str) -> tuple[str, ...]:
    """Its words, in lower case."""
    return tuple(_WORD.findall(text.lower()))


def _end_with_what_follows(text: str, spans: Sequence[SentenceSpan], lead_in_words: int) -> int:
    """Where a sentence ends: its own end, or, when it introduces what follows, that of the last one it takes along."""
    first, end = spans[0], spans[0].end
    if not first.text.endswith((":", "?")):
        return end
    # A list belongs to its colon as a whole; of an answer, the first sentence says most.
    n_taken = len(spans) if first.text.endswith(":") else 1
    for span in spans[1 : n_taken + 1]:
        if len(_WORD.findall(text[first.start : span.end])) > lead_in_words:
            break
        end = span.end
    return end
