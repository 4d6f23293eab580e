"""A Hugging Face causal model that writes, in this process.

Owns prompts as tokens, batches and the choice of engine. Knows nothing of evidence, citations or storage, and of forward passes only that an
engine makes them: `shared_steps` for Llama-shaped models on a CPU, `turn_taking` for all others.

Different from `model.generate`: each row has its own random stream, so calls on several threads do not disturb each other's seeds; only the
drawn token's log-probability is kept, so memory is B x V for one step and not B x T x V; and a completion that begins to repeat
itself ends before it does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chatbot.errors import GenerationError
from chatbot.evidence_order import EvidenceOrder
from chatbot.model_loading import LoadedModel, load_model
from chatbot.prompt import Message, render_prompt
from chatbot.protocols import Delta
from chatbot.records import Completion, Sampling
from chatbot.settings import LocalGeneratorSettings
from chatbot.writing import Engine, Writing, Written
from knowledge_base.model_files import first_line


class LocalGenerator:
    """Implements `Generator` with a model held in memory."""

    def __init__(
        self,
        path_or_id: str,
        policy_id: str,
        settings: LocalGeneratorSettings | None = None,
        adapter: str | Path | None = None,
    ) -> None:
        """Load the model.

        Args:
            path_or_id: A model's or an adapter's directory, or a hub id.
            policy_id: Stored with each answer.
            settings: Type of numbers, device, context, batch size.
            adapter: A LoRA adapter's directory, when `path_or_id` is the model it was trained on.

        Raises:
            GenerationError: the model cannot be loaded.
        """
        self._settings = settings or LocalGeneratorSettings()
        self._policy_id = policy_id
        self._loaded = load_model(path_or_id, self._settings, adapter)
        self._evidence_order = EvidenceOrder.load(Path(path_or_id))
        self._engine = _choose_engine(self._loaded, self._settings)

    @property
    def policy_id(self) -> str:
        """Which policy version this is."""
        return self._policy_id

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together, in tokens."""
        return self._loaded.context_tokens

    @property
    def evidence_order(self) -> EvidenceOrder | None:
        """In which order it wants to read its evidence, when its bundle says so."""
        return self._evidence_order

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, for those who need token ids."""
        return self._loaded.tokenizer

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, as a prompt would count them."""
        return len(self._encode(text))

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model sees it."""
        return render_prompt(self._loaded.tokenizer, messages)

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        stop: threading.Event | None = None,
    ) -> list[Completion]:
        """Complete several prompts, in the order given; see `Generator.generate`. Prompts that are equal are read once.

        Args:
            prompts: Each as a chat.
            sampling: Rows have their own random streams.
            stop: When set, what was written until then comes back soon, with `ended=False`.
        """
        encoded = [self._encode_prompt(messages) for messages in prompts]
        completions: list[Completion] = []
        size = self._settings.batch_size
        for first in range(0, len(encoded), size):
            completions += self._complete_batch(encoded[first : first + size], sampling, first, stop)
        return completions

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """Complete one prompt piece by piece; see `Generator.stream`."""
        writing = Writing(self._loaded, [self._encode_prompt(messages)], sampling, 0)
        try:
            while not stop.is_set() and (written := self._step(writing)):
                yield from _as_deltas(written)
            yield from _as_deltas(self._engine.leave(writing))
            yield Delta(text="", completion=writing.completions()[0])
        finally:
            self._engine.leave(writing)

    def _complete_batch(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        first_row: int,
        stop: threading.Event | None,
    ) -> list[Completion]:
        writing = Writing(self._loaded, prompts, sampling, first_row)
        try:
            while not (stop and stop.is_set()) and self._step(writing):
                pass
        finally:
            self._engine.leave(writing)
        return writing.completions()

    def _step(self, writing: Writing) -> Written:
        try:
            return self._engine.step(writing)
        except RuntimeError as error:
            raise GenerationError(f"policy {self.policy_id} could not write: {first_line(error)}") from error

    def _encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        ids = self._encode(self.render(messages))
        if len(ids) >= self.context_tokens:
            raise GenerationError(
                f"the prompt has {len(ids):,} tokens and policy {self.policy_id} reads {self.context_tokens:,}; "
                "show it less evidence or history"
            )
        return ids

    def _encode(self, text: str) -> list[int]:
        # A chat template writes the begin token itself; a second one in front would shift the model off its training.
        has_template = bool(getattr(self._loaded.tokenizer, "chat_template", None))
        return list(self._loaded.tokenizer(text, add_special_tokens=not has_template)["input_ids"])


def _as_deltas(written: Written) -> Iterator[Delta]:
    return (Delta(text=piece) for _, piece in written if piece)


def _choose_engine(loaded: LoadedModel, settings: LocalGeneratorSettings) -> Engine:
    from chatbot.turn_taking import TurnTaking

    if settings.engine == "auto":
        # Imported here: it needs torch, which a process that only asks a server does without.
        from chatbot.llama_forward import can_run
        from chatbot.shared_steps import SharedSteps

        if can_run(loaded.model):
            return SharedSteps(loaded)
    return TurnTaking(loaded)
