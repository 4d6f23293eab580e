# ruff: noqa: SIM905  # word lists read best as words
"""Keeps of an answer what the evidence supports, and makes its citations true.

Each sentence of a completion is checked against the evidence it cites: enough of its words must be there, and every number, unit,
name and negation. What fails is dropped; a wrong number is repaired when another shown sentence supports the statement; when nothing
is left, the best evidence is quoted. Knows nothing of models or retrieval: text and evidence in, text and citations out.

Different from the textbook (an entailment model): rules, because they run in microseconds on every answer and every PPO sample,
and because a reward must not be a model that the policy can learn to fool. They are stricter than entailment on negation and
numbers and blind to a true paraphrase in other words, which is dropped. Known gap: two quantities of one evidence sentence that
swap their subjects pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chatbot.prompt import REFUSAL, cited_numbers, is_refusal, strip_citations
from chatbot.records import Answer, Citation, EvidenceSentence, GroundingReport
from chatbot.settings import GroundingSettings
from chatbot.statement import Statement, stem, take_apart
from knowledge_base.sentences import split_sentences

_MARK = r"\[\d{1,2}\]"
_MARKS_AFTER_STOP = re.compile(rf"([.!?]['\"”’)]*)((?:\s*{_MARK})+)")
# Table rows and list items have no stop: "Christmas Eve: 24 December [1] Christmas Day: 25 December [2]" states two things.
_MARK_ENDS_STATEMENT = re.compile(r"(?<=\d\])\s+(?=[A-Z\d\"“])")
_ENDS = " .!?;:"
_COURTESY = frozenset(
    map(
        stem,
        (
            "yes no sure hope help let know happy glad thanks question ask free feel welcome here answer good great other anything "
            "any detail information more contact need"
        ).split(),
    )
)
_LEADING_IN = frozenset(
    map(stem, "according says said reads documents document page section short answer states".split())
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    cited: tuple[int, ...]
    follows_line_break: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str
    evidence: tuple[EvidenceSentence, ...]
    follows_line_break: bool


def check(
    completion: str, evidence: Sequence[EvidenceSentence], settings: GroundingSettings | None = None
) -> tuple[str, tuple[Citation, ...], GroundingReport]:
    """Check a completion against its evidence.

    Args:
        completion: What the model wrote, with `[n]` in the prompt's numbering.
        evidence: The sentences shown to the model.
        settings: Thresholds.

    Returns:
        The text to show, each supported sentence, or run of sentences resting on the same evidence, followed by its `[k]`, counted
        from 1 by first appearance; the citations, one for
        each number; and the report. A refusal comes back as the refusal without citations.
    """
    settings = settings or GroundingSettings()
    if is_refusal(completion) or not evidence:
        return REFUSAL, (), GroundingReport(n_sentences=0, n_supported=0)
    kept: list[_Kept] = []
    dropped: list[str] = []
    n_supported = 0
    for sentence in _split(completion):
        if any(sentence.text == item.text for item in kept):
            # Said twice: a small model may loop. Once is enough to read, and the repetition counts as unsupported.
            dropped.append(sentence.text)
        elif _is_courtesy(sentence):
            kept.append(_Kept(sentence.text, (), sentence.follows_line_break))
        elif rests_on := _find_support(sentence, evidence, settings):
            n_supported += 1
            kept.append(_Kept(sentence.text, rests_on, sentence.follows_line_break))
        else:
            dropped.append(sentence.text)
    fell_back = n_supported == 0
    if fell_back:
        kept = [
            _Kept(_fold(strip_citations(item.text)), (item,), False)
            for item in evidence[: settings.max_quoted]
        ]
    text, citations = _number(kept)
    report = GroundingReport(
        n_sentences=n_supported + len(dropped),
        n_supported=n_supported,
        dropped=tuple(dropped),
        fell_back=fell_back,
    )
    return text, citations, report


def citation_support(
    completion: str, evidence: Sequence[EvidenceSentence], settings: GroundingSettings | None = None
) -> tuple[int, int]:
    """How many of a completion's citations support the sentence that carries them, as written, before anything is repaired; and how many there are.

    The citation precision of ALCE (Gao et al. 2023, arXiv:2305.14627, section 3), with `supports` in the place of an entailment model: a citation
    counts when it supports its sentence alone, or, where none of the sentence's does, when they do together.
    """
    settings = settings or GroundingSettings()
    by_number = {item.number: item for item in evidence}
    n_supporting = n_cited = 0
    for sentence in _split(completion):
        n_cited += len(sentence.cited)
        known = [by_number[number] for number in sentence.cited if number in by_number]
        n_alone = sum(_holds(item, sentence.text, settings) for item in known)
        together = len(known) > 1 and supports("\n".join(map(_as_known, known)), sentence.text, settings)
        n_supporting += n_alone or (len(known) if together else 0)
    return n_supporting, n_cited


def groundedness(answer: Answer) -> float | None:
    """Share of the completion's sentences that were supported, before anything was dropped; None when the answer abstained."""
    report = answer.grounding
    if answer.abstained or report is None:
        return None
    return report.n_supported / report.n_sentences if report.n_sentences else 0.0


def supports(evidence: str, sentence: str, settings: GroundingSettings | None = None) -> bool:
    """Whether a text supports a sentence.

    >>> supports("You do not need to take all 12 weeks at once.", "You need to take all 12 weeks at once.")
    False
    >>> supports("You do not need to take all 12 weeks at once.", "There is no need to take all 12 weeks at once.")
    True
    """
    settings = settings or GroundingSettings()
    said, known = take_apart(sentence), take_apart(evidence)
    return (
        _coverage(said, known) >= settings.min_coverage
        and said.numbers <= known.numbers
        and said.quantities <= known.quantities
        and said.directions <= known.words
        and all(_knows_name(known, name) for name in said.names)
        and _agree_on_negation(said, known, settings.same_clause)
    )


def _holds(item: EvidenceSentence, sentence: str, settings: GroundingSettings) -> bool:
    """Whether evidence under its heading supports a sentence; its own words do, whatever the heading negates ("Email is not private")."""
    own = _fold(strip_citations(item.text)).strip(_ENDS).lower()
    return _fold(sentence).strip(_ENDS).lower() == own or supports(_as_known(item), sentence, settings)


def _coverage(said: Statement, known: Statement) -> float:
    if not said.content:
        # "At most 25." states something by its number alone; "It is." states nothing.
        return 1.0 if said.numbers or said.names else 0.0
    return len(said.content & known.content) / len(said.content)


def _knows_name(known: Statement, name: str) -> bool:
    return (
        name in known.words
        or name in known.names
        or any(name == word.removesuffix("'s") for word in known.words)
    )


def _agree_on_negation(said: Statement, known: Statement, same_clause: float) -> bool:
    """Neither side may negate what the other asserts."""
    added = any(
        not _has_counterpart(negation.scope, negation.kind, known, same_clause) for negation in said.negations
    )
    lost = any(
        _speaks_of(said, negation.scope, same_clause)
        and not _has_counterpart(negation.scope, negation.kind, said, same_clause)
        for negation in known.negations
    )
    return not added and not lost


def _has_counterpart(scope: Sequence[str], kind: str, other: Statement, same_clause: float) -> bool:
    return any(
        negation.kind == kind and _overlap(scope, negation.scope) >= same_clause / 2
        for negation in other.negations
    )


def _overlap(first: Sequence[str], second: Sequence[str]) -> float:
    smaller = min(len(set(first)), len(set(second)))
    if smaller == 0:
        return 1.0 if not first and not second else 0.0
    return len(set(first) & set(second)) / smaller


def _speaks_of(said: Statement, scope: Sequence[str], same_clause: float) -> bool:
    """Whether a statement talks about what a negation governs: its nearest word, and most of the rest."""
    if not scope:
        return False
    held = said.topics
    nearest = scope[0] in held
    return nearest and sum(word in held for word in scope) / len(scope) >= min(same_clause, 2 / 3)


def _find_support(
    sentence: _Sentence, evidence: Sequence[EvidenceSentence], settings: GroundingSettings
) -> tuple[EvidenceSentence, ...]:
    """The evidence a sentence rests on: what it cites where that holds, else the best shown sentence that holds."""
    by_number = {item.number: item for item in evidence}
    cited = [by_number[number] for number in sentence.cited if number in by_number]
    if any(_only_names(sentence.text, item.heading) for item in cited or evidence):
        evidence = [item for item in evidence if supports(item.text, sentence.text, settings)]
        cited = [item for item in cited if item in evidence]
    alone = tuple(item for item in cited if _holds(item, sentence.text, settings))
    if alone:
        return alone
    if len(cited) > 1 and supports("\n".join(map(_as_known, cited)), sentence.text, settings):
        return tuple(cited)
    said = take_apart(sentence.text)
    others = [
        item for item in evidence if item not in cited and supports(_as_known(item), sentence.text, settings)
    ]
    # max keeps the first of equals, and evidence comes best first.
    return (max(others, key=lambda item: _coverage(said, take_apart(_as_known(item)))),) if others else ()


def _only_names(text: str, heading: str) -> bool:
    """Whether a sentence says where something stands and nothing of what stands there: "In Leave > Sick leave it says:".

    Its words are all in the heading, which is known along with the sentence below it, so nothing else would notice.
    """
    rest = _fold(text)
    for name in sorted({_fold(heading), *map(_fold, heading.split(" > "))} - {""}, key=len, reverse=True):
        rest = rest.replace(name, " ")
    if rest == _fold(text):
        return False
    said = take_apart(rest)
    return said.content <= _LEADING_IN and not (said.numbers or said.names or said.negations)


def _as_known(item: EvidenceSentence) -> str:
    # The line break ends the heading's clause: a "no" in a heading governs nothing in the sentence.
    return f"{item.heading}\n{item.text}" if item.heading else item.text


def _split(completion: str) -> list[_Sentence]:
    # "25 days. [1] Ask" becomes "25 days [1]. Ask": the mark belongs to the sentence before it.
    text = _MARKS_AFTER_STOP.sub(r"\2\1", completion)
    sentences = []
    end = 0
    for span in split_sentences(text):
        gap = text[end : span.start]
        for part in _MARK_ENDS_STATEMENT.split(span.text):
            bare = _fold(strip_citations(part))
            if re.search(r"\w", bare):
                sentences.append(_Sentence(bare, tuple(cited_numbers(part)), "\n" in gap))
                gap = ""
        end = span.end
    return sentences


def _is_courtesy(sentence: _Sentence) -> bool:
    said = take_apart(sentence.text)
    return said.content <= _COURTESY and not (said.numbers or said.names or said.negations)


def _number(kept: Sequence[_Kept]) -> tuple[str, tuple[Citation, ...]]:
    numbers: dict[tuple[int, int, int], int] = {}
    citations: list[Citation] = []
    text = ""
    for sentence, following in zip(kept, [*kept[1:], None], strict=True):
        marks = ""
        goes_on = following is not None and following.evidence == sentence.evidence
        for item in sentence.evidence:
            place = (item.passage.chunk_id, item.start, item.end)
            if place not in numbers:
                numbers[place] = len(numbers) + 1
                citations.append(_cite(item, numbers[place]))
            # Evidence of several sentences, a question with its answer say, is marked once, at its end.
            marks += "" if goes_on else f"[{numbers[place]}]"
        joint = "" if not text else "\n" if sentence.follows_line_break else " "
        text += f"{joint}{sentence.text}{' ' + marks if marks else ''}"
    return text, tuple(citations)


def _cite(item: EvidenceSentence, number: int) -> Citation:
    passage = item.passage
    return Citation(
        number=number,
        document_id=passage.document_id,
        document=passage.document,
        title=passage.title,
        heading=passage.heading,
        page=passage.page,
        text=item.text,
        start=item.start,
        end=item.end,
        chunk_id=passage.chunk_id,
    )


def _fold(text: str) -> str:
    return " ".join(text.split())
