"""Other ways to lay out the evidence of a turn, for answers that differ in what they say and not in how they misspell it.

A small model copies: it begins with the evidence that comes first and goes on as far as there is some. So another order is another answer, and fewer sentences
are a shorter one, each as fluent as the policy's own. Knows nothing of policies or rewards: messages in, messages out, and how the numbers cited under
one layout read under another.

Different from sampling at a temperature: of 16 samples of a copying policy seven read differently, of 11 views seven as well, and the best of those beats the policy's
own answer more often (docs/lab-log.md, 27 November).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatbot.prompt import Message, NumberedEvidence, build_messages, read_evidence, read_question

MOST_FIRST = 8
"""So many of the sentences get a turn at the front."""
MOST_ALONE = 3
"""So many get a view in which they are alone."""
MOST_KEPT = 3
"""The longest beginning of the evidence that is a view of its own."""
MOST_VIEWS = MOST_FIRST + MOST_ALONE + MOST_KEPT - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceView:
    """A turn with its evidence laid out anew."""

    messages: Sequence[Message]
    numbers: Mapping[int, int]
    """From the numbers shown here to those of the turn."""


def evidence_views(messages: Sequence[Message]) -> list[EvidenceView]:
    """The turn itself, then each other sentence first, then its first sentences only, then single ones; each view once.

    Args:
        messages: As made by `build_messages`; others have one view, themselves.
    """
    content = messages[-1].content
    question, evidence = read_question(content), read_evidence(content)
    as_it_is = EvidenceView(messages=tuple(messages), numbers={item.number: item.number for item in evidence})
    if question is None or len(evidence) < 2:
        return [as_it_is]
    everything = list(range(len(evidence)))
    chosen = [[at, *(i for i in everything if i != at)] for at in everything[1:MOST_FIRST]]
    chosen += [everything[:n] for n in range(1, MOST_KEPT + 1)]
    chosen += [[at] for at in everything[1:MOST_ALONE]]
    different = dict.fromkeys(tuple(places) for places in chosen if places != everything)
    history = messages[1:-1]
    return [as_it_is, *(_view(question, evidence, places, history) for places in different)]


def _view(
    question: str, evidence: Sequence[NumberedEvidence], places: Sequence[int], history: Sequence[Message]
) -> EvidenceView:
    shown = [
        NumberedEvidence(number=number, heading=evidence[at].heading, text=evidence[at].text)
        for number, at in enumerate(places, start=1)
    ]
    return EvidenceView(
        messages=build_messages(question, shown, history),
        numbers={number: evidence[at].number for number, at in enumerate(places, start=1)},
    )
