"""TRL's trainers without their outward calls, and a callback that turns their steps into our progress.

The one place that imports TRL, together with `reward_trainer.py`. Knows nothing of our data. TRL 1.16 reports each trainer's
creation to the Hugging Face hub unless an environment variable forbids it, and writes a README with each checkpoint; a company's
training run does neither.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTTrainer

from alignment.errors import TrainingError
from alignment.precision import Precision, device_name, uses_bfloat16
from alignment.records import ProgressFn, StageName, StageProgress
from chatbot.file_damage import damaged_file

_SECONDS_BETWEEN_REPORTS = 1.0
_WHOLE = "whole"
"""Name of the file that a checkpoint gets last."""
_SUMS = "running_sums.json"


class _TrainerSettings(Protocol):
    """What the settings of SFT and of the reward model have in common."""

    @property
    def epochs(self) -> float: ...
    @property
    def max_steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_share(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def micro_batch_size(self) -> int: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def seed(self) -> int: ...


def machine_arguments(precision: Precision, seed: int) -> dict[str, Any]:
    """What every trainer is told of the machine and of silence.

    Args:
        precision: Of the matrix products.
        seed: Of weights and data.
    """
    return {
        "bf16": uses_bfloat16(precision),
        "use_cpu": device_name() == "cpu",
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
        "dataloader_pin_memory": device_name() == "cuda",
    }


def common_arguments(settings: _TrainerSettings, out_dir: Path, n_rows: int) -> dict[str, Any]:
    """What the trainers of SFT and of the reward model are told alike: schedule and batches, the machine, silence.

    Args:
        settings: Of the stage.
        out_dir: Gets `checkpoints`.
        n_rows: Rows to train on; the warm-up is a share of the steps they make.
    """
    n_steps = settings.max_steps if settings.max_steps > 0 else settings.epochs * n_rows / settings.batch_size
    return {
        "output_dir": str(out_dir / "checkpoints"),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": int(settings.warmup_share * n_steps),
        "weight_decay": settings.weight_decay,
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch_size,
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "no",
        **machine_arguments(settings.precision, settings.seed),
    }


class QuietTrainerMixin:
    """Put in front of a TRL trainer: no telemetry, no generated model card."""

    def _send_telemetry(self) -> None:
        """Say nothing to anybody."""

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing: a policy bundle has its own manifest."""


class QuietSFTTrainer(QuietTrainerMixin, SFTTrainer):
    """`trl.SFTTrainer` that stays at home, and that a kill does not change.

    transformers draws an epoch's order of rows from wherever the random numbers are: a run resumed in its second epoch had the order of the first once
    more, and other weights. Here the orders of later epochs are functions of seed and epoch. And its checkpoints hold the running sums of the metrics:
    transformers 5 begins each `train` with empty sums, so that the loss of a resumed run is that of its last piece, and TRL's accuracy that of the steps
    since. With the sums taken up again the metrics are those of the run that nobody stopped, to the last bit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_Undisturbed(self))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        self._order = super()._get_train_sampler(train_dataset)
        return self._order

    def draw_order(self) -> None:
        """Decide the order of the present epoch's rows; the first one's comes from the seed as it is."""
        if (epoch := int(self.state.epoch or 0)) > 0:
            self._order.generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + epoch)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        sums = {
            "since_log": self._tr_loss.item(),
            "logged": self._total_loss_scalar,
            "last_logged_step": self._globalstep_last_logged,
            "metrics": dict(self._metrics["train"]),
            "tokens": self._total_train_tokens,
        }
        file = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / _SUMS
        file.write_text(json.dumps(sums), encoding="utf-8")

    def take_up_sums(self) -> None:
        """Go on with the sums of the checkpoint of the present step, if there is one with sums."""
        file = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / _SUMS
        if not file.is_file():
            return  # the first start, or a checkpoint of an earlier version
        sums = json.loads(file.read_text("utf-8"))
        self._tr_loss.fill_(sums["since_log"])
        self._total_loss_scalar = sums["logged"]
        self._globalstep_last_logged = sums["last_logged_step"]
        self._initial_global_step = 0  # the mean loss is over all steps, as the sums are
        self._metrics["train"].update(sums["metrics"])
        self._total_train_tokens = sums["tokens"]


class _Undisturbed(TrainerCallback):
    """Calls the trainer back where transformers has emptied its sums, and before it draws an order."""

    def __init__(self, trainer: QuietSFTTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- transformers' signature
        self._trainer.take_up_sums()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- transformers' signature
        self._trainer.draw_order()


class ProgressCallback(TrainerCallback):
    """Reports steps, newest metrics and the time left; lets `RunCancelled` pass, which ends the training."""

    def __init__(self, stage: StageName, progress: ProgressFn) -> None:
        self._stage = stage
        self._progress = progress
        self._metrics: dict[str, float] = {}
        self._started = time.monotonic()
        self._first_step = 0
        self._last_report = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- transformers' signature
        """Note where this process starts: a resumed run must not count the earlier steps as fast."""
        self._started, self._first_step = time.monotonic(), state.global_step
        self._report(state)

    def on_log(self, *_args: Any, logs: dict[str, Any] | None = None, **_kwargs: Any) -> None:
        """Keep the newest numbers."""
        self._metrics |= {k: float(v) for k, v in (logs or {}).items() if isinstance(v, (int, float))}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- transformers' signature
        """Report at most once a second, and always at the end."""
        is_last = state.global_step >= state.max_steps
        if is_last or time.monotonic() - self._last_report >= _SECONDS_BETWEEN_REPORTS:
            self._report(state)

    def _report(self, state: Any) -> None:
        now = time.monotonic()
        self._last_report = now
        done = state.global_step - self._first_step
        eta = (now - self._started) / done * (state.max_steps - state.global_step) if done else None
        self._progress(
            StageProgress(
                stage=self._stage,
                done=state.global_step,
                total=state.max_steps,
                eta_seconds=eta,
                metrics=dict(self._metrics),
            )
        )


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint once all of it is written.

    transformers writes a checkpoint's files where they are looked for, one after the other, and takes the newest folder for the newest
    checkpoint. A process killed in between leaves a folder that cannot be loaded, and every later attempt would fail on it.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- transformers' signature
        """Put the mark into the checkpoint of this step; the trainer calls this after the last file."""
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


def discard_checkpoints(folder: Path) -> None:
    """Remove a trainer's checkpoints, all at once as far as anybody who resumes can see: half of one, with its mark, could not be loaded.

    Args:
        folder: The trainer's output directory; it need not exist.
    """
    doomed = folder.with_name(f".{folder.name}.discarded")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.exists():
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def newest_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that `WholeCheckpoints` has marked; those cut off in the middle are removed.

    Args:
        folder: The trainer's output directory; it need not exist.

    Raises:
        TrainingError: a file of it was damaged since.
    """
    while folder.is_dir():
        newest: str | None = get_last_checkpoint(str(folder))
        if newest is None:
            return None
        if (Path(newest) / _WHOLE).exists():
            if found := damaged_file(Path(newest)):
                raise TrainingError(
                    f"{found}: remove the folder {newest}, and the resumed run goes on from the checkpoint before, or from the stage's start"
                )
            return newest
        shutil.rmtree(newest)
    return None
