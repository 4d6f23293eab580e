"""A run that tunes the bundled encoder: passes over items in an order of the seed's, AdamW, a rate that rises and falls, checkpoints.

Knows nothing of what an item is or of the loss; subclasses say it. Different from a general trainer: word embeddings stay as they are, so that
the result is half the size and rare words keep their meaning; which items a step sees depends on the seed and the step alone, and so a run that is
killed continues from its newest checkpoint to the very weights it would have had.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from alignment.run_control import Checkpoints, load_training_state, stop_on_signals
from alignment.settings import SettingsError, apply_overrides
from knowledge_base.errors import TacitError

Item = TypeVar("Item")
_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"


class TuningSettings(Protocol):
    """What a run needs to know of its settings."""

    @property
    def work_dir(self) -> Path:
        """Gets the checkpoints."""

    @property
    def epochs(self) -> float:
        """Passes over the items."""

    @property
    def batch_questions(self) -> int:
        """Items of a step."""

    @property
    def learning_rate(self) -> float:
        """Peak of AdamW's."""

    @property
    def warmup_steps(self) -> int:
        """Steps in which it rises; afterwards it falls linearly to zero."""

    @property
    def weight_decay(self) -> float:
        """AdamW's, decoupled."""

    @property
    def save_every_steps(self) -> int:
        """Steps between checkpoints."""

    @property
    def seed(self) -> int:
        """Of the items' order."""


Settings = TypeVar("Settings", bound=Any)


class TuningRun(ABC, Generic[Item]):
    """The loop, and what a checkpoint holds of it."""

    def __init__(self, settings: TuningSettings, items: Sequence[Item], start: Path) -> None:
        """Load the newest checkpoint, or else the bundled encoder.

        Args:
            settings: Of the run.
            items: At least one.
            start: Directory of the bundled encoder.
        """
        from transformers import AutoModel, AutoTokenizer

        self._run_settings, self._items = settings, items
        self._checkpoints = Checkpoints(settings.work_dir / "checkpoints", keep=1)
        newest = self._checkpoints.newest()
        self.model: Any = AutoModel.from_pretrained(
            newest or start, add_pooling_layer=False, local_files_only=True
        )
        for parameter in self.model.get_input_embeddings().parameters():
            parameter.requires_grad = False
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").train()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(start, local_files_only=True)
        self.head = self.make_head().to(self.model.device)
        """What is trained beside the encoder."""
        self._trained = [p for part in (self.model, self.head) for p in part.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        if newest:
            state = load_training_state(newest)
            self._optimiser.load_state_dict(state["optimiser"])
            self.head.load_state_dict(state["head"])
            self.step = int(state["step"])
        self.n_steps = max(1, int(settings.epochs * len(items) / settings.batch_questions))

    @abstractmethod
    def loss(self, batch: Sequence[Item]) -> torch.Tensor:
        """Of the items of step `self.step`."""

    def make_head(self) -> torch.nn.Module:
        """What is trained beside the encoder; nothing."""
        return torch.nn.Module()

    def go(self, progress: Callable[[str], None]) -> bool:
        """Train until the last step or a signal; returns whether it was the last step."""
        started, first, losses = time.monotonic(), self.step, list[float]()
        with stop_on_signals() as stop:
            for batch in self._batches():
                losses.append(self._update(batch))
                self.step += 1
                if self.step % 10 == 0:
                    left = (time.monotonic() - started) / (self.step - first) * (self.n_steps - self.step)
                    progress(
                        f"step {self.step}/{self.n_steps}, loss {np.mean(losses[-10:]):.3f}, {left:.0f} s left"
                    )
                if self.step % self._run_settings.save_every_steps == 0 or stop.is_set:
                    self._save()
                if stop.is_set:
                    return False
        return True

    def tuned_weights(self) -> dict[str, torch.Tensor]:
        """What training changed, in bfloat16, on the CPU."""
        return {
            name: value.to(torch.bfloat16).contiguous().cpu()
            for name, value in self.model.state_dict().items()
            if name != _WORD_EMBEDDINGS and value.is_floating_point()
        }

    def _batches(self) -> Iterator[list[Item]]:
        """From the current step to the last."""
        size = self._run_settings.batch_questions
        per_epoch = max(1, len(self._items) // size)
        for step in range(self.step, self.n_steps):
            epoch, place = divmod(step, per_epoch)
            order = list(range(len(self._items)))
            random.Random(f"{self._run_settings.seed} {epoch}").shuffle(order)  # noqa: S311 -- an order, not a secret
            yield [self._items[i] for i in order[place * size : (place + 1) * size]]

    def _update(self, batch: Sequence[Item]) -> float:
        settings = self._run_settings
        rate = min((self.step + 1) / max(1, settings.warmup_steps), 1.0) * (1 - self.step / self.n_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        loss = self.loss(batch)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimiser.step()
        return float(loss.detach())

    def _save(self) -> None:
        state = {
            "optimiser": self._optimiser.state_dict(),
            "head": self.head.state_dict(),
            "step": self.step,
        }
        self._checkpoints.save(self.step, self.model, self.tokenizer, state)


def write_result(
    path: Path, weights: Mapping[str, torch.Tensor], figures: Mapping[str, Any], settings: Any
) -> Path:
    """Write a file of weights and, beside it, a card of figures and settings; returns the file.

    Args:
        path: A safetensors file to be.
        weights: By name.
        figures: What was measured.
        settings: The run's dataclass.
    """
    from safetensors.torch import save_file

    save_file(dict(weights), path, metadata={"format": "pt"})
    card = {**figures, "settings": {k: str(v) for k, v in asdict(settings).items()}}
    (path.parent / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return path


def train_from_command_line(
    description: str | None,
    settings_type: type[Settings],
    train: Callable[[Settings, Callable[[str], None]], Path],
) -> None:
    """Read `--set NAME=VALUE`, train, and print where the result is; what cannot be done ends the program with one line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    try:
        settings = apply_overrides(settings_type, args.set)
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        print(train(settings, lambda line: print(line, flush=True)))  # noqa: T201 -- a command's answer
    except (SettingsError, TacitError) as error:
        raise SystemExit(f"{error}") from error
