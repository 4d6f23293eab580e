"""How far a policy can follow a learned reward before it leaves what people want: true reward against KL, with an ensemble and without.

    python benchmarks/over_optimisation.py --home HOME --preferences FILE.py:FUNCTION [--steps 60] [--rate 2e-4] [--plot PLOT.svg] [--seed 0]

HOME holds a finished cycle (`tacit simulate`, `tacit train cycle`) of employees with that taste. From the cycle's snapshot two reward models are trained, one of a single
member and the ensemble, and PPO maximises each alone: no penalty on KL, no limit, nothing for groundedness or known answers, and a rate that does not fall; only refusals that nobody judged are worth
what they are in a cycle. At every step each sample is
compared with the SFT policy's own answer to that question, by the employees' true taste, as people would see both; this share of wins is the true reward, and the reward model's mean
score the learned one. Where the policy would have been stopped, by the KL budget, is marked.

Prints a table and a JSON object, and draws the plot (Gao et al. 2022, arXiv:2210.10760, figure 1; their proxy and gold scores).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installing

from alignment.ppo import train_ppo
from alignment.ppo_inputs import asked
from alignment.ppo_state import read_metrics
from alignment.preferences import PreferenceFunction, load_preferences
from alignment.records import RewardFunction, RolloutPrompt
from alignment.reward_mix import RewardMix
from alignment.reward_training import train_reward
from alignment.snapshot import LoadedSnapshot, load_snapshot
from alignment.win_rate import PreferenceJudge, win_rate
from chatbot.records import Answer, Completion, Sampling
from ui.logging import configure_logging
from ui.run_settings import load_training_settings
from ui.wiring import Services, open_services

MEMBERS = {"one reward model": (1, 0.0), "ensemble of four": (4, 0.5)}
"""Members, and the weight of their disagreement."""


class Watched:
    """A reward that remembers, for each step, what those who judge truly think of its samples."""

    name = "reward_model"

    def __init__(
        self, reward: RewardFunction, services: Services, sft: str, prefer: PreferenceFunction, seed: int
    ) -> None:
        """Watch a reward; samples are compared with what policy `sft` answers."""
        self._reward = reward
        self._assistant = services.assistant
        self._generator = services.serving.generator(sft)
        self._sft = sft
        self._judge = PreferenceJudge(prefer, seed=seed)
        self._answers: dict[str, Answer] = {}
        self.true: list[float] = []
        """Share of wins over the SFT policy's answer, ties half, of each step."""

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """What the reward says; what the employees say is kept."""
        pairs = [self._shown(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        ours, theirs = zip(*pairs, strict=True)
        self.true.append(win_rate(ours, theirs, self._judge, resamples=1).win_rate)
        return self._reward.score(prompts, completions)

    def _shown(self, prompt: RolloutPrompt, completion: str) -> tuple[Answer, Answer]:
        """What people would see of a sample, and the SFT policy's answer."""
        if prompt.prompt not in self._answers:  # an id is shared by all phrasings of a question
            greedy = Sampling(temperature=0.0, max_new_tokens=96)
            self._answers[prompt.prompt] = self._assistant.sample_many(
                [prompt.prepared], 1, greedy, self._sft
            )[0][0]
        written = Completion(text=completion, token_ids=(), logprob=None, ended=True)
        ours = self._assistant.finish(prompt.prepared, written, self._generator, Sampling(temperature=0.8))
        return ours, self._answers[prompt.prompt]


def run(
    name: str, services: Services, data: LoadedSnapshot, sft: str, folder: Path, args: argparse.Namespace
) -> list[dict[str, float]]:
    """PPO against one of the rewards; KL, learned and true reward of each step."""
    members, weight = MEMBERS[name]
    policy = Path(services.registry.get(sft).path)
    settings = dataclasses.replace(load_training_settings(services).reward, members=members)
    print(f"{name}: reward model", file=sys.stderr, flush=True)
    train_reward(
        settings, init_dir=policy, judgements=data.train.judgements, held_out=data.held_out.judgements,
        anchors=data.train.pairs, out_dir=folder / "reward", progress=lambda _: None,
    )  # fmt: skip
    mix = dataclasses.replace(
        RewardMix.of(data, load_training_settings(services).cycle),
        uncertainty_weight=weight,
        groundedness_weight=0.0,
        reference_weight=0.0,
    )
    watched = Watched(
        mix.build(folder / "reward"),
        services,
        sft,
        load_preferences(args.preferences),
        args.seed,
    )
    ppo = dataclasses.replace(
        load_training_settings(services).ppo, steps=args.steps, learning_rate=args.rate, lr_decay="none", kl_coef=0.0, kl_loss_coef=0.0, kl_budget=None, entropy_floor=None,
        refusal_rise_limit=None, approxkl_limit=None, ratio_limit=None, choices_coef=0.0, seed=args.seed,
    )  # fmt: skip
    train_ppo(
        ppo, policy_dir=policy, reference_dir=policy, value_init_dir=folder / "reward", prompts=asked(data.train.rollouts),
        reward=watched, out_dir=folder / "out", work_dir=folder / "work",
        progress=lambda p: print(f"{name}: step {p.done} of {p.total}, {p.note}   ", end="\r", file=sys.stderr, flush=True),
    )  # fmt: skip
    rows = read_metrics(folder / "work")
    return [
        {
            "step": row["step"],
            "kl": row["objective/kl"],
            "learned": row["objective/scores"],
            "true": true,
            "tokens": row["val/completion_tokens"],
        }
        for row, true in zip(rows, watched.true, strict=True)
    ]


def smoothed(values: Sequence[float], width: int = 5) -> list[float]:
    """Means over a window: a step has few prompts, and they change."""
    half = width // 2
    return [
        sum(values[max(0, at - half) : at + half + 1]) / len(values[max(0, at - half) : at + half + 1])
        for at in range(len(values))
    ]


def best_and_last(rows: Sequence[dict[str, float]], budget: float) -> dict[str, float]:
    """The smoothed true reward at its best, at the end, and at the last step within the KL budget."""
    true = smoothed([row["true"] for row in rows])
    best = max(range(len(true)), key=true.__getitem__)
    within = [at for at, row in enumerate(rows) if row["kl"] <= budget]
    stop = within[-1] if within and within[-1] == len(rows) - 1 else next(
        (at - 1 for at, row in enumerate(rows) if row["kl"] > budget), len(rows) - 1
    )  # fmt: skip
    return {
        "best": true[best],
        "best_kl": rows[best]["kl"],
        "at_the_budget": true[max(stop, 0)],
        "last": true[-1],
        "last_kl": rows[-1]["kl"],
    }


def draw(found: dict[str, list[dict[str, float]]], budget: float, path: Path) -> None:
    """True and learned reward against the square root of KL, both runs: a dot for each step, and the mean of the steps nearest in KL."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, sides = plt.subplots(1, 2, figsize=(10, 4))
    for number, (name, rows) in enumerate(found.items()):
        # KL goes up and down from step to step: in the order of steps the line would cross itself.
        ordered = sorted(rows, key=lambda row: row["kl"])
        distance = [max(row["kl"], 0.0) ** 0.5 for row in ordered]
        for axes, what in zip(sides, ("true", "learned"), strict=True):
            values = [row[what] for row in ordered]
            axes.plot(distance, values, ".", color=f"C{number}", alpha=0.4)
            axes.plot(smoothed(distance, 9), smoothed(values, 9), color=f"C{number}", label=name)
    for axes, title in zip(sides, ("true: wins over the SFT policy", "learned: mean score"), strict=True):
        axes.axvline(budget**0.5, linestyle=":", color="grey", label=f"KL budget, {budget:g} nats")
        axes.set_xlabel("√KL to the SFT policy, √nats an answer")
        axes.set_title(title)
    sides[0].axhline(0.5, linewidth=0.5, color="grey")
    sides[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Run both and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--preferences", required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--plot", type=Path, default=Path("over_optimisation.svg"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    configure_logging()
    found: dict[str, Any] = {}
    with open_services(args.home) as services, tempfile.TemporaryDirectory() as name:
        cycles = [
            p for p in services.registry.list() if p.manifest.get("snapshot") and p.id.startswith("ppo-")
        ]
        if not cycles:
            raise SystemExit(
                f"{args.home} holds no finished cycle: run `tacit simulate` and `tacit train cycle` first"
            )
        newest = max(cycles, key=lambda policy: policy.created_at)
        data = load_snapshot(Path(str(newest.manifest["snapshot"])))
        budget = load_training_settings(services).ppo.kl_budget or 10.0
        for kind in MEMBERS:
            folder = Path(name) / kind.replace(" ", "-")
            found[kind] = run(kind, services, data, newest.id.replace("ppo-", "sft-"), folder, args)
            print(
                f"{kind:<18}",
                *(f"{key} {value:.3f}" for key, value in best_and_last(found[kind], budget).items()),
                sep="  ",
            )
    draw(found, budget, args.plot)
    print(
        json.dumps(
            {"runs": found, "kl_budget": budget, "steps": args.steps, "rate": args.rate, "seed": args.seed}
        )
    )


if __name__ == "__main__":
    main()
