"""The vocabulary of the chatbot: people, turns, answers with their lineage, and judgements. Frozen values, no behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chatbot.prompt import Message
from knowledge_base.records import Passage, Reader

Role = Literal["employee", "admin", "ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person with an account. Admins manage documents and people, ops watch and schedule training; both may also ask."""

    id: str
    name: str
    role: Role
    groups: frozenset[str]
    created_at: datetime
    disabled_at: datetime | None = None

    def as_reader(self) -> Reader:
        """What retrieval needs to know of this person."""
        return Reader(name=self.name, groups=self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest one, before the temperature, are not drawn: a high temperature then makes other choices
    where there is a choice, and no misspellings. An API has no such thing: `openai_generator` lowers the temperature instead."""
    max_new_tokens: int = 160
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model wrote for a prompt."""

    text: str
    token_ids: tuple[int, ...]
    """Sampled tokens, the end-of-text token included when it was sampled, and a repetition that was taken back out of the text; empty when
    the engine does not tell."""
    logprob: float | None
    """Sum of the log-probabilities of `token_ids` under the sampling distribution's logits at temperature 1; None when unknown."""
    ended: bool
    """Whether the model itself stopped (as opposed to running out of `max_new_tokens` or being stopped)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSentence:
    """A sentence of a passage, chosen for the prompt."""

    number: int
    """The number shown to the model, from 1."""
    text: str
    heading: str
    """Title and heading path as shown to the model."""
    similarity: float
    """Cosine of question and sentence."""
    start: int
    """Offset in the document's text."""
    end: int
    passage: Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTurn:
    """Everything decided before the model writes: an answer is a function of this and a completion."""

    question: str
    search_text: str
    """What was searched for: the question, or a follow-up made self-contained."""
    passages: Sequence[Passage]
    evidence: Sequence[EvidenceSentence]
    messages: Sequence[Message]
    answerable: bool
    """False when the evidence is too weak: then the refusal is given without asking the model."""
    support: float
    """The number behind that decision, comparable between questions."""
    versions: dict[str, str]
    """`index`, `retriever`, `prompt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A link from an answer to the passage it rests on."""

    number: int
    """As shown in the answer's text, from 1."""
    document_id: str
    document: str
    title: str
    heading: str
    page: int | None
    text: str
    """The evidence sentence."""
    start: int
    end: int
    chunk_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingReport:
    """How well the sentences of an answer are supported by what they cite."""

    n_sentences: int
    n_supported: int
    dropped: Sequence[str] = ()
    """Unsupported sentences that were taken out."""
    fell_back: bool = False
    """Nothing supported was left: the best evidence was quoted instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A completion as shown to a person, with citations and lineage.

    Preference functions (simulated employees) see `text`, `abstained` and `citations`.
    """

    id: str
    question: str
    text: str
    abstained: bool
    citations: Sequence[Citation]
    policy_id: str
    completion: str
    """What the model wrote, before grounding and renumbering; empty when the model was not asked."""
    prompt: str
    """The rendered prompt; empty when the model was not asked."""
    logprob: float | None
    sampling: Sampling
    grounding: GroundingReport | None
    prepared: PreparedTurn
    seconds_to_first_token: float | None
    seconds: float
    created_at: datetime


JudgementKind = Literal["rating", "comparison", "ranking", "demonstration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnswer:
    """An answer as it was when it was judged."""

    text: str
    """The completion in the model's own numbering where the answer came from a model, else the text as imported."""
    answer_id: str | None = None
    abstained: bool = False
    policy_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One employee's judgement, append-only; the newest revision of (user, subject) counts, unless withdrawn.

    A comparison and a ranking are the same thing with two or more answers: `ranking` lists indices of `answers`, best first,
    equals together. A rating has one answer and a label; a demonstration has one answer: the ideal one.
    """

    id: str
    kind: JudgementKind
    user_id: str
    subject: str
    """What is judged: the answer's id, or the ids of the compared answers in sorted order joined by `+`, or a question's hash."""
    question: str
    prompt: str
    """The rendered prompt the answers were written for; empty for imported judgements without one."""
    document_ids: Sequence[str]
    """Documents whose text is in the prompt: deleting one of them removes the judgement from the next dataset."""
    all_open: bool
    """Whether all evidence came from collections that every employee may read; only such judgements are trained on."""
    answers: Sequence[JudgedAnswer]
    ranking: Sequence[Sequence[int]] = ()
    label: bool | None = None
    both_bad: bool = False
    reasons: Sequence[str] = ()
    comment: str = ""
    surface: str = "chat"
    """Where it was given: chat, compare, api, import, simulation."""
    displayed_order: Sequence[int] = ()
    """The order in which a comparison's answers were shown (propensity logging, position bias)."""
    revision: int = 1
    withdrawn: bool = False
    created_at: datetime | None = None
    """Set by the store when None."""
    extra: dict[str, Any] = field(default_factory=dict)


PolicyState = Literal["candidate", "serving", "retired", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """An immutable bundle of weights and lineage, and where it is in its life."""

    id: str
    """`base`, or stage and a short random id: `ppo-3f2a9c`."""
    stage: Literal["base", "sft", "ppo", "rloo", "best_of_n", "external"]
    state: PolicyState
    parent: str | None
    path: str
    """Directory of the bundle (absolute), a hub id, or an OpenAI-compatible endpoint's model name."""
    created_at: datetime
    metrics: dict[str, Any]
    gates: Sequence[dict[str, Any]]
    """`{"name", "passed", "value", "threshold", "why", "measured"}`; those of earlier versions lack the last, which is true for them."""
    manifest: dict[str, Any]
    """Base hash, weights hash, prompt version, dataset snapshot hash, reward model, settings, run id."""
    reason: str = ""
    """Why it was rejected or retired."""
