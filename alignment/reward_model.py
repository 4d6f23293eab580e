"""A trained reward model on disk and in memory: text in, standardised scores out.

Knows nothing of how it was trained (`reward_training.py`), of PPO or of who judged. Different from calling a sequence classifier:
completions of one prompt share one pass over it, batches are filled by tokens, scores are on a scale that means the same from
one cycle to the next (mean 0 and deviation 1 over what the SFT policy was taught), and each is the mean of several members
(`reward_ensemble.py`) whose disagreement can be asked for. It also knows how sure it may be (`reward_calibration.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from alignment.errors import TrainingError
from alignment.length_effect import LengthEffect
from alignment.precision import Precision, device_name, uses_bfloat16
from alignment.records import RolloutPrompt
from alignment.reward_calibration import Calibration
from alignment.reward_dataset import Encoder
from alignment.trait_model import TraitModel

REWARD_FILE = "reward.json"
"""Beside the weights: how scores are scaled, what the model reads, the learned scalars."""


class RewardModel:
    """A trained reward model; implements `RewardFunction`."""

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        *,
        means: Sequence[float],
        std: float,
        shares_prompts: bool,
        bfloat16: bool,
        calibration: Calibration,
        reads_text: bool = True,
    ) -> None:
        """Wrap a classifier; use `load` for one on disk.

        Args:
            model: With one label for each of M members.
            encoder: Its tokens and traits.
            means: (M,) of each member's scores of demonstrations; where a member's scale begins is arbitrary.
            std: Of the mean member's scores of demonstrations.
            shares_prompts: See `completion_scores`.
            bfloat16: Multiply in bfloat16.
            calibration: Of the members' mean before it is standardised.
            reads_text: Whether the language model was trained; where it was not, it is not asked and may be None.
        """
        self.model = model.eval() if model is not None else None
        self.encoder = encoder
        self.means, self.std = tuple(means), std
        self.calibration, self.reads_text = calibration, reads_text
        self._shares_prompts, self._bfloat16 = shares_prompts, bfloat16
        self.batch_tokens = 4096

    @classmethod
    def load(cls, directory: Path, precision: Precision = "auto") -> RewardModel:
        """Read what `train_reward` wrote.

        Raises:
            TrainingError: the directory holds no reward model.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from alignment.model_directory import why
        from alignment.reward_scoring import takes_shared_prompts

        try:
            stored = json.loads((directory / REWARD_FILE).read_text(encoding="utf-8"))
            traits = tuple(TraitModel.from_json(member) for member in stored["traits"])
            means = tuple(map(float, stored["means"]))
            length = LengthEffect.from_json(stored["length"]) if stored["length"] else None
            calibration = Calibration(**stored["calibration"])
            reads_text = bool(stored["reads_text"])
            model = (
                AutoModelForSequenceClassification.from_pretrained(
                    directory, dtype=torch.float32, local_files_only=True
                )
                .to(device_name())
                .requires_grad_(False)
                if reads_text
                else None
            )
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise TrainingError(
                f"{directory} holds no reward model that can be read here ({why(error, directory)}): train one with `tacit train reward`"
            ) from error
        encoder = Encoder(
            tokenizer,
            int(stored["max_length"]),
            stored["context"],
            traits,
            members=len(means),
            length=length,
        )
        return cls(
            model,
            encoder,
            means=means,
            std=float(stored["std"]),
            shares_prompts=reads_text and takes_shared_prompts(model),
            bfloat16=uses_bfloat16(precision),
            calibration=calibration,
            reads_text=reads_text,
        )

    @property
    def name(self) -> str:
        """For metrics and manifests."""
        return "reward_model"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One standardised score per (prompt, completion); see `RewardFunction`."""
        return self.score_texts([prompt.prompt for prompt in prompts], completions)

    @property
    def mean(self) -> float:
        """In nats, of the members' mean score of demonstrations."""
        return sum(self.means) / len(self.means)

    def score_texts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """As `score`, for rendered prompts."""
        return [sum(members) / len(members) for members in self.score_members(prompts, completions)]

    def outcome_log_probs(self, score_a: Tensor, score_b: Tensor) -> Tensor:
        """How likely people are to prefer one of two completions, the other, or neither: (N, 3) of standardised scores (N,)."""
        return self.calibration.outcome_log_probs(self.std * score_a, self.std * score_b)

    def score_members(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """(N, M) each member's standardised score of rendered prompts and completions; their mean is the score.

        A completion that does not fit is cut at its end: it has to get a number.
        """
        learned = self._read(prompts, completions) if self.reads_text else None
        silent = [0.0] * self.encoder.members
        scores = []
        for at, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            values = learned[at] if learned is not None else silent
            worth = self.encoder.offset(prompt, completion)
            scores.append(
                [(a + b - mean) / self.std for a, b, mean in zip(values, worth, self.means, strict=True)]
            )
        return scores

    def _read(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """(N, M) what the language model says of texts; completions of one prompt share its reading."""
        from alignment.reward_dataset import MAX_COMPLETIONS

        room = self.encoder.max_length
        # prompt, completions, where their scores belong
        groups: list[tuple[list[int], list[list[int]], list[int]]] = []
        open_groups: dict[tuple[int, ...], int] = {}
        for at, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            ids = self.encoder.completion(completion) or self._cut(completion)
            prompt_ids = self.encoder.prompt(prompt, room - len(ids))
            key = tuple(prompt_ids)
            group = open_groups.get(key)
            if group is None or len(groups[group][1]) >= MAX_COMPLETIONS:
                group = open_groups[key] = len(groups)
                groups.append((prompt_ids, [], []))
            groups[group][1].append(ids)
            groups[group][2].append(at)
        found = self.score_elements([(prompt, items) for prompt, items, _ in groups])
        scores: list[list[float]] = [[] for _ in prompts]
        for (_, _, places), elements in zip(groups, found, strict=True):
            for place, learned in zip(places, elements, strict=True):
                scores[place] = learned
        return scores

    def score_elements(
        self, elements: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]
    ) -> list[list[list[float]]]:
        """What the language model's members (M,) say of (prompt ids, completions' ids), before traits are added and scores scaled."""
        from alignment.reward_scoring import score_in_batches

        if not self.reads_text:
            return [[[0.0] * self.encoder.members for _ in completions] for _, completions in elements]
        return score_in_batches(
            self.model,
            elements,
            batch_tokens=self.batch_tokens,
            shares_prompts=self._shares_prompts,
            bfloat16=self._bfloat16,
        )

    def _cut(self, completion: str) -> list[int]:
        ids = list(self.encoder.tokenizer(completion, add_special_tokens=False)["input_ids"])
        return [*ids[: self.encoder.max_length - 2], self.encoder.tokenizer.eos_token_id]


def copy_for_scoring(source: Path, target: Path) -> None:
    """Copy of a reward model what scoring needs; weights that are not asked stay behind.

    Args:
        source: What `train_reward` wrote.
        target: Must not exist.
    """
    reads_text = json.loads((source / REWARD_FILE).read_text("utf-8"))["reads_text"]
    unused = ["done.json"] if reads_text else ["done.json", "*.safetensors"]
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*unused))
