"""What a completion is worth to a policy: the learned reward of what people would be shown, groundedness, and agreement with known answers, weighed.

PPO maximises it, and a policy that chooses among samples asks it while it serves. Knows nothing of either. Different from a reward model alone: what the
reward model cannot know, refusals nobody judged and completions nobody would be shown, is bounded (`reward_functions`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from alignment.cycle_settings import CycleSettings
from alignment.errors import TrainingError
from alignment.finished_stages import DONE
from alignment.records import RewardFunction
from alignment.snapshot import LoadedSnapshot
from chatbot.durable_files import file_hash
from chatbot.prompt import is_refusal

_FILE = "mix.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RewardMix:
    """Weights and bounds; see `CycleSettings` for each."""

    reward_weight: float
    uncertainty_weight: float
    groundedness_weight: float
    reference_weight: float
    rejected_score: float
    refusal_score: float | None
    """What a refusal gets at most; None where enough of them were judged."""

    @classmethod
    def of(cls, data: LoadedSnapshot, settings: CycleSettings) -> RewardMix:
        """The settings', with the bound on refusals that this snapshot calls for."""
        judged = [text for row in data.train.judgements for text in row.completions]
        knows_refusals = sum(map(is_refusal, judged)) >= settings.judged_refusals
        return cls(
            reward_weight=settings.reward_weight,
            uncertainty_weight=settings.uncertainty_weight,
            groundedness_weight=settings.groundedness_weight,
            reference_weight=settings.reference_weight,
            rejected_score=settings.rejected_score,
            refusal_score=None if knows_refusals else settings.unjudged_refusal_score,
        )

    def build(self, reward_dir: Path) -> RewardFunction:
        """The reward, with the reward model of a directory.

        Raises:
            TrainingError: the directory holds none.
        """
        from alignment.reward_functions import (
            CautiousOnRefusals,
            CautiousReward,
            GroundednessReward,
            ReferenceReward,
            RewardOfShownText,
            WeightedReward,
        )
        from alignment.reward_model import RewardModel

        learned: RewardFunction = RewardOfShownText(
            CautiousReward(RewardModel.load(reward_dir), uncertainty_weight=self.uncertainty_weight),
            rejected=self.rejected_score,
        )
        if self.refusal_score is not None:
            learned = CautiousOnRefusals(learned, most=self.refusal_score)
        # A preference reward alone pays for lies that look right: groundedness and known answers are part of what is maximised.
        return WeightedReward(
            [
                (learned, self.reward_weight),
                (GroundednessReward(), self.groundedness_weight),
                (ReferenceReward(), self.reference_weight),
            ]
        )

    def fingerprint(self, reward_dir: Path) -> str:
        """SHA-256 over the weights and bounds and every file of the reward model: another reward has another one."""
        files = {
            path.name: file_hash(path)
            for path in sorted(reward_dir.iterdir())
            if path.is_file() and path.name != DONE
        }
        text = json.dumps([dataclasses.asdict(self), files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write it beside a reward model."""
        (directory / _FILE).write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> RewardMix:
        """Read what `save` wrote.

        Raises:
            TrainingError: it is not there, or not of this version.
        """
        file = directory / _FILE
        try:
            return cls(**json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"{file} cannot be read ({error}): train again") from error
