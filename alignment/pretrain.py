"""Pretrains the embedded base model: a small Llama on plain text, from random weights.

Knows nothing of questions, evidence or feedback; `alignment.reader` teaches those afterwards. Differs from the textbook:
a batch of only some thousand tokens (at this size the number of updates counts for more than their precision); Muon and AdamW
side by side; and, from the start of the learning-rate decay, a share of made-up reader chats among the plain text, because what
is seen while the rate falls is remembered best.

    python -m alignment.pretrain --set data_dir=TEXT_FOLDER --set work_dir=WORK_FOLDER

Started again with the same work_dir it goes on from the newest checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor

from alignment.corpus import TokenizedSource, Tokens, find_corpora, read_corpus, tokenize_corpora
from alignment.corpus_rows import DocumentRows, MixedRows, held_out_rows
from alignment.new_model import new_model
from alignment.pretrain_settings import PretrainSettings
from alignment.run_control import (
    Checkpoints,
    ProgressCallback,
    TrainingWatch,
    load_training_state,
    stop_on_signals,
)
from alignment.settings import SettingsError, apply_overrides
from alignment.token_training import (
    LossFunction,
    TwoOptimizers,
    choose_device,
    make_loss_function,
)
from alignment.tokenizer import train_tokenizer
from knowledge_base.errors import TacitError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """What a pretraining run left behind."""

    checkpoint: Path
    """Folder that transformers can load."""
    step: int
    tokens: int
    """Tokens predicted since the first step, over all resumptions."""
    held_out_loss: Mapping[str, float]
    """Nats a token by source."""
    finished: bool
    """False when a signal stopped the run before its last step."""


def pretrain(settings: PretrainSettings, *, progress: ProgressCallback | None = None) -> PretrainResult:
    """Train until the last step or a signal, from the newest checkpoint if there is one.

    Args:
        settings: The run; the same `work_dir` resumes.
        progress: Called every `log_every_steps` steps.

    Raises:
        CorpusError: If corpora are missing, damaged or too small.
    """
    device = choose_device(settings)
    run = _open_run(settings, device)
    with stop_on_signals() as stop:
        watch = TrainingWatch("pretrain_progress", settings, progress)
        while run.step < settings.total_steps and not stop.is_set:
            watch.after_step(run, run.train_step())
            if run.step % settings.evaluate_every_steps == 0:
                run.evaluate()
            if watch.is_time_to_save():
                run.save()
        finished = run.step >= settings.total_steps
        held_out = run.evaluate() if finished else run.held_out_loss
        path = run.save()
    return PretrainResult(
        checkpoint=path, step=run.step, tokens=run.tokens, held_out_loss=held_out, finished=finished
    )


@dataclass(kw_only=True)
class _Run:
    """The moving parts of one run."""

    settings: PretrainSettings
    device: torch.device
    model: Any
    tokenizer: Any
    optimizers: TwoOptimizers
    loss_function: LossFunction
    evaluation_loss: LossFunction
    """Never compiled: a few batches are not worth compiling for."""
    sources: list[TokenizedSource]
    rows: MixedRows
    late_rows: DocumentRows | None
    checkpoints: Checkpoints
    step: int = 0
    tokens: int = 0
    gradient_norm: float = 0.0
    held_out_loss: dict[str, float] = field(default_factory=dict)

    def train_step(self) -> Tensor:
        """One optimiser step; returns the mean loss in nats a token."""
        settings = self.settings
        batch = self._batch(self.step)  # (batch_sequences, T+1)
        n_tokens = batch.shape[0] * (batch.shape[1] - 1)
        weights = torch.ones(settings.micro_batch_sequences, batch.shape[1], device=self.device)
        total = torch.zeros((), device=self.device)
        for micro in batch.split(settings.micro_batch_sequences):
            loss = self.loss_function(micro, weights) / n_tokens
            loss.backward()
            total += loss.detach()
        self.gradient_norm = self.optimizers.step(self.step)
        self.step += 1
        self.tokens += n_tokens
        return total

    def _batch(self, step: int) -> Tensor:
        first = step * self.settings.batch_sequences
        rows = [self._row(first + place) for place in range(self.settings.batch_sequences)]
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)

    def _row(self, index: int) -> Tokens:
        """Row by its number over the whole run: stateless, so that the step number is the data position."""
        late_from = self.settings.late_from_step
        first_late = self.settings.decay_starts_at if late_from is None else late_from
        if self.late_rows is not None and index // self.settings.batch_sequences >= first_late:
            draw = np.random.default_rng([self.settings.seed, 1, index]).random()
            if draw < self.settings.late_share:
                return self.late_rows.row(index)
        return self.rows.row(index)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out loss of each source in nats a token."""
        row_tokens = self.settings.sequence_tokens + 1
        size = self.settings.micro_batch_sequences
        for source in self.sources:
            rows = held_out_rows(source, row_tokens=row_tokens, limit=self.settings.evaluation_rows)
            if len(rows) == 0:
                continue
            tensor = torch.from_numpy(rows.astype(np.int64)).to(self.device)
            ones = torch.ones(len(rows), row_tokens, device=self.device)
            parts = zip(tensor.split(size), ones.split(size), strict=True)
            total = sum(float(self.evaluation_loss(ids, weights)) for ids, weights in parts)
            self.held_out_loss[source.name] = total / (len(rows) * (row_tokens - 1))
        rounded = {name: round(loss, 4) for name, loss in self.held_out_loss.items()}
        _log.info("pretrain_held_out", step=self.step, tokens=self.tokens, **rounded)
        return dict(self.held_out_loss)

    def save(self) -> Path:
        """Write a checkpoint and return its folder."""
        state = {
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "held_out_loss": self.held_out_loss,
        }
        return self.checkpoints.save(self.step, self.model, self.tokenizer, state)


def _open_run(settings: PretrainSettings, device: torch.device) -> _Run:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(settings.seed)
    tokenizer = load_or_train_tokenizer(settings)
    token_dir = settings.work_dir / "tokens"
    sources = tokenize_corpora(
        settings.data_dir, token_dir, tokenizer, held_out_share=settings.held_out_share
    )
    row_tokens = settings.sequence_tokens + 1
    known = {source.name for source in sources}
    weights = {name: weight for name, weight in settings.weights.items() if name in known}
    checkpoints = Checkpoints(settings.work_dir / "checkpoints", keep=settings.keep_checkpoints)
    newest = checkpoints.newest()
    model = (
        AutoModelForCausalLM.from_pretrained(newest, dtype=torch.float32)
        if newest
        else new_model(settings, tokenizer)
    )
    model = model.to(device).train()
    run = _Run(
        settings=settings,
        device=device,
        model=model,
        tokenizer=tokenizer,
        optimizers=TwoOptimizers(model, settings),
        loss_function=make_loss_function(model, settings, device),
        evaluation_loss=make_loss_function(model, replace(settings, compile=False), device),
        sources=sources,
        rows=MixedRows(sources, weights, row_tokens=row_tokens, seed=settings.seed),
        late_rows=_open_late_rows(settings, tokenizer),
        checkpoints=checkpoints,
    )
    if newest is not None:
        state = load_training_state(newest)
        run.optimizers.load_state_dict(state["optimizers"])
        run.step, run.tokens, run.held_out_loss = state["step"], state["tokens"], state["held_out_loss"]
    _log.info(
        "pretrain_opened",
        step=run.step,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        epoch_tokens=run.rows.rows_per_epoch * settings.sequence_tokens,
        device=str(device),
        resumed=newest is not None,
    )
    return run


def _open_late_rows(settings: PretrainSettings, tokenizer: Any) -> DocumentRows | None:
    if settings.late_data_dir is None or settings.late_share == 0:
        return None
    sources = tokenize_corpora(
        settings.late_data_dir,
        settings.work_dir / "late_tokens",
        tokenizer,
        held_out_share=0.0,
        parse_special=True,
    )
    return DocumentRows(sources, row_tokens=settings.sequence_tokens + 1, seed=settings.seed)


def load_or_train_tokenizer(settings: PretrainSettings) -> Any:
    """The run's tokenizer, trained at the first call and kept in `work_dir/tokenizer`."""
    from transformers import AutoTokenizer

    folder = settings.work_dir / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        _log.info("tokenizer_training", vocabulary_size=settings.vocabulary_size)
        tokenizer = train_tokenizer(
            _tokenizer_texts(settings),
            vocabulary_size=settings.vocabulary_size,
            max_tokens=settings.max_position_tokens,
        )
        tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _tokenizer_texts(settings: PretrainSettings) -> list[str]:
    """Every k-th document of each source, so that all sources together give about `tokenizer_mib`."""
    documents = [list(read_corpus(path)) for path in find_corpora(settings.data_dir)]
    total = sum(len(document.text) for source in documents for document in source)
    stride = max(1, round(total / (settings.tokenizer_mib * 2**20)))
    return [document.text for source in documents for document in source[::stride]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m alignment.pretrain", description="Pretrain the embedded base model."
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides")
    given = parser.parse_args(arguments)
    try:
        result = pretrain(apply_overrides(PretrainSettings, given.overrides))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except TacitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{result.checkpoint}\n")
    return 0 if result.finished else 1


if __name__ == "__main__":
    raise SystemExit(main())
