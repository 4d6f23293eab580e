"""Are the people found who do not look, or who mean harm? Simulated employees of three kinds judge real answers.

    python benchmarks/raters.py [--documents DIR...] [--questions FILE.jsonl] [--home DIR] [--users 20] [--each 30] [--seed 0] [--cycles] [--plot PLOT.svg]

Without arguments it runs on the sample company. A fifth of the employees click without looking, a tenth push an entity together; of the careful ones' judgements
a tenth are random too (`--noise`). Prints one JSON object: AUC of the estimated reliability (careful against the others), the mean weight of
a judgement by kind, who was left out, and how well a taste fitted with and without the weights predicts what careful people say of other questions.
With `--cycles` a whole cycle learns from these judgements, another one counts everybody alike, a third learns from as many judgements of careful people only; each policy is
compared with its SFT policy and with the base model by the true taste, on questions that nobody was asked. `--plot` draws the reliability found, by kind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from alignment.datasets import is_held_out, question_id  # noqa: E402 -- a program beside the packages
from alignment.judged_rows import read_rankings  # noqa: E402
from alignment.raters import estimate_raters  # noqa: E402
from alignment.records import RankedCompletions  # noqa: E402
from alignment.tie_likelihood import TIE, pairs_of_ranking  # noqa: E402
from alignment.trait_model import fit_traits  # noqa: E402
from benchmarks.loop import SAMPLE, split, tacit  # noqa: E402
from ui.training import ProductWorld  # noqa: E402
from ui.wiring import open_services  # noqa: E402

HELD_OUT = 0.3


def main() -> None:
    """Simulate, estimate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", nargs="+", default=[str(SAMPLE / "company")])
    parser.add_argument("--questions", type=Path, default=SAMPLE / "questions.jsonl")
    parser.add_argument("--home", type=Path, default=HERE.parent / "var" / "benchmark-raters")
    parser.add_argument("--collection", default="handbook")
    parser.add_argument(
        "--preferences", default=f"{HERE / 'preferences' / 'short_cited_direct.py'}:short_cited_direct"
    )
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--each", type=int, default=30, help="judgements of each person, on average")
    parser.add_argument("--clickers", type=float, default=0.2)
    parser.add_argument("--adversaries", type=float, default=0.1)
    parser.add_argument("--entity", default="the")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cycles", action="store_true", help="train a policy of each kind of feedback")
    parser.add_argument(
        "--set", action="append", default=[], help="a training setting, as of `tacit train cycle`"
    )
    parser.add_argument("--plot", type=Path, help="draw the reliability found, by kind of person")
    args = parser.parse_args()

    ingested = args.home / "ingested"
    tacit(ingested, "init")
    tacit(ingested, "ingest", *args.documents, "--collection", args.collection)
    asked, unseen = split(args.questions, args.home / "benchmark", args.seed)
    mixed, simulated = simulate(args, ingested, "mixed", asked, args.clickers, args.adversaries)
    with open_services(mixed) as services:
        kinds = {user.id: simulated["employees"].get(user.name) for user in services.accounts.list()}
        rows = read_rankings(
            services.feedback.current(), ProductWorld(services, "").permissions(), question_id
        )
    found = report(rows, kinds, args.seed) | {"seed": args.seed}
    if args.plot:
        draw(found["reliabilities"], args.plot)
    if args.cycles:
        found["policies"] = learn(args, ingested, mixed, asked, unseen)
    sys.stdout.write(json.dumps(found) + "\n")


def simulate(
    args: argparse.Namespace, ingested: Path, name: str, asked: Path, clickers: float, adversaries: float
) -> tuple[Path, dict[str, Any]]:
    """A home with judgements of such employees, and what `tacit simulate` says."""
    home = args.home / name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(ingested, home)
    return home, tacit(
        home, "simulate", str(asked), "--preferences", args.preferences, "--collection", args.collection,
        "--turns", str(args.users * args.each), "--users", str(args.users), "--kinds", "rating,comparison,ranking",
        "--noise", str(args.noise), "--clickers", str(clickers), "--adversaries", str(adversaries),
        "--entity", args.entity, "--seed", str(args.seed),
    )  # fmt: skip


def learn(
    args: argparse.Namespace, ingested: Path, mixed: Path, asked: Path, unseen: Path
) -> dict[str, dict[str, Any]]:
    """A policy of clean feedback, of mixed feedback weighed by what is known of people, and of mixed feedback counted alike."""
    alike = args.home / "alike"
    shutil.rmtree(alike, ignore_errors=True)
    shutil.copytree(mixed, alike)
    clean, _ = simulate(args, ingested, "clean", asked, 0.0, 0.0)
    settings = [part for value in args.set for part in ("--set", value)]
    found = {}
    for name, home, own in (
        ("careful people alone", clean, []),
        ("all, weighted", mixed, []),
        ("all, alike", alike, ["--set", "raters.enabled=false"]),
    ):
        cycle = tacit(home, "train", "cycle", *settings, *own)
        # Without demonstrations SFT learns from documents alone, in all three the same.
        against = {
            other: tacit(
                home, "policies", "compare", cycle["policy"], policy, "--questions", str(unseen),
                "--preferences", args.preferences, "--collection", args.collection, "--seed", str(args.seed),
            )
            for other, policy in (("sft", f"sft-{cycle['policy'].rpartition('-')[2]}"), ("base", "base"))
        }  # fmt: skip
        found[name] = {
            **{
                f"{field}_over_{other}": compared[field]
                for other, compared in against.items()
                for field in ("win_rate", "interval", "ties", "n")
            },
            "promoted": cycle["promoted"],
            "minutes": round(cycle["wall_seconds"] / 60, 1),
        }
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    return found


def draw(reliabilities: dict[str, list[float]], path: Path) -> None:
    """Every person a dot, at the reliability that was estimated, by the kind they are."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 2.5))
    for row, (kind, values) in enumerate(sorted(reliabilities.items())):
        axes.plot(values, [row] * len(values), "o", alpha=0.5)
        axes.plot([statistics.mean(values)] * 2, [row - 0.2, row + 0.2], color="black")
        axes.text(0.02, row + 0.15, kind, transform=axes.get_yaxis_transform())
    axes.set(xlabel="reliability found (bar: mean)", yticks=[], xlim=(0, 1), ylim=(-0.5, len(reliabilities)))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def report(rows: list[RankedCompletions], kinds: dict[str, Any], seed: int) -> dict[str, Any]:
    """What was found, beside what is true."""
    train = [row for row in rows if not is_held_out(row.question_id, share=HELD_OUT, seed=seed)]
    test = [
        row
        for row in rows
        if is_held_out(row.question_id, share=HELD_OUT, seed=seed) and kinds[row.labeler_id] == "careful"
    ]
    estimated = estimate_raters(train)
    by_kind: dict[str, list[float]] = defaultdict(list)
    weights: dict[str, list[float]] = defaultdict(list)
    for rater in estimated.raters:
        by_kind[kinds[rater.labeler_id]].append(rater.reliability)
        weights[kinds[rater.labeler_id]].append(rater.weight)
    good = by_kind["careful"]
    bad = [value for kind, values in by_kind.items() if kind != "careful" for value in values]
    weight_of = estimated.weights()
    weighted = [
        replace(row, weight=weight_of[row.labeler_id]) for row in train if weight_of[row.labeler_id] > 0
    ]
    clean = [row for row in train if kinds[row.labeler_id] == "careful"]
    return {
        "auc": auc(good, bad),
        "judgements_each": len(train) / max(len(estimated.raters), 1),
        "reliability": {kind: statistics.mean(values) for kind, values in by_kind.items()},
        "reliabilities": {kind: [round(value, 3) for value in values] for kind, values in by_kind.items()},
        "weight": {kind: statistics.mean(values) for kind, values in weights.items()},
        "left_out": sorted(kinds[rater.labeler_id] for rater in estimated.quarantined),
        "pair_accuracy": {
            "careful people alone": accuracy(clean, test),
            "all, weighted": accuracy(weighted, test),
            "all, alike": accuracy(train, test),
        },
        "n_test": len(test),
    }


def auc(good: list[float], bad: list[float]) -> float | None:
    """Probability that a careful person is estimated above another one; None without either."""
    if not good or not bad:
        return None
    return statistics.mean((g > b) + 0.5 * (g == b) for g in good for b in bad)


def accuracy(train: list[RankedCompletions], test: list[RankedCompletions]) -> float | None:
    """Share of the decided pairs that a taste fitted to `train` decides the same way; None without any."""
    model = fit_traits(train)
    right = []
    for row in test:
        if not row.ranking:
            continue
        scores = [model.score(row.prompt, text) for text in row.completions]
        for pair in pairs_of_ranking(row.ranking):
            if pair.outcome != TIE:
                difference = scores[pair.first] - scores[pair.second]
                right.append(0.5 if difference == 0 else float(difference > 0))
    return statistics.mean(right) if right else None


if __name__ == "__main__":
    main()
