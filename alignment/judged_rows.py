"""Stored judgements as training rows: which may be used, and what they become.

Knows nothing of files, splits or trainers. Different from an export of votes:

1. A judgement counts only while everything it rests on may be trained on: its evidence is open to every employee, its documents still
   exist, its author is still active. What is left out is counted by reason.
2. "Both bad" is a tie and two thumbs down, each with a third of the weight: one click stays one judgement.
3. A demonstration is shown with fresh evidence and its sentences are cited anew: the numbers a person saw, if they wrote any, count
   the citations of an answer and not the evidence of a prompt. One whose sentences are not in the evidence would teach the policy
   to make things up; it is left out of SFT and stays the reference for rollouts and metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from alignment.demonstration_targets import cite_anew
from alignment.derived_pairs import Prepare, Render, is_open, shown_documents
from alignment.records import PromptCompletion, RankedCompletions, RolloutPrompt
from chatbot.prompt import REFUSAL, is_refusal
from chatbot.records import Judgement, PreparedTurn
from knowledge_base.errors import UsageError

NEVER = datetime.fromtimestamp(0, UTC)
"""The time of no judgement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What may be trained on now, whatever was allowed when a judgement was given."""

    open_document_ids: Collection[str]
    """Documents in collections that every employee may read."""
    known_document_ids: Collection[str]
    """All documents, restricted ones included: tells "restricted by now" from "deleted"."""
    active_user_ids: Collection[str]
    """Accounts that are neither disabled nor deleted."""


@dataclass(slots=True)
class JudgedRows:
    """What judgements become."""

    demonstrations: list[PromptCompletion] = field(default_factory=list)
    rankings: list[RankedCompletions] = field(default_factory=list)
    rollouts: dict[str, RolloutPrompt] = field(default_factory=dict)
    """By question; one each."""
    left_out: Counter[str] = field(default_factory=Counter)
    n_used: int = 0
    until: datetime = NEVER
    """Of all judgements seen, those left out included."""

    def weigh(self, parts: Iterable[tuple[Sequence[RankedCompletions], Mapping[str, float]]]) -> None:
        """Multiply the weights of rankings by their labelers'; those of no weight are left out and counted.

        Args:
            parts: The rankings in parts, each with its own weights by labeler.
        """
        weighed = [
            replace(row, weight=row.weight * weights[row.labeler_id])
            for rows, weights in parts
            for row in rows
        ]
        self.rankings = [row for row in weighed if row.weight > 0]
        if len(self.rankings) < len(weighed):
            self.left_out["rater in quarantine"] += len(weighed) - len(self.rankings)


class JudgementReader:
    """Turns judgements into rows, one after the other."""

    def __init__(
        self, permissions: Permissions, prepare: Prepare, render: Render, key_of: Callable[[str], str]
    ) -> None:
        """Set up.

        Args:
            permissions: What may be used.
            prepare: See `Prepare`.
            render: See `Render`.
            key_of: A question's id, by which splits are made.
        """
        self._permissions = permissions
        self._prepare = prepare
        self._render = render
        self._key_of = key_of
        self._prepared: dict[str, PreparedTurn | None] = {}

    def read(
        self,
        judgements: Iterable[Judgement],
        progress: Callable[[int], None] = lambda _done: None,
        *,
        quarantined: Collection[str] = (),
    ) -> JudgedRows:
        """Rows of all judgements that may be used; the result does not depend on their order.

        Args:
            judgements: Any.
            progress: Called with the number done.
            quarantined: People whose judgements are left out.
        """
        rows = JudgedRows()
        ordered = sorted(judgements, key=lambda j: (j.created_at or NEVER, j.id))
        for done, judgement in enumerate(ordered, start=1):
            if judgement.created_at is not None:
                rows.until = max(rows.until, judgement.created_at)
            reason = _objection(judgement, self._permissions, quarantined) or self._add(judgement, rows)
            if reason:
                rows.left_out[reason] += 1
            else:
                rows.n_used += 1
            progress(done)
        return rows

    def _add(self, judgement: Judgement, rows: JudgedRows) -> str:
        """Make rows; returns why there are none."""
        if judgement.kind == "demonstration":
            return self._add_demonstration(judgement, rows)
        if not judgement.prompt:
            prepared = self._turn(judgement.question)
            if prepared is None:
                return "no prompt"
            documents = sorted({*judgement.document_ids, *shown_documents(prepared)})
            judgement = replace(judgement, prompt=self._render(prepared.messages), document_ids=documents)
        reason = _add_ranking(judgement, judgement.prompt, self._key_of(judgement.question), rows)
        if not reason:
            self._add_rollout(judgement.question, rows)
        return reason

    def _add_demonstration(self, judgement: Judgement, rows: JudgedRows) -> str:
        prepared = self._turn(judgement.question)
        if prepared is None:
            return "no prompt"
        text = judgement.answers[0].text
        refuses = is_refusal(text)
        if refuses and not prepared.answerable:
            return "refused without asking the model"
        self._add_rollout(
            judgement.question, rows, reference=None if refuses else text, answerable=not refuses
        )
        completion = REFUSAL if refuses else cite_anew(text, prepared)
        if completion is None:
            return "demonstration not in the evidence"
        rows.demonstrations.append(
            PromptCompletion(
                prompt=self._render(prepared.messages),
                completion=completion,
                question_id=self._key_of(judgement.question),
                origin="demonstration",
                labeler_id=judgement.user_id,
                document_ids=shown_documents(prepared),
            )
        )
        return ""

    def _add_rollout(
        self, question: str, rows: JudgedRows, *, reference: str | None = None, answerable: bool | None = None
    ) -> None:
        prepared = self._turn(question)
        if prepared is None or not prepared.answerable or not prepared.evidence:
            return  # serving refuses without asking the policy: there is nothing to learn from
        known = rows.rollouts.get(question)
        if known is not None and answerable is None:
            return
        rows.rollouts[question] = RolloutPrompt(
            id=self._key_of(question),
            question=question,
            prompt=self._render(prepared.messages),
            prepared=prepared,
            reference=reference,
            answerable=answerable,
            asked=True,
        )

    def _turn(self, question: str) -> PreparedTurn | None:
        """The turn as it would be today, from open collections; None when the question is refused or something is not open."""
        if question not in self._prepared:
            try:
                prepared = self._prepare(question)
            except UsageError:
                self._prepared[question] = None
            else:
                self._prepared[question] = prepared if is_open(prepared) else None
        return self._prepared[question]


def read_rankings(
    judgements: Iterable[Judgement], permissions: Permissions, key_of: Callable[[str], str]
) -> list[RankedCompletions]:
    """Rankings and ratings alone, of judgements that were stored with their prompt: what says something of the people who gave them.

    Args:
        judgements: Any.
        permissions: What may be used.
        key_of: A question's id.
    """
    rows = JudgedRows()
    for judgement in sorted(judgements, key=lambda j: (j.created_at or NEVER, j.id)):
        if (
            judgement.kind != "demonstration"
            and judgement.prompt
            and not _objection(judgement, permissions, ())
        ):
            _add_ranking(judgement, judgement.prompt, key_of(judgement.question), rows)
    return rows.rankings


def _objection(judgement: Judgement, permissions: Permissions, quarantined: Collection[str]) -> str:
    """Why a judgement may not be used; empty when it may."""
    if judgement.withdrawn:
        return "withdrawn"
    if judgement.user_id not in permissions.active_user_ids:
        return "user disabled"
    if judgement.user_id in quarantined:
        return "rater in quarantine"
    if not judgement.all_open:
        return "restricted"
    if any(document not in permissions.known_document_ids for document in judgement.document_ids):
        return "document deleted"
    if any(document not in permissions.open_document_ids for document in judgement.document_ids):
        return "restricted"
    # The store keeps the prompts apart when answers were written for different ones: their scores do not compare.
    return "different prompts" if judgement.extra.get("prompts") else ""


def _add_ranking(judgement: Judgement, prompt: str, key: str, rows: JudgedRows) -> str:
    texts = [answer.text for answer in judgement.answers]

    def judged(
        completions: tuple[str, ...], ranking: tuple[tuple[int, ...], ...], label: bool | None, weight: float
    ) -> None:
        rows.rankings.append(
            RankedCompletions(
                prompt=prompt,
                completions=completions,
                ranking=ranking,
                question_id=key,
                labeler_id=judgement.user_id,
                label=label,
                weight=weight,
                document_ids=sorted(judgement.document_ids),
            )
        )

    if judgement.kind == "rating":
        judged((texts[0],), (), judgement.label, 1.0)
        return ""
    merged = _merge_equal_texts(texts, judgement.ranking)
    if merged is None and judgement.both_bad:
        judged((texts[0],), (), False, 1.0)  # they do not differ, but that they are bad was said
        return ""
    if merged is None:
        return "identical answers"
    completions, ranking = merged
    share = 1 / (1 + len(completions)) if judgement.both_bad else 1.0
    judged(completions, ranking, None, share)
    if judgement.both_bad:
        for completion in completions:
            judged((completion,), (), False, share)
    return ""


def _merge_equal_texts(
    texts: list[str], ranking: Iterable[Iterable[int]]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]] | None:
    """Each text once, at its best place; None when fewer than two differ."""
    completions = list(dict.fromkeys(texts))
    placed: set[str] = set()
    groups = []
    for group in ranking:
        fresh = [texts[index] for index in group if texts[index] not in placed]
        placed.update(fresh)
        indices = tuple(sorted({completions.index(text) for text in fresh}))
        if indices:
            groups.append(indices)
    return (tuple(completions), tuple(groups)) if len(completions) > 1 else None
