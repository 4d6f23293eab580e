"""The whole loop on one handbook, from simulated feedback, in one run: does the policy get better on questions nobody trained on?

    python benchmarks/loop.py [--documents DIR...] [--questions FILE.jsonl] [--home DIR] [--turns 300] [--noise 0.1] [--seed 0]

Without arguments it runs on the sample company.

Steps: ingest; split the questions in two by a hash; simulate employees on one half; a cycle; compare the new policy with its SFT policy,
judged by the same preference function, on the other half and on the questions that the cycle held out (mostly derived from headings); then
more employees, and the worker starts a second cycle by itself because enough judgements wait. Prints one JSON object, kept after each step
in the home's `benchmark/report.json`; every step is a `tacit` command that is echoed first. Steps that an earlier run finished in the same
home are not repeated where the command itself is idempotent.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "ui" / "sample_company"
TACIT = [sys.executable, "-m", "ui"]


def tacit(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command and return its JSON object, with the seconds it took."""
    print("$ tacit", *arguments, file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [*TACIT, *arguments, "--home", str(home), "--json"],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"tacit {arguments[0]} failed with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["wall_seconds"] = round(time.monotonic() - started, 1)
    return result


def split(questions: Path, folder: Path, seed: int) -> tuple[Path, Path]:
    """Two halves by a hash of the id: the first is asked by simulated employees, nothing is learned from the second."""
    folder.mkdir(parents=True, exist_ok=True)
    halves: tuple[list[str], list[str]] = ([], [])
    for line in questions.read_text("utf-8").splitlines():
        if line.strip():
            key = f"{seed}:{json.loads(line)['id']}"
            halves[hashlib.sha256(key.encode()).digest()[0] % 2].append(line)
    paths = (folder / "asked.jsonl", folder / "unseen.jsonl")
    for path, lines in zip(paths, halves, strict=True):
        path.write_text("\n".join(lines) + "\n", "utf-8")
    return paths


def compare(home: Path, new: str, old: str, unseen: Path | None, args: argparse.Namespace) -> dict[str, Any]:
    """New against old by the employees' own taste: on the unseen questions, or on those that the cycle held out."""
    questions = ["--questions", str(unseen)] if unseen else []
    return tacit(
        home, "policies", "compare", new, old,
        *questions, "--preferences", args.preferences, "--collection", args.collection,
        "--samples", str(args.samples), "--temperature", str(args.temperature if args.samples > 1 else 0), "--seed", str(args.seed),
    )  # fmt: skip


def simulate(home: Path, asked: Path, args: argparse.Namespace, turns: int, seed: int) -> dict[str, Any]:
    """Employees judge what serves now."""
    return tacit(
        home, "simulate", str(asked), "--preferences", args.preferences, "--turns", str(turns),
        "--noise", str(args.noise), "--collection", args.collection, "--seed", str(seed),
    )  # fmt: skip


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", nargs="+", default=[str(SAMPLE / "company")])
    parser.add_argument("--questions", type=Path, default=SAMPLE / "questions.jsonl")
    parser.add_argument("--home", type=Path, default=HERE.parent / "var" / "benchmark-loop")
    parser.add_argument("--collection", default="handbook")
    parser.add_argument(
        "--preferences", default=f"{HERE / 'preferences' / 'short_cited_direct.py'}:short_cited_direct"
    )
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument(
        "--more-turns",
        type=int,
        default=60,
        help="turns before the second cycle, which the worker starts once three quarters of them are stored; 0 skips it",
    )
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--settings", type=Path, help="copied to the home's settings.toml first, for both cycles"
    )
    args = parser.parse_args()

    if args.settings:
        args.home.mkdir(parents=True, exist_ok=True)
        shutil.copy(args.settings, args.home / "settings.toml")
    asked, unseen = split(args.questions, args.home / "benchmark", args.seed)
    report = Report(args.home / "benchmark" / "report.json")
    report.add("ingest", tacit(args.home, "ingest", *args.documents, "--collection", args.collection))
    report.add("simulate", simulate(args.home, asked, args, args.turns, args.seed))
    first = report.add("cycle", tacit(args.home, "train", "cycle"))
    sft = first["policy"].replace("ppo-", "sft-")
    other_half = report.add("compare_with_sft", compare(args.home, first["policy"], sft, unseen, args))
    held_out = report.add(
        "compare_with_sft_on_held_out", compare(args.home, first["policy"], sft, None, args)
    )
    report.add("compare_with_sft_on_all_unseen", pool(other_half, held_out))
    report.add("compare_with_base", compare(args.home, first["policy"], "base", unseen, args))
    if args.more_turns:
        report.add("second", second_cycle(args, asked))
    print(json.dumps(report.parts, indent=1))


def pool(*comparisons: dict[str, Any]) -> dict[str, Any]:
    """One win rate over the questions of several comparisons, which share none: variances of means add, weighted by questions."""
    n = sum(found["n"] for found in comparisons)
    rate = sum(found["n"] * found["win_rate"] for found in comparisons) / n
    spread = [found["n"] * (found["interval"][1] - found["interval"][0]) / 2 for found in comparisons]
    half = sum(part**2 for part in spread) ** 0.5 / n
    return {"win_rate": rate, "interval": [rate - half, rate + half], "n": n}


class Report:
    """What was found so far, on disk after every step: a run that is cut off has not run for nothing."""

    def __init__(self, path: Path) -> None:
        """Start with nothing."""
        self.path = path
        self.parts: dict[str, dict[str, Any]] = {}

    def add(self, step: str, result: dict[str, Any]) -> dict[str, Any]:
        """Keep a step's result and return it."""
        self.parts[step] = result
        self.path.write_text(json.dumps(self.parts, indent=1), "utf-8")
        return result


def second_cycle(args: argparse.Namespace, asked: Path) -> dict[str, Any]:
    """Enough new judgements arrive, and the worker starts the cycle by itself.

    A turn whose two answers are alike, or whose answer the same employee has judged before, stores nothing new: fewer are waited for.
    """
    before = tacit(args.home, "policies", "list")["serving"]
    tacit(args.home, "schedule", "set", "--min-feedback", str(max(1, args.more_turns * 3 // 4)))
    simulated = simulate(args.home, asked, args, args.more_turns, args.seed + 1)
    worker = tacit(args.home, "worker", "--once")
    run = tacit(args.home, "runs", "list")["runs"][0]
    after = tacit(args.home, "policies", "list")["serving"]
    answer = tacit(args.home, "ask", "Who can help me with my laptop?", "--collection", args.collection)
    tacit(args.home, "schedule", "set", "--min-feedback", "0")
    return {
        "simulate": simulated,
        "worker": worker,
        "run": {key: run[key] for key in ("id", "state", "policy_id", "promoted", "reason")},
        "serving": {"before": before, "after": after, "next_answer_by": answer["policy"]},
    }


if __name__ == "__main__":
    main()
