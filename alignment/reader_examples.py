"""What a reader example is, and the settings that examples are made from.

Prompts come from `chatbot.prompt` alone, so training sees what serving shows. Knows nothing of how examples are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from chatbot.prompt import Message, NumberedEvidence, build_messages

Style = Literal["quote", "lead_in", "short_answer", "polite", "refusal", "echo"]


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
    unanswerable_share: float = 0.06
    """Share of examples whose evidence does not hold the answer."""
    history_share: float = 0.06
    """Share of examples with an earlier turn."""
    shuffled_share: float = 0.3
    """Share of examples whose evidence is in random order."""
    bare_heading_share: float = 0.25
    """Share of examples whose evidence shows the title alone, so that the sentences themselves have to be read."""
    echo_share: float = 0.0
    """Share of training examples that ask to quote all evidence: copying without choosing, for the start of a training run."""
    session_share: float = 0.5
    """Share of the training examples that ask several questions about one evidence."""
    session_questions: int = 6
    """Most questions of such an example."""
    ranking_noise: float = 0.65
    """Spread of the noise added to each sentence's relevance (0 to 1) before evidence is ordered."""
    answer_words: Sequence[float] = (8, 50, 26)
    """Fewest, most and likeliest number of words up to which a short right sentence is followed by others."""
    min_evidence: int = 3
    """Fewest numbered sentences."""
    max_evidence: int = 8
    """Most numbered sentences."""
    max_prompt_chars: int = 1200
    """Evidence with more characters is left out; about 300 tokens."""
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
        for name in (
            "unanswerable_share",
            "history_share",
            "shuffled_share",
            "held_out_share",
            "echo_share",
            "session_share",
        ):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        if (
            len(self.answer_words) != 3
            or not self.answer_words[0] <= self.answer_words[2] <= self.answer_words[1]
        ):
            raise ValueError(
                f"answer_words={self.answer_words} must be three numbers: fewest, most, and the likeliest between them"
            )
        if self.session_questions < 2:
            raise ValueError(f"session_questions={self.session_questions} must be at least 2")
        if self.max_prompt_chars < 500:
            raise ValueError(f"max_prompt_chars={self.max_prompt_chars} must be at least 500")


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherQuestion:
    """One more question about the evidence of an example, asked after its answer."""

    question: str
    completion: str
    right: tuple[int, ...]
    """Numbers of the sentences that answer; empty when none does and the completion is the refusal."""


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
    right: tuple[int, ...]
    """Numbers of the sentences that answer; the others cited only stand near the answer."""
    further: tuple[FurtherQuestion, ...] = ()
    """Training only: reading the evidence costs far more tokens than a question about it, so some examples ask several."""

    @property
    def messages(self) -> list[Message]:
        """The chat, as serving would build it."""
        return build_messages(self.question, self.evidence, self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderData:
    """Both parts, each shuffled."""

    train: list[ReaderExample]
    held_out: list[ReaderExample]
