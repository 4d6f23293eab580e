"""Reader training: teaches a pretrained model to answer from numbered evidence, or to say that it does not know.

Knows nothing of where examples come from (`alignment.reader_data`) or how answers are judged (`alignment.reader_evaluation`).
Differs from the textbook's supervised fine-tuning: context tokens may count too, a little, while the model is still learning to read;
batches are cut by length into a few fixed shapes, so that little is spent on padding and each shape is
compiled once; and the optimisers are those of pretraining, started afresh.

    python -m alignment.reader --set start=CHECKPOINT --set data_dir=DATA --set work_dir=WORK_FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from alignment.asked_examples import AskedExampleSettings
from alignment.asked_reader_data import asked_reader_data
from alignment.ranked_answers import RankedAnswerSettings, in_evidence_order
from alignment.reader_batches import LengthBatches, ReaderSettings
from alignment.reader_data_files import load_or_build_reader_data, load_or_make
from alignment.reader_examples import ReaderData, ReaderDataSettings
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
from alignment.trap_examples import TrapSettings, with_traps
from knowledge_base.embedder import SentenceTransformerEmbedder
from knowledge_base.errors import TacitError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderResult:
    """What a reader training run left behind."""

    checkpoint: Path
    step: int
    tokens: int
    """Tokens seen, padding left out, over all resumptions."""
    answer_loss: float
    """Held-out loss in nats per completion token."""
    finished: bool
    """False when a signal stopped the run before its last step."""


def train_reader(
    settings: ReaderSettings, *, data: ReaderData | None = None, progress: ProgressCallback | None = None
) -> ReaderResult:
    """Train until the last step or a signal, from the run's newest checkpoint or else from `settings.start`.

    Args:
        settings: The run; the same `work_dir` resumes.
        data: Examples; built from `settings.data_dir` when not given.
        progress: Called every `log_every_steps` steps.

    Raises:
        TrainingError: If there are no examples, or none that fits.
        OSError: If `settings.start` is no model folder.
    """
    device = choose_device(settings)
    if data is None:
        data = _read_data(settings)
    run = _open_run(settings, data, device)
    with stop_on_signals() as stop:
        watch = TrainingWatch("reader_progress", settings, progress)
        while run.step < settings.total_steps and not stop.is_set:
            watch.after_step(run, run.train_step())
            if run.step % settings.evaluate_every_steps == 0:
                run.evaluate()
            if watch.is_time_to_save():
                run.save()
        finished = run.step >= settings.total_steps
        answer_loss = run.evaluate() if finished else run.answer_loss
        path = run.save()
    return ReaderResult(
        checkpoint=path, step=run.step, tokens=run.tokens, answer_loss=answer_loss, finished=finished
    )


def _read_data(settings: ReaderSettings) -> ReaderData:
    path = settings.work_dir / "examples.jsonl.gz"
    if settings.asked_encoder:
        encoder = SentenceTransformerEmbedder(tuned=settings.asked_encoder)
        made_from = AskedExampleSettings(seed=settings.seed)
        data = load_or_make(
            f"{encoder.version} {settings.asked_learned} {made_from!r}",
            path,
            lambda: asked_reader_data(
                settings.data_dir, encoder, learned=settings.asked_learned, settings=made_from
            ),
        )
        train = in_evidence_order(data.train, RankedAnswerSettings(share=settings.ranked_share))
        return replace(data, train=with_traps(train, TrapSettings()) if settings.traps else train)
    return load_or_build_reader_data(
        ReaderDataSettings(
            data_dir=settings.data_dir,
            seed=settings.seed,
            echo_share=settings.echo_share,
            unanswerable_share=settings.unanswerable_share,
            session_share=settings.session_share,
            shuffled_share=settings.shuffled_share,
            ranking_noise=settings.ranking_noise,
            answer_words=settings.answer_words,
            page_share=settings.page_share,
        ),
        path,
    )


@dataclass(kw_only=True)
class _Run:
    """The moving parts of one run."""

    settings: ReaderSettings
    device: torch.device
    model: Any
    tokenizer: Any
    optimizers: TwoOptimizers
    loss_function: LossFunction
    evaluation_loss: LossFunction
    """Never compiled: a few batches of each shape are not worth compiling for."""
    batches: LengthBatches
    held_out: LengthBatches
    checkpoints: Checkpoints
    step: int = 0
    tokens: int = 0
    gradient_norm: float = 0.0
    answer_loss: float = field(default=float("nan"))

    def train_step(self) -> Tensor:
        """One optimiser step; returns the mean weighted loss in nats a token."""
        first = self.step * self.settings.micro_batches
        micros = [self.batches.micro_batch(first + n) for n in range(self.settings.micro_batches)]
        total_weight = sum(float(weights[:, 1:].sum()) for _, weights in micros)
        total = torch.zeros((), device=self.device)
        for ids, weights in micros:
            loss = self.loss_function(ids.to(self.device), weights.to(self.device)) / total_weight
            loss.backward()
            total += loss.detach()
            self.tokens += int((ids != self.tokenizer.pad_token_id).sum())
        self.gradient_norm = self.optimizers.step(self.step)
        self.step += 1
        return total

    @torch.no_grad()
    def evaluate(self) -> float:
        """Held-out loss in nats per completion token."""
        total, n_tokens = 0.0, 0.0
        for ids, weights in self.held_out.all_micro_batches():
            answers = (weights >= 1.0).float()
            total += float(self.evaluation_loss(ids.to(self.device), answers.to(self.device)))
            n_tokens += float(answers.sum())
        self.answer_loss = total / max(n_tokens, 1.0)
        _log.info(
            "reader_held_out", step=self.step, tokens=self.tokens, answer_loss=round(self.answer_loss, 4)
        )
        return self.answer_loss

    def save(self) -> Path:
        """Write a checkpoint and return its folder."""
        state = {
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "answer_loss": self.answer_loss,
        }
        return self.checkpoints.save(self.step, self.model, self.tokenizer, state)


def _open_run(settings: ReaderSettings, data: ReaderData, device: torch.device) -> _Run:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(settings.seed)
    checkpoints = Checkpoints(settings.work_dir / "checkpoints", keep=settings.keep_checkpoints)
    newest = checkpoints.newest()
    folder = newest or settings.start
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).train()
    run = _Run(
        settings=settings,
        device=device,
        model=model,
        tokenizer=tokenizer,
        optimizers=TwoOptimizers(model, settings),
        loss_function=make_loss_function(
            model, settings, device, mostly_unweighted=settings.context_weight == 0
        ),
        evaluation_loss=make_loss_function(model, settings, device, mostly_unweighted=True),
        batches=LengthBatches(data.train, tokenizer, settings),
        held_out=LengthBatches(data.held_out[: settings.evaluation_examples], tokenizer, settings),
        checkpoints=checkpoints,
    )
    if newest is not None:
        state = load_training_state(newest)
        run.optimizers.load_state_dict(state["optimizers"])
        run.step, run.tokens, run.answer_loss = state["step"], state["tokens"], state["answer_loss"]
    _log.info(
        "reader_opened", step=run.step, start=str(folder), train=len(data.train), held_out=len(data.held_out)
    )
    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m alignment.reader", description="Train the grounded reader."
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides")
    given = parser.parse_args(arguments)
    try:
        result = train_reader(apply_overrides(ReaderSettings, given.overrides))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (TacitError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{result.checkpoint}\n")
    return 0 if result.finished else 1


if __name__ == "__main__":
    raise SystemExit(main())
