"""Prompts and right answers from the questions that documents ask themselves, seen through the real retrieval.

Knows nothing of files or judgements. Different from the usual synthetic pairs, which put the right passage into the prompt by hand:

1. The evidence is what retrieval brings for the question, in the order serving shows it. Where retrieval does not bring the stretch
   that answers, the pair is left out and counted. It is not turned into an unanswerable one: another document may well answer, and a
   model taught to refuse there learns to refuse.
2. The target quotes the stretch's own sentences that are shown, each with its number: nothing that cannot be cited.
3. Unanswerable prompts come from answerable questions with mismatched passages. Hard ones keep what retrieval brought and lose the
   document that answers, and every sentence that resembles the answer; easy ones show another question's evidence.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignment.derived_questions import DerivedQuestion
from alignment.question_phrasing import content_words
from alignment.records import PromptCompletion, RolloutPrompt
from chatbot.prompt import REFUSAL, Message, NumberedEvidence, build_messages
from chatbot.records import EvidenceSentence, PreparedTurn
from knowledge_base.errors import UsageError

Prepare = Callable[[str], PreparedTurn]
"""A question to everything decided before the model writes, as a reader who may read the open collections only."""
Render = Callable[[Sequence[Message]], str]
"""Messages to the prompt in the policy's own template."""

_RESEMBLES = 0.5
"""Share of the answer's words in a sentence from which on it may answer too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedExample:
    """A row for SFT and the same prompt for rollouts."""

    row: PromptCompletion
    rollout: RolloutPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    derived: DerivedQuestion
    prepared: PreparedTurn


def make_examples(
    questions: Sequence[DerivedQuestion],
    prepare: Prepare,
    render: Render,
    *,
    unanswerable_share: float,
    max_sentences: int,
    max_words: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[DerivedExample], Counter[str]]:
    """Pairs for SFT and rollouts.

    Args:
        questions: From `derive_questions`.
        prepare: See `Prepare`; called once a question.
        render: See `Render`.
        unanswerable_share: Of all examples made, in [0, 1).
        max_sentences: Most sentences of a target.
        max_words: Most words of a target of more than one sentence.
        seed: Decides which questions lose their evidence.
        progress: Called with (questions done, all).

    Returns:
        The examples, and how many questions were left out, by reason: `not retrieved`, `weak evidence`, `restricted`,
        `question refused`.
    """
    left_out: Counter[str] = Counter()
    seen: list[_Seen] = []
    examples = []
    for done, derived in enumerate(questions, start=1):
        prepared, reason = prepare_open(derived.question, prepare)
        if prepared is not None:
            shown = _Seen(derived=derived, prepared=prepared)
            target = _target(shown, max_sentences, max_words)
            if target is None:
                reason = "not retrieved"
            else:
                seen.append(shown)
                examples.append(_example(derived, prepared, target, render, answerable=True))
        if reason:
            left_out[reason] += 1
        progress(done, len(questions))
    n_wanted = round(len(examples) * unanswerable_share / (1 - unanswerable_share))
    return [*examples, *_unanswerable(seen, n_wanted, render, seed)], left_out


def prepare_open(question: str, prepare: Prepare) -> tuple[PreparedTurn | None, str]:
    """The prepared turn that a model may be trained on, or None and the reason."""
    try:
        prepared = prepare(question)
    except UsageError:
        return None, "question refused"
    if not is_open(prepared):
        # The caller's reader saw too much. Nothing restricted is ever trained on, whoever made the mistake.
        return None, "restricted"
    if not prepared.answerable or not prepared.evidence:
        return None, "weak evidence"
    return prepared, ""


def is_open(prepared: PreparedTurn) -> bool:
    """Whether all that a turn shows comes from collections that every employee may read."""
    passages = [*prepared.passages, *(item.passage for item in prepared.evidence)]
    return all(passage.collection_is_open for passage in passages)


def shown_documents(prepared: PreparedTurn) -> list[str]:
    """Documents whose text is in a turn's prompt."""
    return sorted({item.passage.document_id for item in prepared.evidence})


def _target(seen: _Seen, max_sentences: int, max_words: int) -> str | None:
    """The best shown sentences of the answering stretch, in the document's order, each with its number."""
    derived = seen.derived
    own = [
        item
        for item in seen.prepared.evidence
        if item.passage.document_id == derived.document_id
        and item.start < derived.end
        and item.end > derived.start
        and not item.text.rstrip().endswith(("?", ":"))
    ]
    chosen: list[EvidenceSentence] = []
    n_words = 0
    for item in own:  # best first
        n_more = len(item.text.split())
        if chosen and (len(chosen) == max_sentences or n_words + n_more > max_words):
            break
        chosen.append(item)
        n_words += n_more
    if not chosen:
        return None
    return " ".join(
        f"{_fold(item.text)} [{item.number}]" for item in sorted(chosen, key=lambda item: item.start)
    )


def _unanswerable(seen: Sequence[_Seen], n_wanted: int, render: Render, seed: int) -> list[DerivedExample]:
    rng = random.Random(seed)  # noqa: S311 -- a choice, not a secret
    order = list(range(len(seen)))
    rng.shuffle(order)
    examples: list[DerivedExample] = []
    for turn, at in enumerate(order):
        if len(examples) == n_wanted:
            break
        derived, prepared = seen[at].derived, seen[at].prepared
        hard = _strip_answer(seen[at], prepared.evidence)
        other = seen[order[(turn + 1) % len(order)]]
        easy = _strip_answer(seen[at], other.prepared.evidence)
        evidence = hard if len(hard) >= 2 and (turn % 2 == 0 or not easy) else easy
        if not evidence:
            continue
        examples.append(_example(derived, _show(prepared, evidence), REFUSAL, render, answerable=False))
    return examples


def _strip_answer(seen: _Seen, evidence: Sequence[EvidenceSentence]) -> list[EvidenceSentence]:
    """Evidence without the document that answers and without sentences that may answer as well."""
    own = [
        item.text for item in seen.prepared.evidence if item.passage.document_id == seen.derived.document_id
    ]
    answers = [set(content_words(text)) for text in (*own, seen.derived.answer) if content_words(text)]
    kept: list[EvidenceSentence] = []
    for item in evidence:
        words = set(content_words(item.text))
        resembles = any(
            len(words & answer) >= _RESEMBLES * min(len(words), len(answer)) for answer in answers
        )
        if item.passage.document_id != seen.derived.document_id and not resembles:
            kept.append(replace(item, number=len(kept) + 1))
    return kept


def _show(prepared: PreparedTurn, evidence: Sequence[EvidenceSentence]) -> PreparedTurn:
    """The turn as it would be, had retrieval brought this evidence."""
    numbered = [
        NumberedEvidence(number=item.number, heading=item.heading, text=item.text) for item in evidence
    ]
    passages = {item.passage.chunk_id: item.passage for item in evidence}
    return replace(
        prepared,
        evidence=tuple(evidence),
        passages=tuple(passages.values()),
        messages=tuple(build_messages(prepared.question, numbered)),
    )


def _example(
    derived: DerivedQuestion, prepared: PreparedTurn, target: str, render: Render, *, answerable: bool
) -> DerivedExample:
    prompt = render(prepared.messages)
    return DerivedExample(
        row=PromptCompletion(
            prompt=prompt,
            completion=target,
            question_id=derived.key,
            origin="derived" if answerable else "unanswerable",
            document_ids=sorted({derived.document_id, *shown_documents(prepared)}),
        ),
        rollout=RolloutPrompt(
            id=derived.key,
            question=derived.question,
            prompt=prompt,
            prepared=prepared,
            reference=target if answerable else None,
            answerable=answerable,
            made_of=derived.document_id,
        ),
    )


def _fold(text: str) -> str:
    return " ".join(text.split())
