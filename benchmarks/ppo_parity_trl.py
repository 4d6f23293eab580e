"""TRL's half of `ppo_parity.py`; runs in an environment of its own, where `trl` is 1.12.0, and imports nothing of Tacit.

    PYTHON_OF_TRL benchmarks/ppo_parity_trl.py JOB

JOB is a folder with `job.json` (`ppo_parity.write_job`). Writes `trl.json`, the metrics of each step and the seconds, and, where samples are recorded,
`trl.npz`: `sequences` (S, N, L + T) token ids, `advantages` (S, N, T) before whitening, S steps of N completions of T tokens after prompts of L.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


class TokenWorth(nn.Module):
    """A reward model whose score of a text is the mean worth of its tokens, worth(i) = cos(i): the same on both sides to the last bit."""

    base_model_prefix = "body"

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.score.weight)

    def body(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        """Hidden states (B, T, 1): the mean worth of the tokens so far."""
        mask = attention_mask.double()
        worth = torch.cos(input_ids.double()) * mask
        means = worth.cumsum(1) / mask.cumsum(1).clamp(min=1)
        return SimpleNamespace(hidden_states=[means.float().unsqueeze(-1)])


def make_trainer(job: dict[str, Any], out: Path) -> Any:
    """A trainer for the job; policy, reference and trunk of the value model start from the same weights."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"], local_files_only=True, padding_side="left")

    def policy() -> Any:
        return AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, local_files_only=True)

    value = AutoModelForSequenceClassification.from_pretrained(
        job["model"], dtype=torch.float32, num_labels=1, local_files_only=True
    )
    value.score = nn.Linear(value.config.hidden_size, 1)
    nn.init.zeros_(value.score.weight)
    nn.init.zeros_(value.score.bias)
    rows = Dataset.from_dict({"input_ids": job["prompts"]})
    settings = PPOConfig(
        output_dir=str(out / "out"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        num_sample_generations=0,
        logging_steps=1,
        seed=job["seed"],
        **job["trl"],
    )
    return PPOTrainer(
        settings, tokenizer, policy(), policy(), TokenWorth(), rows, value, eval_dataset=rows.select(range(1))
    )


def main() -> None:
    """Run the job."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    trainer = make_trainer(job, folder)
    sequences, advantages, logs = [], [], []
    generate, whiten = ppo_trainer.batch_generation, ppo_trainer.masked_whiten

    def recorded_generation(*args: Any, **kwargs: Any) -> Any:
        found = generate(*args, **kwargs)
        sequences.append(found[0].numpy())
        return found

    def recorded_whitening(values: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        advantages.append(values.numpy().copy())
        whitened: torch.Tensor = whiten(values, mask, **kwargs)
        return whitened

    if job["record"]:
        ppo_trainer.batch_generation, ppo_trainer.masked_whiten = recorded_generation, recorded_whitening
    trainer.log = lambda metrics, *_: logs.append(dict(metrics))
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    if job["record"]:
        widest = max(found.shape[1] for found in sequences)
        pad = trainer.processing_class.pad_token_id
        filled = [
            np.pad(found, ((0, 0), (widest - found.shape[1], 0)), constant_values=pad) for found in sequences
        ]
        np.savez(folder / "trl.npz", sequences=np.stack(filled), advantages=np.stack(advantages))
    (folder / "trl.json").write_text(json.dumps({"steps": logs, "seconds": seconds}), "utf-8")


if __name__ == "__main__":
    main()
