"""Grounded-reader examples: a question, numbered evidence sentences, and the answer that copies the right ones.

Prompts come from `chatbot.prompt` alone, so training sees what serving shows. Knows nothing of models or tokens. Differs from the
usual retrieval-augmented training data in three ways. A target is copied, never written: each cited sentence stands word for word
in the evidence under its number. Evidence is ordered by a noisy lexical ranking, because in serving the right sentence is often,
not always, the first. And the same kind of question gets answers in several styles, so that preferences have something to choose
between when people start to judge.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from alignment.corpus import is_held_out
from alignment.errors import TrainingError
from alignment.evidence_pool import SentencePool
from alignment.question_phrasing import content_words
from alignment.reader_sources import SourceQuestion, SourceSentence, questions_from_pages, questions_from_sets
from chatbot.prompt import REFUSAL, Message, NumberedEvidence, build_messages

_log = structlog.get_logger(__name__)

_LOOKS_LIKE_AN_ANSWER = 0.65
"""Share of the question's word weight from which a sentence may well answer it."""

Style = Literal["one", "two", "three", "lead_in", "short_answer", "polite", "refusal"]

_LEAD_INS = (
    "According to {0}: ",
    "Short answer: ",
    "From {0}: ",
    "The documents say: ",
    "In {0} it says: ",
    "Yes, this is covered. ",
)
_CLOSINGS = (
    " I hope that helps.", " Let me know if you need more.", " Feel free to ask if anything is unclear.", " Happy to help further.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReaderDataSettings:
    """Where examples come from and how they are mixed."""

    data_dir: Path
    """Folder with the question sets (`qa_*`) and, under `text`, the corpora of pages."""
    page_corpora: Sequence[str] = (
        "hb_gitlab",
        "docs_d365bc",
        "docs_biztalk",
        "docs_powershell",
        "docs_ax2012",
    )
    """Corpora whose headings and statements become questions."""
    page_share: Mapping[str, float] = field(
        default_factory=lambda: {"docs_biztalk": 0.3, "docs_powershell": 0.4, "docs_ax2012": 0.2}
    )
    """Share of a corpus's pages that is used; 1 where nothing is said."""
    statements_per_page: int = 4
    """At most so many questions a page made from single sentences."""
    unanswerable_share: float = 0.22
    """Share of examples whose evidence does not hold the answer."""
    history_share: float = 0.06
    """Share of examples with an earlier turn."""
    shuffled_share: float = 0.3
    """Share of examples whose evidence is in random order."""
    bare_heading_share: float = 0.25
    """Share of examples whose evidence shows the title alone, so that the sentences themselves have to be read."""
    ranking_noise: float = 0.65
    """Spread of the noise added to each sentence's relevance (0 to 1) before evidence is ordered."""
    min_evidence: int = 4
    """Fewest numbered sentences."""
    max_evidence: int = 8
    """Most numbered sentences."""
    max_prompt_chars: int = 3200
    """Evidence is cut to this; about 800 tokens."""
    held_out_share: float = 0.05
    """Share of documents that is never trained on."""
    copies: Mapping[str, float] = field(
        default_factory=lambda: {
            "heading": 0.5,
            "statement": 1.0,
            "squad": 2.0,
            "nq": 4.0,
            "covid": 3.0,
            "asqa": 4.0,
            "faq": 4.0,
        }
    )
    """Examples made from each question of a kind, with other distractors, order and style each time; below 1 a share of them."""
    seed: int = 20
    """Decides everything."""

    def __post_init__(self) -> None:
        """Reject settings that cannot work, by name."""
        if not 1 <= self.min_evidence <= self.max_evidence <= 99:
            raise ValueError(
                f"min_evidence={self.min_evidence} and max_evidence={self.max_evidence} must be 1 to 99, in order"
            )
        for name in ("unanswerable_share", "history_share", "shuffled_share", "held_out_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        if self.max_prompt_chars < 500:
            raise ValueError(f"max_prompt_chars={self.max_prompt_chars} must be at least 500")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderExample:
    """One prompt with its target."""

    document: str
    """What the question was made from; no document is in both parts."""
    kind: str
    style: Style
    question: str
    evidence: tuple[NumberedEvidence, ...]
    history: tuple[Message, ...]
    completion: str
    cited: tuple[int, ...]
    """Numbers of the sentences copied, in the order written; empty for refusals."""

    @property
    def messages(self) -> list[Message]:
        """The chat, as serving would build it."""
        return build_messages(self.question, self.evidence, self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderData:
    """Both parts, each shuffled."""

    train: list[ReaderExample]
    held_out: list[ReaderExample]


def build_reader_data(settings: ReaderDataSettings) -> ReaderData:
    """All examples, split by document; the same settings give the same examples.

    Raises:
        TrainingError: If the folder holds neither question sets nor page corpora.
    """
    questions = _collect(settings)
    if not questions:
        raise TrainingError(
            f"No qa_*/qa.jsonl.gz and no text/*.jsonl.xz under {settings.data_dir}. Set data_dir."
        )
    parts: dict[bool, list[SourceQuestion]] = {True: [], False: []}
    for question in questions:
        parts[is_held_out(question.document, settings.held_out_share)].append(question)
    made = {
        held_out: _make_part(part, settings, random.Random(f"{settings.seed} {held_out}"))  # noqa: S311 - data, not secrets
        for held_out, part in parts.items()
    }
    _log.info("reader_data_built", train=len(made[False]), held_out=len(made[True]))
    return ReaderData(train=made[False], held_out=made[True])


def _collect(settings: ReaderDataSettings) -> list[SourceQuestion]:
    questions = list(questions_from_sets(settings.data_dir))
    for name in settings.page_corpora:
        path = settings.data_dir / "text" / f"{name}.jsonl.xz"
        if not path.exists():
            continue
        rng = random.Random(f"{settings.seed} {name}")  # noqa: S311 - data, not secrets
        share = settings.page_share.get(name, 1.0)
        questions += questions_from_pages(
            path, rng, page_share=share, statements_per_page=settings.statements_per_page
        )
    return questions


def _make_part(
    questions: Sequence[SourceQuestion], settings: ReaderDataSettings, rng: random.Random
) -> list[ReaderExample]:
    repeated = [
        question
        for question in questions
        for _ in range(_draw_copies(settings.copies.get(question.kind, 1.0), rng))
    ]
    maker = ExampleMaker(repeated, settings, rng)
    examples = [example for question in repeated if (example := maker.make(question)) is not None]
    rng.shuffle(examples)
    return examples


def _draw_copies(copies: float, rng: random.Random) -> int:
    whole = int(copies)
    return whole + (rng.random() < copies - whole)


class ExampleMaker:
    """Makes examples from questions of one part; distractors come from the same part, so that nothing leaks."""

    def __init__(
        self, questions: Sequence[SourceQuestion], settings: ReaderDataSettings, rng: random.Random
    ) -> None:
        """Index the part's sentences by word."""
        self._settings, self._rng = settings, rng
        self._pool = SentencePool(questions)
        self._earlier: dict[str, list[SourceQuestion]] = defaultdict(list)
        for question in questions:
            if question.right:
                self._earlier[question.document].append(question)
        # Sets bring their own unanswerable questions: only the missing share is made from answerable ones.
        n_without = sum(not question.right for question in questions)
        wanted = settings.unanswerable_share * len(questions)
        n_with = max(1, len(questions) - n_without)
        self._keep_without = min(1.0, 0.5 * wanted / n_without) if n_without else 0.0
        self._make_without = max(0.0, wanted - self._keep_without * n_without) / n_with

    def make(self, question: SourceQuestion) -> ReaderExample | None:
        """One example, or none when the question is left out or its evidence does not fit."""
        rng = self._rng
        if not question.right:
            if rng.random() >= self._keep_without:
                return None
            return self._build(question, "refusal", ())
        if rng.random() < self._make_without:
            return self._build(question, "refusal", ())
        style = self._draw_style(question)
        n_right = {"two": 2, "three": 3}.get(style, 1)
        return self._build(question, style, question.right[:n_right])

    def _draw_style(self, question: SourceQuestion) -> Style:
        draw = self._rng.random()
        if question.short_answer and draw < 0.3:
            return "short_answer"
        for style, below in (("lead_in", 0.1), ("polite", 0.17)):
            if draw < below and not question.short_answer:
                return style  # type: ignore[return-value]  # both literals are styles
        n_right = len(question.right)
        if n_right >= 3 and draw > 0.85:
            return "three"
        return "two" if n_right >= 2 and draw > 0.6 else "one"

    def _build(
        self, question: SourceQuestion, style: Style, used: Sequence[SourceSentence]
    ) -> ReaderExample | None:
        evidence = self._choose_evidence(question, used)
        if evidence is None:
            return None
        bare = self._rng.random() < self._settings.bare_heading_share
        numbered = tuple(
            NumberedEvidence(number=n, heading=s.heading.split(" > ")[0] if bare else s.heading, text=s.text)
            for n, s in enumerate(evidence, start=1)
        )
        cited = tuple(evidence.index(sentence) + 1 for sentence in used)
        return ReaderExample(
            document=question.document,
            kind=question.kind,
            style=style,
            question=question.question,
            evidence=numbered,
            history=self._draw_history(question),
            completion=self._write(question, style, used, cited),
            cited=cited,
        )

    def _choose_evidence(
        self, question: SourceQuestion, used: Sequence[SourceSentence]
    ) -> list[SourceSentence] | None:
        """The sentences shown, in the order shown."""
        rng, settings = self._rng, self._settings
        if not used and rng.random() < 0.03:
            return []
        wanted = rng.choices(
            range(settings.min_evidence, settings.max_evidence + 1),
            weights=[2.0 ** -(n / 2) for n in range(settings.max_evidence - settings.min_evidence + 1)],
        )[0]
        words = set(content_words(question.question))
        hidden = {sentence.text for sentence in question.right}
        n_far = sum(
            rng.random() < (0.35 if question.near else 1.0) for _ in range(max(0, wanted - len(used)))
        )
        far = self._pool.similar(question.question, n_far + 2, rng, not_of=question.document)
        near = self._pool.rank(words, question.near, rng, noise=0.5)
        if not used:  # what still looks like an answer would teach the model to refuse answers
            near = [
                sentence for sentence in near if self._pool.relevance(words, sentence) < _LOOKS_LIKE_AN_ANSWER
            ]
        others: list[SourceSentence] = []
        for sentence in [*far[:n_far], *near, *far[n_far:]]:
            if len(others) >= wanted - len(used):
                break
            if sentence.text not in hidden and all(sentence.text != other.text for other in others):
                others.append(sentence)
        if len(others) + len(used) < 2:
            return None
        return self._order(words, [*used, *others])

    def _order(self, words: set[str], sentences: list[SourceSentence]) -> list[SourceSentence] | None:
        if sum(len(s.heading) + len(s.text) + 8 for s in sentences) > self._settings.max_prompt_chars:
            return None
        if self._rng.random() < self._settings.shuffled_share:
            self._rng.shuffle(sentences)
            return sentences
        return self._pool.rank(words, sentences, self._rng, noise=self._settings.ranking_noise)

    def _draw_history(self, question: SourceQuestion) -> tuple[Message, ...]:
        earlier = [q for q in self._earlier[question.document] if q.question != question.question]
        if not earlier or self._rng.random() >= self._settings.history_share:
            return ()
        asked = self._rng.choice(earlier)
        return (
            Message(role="user", content=asked.question),
            Message(role="assistant", content=asked.right[0].text),
        )

    def _write(
        self, question: SourceQuestion, style: Style, used: Sequence[SourceSentence], cited: Sequence[int]
    ) -> str:
        if style == "refusal":
            return REFUSAL
        body = " ".join(f"{sentence.text} [{n}]" for sentence, n in zip(used, cited, strict=True))
        if style == "lead_in":
            return self._rng.choice(_LEAD_INS).format(used[0].heading) + body
        if style == "short_answer":
            phrase = question.short_answer[0].upper() + question.short_answer[1:]
            return f"{phrase}. {body}"
        return body + self._rng.choice(_CLOSINGS) if style == "polite" else body
