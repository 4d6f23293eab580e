"""Numbers that say how good an answer's text is, from texts alone.

Knows nothing of models, files or gates. Different from the usual libraries in one thing: citation marks are taken out before texts are
compared. What counts as holding evidence is the knowledge base's definition, so that retrieval and citations are judged alike.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from chatbot.prompt import strip_citations
from knowledge_base.evaluation import fold, holds_evidence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"[a-z0-9]+")
_LEAST_QUOTED_WORDS = 4
"""Fewer words inside the evidence prove nothing: "for more information" is in every document."""


def squad_tokens(text: str) -> list[str]:
    """Tokens normalised as SQuAD does (Rajpurkar et al. 2016, arXiv:1606.05250): lower case, no punctuation, no articles.

    >>> squad_tokens("The 25 days, please. [1]")
    ['25', 'days', 'please']
    """
    return _ARTICLES.sub(" ", strip_citations(text).lower().translate(_PUNCTUATION)).split()


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, the SQuAD F1; two empty texts agree.

    >>> token_f1("You get 25 days [1].", "25 days")
    0.6666666666666666
    """
    said, wanted = squad_tokens(answer), squad_tokens(reference)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def overlap(answer: str, reference: str) -> float:
    """Overlap coefficient of the tokens: how much of the shorter text is in the longer one (Szymkiewicz 1934; Simpson 1943).

    Unlike F1 it says nothing of length: a short answer out of a long reference is as right as a long one. Two empty texts agree.

    >>> overlap("You get 25 days.", "You get 25 days, and three more after ten years.")
    1.0
    """
    said, wanted = squad_tokens(answer), squad_tokens(reference)
    if not said or not wanted:
        return float(said == wanted)
    return sum((Counter(said) & Counter(wanted)).values()) / min(len(said), len(wanted))


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L as F1 (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, beta = 1).

    >>> rouge_l("the cat sat on a mat", "the cat lay on a mat")
    0.8333333333333334
    """
    from rapidfuzz.distance import LCSseq

    said = _WORD.findall(strip_citations(answer).lower())
    wanted = _WORD.findall(reference.lower())
    if not said or not wanted:
        return float(said == wanted)
    return 2 * int(LCSseq.similarity(said, wanted)) / (len(said) + len(wanted))


def has_key_fact(text: str, fact: str) -> bool:
    """Whether a text contains one of a fact's `|` alternatives, ignoring case and kinds of white space.

    >>> has_key_fact("It takes 10  Days.", "10 days|ten days")
    True
    """
    folded = _fold_case(text)
    return any(_fold_case(alternative) in folded for alternative in fact.split("|") if alternative.strip())


def has_all_key_facts(text: str, facts: Sequence[str]) -> bool:
    """Whether a text has every fact; `key_fact_recall` is the share of answerable questions for which this holds."""
    return all(has_key_fact(text, fact) for fact in facts)


def citation_supports(cited: str, evidence: str, key_facts: Sequence[str]) -> bool:
    """Whether a cited sentence is a right one for a question with known evidence and key facts.

    It is when it holds the evidence (or half of its words in a row), when it is itself a part of the evidence of at least four
    words, or when it contains a key fact. `citation_precision` is the share of citations for which this holds.
    """
    folded = fold(cited)
    is_part = len(folded.split()) >= _LEAST_QUOTED_WORDS and folded in fold(evidence)
    return is_part or holds_evidence(cited, evidence) or any(has_key_fact(cited, fact) for fact in key_facts)


def _fold_case(text: str) -> str:
    return " ".join(text.replace("’", "'").split()).casefold()


def precision_recall_f1(n_right: int, n_said: int, n_true: int) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean; 0 where there is nothing to divide by."""
    precision = n_right / n_said if n_said else 0.0
    recall = n_right / n_true if n_true else 0.0
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, interpolated linearly; 0 for none.

    >>> percentile([1, 2, 3, 4], 0.5)
    2.5
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
