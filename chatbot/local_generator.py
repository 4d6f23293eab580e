"""A Hugging Face causal model that writes, in this process.

Owns the sampling loop: batches padded on the left, a key/value cache, greedy, temperature and nucleus sampling, log-probabilities of
the drawn tokens. Knows nothing of evidence, citations or storage.

Different from `model.generate`: (1) each row has its own random stream, so calls on several threads do not disturb each other's
seeds; (2) only the drawn token's log-probability is kept, so memory is B x V for one step and not B x T x V; (3) rows that have
ended leave the batch; (4) rows with the same prompt share one pass over it; (5) a fair lock is held for one step at a time, so
that two chats on one model progress together; (6) a completion that begins to repeat itself ends before it does.

Shapes: B rows, U distinct prompts, T tokens so far, V vocabulary.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chatbot.decoding import TextPieces, TokenDrawer, is_looping
from chatbot.errors import GenerationError
from chatbot.evidence_order import EvidenceOrder
from chatbot.fair_lock import FairLock
from chatbot.model_loading import load_model
from chatbot.prompt import Message, render_prompt
from chatbot.protocols import Delta
from chatbot.records import Completion, Sampling
from chatbot.repetition import UnrepeatedText
from chatbot.settings import LocalGeneratorSettings


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
        self._lock = FairLock()
        accepted = inspect.signature(self._loaded.model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted

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

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """Complete several prompts, in the order given; see `Generator.generate`."""
        encoded = [self._encode_prompt(messages) for messages in prompts]
        completions: list[Completion] = []
        size = self._settings.batch_size
        for first in range(0, len(encoded), size):
            completions += self._complete_batch(encoded[first : first + size], sampling, first)
        return completions

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """Complete one prompt piece by piece; see `Generator.stream`."""
        batch = _Batch(self, [self._encode_prompt(messages)], sampling, 0)
        while batch.open_rows and not stop.is_set():
            for _, piece in batch.step():
                if piece:
                    yield Delta(text=piece)
        yield Delta(text="", completion=batch.completions()[0])

    def _complete_batch(
        self, prompts: Sequence[list[int]], sampling: Sampling, first_row: int
    ) -> list[Completion]:
        batch = _Batch(self, prompts, sampling, first_row)
        while batch.open_rows:
            batch.step()
        return batch.completions()

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

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> tuple[Any, Any]:
        """One pass under the lock. ids (B, T_new), mask (B, T), positions (B, T_new) -> last logits (B, V), cache."""
        import torch

        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
        if cache is not None:
            inputs["past_key_values"] = cache
        if self._takes_positions:
            inputs["position_ids"] = positions
        if self._takes_logits_to_keep:
            inputs["logits_to_keep"] = 1
        try:
            # Not entered around a `yield`: inference mode belongs to the thread, and the consumer runs in it too.
            with self._lock, torch.inference_mode():
                out = self._loaded.model(**inputs)
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            raise GenerationError(f"policy {self.policy_id} could not write: {reason}") from error
        return out.logits[:, -1], out.past_key_values


class _Batch:
    """Prompts being completed together, one token per step."""

    def __init__(
        self, generator: LocalGenerator, prompts: Sequence[list[int]], sampling: Sampling, first_row: int
    ) -> None:
        loaded = generator._loaded  # noqa: SLF001  # the batch is the generator's own other half
        self._forward = generator._forward  # noqa: SLF001
        self._device, self._pad_id, self._end_ids = loaded.device, loaded.pad_id, loaded.end_ids
        self._prompts = prompts
        self._drawer = TokenDrawer(sampling, len(prompts), first_row=first_row)
        self._room = [min(sampling.max_new_tokens, loaded.context_tokens - len(p)) for p in prompts]
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._logprobs = [0.0 for _ in prompts]
        self._texts = ["" for _ in prompts]
        self._pieces = [TextPieces(loaded.tokenizer) for _ in prompts]
        self._unrepeated = [UnrepeatedText() for _ in prompts]
        self._ended = [False for _ in prompts]
        self.open_rows = [row for row in range(len(prompts)) if self._room[row] > 0]
        """Rows still being written."""
        self._cache: Any = None
        self._mask: Any = None

    def step(self) -> list[tuple[int, str]]:
        """Write one token in each open row; returns (row, new text)."""
        logits = self._prefill() if self._cache is None else self._advance()
        tokens, logprobs = self._drawer.draw(logits, self.open_rows)
        written = []
        for row, token, logprob in zip(self.open_rows, tokens, logprobs, strict=True):
            self._ids[row].append(token)
            self._logprobs[row] += logprob
            self._ended[row] = token in self._end_ids
            piece = "" if self._ended[row] else self._unrepeated[row].add(self._pieces[row].add(token))
            if self._is_over(row):
                piece += self._unrepeated[row].end()
            self._texts[row] += piece
            written.append((row, piece))
        self._close_finished()
        return written

    def completions(self) -> list[Completion]:
        """What has been written so far, in the order of the prompts."""
        return [
            Completion(text=text, token_ids=tuple(ids), logprob=logprob, ended=ended)
            for text, ids, logprob, ended in zip(
                self._texts, self._ids, self._logprobs, self._ended, strict=True
            )
        ]

    def _prefill(self) -> Any:
        import torch

        distinct: dict[tuple[int, ...], int] = {}
        places = [distinct.setdefault(tuple(self._prompts[row]), len(distinct)) for row in self.open_rows]
        longest = max(map(len, distinct))
        ids = torch.full(
            (len(distinct), longest), self._pad_id, dtype=torch.long, device=self._device
        )  # (U, T)
        mask = torch.zeros_like(ids)
        for prompt, place in distinct.items():
            ids[place, longest - len(prompt) :] = torch.tensor(prompt, device=self._device)
            mask[place, longest - len(prompt) :] = 1
        # Positions count real tokens only, so that padding on the left moves nothing; masked places may hold anything legal.
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        logits, self._cache = self._forward(ids, mask, positions, None)
        self._mask = mask
        if len(distinct) < len(places):
            index = torch.tensor(places, device=self._device)
            self._keep(index)
            logits = logits[index]
        return logits

    def _advance(self) -> Any:
        import torch

        latest = [self._ids[row][-1] for row in self.open_rows]
        ids = torch.tensor(latest, device=self._device)[:, None]  # (B, 1)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=-1)
        positions = self._mask.sum(dim=-1, keepdim=True) - 1
        logits, self._cache = self._forward(ids, self._mask, positions, self._cache)
        return logits

    def _is_over(self, row: int) -> bool:
        return (
            self._ended[row]
            or len(self._ids[row]) >= self._room[row]
            or self._unrepeated[row].said_again
            or is_looping(self._ids[row])
        )

    def _close_finished(self) -> None:
        import torch

        stays = [place for place, row in enumerate(self.open_rows) if not self._is_over(row)]
        if len(stays) == len(self.open_rows):
            return
        self.open_rows = [self.open_rows[place] for place in stays]
        if self.open_rows:
            self._keep(torch.tensor(stays, device=self._device))

    def _keep(self, index: Any) -> None:
        import torch

        with torch.inference_mode():
            self._cache.batch_select_indices(index)
            self._mask = self._mask[index]
