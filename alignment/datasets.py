"""Builds the dataset of a cycle: judgements and derived pairs, rendered as serving renders, split by question, hashed.

Knows nothing of the database, of retrieval or of models: judgements, documents and two functions come in. Different from the usual
random split: a question is on one side or the other by its own hash, together with every phrasing that asks for the same stretch of a
document, and a known answer of which training teaches a sentence by another question is not measured on; so nothing that is measured on was
learned from, in this cycle or, for questions, with the same seed, in any other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from alignment.derived_pairs import DerivedExample, Prepare, Render, make_examples
from alignment.derived_questions import DerivedQuestion, derive_questions, question_id
from alignment.judged_rows import JudgedRows, JudgementReader, Permissions
from alignment.rater_records import KnownRaters, RaterReport, RaterSettings
from alignment.rater_weights import weights_of
from alignment.records import (
    DatasetSnapshot,
    ProgressFn,
    RankedCompletions,
    RolloutPrompt,
    StageProgress,
)
from alignment.snapshot import LoadedSnapshot, SnapshotRows, load_snapshot, write_snapshot
from alignment.taught_sentences import TaughtSentences
from chatbot.records import Judgement
from knowledge_base.records import DocumentText

__all__ = [
    "DatasetSettings",
    "LoadedSnapshot",
    "Permissions",
    "build_snapshot",
    "is_held_out",
    "load_snapshot",
    "question_id",
]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """What goes into a cycle's dataset."""

    held_out_share: float = 0.2
    """Share of the questions that nothing is learned from and gates are measured on."""
    max_derived: int = 320
    """Most questions derived from documents to learn from; each costs one retrieval. Chosen by hash, so that the choice is stable as
    documents are added."""
    max_derived_held_out: int = 200
    """Most derived questions to measure on. A measure over 70 questions is uncertain by four points and more, so that a gate lets a good
    candidate pass by luck or stops it by bad luck; over 200, by two."""
    phrasings: int = 2
    """Ways to ask about a section under a heading."""
    unanswerable_share: float = 0.08
    """Share of the derived pairs whose evidence does not answer and whose target is the refusal. A refusal always begins with the same
    words and an answer with any, so a share of a quarter taught a small policy to refuse nearly everything."""
    max_target_sentences: int = 3
    """Most sentences of a derived target, each with its citation."""
    max_target_words: int = 60
    """Most words of a derived target of more than one sentence."""
    max_rollouts: int = 400
    """Most prompts that PPO samples for; questions people asked come before derived ones."""

    def __post_init__(self) -> None:
        """Reject values that leave nothing to learn from or to measure on."""
        for name in ("held_out_share", "unanswerable_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        for name in ("phrasings", "max_target_sentences", "max_target_words", "max_rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("max_derived", "max_derived_held_out"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 (none) or more")


def build_snapshot(
    judgements: Iterable[Judgement],
    documents: Sequence[DocumentText],
    *,
    prepare: Prepare,
    render: Render,
    permissions: Permissions,
    out_dir: Path,
    settings: DatasetSettings,
    seed: int,
    raters: RaterSettings | None = None,
    known: KnownRaters | None = None,
    progress: ProgressFn = lambda _: None,
) -> DatasetSnapshot:
    """Build and write a snapshot.

    Args:
        judgements: The ones that count now, in any order (`FeedbackStore.current()`).
        documents: All documents of the collections that every employee may read.
        prepare: A question to its prepared turn, as a reader who may read the open collections only.
        render: Messages to the prompt in the policy's template.
        permissions: What may be trained on now.
        out_dir: Parent folder of snapshots.
        settings: See `DatasetSettings`.
        seed: Keep it from cycle to cycle: it decides which questions are held out.
        raters: How people's judgements are weighed.
        known: What is known of the people.
        progress: See `ProgressFn`; stage `snapshot`.

    Returns:
        The snapshot, written; read it with `load_snapshot(snapshot.path)`. `left_out` counts judgements by reason, and derived
        questions under `derived: ...`.

    Raises:
        StorageError: the folder cannot be written.
        RunCancelled: from `progress`.
    """
    derived = derive_questions(documents, phrasings=settings.phrasings, seed=seed)
    keys = {question_id(item.question): item.key for item in derived}
    chosen = _choose(derived, settings, seed)
    waiting = list(judgements)
    total = len(waiting) + len(chosen)
    reader = JudgementReader(permissions, prepare, render, lambda q: keys.get(question_id(q), question_id(q)))
    judged = reader.read(
        waiting,
        lambda done: progress(StageProgress(stage="snapshot", done=done, total=total, note="judgements")),
    )
    reports = _rate(judged, settings, seed, raters, known)
    report = reports[False]
    if left_out_people := _left_out_people(report, known):
        judged = reader.read(waiting, quarantined=left_out_people)
    judged.weigh(
        (rows, weights_of(reports[held_out], rows, raters, known))
        for held_out, rows in _by_side(judged.rankings, settings, seed).items()
    )
    examples, left_out = make_examples(
        chosen,
        prepare,
        render,
        unanswerable_share=settings.unanswerable_share,
        max_sentences=settings.max_target_sentences,
        max_words=settings.max_target_words,
        seed=seed,
        progress=lambda done, _: progress(
            StageProgress(stage="snapshot", done=len(waiting) + done, total=total, note="documents")
        ),
    )
    train = _side(judged, examples, settings, seed, held_out=False)
    taught = TaughtSentences(row.completion for row in train.pairs)
    n_made = len(examples)
    examples = _without_taught(examples, taught, settings, seed)
    left_out += Counter({"held out, but taught elsewhere": n_made - len(examples)})
    held_out = _side(judged, examples, settings, seed, held_out=True, taught=taught)
    draft = _draft(judged, examples, left_out, out_dir)
    snapshot = write_snapshot(draft, train, held_out, out_dir, raters=report.raters)
    _log.info(
        "snapshot_built",
        hash=snapshot.hash[:16],
        judgements=snapshot.n_judgements,
        demonstrations=snapshot.n_demonstrations,
        derived=snapshot.n_derived,
        held_out_pairs=len(held_out.pairs),
        left_out=snapshot.left_out,
    )
    return snapshot


def _left_out_people(report: RaterReport, known: KnownRaters | None) -> set[str]:
    # Who was excluded by a reviewer may have given demonstrations only, or judged held-out questions only: then there is no estimate.
    return {rater.labeler_id for rater in report.quarantined} | set(known.excluded if known else ())


def _without_taught(
    examples: Sequence[DerivedExample], taught: TaughtSentences, settings: DatasetSettings, seed: int
) -> list[DerivedExample]:
    """All but held-out ones whose answer training teaches by another question."""
    return [
        item
        for item in examples
        if not (_is_held_out(item.rollout.id, settings, seed) and taught.cover(item.row.completion))
    ]


def is_held_out(key: str, *, share: float, seed: int) -> bool:
    """Whether a question is measured on and not learned from; a function of its id and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def _is_held_out(key: str, settings: DatasetSettings, seed: int) -> bool:
    return is_held_out(key, share=settings.held_out_share, seed=seed)


def _by_side(
    rows: Iterable[RankedCompletions], settings: DatasetSettings, seed: int
) -> dict[bool, list[RankedCompletions]]:
    """Those that are learned from under False, those held out under True."""
    sides: dict[bool, list[RankedCompletions]] = {False: [], True: []}
    for row in rows:
        sides[_is_held_out(row.question_id, settings, seed)].append(row)
    return sides


def _rate(
    judged: JudgedRows,
    settings: DatasetSettings,
    seed: int,
    raters: RaterSettings | None,
    known: KnownRaters | None,
) -> dict[bool, RaterReport]:
    """What is known of people, for each side.

    What is learned weighs people by what they said of the questions that may be learned from: the others stay a measure of what was learned. The judge learns from those
    others, where somebody could have said all they ever said: it weighs people by everything.
    """
    from alignment.raters import estimate_raters  # loads torch

    learned = _by_side(judged.rankings, settings, seed)[False]
    return {
        False: estimate_raters(learned, raters, known),
        True: estimate_raters(judged.rankings, raters, known),
    }


def _choose(
    derived: Sequence[DerivedQuestion], settings: DatasetSettings, seed: int
) -> list[DerivedQuestion]:
    ordered = sorted(derived, key=lambda item: hashlib.sha256(item.question.encode()).hexdigest())
    sides: dict[bool, list[DerivedQuestion]] = {False: [], True: []}
    for item in ordered:
        sides[_is_held_out(item.key, settings, seed)].append(item)
    chosen = [*sides[False][: settings.max_derived], *sides[True][: settings.max_derived_held_out]]
    return sorted(chosen, key=lambda item: (item.key, item.question))


def _side(
    judged: JudgedRows,
    examples: Sequence[DerivedExample],
    settings: DatasetSettings,
    seed: int,
    *,
    held_out: bool,
    taught: TaughtSentences | None = None,
) -> SnapshotRows:
    """Rows of one side; known answers that are `taught` are no reference, and nothing to measure SFT on."""

    def belongs(key: str) -> bool:
        return held_out == _is_held_out(key, settings, seed)

    def is_known(answer: str | None) -> bool:
        return taught is not None and answer is not None and taught.cover(answer)

    demonstrations = [row for row in judged.demonstrations if not is_known(row.completion)]
    pairs = [*demonstrations, *(example.row for example in examples)]
    prompts = [replace(p, reference=None) if is_known(p.reference) else p for p in judged.rollouts.values()]
    # In no order of words: where there are too many, those that begin with "Who" would be left out.
    asked = _spread([p for p in prompts if belongs(p.id)], settings.max_rollouts)
    known = {prompt.question for prompt in asked}
    derived = [e.rollout for e in examples if belongs(e.rollout.id) and e.rollout.question not in known]
    return SnapshotRows(
        pairs=[row for row in pairs if belongs(row.question_id)],
        judgements=[row for row in judged.rankings if belongs(row.question_id)],
        rollouts=[*asked, *_spread(derived, settings.max_rollouts - len(asked))][: settings.max_rollouts],
    )


def _spread(prompts: Sequence[RolloutPrompt], most: int) -> list[RolloutPrompt]:
    """An even choice, so that the share of unanswerable prompts stays what it is."""
    ordered = sorted(prompts, key=lambda prompt: hashlib.sha256(prompt.prompt.encode()).hexdigest())
    return ordered[: max(most, 0)]


def _draft(
    judged: JudgedRows, examples: Sequence[DerivedExample], left_out: Counter[str], out_dir: Path
) -> DatasetSnapshot:
    keys = {row.question_id for row in judged.demonstrations} | {row.question_id for row in judged.rankings}
    reasons = judged.left_out + Counter({f"derived: {reason}": n for reason, n in left_out.items()})
    return DatasetSnapshot(
        hash="",
        path=out_dir,
        n_judgements=judged.n_used,
        n_demonstrations=len(judged.demonstrations),
        n_derived=len(examples),
        n_questions=len(keys | {example.row.question_id for example in examples}),
        left_out=dict(sorted(reasons.items())),
        until=judged.until,
    )
