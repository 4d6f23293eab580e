"""Tacit's PPO beside that of TRL 1.12.0, the last with one: the same numbers where the algorithm is the same, and how fast each is.

    python benchmarks/ppo_parity.py [--trl-python PYTHON] [--steps 5] [--speed-steps 3] [--seed 0]

TRL runs in an environment of its own, made in `var/trl-1.12` at the first run (about 1 GB), with the torch and transformers that Tacit has.

Parity: TRL samples from the embedded model and learns; Tacit is given TRL's samples, and from the same weights computes scores, KL, advantages and losses and makes the
same updates, step after step, so that a difference in any of them would grow. One minibatch, four passes, completions of full length. Speed: both do a whole
run of their own, the same prompts, completions an update, passes and minibatches. Prints a table, the deviations with their reasons, and a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a checkout without installing

from alignment.advantages import whiten  # noqa: E402 -- a program beside the packages
from alignment.completion_forward import TokenBatch  # noqa: E402
from alignment.experience import Experience, estimate_advantages, measure, penalised_kl  # noqa: E402
from alignment.ppo import train_ppo  # noqa: E402
from alignment.ppo_models import PpoModels  # noqa: E402
from alignment.ppo_settings import PpoSettings  # noqa: E402
from alignment.ppo_update import Updater  # noqa: E402
from alignment.records import RolloutPrompt  # noqa: E402
from alignment.rollouts import Rollouts  # noqa: E402
from ui.logging import configure_logging  # noqa: E402
from ui.wiring import EMBEDDED_MODEL, open_services  # noqa: E402

SAMPLE = ROOT / "ui" / "sample_company"
TRL = "1.12.0"
COMPARED = {
    "objective/kl": "objective/kl",
    "objective/non_score_reward": "objective/non_score_reward",
    "objective/rlhf_reward": "objective/rlhf_reward",
    "objective/scores": "objective/scores",
    "loss/policy_avg": "loss/policy_avg",
    "loss/value_avg": "loss/value_avg",
    "policy/clipfrac_avg": "policy/clipfrac_avg",
    "policy/approxkl_avg": "policy/approxkl_avg",
    "val/ratio": "val/ratio",
}
"""Metrics of one meaning: Tacit's name, TRL's name."""
DEVIATIONS = [
    "The score stands on a completion's last token. TRL puts it one token later where the completion ended by itself. Compared on full length.",
    "What TRL pays after the end lies on padding, whose value is set to 0 and trained too: ending is not paid by the reward.",
    "Old log-probabilities come from training's forward pass, not from the sampler's: the first ratio of a step is 1. Compared all the same.",
    "A minibatch's gradient does not depend on its micro-batches; TRL divides each by its own tokens. Compared with one.",
    "Gradients are clipped, of policy and value model apart; TRL's loop clips none. Compared without.",
    "Warm-ups, scores relative to their siblings', limits of ratio, KL and entropy: TRL has none. Compared without.",
    "A value head starts at the first step's mean return, TRL's at the reward model's. Compared with both at 0.",
    "objective/entropy is the mean entropy of a token's distribution, TRL's the sum of -log p over a completion. Not compared.",
]


def write_job(
    folder: Path, *, prompts: Sequence[Sequence[int]], record: bool, seed: int, threads: int, **trl: Any
) -> None:
    """What `ppo_parity_trl.py` reads."""
    job = {
        "model": str(EMBEDDED_MODEL), "prompts": [list(p) for p in prompts], "record": record, "seed": seed,
        "threads": threads, "trl": trl,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job), "utf-8")


def run_trl(python: Path, folder: Path) -> dict[str, Any]:
    """TRL's half; its figures."""
    script = Path(__file__).with_name("ppo_parity_trl.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), str(script), str(folder)],
        check=False, capture_output=True, text=True, cwd=folder, env=environment | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"TRL's half failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads((folder / "trl.json").read_text("utf-8"))
    return found


def trl_python(given: Path | None) -> Path:
    """An interpreter with TRL 1.12.0, its environment made where there is none."""
    if given:
        return given
    home = ROOT / "var" / "trl-1.12"
    python = home / "bin" / "python"
    if not (home / "done").is_file():
        print(f"Making an environment for trl=={TRL} in {home} ...", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        pins = [
            f"{name}=={version(name).partition('+')[0]}"
            for name in ("torch", "transformers", "accelerate", "datasets", "numpy")
        ]
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"trl=={TRL}", *pins], check=True)
        (home / "done").touch()
    return python


def sample_prompts(n: int, longest: int) -> list[RolloutPrompt]:
    """Prompts of the sample company's questions, with their evidence, of at most so many tokens."""
    from knowledge_base.questions import load_questions

    with tempfile.TemporaryDirectory() as home, open_services(Path(home), create=True) as services:
        services.ingestor.ingest([SAMPLE / "company"], "company")
        generator = services.serving.generator("base")
        questions = load_questions(SAMPLE / "questions.jsonl")
        turns = [services.assistant.prepare(q.question, services.reader(None)) for q in questions]
        prompts = [
            RolloutPrompt(id=q.id, question=q.question, prompt=generator.render(turn.messages), prepared=turn)
            for q, turn in zip(questions, turns, strict=True)
        ]
    tokenizer = _tokenizer()
    short = [p for p in prompts if len(tokenizer(p.prompt, add_special_tokens=False)["input_ids"]) <= longest]
    return short[:n]


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL, local_files_only=True)


def token_ids(prompts: Sequence[RolloutPrompt]) -> list[list[int]]:
    """As both sides read them."""
    tokenizer = _tokenizer()
    return [list(tokenizer(p.prompt, add_special_tokens=False)["input_ids"]) for p in prompts]


# Parity


def measure_parity(
    python: Path, prompts: Sequence[RolloutPrompt], folder: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Largest difference of each figure over the steps."""
    rate, n, width = 1e-4, 8, 24
    write_job(
        folder, prompts=token_ids(prompts), record=True, seed=args.seed, threads=args.threads,
        total_episodes=args.steps * n, per_device_train_batch_size=n, gradient_accumulation_steps=1, num_mini_batches=1,
        num_ppo_epochs=4, local_rollout_forward_batch_size=n, response_length=width, learning_rate=rate, kl_coef=0.05,
        gamma=1.0, lam=0.95, vf_coef=0.1, temperature=0.8, missing_eos_penalty=None, adam_epsilon=1e-8,
    )  # fmt: skip
    theirs = run_trl(python, folder)
    recorded = np.load(folder / "trl.npz")
    settings = PpoSettings(
        advantage="gae", min_p=0.0, seed=args.seed, steps=args.steps, prompts_per_step=n, samples_per_prompt=1, max_new_tokens=width,
        epochs=4, minibatches=1, micro_batch_prompts=n, learning_rate=rate, value_learning_rate=rate, value_head_learning_rate=rate,
        kl_coef=0.05, kl_loss_coef=0.0, gamma=1.0, lam=0.95, value_coef=0.1, temperature=0.8, missing_eos_penalty=None, adam_eps=1e-8,
        max_grad_norm=1e9, lr_warmup_steps=0, value_warmup_steps=0, relative_scores=False, approxkl_limit=None, ratio_limit=None,
        kl_budget=None, entropy_floor=None, refusal_rise_limit=None, precision="float32", device="cpu", share_prompts=False,
        whiten_advantages=False,
    )  # fmt: skip
    models = PpoModels(settings, EMBEDDED_MODEL, EMBEDDED_MODEL, EMBEDDED_MODEL)
    updater = Updater(settings, models.policy, models.forward, models.value, dtype=models.dtype)
    worst: dict[str, float] = dict.fromkeys([*COMPARED, "advantages, each token"], 0.0)
    steps = []
    for step, (sequences, advantages) in enumerate(
        zip(recorded["sequences"], recorded["advantages"], strict=True)
    ):
        ours, found = replay(settings, models, updater, torch.from_numpy(sequences), width, step)
        logged = theirs["steps"][step]
        worst["advantages, each token"] = max(
            worst["advantages, each token"], float(np.abs(found.numpy() - advantages).max())
        )
        for name, trl_name in COMPARED.items():
            worst[name] = max(worst[name], abs(ours[name] - logged[trl_name]))
        steps.append({name: (ours[name], logged[trl_name]) for name, trl_name in COMPARED.items()})
    return {"largest_difference": worst, "steps": steps, "n": n, "tokens": width}


def replay(
    settings: PpoSettings, models: PpoModels, updater: Updater, sequences: torch.Tensor, width: int, step: int
) -> tuple[dict[str, float], torch.Tensor]:
    """A step of Tacit's on TRL's samples (N, L + T): metrics, and advantages (N, T) before whitening."""
    pad = models.tokenizer.pad_token_id
    prompt_ids, completion_ids = sequences[:, :-width], sequences[:, -width:]
    if bool((completion_ids == pad).any()):
        raise SystemExit(
            "TRL sampled the padding token: choose another --seed, so that all completions have full length"
        )
    tokens = TokenBatch(
        prompt_ids=prompt_ids.masked_fill(prompt_ids == pad, 0),
        prompt_mask=prompt_ids != pad,
        completion_ids=completion_ids,
        completion_mask=torch.ones_like(completion_ids, dtype=torch.bool),
    )
    scores = torch.tensor([token_worth(row[row != pad]) for row in sequences])
    figures = models.figures(tokens)
    kl, k1 = penalised_kl(figures.whole, figures.reference, tokens.completion_mask, settings)
    rollouts = Rollouts(
        prompts=[_NOTHING] * len(scores), tokens=tokens, texts=["text"] * len(scores), ended=torch.ones(len(scores), dtype=torch.bool)
    )  # fmt: skip
    metrics = measure(rollouts, scores, scores, k1, figures, settings.kl_coef)
    values = models.values(tokens)
    advantages, returns = estimate_advantages(
        settings, shaped=scores, kl=kl, mask=tokens.completion_mask, values=values, kl_coef=settings.kl_coef, samples=1
    )  # fmt: skip
    experience = Experience(
        tokens=tokens, logprobs=figures.logprobs, advantages=whiten(advantages, tokens.completion_mask), returns=returns, values=values,
        metrics=metrics,
    )  # fmt: skip
    return metrics | updater.update(experience, step), advantages


def token_worth(ids: torch.Tensor) -> float:
    """The reward of `ppo_parity_trl.TokenWorth`."""
    return float(torch.cos(ids.double()).mean().float())


def _nothing() -> RolloutPrompt:
    from chatbot.records import PreparedTurn

    turn = PreparedTurn(
        question="", search_text="", passages=(), evidence=(), messages=(), answerable=True, support=1.0, versions={}
    )  # fmt: skip
    return RolloutPrompt(id="0", question="", prompt="", prepared=turn, answerable=False)


# Speed


class _Length:
    """A reward that costs nothing."""

    name = "length"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """Longer is better, up to a point."""
        del prompts
        return [math.tanh(len(text) / 200) for text in completions]


def measure_speed(
    python: Path, prompts: Sequence[RolloutPrompt], folder: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Episodes a second of whole runs: sampling, scoring, two passes in two minibatches."""
    samples, a_step = 6, 8
    chosen = prompts[: a_step * args.speed_steps]
    repeated = [ids for ids in token_ids(chosen) for _ in range(samples)]
    n = samples * a_step
    write_job(
        folder, prompts=repeated, record=False, seed=args.seed, threads=args.threads,
        total_episodes=args.speed_steps * n, per_device_train_batch_size=12, gradient_accumulation_steps=4, num_mini_batches=2,
        num_ppo_epochs=2, local_rollout_forward_batch_size=12, response_length=64, learning_rate=1e-5, kl_coef=0.05,
        gamma=1.0, lam=1.0, vf_coef=0.1, temperature=0.8, missing_eos_penalty=1.0, stop_token="eos",
    )  # fmt: skip
    theirs = run_trl(python, folder)["seconds"]
    settings = PpoSettings(
        advantage="gae", min_p=0.0, temperature=0.8, seed=args.seed, steps=args.speed_steps, prompts_per_step=a_step,
        samples_per_prompt=samples, max_new_tokens=64,
        epochs=2, minibatches=2, learning_rate=1e-5, value_warmup_steps=0, precision="float32", device="cpu", kl_loss_coef=0.0, kl_budget=None,
        entropy_floor=None, refusal_rise_limit=None, approxkl_limit=None, ratio_limit=None,
    )  # fmt: skip
    started = time.perf_counter()
    train_ppo(
        settings, policy_dir=EMBEDDED_MODEL, reference_dir=EMBEDDED_MODEL, value_init_dir=EMBEDDED_MODEL,
        prompts=chosen, reward=_Length(), out_dir=folder / "ours", work_dir=folder / "work", progress=lambda _: None,
    )  # fmt: skip
    ours = time.perf_counter() - started
    episodes = args.speed_steps * n
    return {
        "episodes": episodes,
        "tacit_per_second": episodes / ours,
        "trl_per_second": episodes / theirs,
        "times": theirs / ours,
        "prompt_tokens": sum(map(len, repeated)) / len(repeated),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl-python", type=Path, help=f"an interpreter with trl=={TRL}; else one is set up")
    parser.add_argument("--steps", type=int, default=5, help="of the parity run; 0 leaves it out")
    parser.add_argument("--speed-steps", type=int, default=3, help="0 leaves the speed out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    configure_logging()
    torch.set_num_threads(args.threads)
    python = trl_python(args.trl_python)
    prompts = sample_prompts(60, 800)
    found: dict[str, Any] = {"trl": TRL, "torch": torch.__version__, "seed": args.seed}
    with tempfile.TemporaryDirectory() as name:
        if args.steps:
            short = sorted(prompts, key=lambda p: len(p.prompt))[:32]
            found["parity"] = measure_parity(python, short, Path(name) / "parity", args)
            for figure, difference in found["parity"]["largest_difference"].items():
                print(f"{figure:<30} largest difference {difference:.1e}", flush=True)
        print("Where the algorithms differ, and how they were compared:", *DEVIATIONS, sep="\n- ")
        if args.speed_steps:
            found["speed"] = measure_speed(python, prompts, Path(name) / "speed", args)
            print(
                f"episodes a second: {found['speed']['tacit_per_second']:.2f}, TRL {found['speed']['trl_per_second']:.2f}: {found['speed']['times']:.1f} times"
            )
    print(json.dumps(found))


_NOTHING = _nothing()

if __name__ == "__main__":
    main()
