"""The settings of all training stages: those of the settings file with a command's overrides on top, and what of them a run began with.

Knows nothing of running anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignment.cycle_settings import CycleSettings, TrainingSettings
from alignment.datasets import DatasetSettings
from alignment.evidence_taste import TasteSettings
from alignment.gate_settings import GateSettings
from alignment.optimiser_settings import BestOfNSettings
from alignment.ppo_settings import PpoSettings
from alignment.rater_records import RaterSettings
from alignment.reward_settings import RewardSettings
from alignment.run_start import differences, settings_of
from alignment.sft import SftSettings
from ui.settings import check_override_sections, training_settings

if TYPE_CHECKING:
    from ui.wiring import Services


def load_training_settings(services: Services, overrides: Sequence[str] = ()) -> TrainingSettings:
    """All training sections of the settings file, with overrides like `ppo.steps=10` on top.

    Raises:
        UsageError: a section, name or value is not legal.
    """
    check_override_sections(overrides)
    settings = services.settings
    return TrainingSettings(
        cycle=training_settings(settings, "cycle", CycleSettings, overrides),
        snapshot=training_settings(settings, "snapshot", DatasetSettings, overrides),
        raters=training_settings(settings, "raters", RaterSettings, overrides),
        sft=training_settings(settings, "sft", SftSettings, overrides),
        reward=training_settings(settings, "reward", RewardSettings, overrides),
        taste=training_settings(settings, "taste", TasteSettings, overrides),
        ppo=training_settings(settings, "ppo", PpoSettings, overrides),
        best_of_n=training_settings(settings, "best_of_n", BestOfNSettings, overrides),
        gates=training_settings(settings, "gates", GateSettings, overrides),
    )


def changed_settings(services: Services, run_id: str) -> list[str]:
    """Which settings are not today what they were when a run began; it goes on with the old ones."""
    run = services.runs.get(run_id)
    began = settings_of(run.directory)
    if began is None:
        return []
    return list(differences(began, load_training_settings(services, run.settings.get("overrides", []))))
