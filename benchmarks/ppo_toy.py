"""PPO with a value model and RLOO side by side, on a task that takes a minute on one core.

A tiny random transformer is rewarded for the share of lower-case letters in what it writes. Prints the mean score and the KL to
the starting policy at every step, for both kinds of advantage, from the same seed and the same samples at the first step.

    python benchmarks/ppo_toy.py --steps 30
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installing

from alignment.ppo import train_ppo
from alignment.ppo_settings import PpoSettings
from alignment.ppo_state import read_metrics
from alignment.records import RolloutPrompt
from alignment.tokenizer import train_tokenizer
from chatbot.records import PreparedTurn


class LetterReward:
    """The share of a completion's characters that are lower-case letters."""

    name = "letters"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """Between 0 and 1."""
        del prompts
        return [sum("a" <= c <= "z" for c in text) / max(len(text), 1) for text in completions]


def save_models(directory: Path, seed: int) -> None:
    """A random policy and a random reward model of two layers, width 64."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

    config = LlamaConfig(
        vocab_size=262,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory / "policy")
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory / "reward")
    for name in ("policy", "reward"):
        train_tokenizer(["a"], vocabulary_size=262, max_tokens=128).save_pretrained(directory / name)


def prompts() -> list[RolloutPrompt]:
    """Eight short questions."""
    nothing: dict[str, Any] = {"passages": (), "evidence": (), "messages": (), "versions": {}}
    prepared = PreparedTurn(question="", search_text="", answerable=True, support=1.0, **nothing)
    return [
        RolloutPrompt(
            id=word, question=word, prompt=f"<|begin|><|user|>{word}<|assistant|>", prepared=prepared
        )
        for word in ["leave", "pay", "travel", "badge", "laptop", "parking", "lunch", "gym"]
    ]


def run(directory: Path, advantage: Any, steps: int, seed: int) -> list[dict[str, float]]:
    """Metrics of every step."""
    settings = PpoSettings(
        advantage=advantage,
        steps=steps,
        max_new_tokens=12,
        learning_rate=3e-3,
        value_learning_rate=1e-3,
        temperature=1.0,
        min_p=0.0,
        kl_coef=0.01,
        kl_loss_coef=0.0,
        kl_budget=None,
        approxkl_limit=None,
        ratio_limit=None,
        missing_eos_penalty=None,
        precision="float32",
        seed=seed,
    )
    train_ppo(
        settings,
        policy_dir=directory / "policy",
        reference_dir=directory / "policy",
        value_init_dir=directory / "reward",
        prompts=prompts(),
        reward=LetterReward(),
        out_dir=directory / advantage / "out",
        work_dir=directory / advantage / "work",
        progress=lambda _: None,
    )
    return read_metrics(directory / advantage / "work")


def main() -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=30, help="rounds of sampling and updating")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        save_models(Path(name), arguments.seed)
        gae, rloo = (run(Path(name), kind, arguments.steps, arguments.seed) for kind in ("gae", "rloo"))
    print(f"{'step':>4} {'gae score':>10} {'gae kl':>8} {'rloo score':>11} {'rloo kl':>8}")
    for a, b in zip(gae, rloo, strict=True):
        print(
            f"{a['step']:4.0f} {a['objective/scores']:10.3f} {a['objective/kl']:8.2f} "
            f"{b['objective/scores']:11.3f} {b['objective/kl']:8.2f}"
        )
    ratio = gae[-1]["objective/scores"] / rloo[-1]["objective/scores"]
    print(f"last score, gae over rloo (three of gae's steps only warm up its value model): {ratio:.2f}")


if __name__ == "__main__":
    main()
