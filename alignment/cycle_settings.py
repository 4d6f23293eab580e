"""Settings of a cycle as a whole, and of all its stages together."""

from __future__ import annotations

from dataclasses import dataclass, field

from alignment.datasets import DatasetSettings
from alignment.evidence_taste import TasteSettings
from alignment.gate_settings import GateSettings
from alignment.optimiser_settings import BestOfNSettings, OptimiserName
from alignment.ppo_settings import PpoSettings
from alignment.rater_records import RaterSettings
from alignment.reward_settings import RewardSettings
from alignment.sft import SftSettings


@dataclass(frozen=True, kw_only=True)
class CycleSettings:
    """What belongs to no single stage."""

    seed: int = 0
    """Decides the split into training and held-out questions; keep it from cycle to cycle."""
    optimiser: OptimiserName = "ppo"
    """Makes a policy of the SFT policy and the reward: `ppo`, `best_of_n`, `ppo_best_of_n` or `trl_rloo` (docs/algorithms.md)."""
    reward_weight: float = 1.0
    """Of the reward model in the reward; its scores have a standard deviation of about 1."""
    uncertainty_weight: float = 0.5
    """Of the disagreement among the reward model's members, a standard deviation, subtracted from their mean score."""
    groundedness_weight: float = 1.0
    """Of the share of an answer's sentences that its citations support, 0 to 1."""
    reference_weight: float = 1.0
    """Of the agreement with the known answer, token F1, on prompts that have one."""
    judged_refusals: int = 20
    """With fewer refusals among the judged answers the reward model does not know what people think of them."""
    unjudged_refusal_score: float = -1.0
    """What it may then give a refusal at most: one deviation below a demonstration, above nonsense."""
    rejected_score: float = -2.0
    """What the reward model's part of the reward is at most for a completion of which the grounding check leaves nothing."""
    judge_min_judgements: int = 100
    """With fewer held-out judgements no judge of its own is trained, and the reward model judges the candidate too: a judge from 25 to 60
    judgements finds the better of two answers in 50 to 64 of 100 cases (lab log, 26 November), and a coin lets nobody pass."""
    gate_questions: int = 250
    """Most held-out questions that a candidate is measured on."""
    suite_probes: int = 40
    """Traps of each suite (faithfulness, sycophancy, injection) that a candidate and its parent are tried on."""
    gate_batch: int = 8
    """Questions answered at once while measuring."""
    optimise_uninformed: bool = False
    """Whether to go on where the judgements tell nothing yet of which answers people prefer, so that the reward gives every answer the same. Then the optimiser has groundedness and the agreement
    with known answers alone to maximise, and moves away from what people like by chance (lab log, 28 November); False stops with the SFT policy."""
    step_backs: int = 2
    """How often the optimiser's step away from the SFT policy is halved where a gate says that it went too far (length, key facts, overlap, groundedness, abstention, traps)
    and people prefer it all the same; each half stands before all gates. 0 leaves it at the whole step."""
    promote: bool = True
    """False stops before promotion: ops decide by hand."""

    def __post_init__(self) -> None:
        """Reject what could not run."""
        weights = {
            name: getattr(self, name) for name in ("reward_weight", "groundedness_weight", "reference_weight")
        }
        if self.uncertainty_weight < 0:
            raise ValueError(f"uncertainty_weight={self.uncertainty_weight} must be 0 or more")
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise ValueError(f"{weights}: none may be negative, and one must be above 0")
        for name in ("judge_min_judgements", "gate_questions", "gate_batch", "suite_probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.step_backs <= 3:
            raise ValueError(f"step_backs={self.step_backs} must be 0 to 3: a sixteenth of a step is none")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """All stages."""

    cycle: CycleSettings = field(default_factory=CycleSettings)
    snapshot: DatasetSettings = field(default_factory=DatasetSettings)
    raters: RaterSettings = field(default_factory=RaterSettings)
    sft: SftSettings = field(default_factory=SftSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    taste: TasteSettings = field(default_factory=TasteSettings)
    ppo: PpoSettings = field(default_factory=PpoSettings)
    best_of_n: BestOfNSettings = field(default_factory=BestOfNSettings)
    gates: GateSettings = field(default_factory=GateSettings)
