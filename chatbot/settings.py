"""Settings of the turn: generation, serving, evidence, grounding, abstention and the assistant.

They stand in one file, away from their owners, so that the command line can show and check them without loading a model library.
Thresholds were chosen on public question sets (SQuAD 2 dev, NQ, a public handbook), never on the set that figures are reported on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatbot.records import Sampling


def _require(condition: bool, name: str, value: object, legal: str) -> None:
    if not condition:
        raise ValueError(f"{name}={value!r} must be {legal}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGeneratorSettings:
    """How a Hugging Face model is loaded and run in this process."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` takes bfloat16 on a GPU and on CPUs with AMX, else float32: without AMX bfloat16 measured slower."""
    device: str = "auto"
    """`auto` takes the GPU when there is one; else a torch device name such as `cpu` or `cuda:1`."""
    context_tokens: int | None = None
    """Upper bound on prompt and completion together, in tokens; None leaves the model's own."""
    batch_size: int = 8
    """How many prompts are completed at once."""
    engine: Literal["auto", "transformers"] = "auto"
    """`auto` runs Llama-shaped models in float32 on a CPU with a faster forward pass of Tacit's own, shared by all who chat; `transformers` never does."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(
            self.dtype in {"auto", "float32", "bfloat16"}, "dtype", self.dtype, "auto, float32 or bfloat16"
        )
        _require(bool(self.device), "device", self.device, "auto or a torch device name")
        bounded = self.context_tokens is None or self.context_tokens >= 64
        _require(bounded, "context_tokens", self.context_tokens, "at least 64, or None")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.engine in {"auto", "transformers"}, "engine", self.engine, "auto or transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIGeneratorSettings:
    """Where an OpenAI-compatible server listens and how patient we are with it."""

    url: str = "http://127.0.0.1:8000/v1"
    """Up to and including the version; `/chat/completions` is added."""
    api_key: str = ""
    """Sent as a bearer token; empty sends none."""
    context_tokens: int = 8192
    """Prompt and completion together, in tokens; servers do not tell."""
    timeout_seconds: float = 60.0
    """Longest silence of the server, before the first byte and between two pieces."""
    concurrency: int = 8
    """Requests in flight at once; the server batches them."""
    logprobs: bool = False
    """Ask for log-probabilities. Not every server knows the field."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(
            self.url.startswith(("http://", "https://")), "url", self.url, "an http:// or https:// address"
        )
        _require(self.context_tokens >= 64, "context_tokens", self.context_tokens, "at least 64")
        _require(self.timeout_seconds > 0, "timeout_seconds", self.timeout_seconds, "above 0")
        _require(self.concurrency >= 1, "concurrency", self.concurrency, "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """How many policies stay in memory and how a promoted one takes over."""

    cached_policies: int = 3
    """Loaded policies kept in memory, the serving one included."""
    swap_wait_seconds: float = 10.0
    """How long a question waits for a newly promoted policy to load before the old one answers it."""
    retry_seconds: float = 60.0
    """A promoted policy that failed to load is tried again after this time."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(self.cached_policies >= 1, "cached_policies", self.cached_policies, "at least 1")
        _require(self.swap_wait_seconds >= 0, "swap_wait_seconds", self.swap_wait_seconds, "0 or more")
        _require(self.retry_seconds >= 0, "retry_seconds", self.retry_seconds, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """Which sentences of the passages the model is shown."""

    max_passages: int = 8
    """Only the best so many passages are read sentence by sentence."""
    max_sentences: int = 6
    """Sentences shown to the model at most. More hold the answer more often, and cost time in every answer and every round of training."""
    passage_weight: float = 0.3
    """How much the passage's own similarity adds to its sentences' (they are ranked by the sum)."""
    duplicate_cosine: float = 0.97
    """Two sentences at least this similar say the same; the lower-ranked one is dropped."""
    screen_orders: bool = True
    """Whether sentences that give orders to a model ("ignore all previous instructions") are left out, so that they are neither quoted nor followed; the log names
    their documents. False shows them."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(self.max_passages >= 1, "max_passages", self.max_passages, "at least 1")
        _require(1 <= self.max_sentences <= 99, "max_sentences", self.max_sentences, "between 1 and 99")
        _require(self.passage_weight >= 0, "passage_weight", self.passage_weight, "0 or more")
        _require(0 < self.duplicate_cosine <= 1, "duplicate_cosine", self.duplicate_cosine, "in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingSettings:
    """When a sentence of an answer counts as supported by the evidence it cites."""

    min_coverage: float = 0.6
    """Share of the sentence's content words that the cited evidence (or its heading, or the question) must hold."""
    same_clause: float = 0.75
    """Share of words two clauses must have in common to count as the same statement; then both must be negated or neither."""
    max_quoted: int = 2
    """How many evidence sentences are quoted when nothing the model wrote was supported."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(0 < self.min_coverage <= 1, "min_coverage", self.min_coverage, "in (0, 1]")
        _require(0 < self.same_clause <= 1, "same_clause", self.same_clause, "in (0, 1]")
        _require(self.max_quoted >= 1, "max_quoted", self.max_quoted, "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionSettings:
    """When the evidence is too weak to ask the model at all.

    Support is `1 / (1 + exp(-(intercept + sentence * s + overlap * o)))` with s the best sentence cosine and o the share of the
    question's content words found in the evidence. Coefficients and threshold are those
    that `tools/fit_abstention.py` fitted on 140 questions each of SQuAD 2 dev and NQ and on 280 written as employees ask, with the
    embedded evidence encoder; another embedder needs its own. Fitted on two sets, they told the third one's questions with and without
    their passage apart with AUC 0.84, 0.95 and 0.71; at the threshold 8 % of the written answerable ones are refused and 23 % of the others.
    """

    threshold: float = 0.16
    """Below this support the refusal is given. 0 never refuses, 1 always."""
    intercept: float = -5.48
    """Fitted constant of the support."""
    sentence: float = 6.95
    """Fitted weight of the best sentence's cosine."""
    overlap: float = 2.78
    """Fitted weight of the share of the question's content words found in the evidence."""
    judge: bool = True
    """Whether the embedded model that reads question and evidence together decides instead; the four values above then decide nothing."""
    judge_threshold: float = 0.15
    """Below this probability that the evidence answers the refusal is given. 0 never refuses, 1 always."""

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        _require(0 <= self.threshold <= 1, "threshold", self.threshold, "in [0, 1]")
        _require(0 <= self.judge_threshold <= 1, "judge_threshold", self.judge_threshold, "in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantSettings:
    """One turn from question to answer."""

    max_question_characters: int = 4_000
    """Longer questions are turned away."""
    top_k: int = 8
    """Passages retrieved per question."""
    max_new_tokens: int = 160
    """Tokens an answer may take."""
    temperature: float = 0.0
    """Sampling temperature in serving; 0 takes the likeliest token each time."""
    sample_temperature: float = 1.0
    """Sampling temperature where several answers are wanted: people can only choose between answers that differ. Behind an API at most 1."""
    sample_min_p: float = 0.05
    """There, tokens less likely than this share of the likeliest one are not drawn, or a small model writes nonsense at that temperature."""
    history_turns: int = 3
    """Earlier turns shown to the model with a follow-up question at most; fewer when the context is small."""
    follow_up_words: int = 12
    """A question of at most so many words that points back (it, that, what about) is a follow-up: it is searched for and asked
    together with the one before it. 0 takes every question for itself."""

    def sampling(self) -> Sampling:
        """How an answer is drawn when it is served."""
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens)

    def varied_sampling(self) -> Sampling:
        """How answers are drawn where several are wanted, or another one."""
        return Sampling(
            temperature=self.sample_temperature, min_p=self.sample_min_p, max_new_tokens=self.max_new_tokens
        )

    def __post_init__(self) -> None:
        """Reject values that would fail later, by name."""
        limit = self.max_question_characters
        _require(limit >= 1, "max_question_characters", limit, "at least 1")
        _require(self.top_k >= 1, "top_k", self.top_k, "at least 1")
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        _require(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        _require(self.sample_temperature > 0, "sample_temperature", self.sample_temperature, "above 0")
        _require(0 <= self.sample_min_p < 1, "sample_min_p", self.sample_min_p, "at least 0 and below 1")
        _require(self.history_turns >= 0, "history_turns", self.history_turns, "0 or more")
        _require(self.follow_up_words >= 0, "follow_up_words", self.follow_up_words, "0 or more")
