"""Makes a follow-up question findable: "And for contractors?" is searched for together with the question it follows.

Rules, no model: a rewriting model would cost a second generation per turn and can change what was asked. Knows nothing of retrieval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chatbot.prompt import REFUSAL, Message, is_refusal, strip_citations
from chatbot.statement import take_apart

_POINTING = re.compile(
    r"\b(it|its|that|this|these|those|they|them|their|he|she|him|her|one|ones|same|else|then|there|so)\b",
    re.IGNORECASE,
)
_CONTINUING = re.compile(
    r"^\W*(and|or|but|also|what about|how about|what if|why|why not|how so|really|which ones?|for example|since when|until when)\b",
    re.IGNORECASE,
)
_FEW_WORDS = 3
_LONGEST_CHAIN = 3


def is_follow_up(question: str, follow_up_words: int) -> bool:
    """Whether a question leans on what was asked before.

    >>> [is_follow_up(q, 12) for q in ("And for contractors?", "How long is it?", "How many days of sick leave do I get?")]
    [True, True, False]
    """
    n_words = len(re.findall(r"\w+", question))
    if n_words > follow_up_words:
        return False
    points = bool(_POINTING.search(question) or _CONTINUING.search(question))
    return points or (n_words <= _FEW_WORDS and len(take_apart(question).content) <= 1)


def make_search_text(question: str, history: Sequence[Message], follow_up_words: int) -> str:
    """The question, or a follow-up and the questions it leans on, newest first: what is asked now weighs most where it stands first."""
    earlier = [message.content for message in history if message.role == "user"]
    chain = [question]
    while earlier and len(chain) < _LONGEST_CHAIN and is_follow_up(chain[-1], follow_up_words):
        chain.append(earlier.pop())
    return " ".join(chain)


def tidy_history(history: Sequence[Message], turns: int) -> list[Message]:
    """The last turns as a model may see them: without citation marks, whose numbers belong to other evidence.

    Args:
        history: Earlier messages, oldest first, questions and answers.
        turns: How many question-answer pairs to keep.
    """
    kept: list[Message] = []
    for message in history:
        if message.role == "user":
            kept.append(message)
        elif message.role == "assistant" and kept:
            said = REFUSAL if is_refusal(message.content) else strip_citations(message.content)
            kept.append(Message(role="assistant", content=said))
    questions = [place for place, message in enumerate(kept) if message.role == "user"]
    return kept[questions[-turns] :] if 0 < turns <= len(questions) else kept if turns else []
