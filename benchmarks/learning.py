"""Does Tacit learn a taste from employees who have one, round after round? And does it stay right while it does?

    python benchmarks/learning.py --documents DIR... --questions FILE.jsonl [--home DIR] [--tastes FILE.py:FUNCTION ...] [--seeds 0 1 2 3 4]
        [--rounds 3] [--judgements 400] [--noise 0.15] [--plot PLOT.svg]

Without documents and questions it runs on the sample company. For each taste and seed: a copy of the ingested home; half of the questions, by a hash,
is asked by simulated employees; in each round they make so many judgements of what serves then, part of them random, and a cycle learns
from all judgements so far. The other half of the questions is never asked: on them each round's policy is compared with the SFT policy of the first round
by the true taste, both greedy, ties counting half; questions that are refused before a policy is asked are ties, and `win_rate_asked` leaves them out. That SFT policy has
learned from the experts' answers among the judgements, so `over_base` says beside it how often the round's policy is preferred to what served before anybody judged, and `best_of_4` what
the best of four samples of the SFT policy reaches, chosen by the first round's reward.

The first rounds of all tastes and seeds come first. Prints a table and a JSON object; what is done is kept in the home's `learning.json` and not done again,
and a round that was broken off begins anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installing

from benchmarks.loop import HERE, SAMPLE, split, tacit

TASTES = [f"{HERE / 'preferences' / name}.py:{name}" for name in ("brief", "thorough", "concrete")]


def play(
    home: Path, taste: str, seed: int, number: int, sft: str, args: argparse.Namespace
) -> dict[str, Any]:
    """One round: simulate, learn, compare with the SFT policy of the first round, `sft`, empty in the first round itself."""
    asked, unseen = split(args.questions, home / "benchmark", seed)
    common = ["--preferences", taste, "--collection", args.collection]
    started = time.monotonic()
    simulated = tacit(
        home, "simulate", str(asked), *common, "--turns", str(args.judgements), "--noise", str(args.noise),
        "--seed", str(1000 * seed + number),
    )  # fmt: skip
    cycle = tacit(home, "train", "cycle", *(part for s in args.set for part in ("--set", s)))
    sft = sft or f"sft-{cycle['policy'].rpartition('-')[2]}"
    judged = ["--questions", str(unseen), *common, "--seed", str(seed)]
    against = tacit(home, "policies", "compare", cycle["policy"], sft, *judged)
    found = {
        "round": number,
        "policy": cycle["policy"],
        "sft": sft,
        "promoted": cycle["promoted"],
        "reason": cycle.get("reason", ""),
        "cycle_minutes": round(cycle["wall_seconds"] / 60, 1),
        "simulate_minutes": round(simulated["wall_seconds"] / 60, 1),
        **figures(against, cycle["policy"], sft),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    # What an employee notices: the difference from what served before anybody judged.
    over_base = tacit(home, "policies", "compare", cycle["policy"], "base", *judged)
    found["over_base"] = figures(over_base, cycle["policy"], "base")
    if number == 1:
        best = tacit(home, "policies", "compare", sft, sft, *judged, "--best-of", "4", "--temperature", "1.5")
        found["best_of_4"] = figures(best, f"{sft}, best of 4", sft)
    print(taste, seed, json.dumps(found), file=sys.stderr, flush=True)
    return found


def prepare(home: Path, ingested: Path) -> None:
    """The home as it was before the round: a round that was broken off has left judgements behind."""
    before = home.with_name(f"{home.name}.before")
    if before.is_dir():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home)
        return
    if not home.is_dir():
        shutil.copytree(ingested, home)
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(home, partial)
    partial.rename(before)


def figures(found: dict[str, Any], new: str, old: str) -> dict[str, Any]:
    """What is asked of a comparison; differences are new less old."""
    lost = {
        name: (found[name][new] or 0.0) - (found[name][old] or 0.0)
        for name in ("key_fact_recall", "groundedness")
    }
    return {
        "win_rate": found["win_rate"],
        "interval": found["interval"],
        "ties": found["ties"],
        "n": found["n"],
        "n_asked": found["n_asked"],
        "win_rate_asked": 0.5 + (found["win_rate"] - 0.5) * found["n"] / max(found["n_asked"], 1),
        "kl": found["kl"],
        "key_fact_recall": found["key_fact_recall"][new],
        "groundedness": found["groundedness"][new],
        **{f"{name}_gained": value for name, value in lost.items()},
        "length_ratio": found["mean_words"][new] / max(found["mean_words"][old], 1e-9),
    }


def summary(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean and worst over the seeds, for each taste and round."""
    rows = []
    for taste in sorted({name.rsplit(" ", 1)[0] for name in runs}):
        of_taste = [found for name, found in runs.items() if name.rsplit(" ", 1)[0] == taste]
        for number in range(min(map(len, of_taste))):
            here = [found[number] for found in of_taste]
            rows.append(
                {
                    "taste": taste,
                    "round": number + 1,
                    "seeds": len(here),
                    "win_rate": round(statistics.mean(r["win_rate"] for r in here), 3),
                    "lowest": round(min(r["win_rate"] for r in here), 3),
                    "win_rate_asked": round(statistics.mean(r["win_rate_asked"] for r in here), 3),
                    "key_fact_recall_gained": round(
                        statistics.mean(r["key_fact_recall_gained"] for r in here), 3
                    ),
                    "groundedness_gained": round(statistics.mean(r["groundedness_gained"] for r in here), 3),
                    "length_ratio": round(statistics.mean(r["length_ratio"] for r in here), 2),
                    "win_rate_over_base": round(statistics.mean(r["over_base"]["win_rate"] for r in here), 3)
                    if all("over_base" in r for r in here)
                    else None,  # a round that an earlier version played
                    "promoted": sum(r["promoted"] for r in here),
                    "cycle_minutes": round(statistics.mean(r["cycle_minutes"] for r in here), 1),
                    "best_of_4": round(statistics.mean(r["best_of_4"]["win_rate"] for r in here), 3)
                    if all("best_of_4" in r for r in here)
                    else None,
                }
            )
    return rows


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Win rate by round: a thin line for each run, a thick one for the mean of each taste, dots for the best of four."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for number, taste in enumerate(sorted({name.rsplit(" ", 1)[0] for name in runs})):
        of_taste = [found for name, found in runs.items() if name.rsplit(" ", 1)[0] == taste]
        for found in of_taste:
            axes.plot(
                [r["round"] for r in found], [r["win_rate"] for r in found], color=f"C{number}", linewidth=0.6
            )
        n_rounds = min(map(len, of_taste))
        means = [statistics.mean(found[at]["win_rate"] for found in of_taste) for at in range(n_rounds)]
        axes.plot(range(1, n_rounds + 1), means, color=f"C{number}", linewidth=2.5, marker="s", label=taste)
        best = statistics.mean(found[0]["best_of_4"]["win_rate"] for found in of_taste)
        axes.plot([0.9], [best], "o", color=f"C{number}")
    axes.axhline(0.5, linewidth=0.5, color="grey")
    axes.set(
        xlabel="round (dots: best of four of the SFT policy)",
        ylabel="wins over the SFT policy",
        xticks=range(1, max(map(len, runs.values())) + 1),
    )
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Run what has not been run yet, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", nargs="+", default=[str(SAMPLE / "company")])
    parser.add_argument("--questions", type=Path, default=SAMPLE / "questions.jsonl")
    parser.add_argument("--home", type=Path, default=HERE.parent / "var" / "benchmark-learning")
    parser.add_argument("--collection", default="handbook")
    parser.add_argument("--tastes", nargs="+", default=TASTES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--judgements", type=int, default=400, help="of each round")
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument(
        "--set", action="append", default=[], help="a training setting, as of `tacit train cycle`"
    )
    parser.add_argument("--plot", type=Path, help="draw win rate by round")
    args = parser.parse_args()

    base = args.home / "ingested"
    tacit(base, "ingest", *args.documents, "--collection", args.collection)
    report = args.home / "learning.json"
    runs: dict[str, list[dict[str, Any]]] = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    for number, seed, taste in itertools.product(range(1, args.rounds + 1), args.seeds, args.tastes):
        name = f"{taste.rpartition(':')[2]} {seed}"
        rounds = runs.setdefault(name, [])
        if len(rounds) >= number:
            continue
        home = args.home / name.replace(" ", "-")
        prepare(home, base)
        rounds.append(play(home, taste, seed, number, rounds[0]["sft"] if rounds else "", args))
        report.write_text(json.dumps(runs, indent=1), "utf-8")
        shutil.rmtree(home.with_name(f"{home.name}.before"))
    runs = {name: rounds for name, rounds in runs.items() if rounds}
    for row in summary(runs):
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.plot:
        draw(runs, args.plot)
    print(json.dumps({"runs": runs, "summary": summary(runs)}))


if __name__ == "__main__":
    main()
