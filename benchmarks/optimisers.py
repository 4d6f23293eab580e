"""The optimisers side by side on the judgements of one home: what each makes of the same SFT policy and the same reward.

    python benchmarks/optimisers.py --home HOME --questions UNSEEN.jsonl --preferences FILE.py:FUNCTION --collection NAME [--optimisers ppo best_of_n ppo_best_of_n trl_rloo] [--run ID]

HOME holds a finished cycle by `ppo` (`tacit simulate`, `tacit train cycle`) of employees with that taste; `--run` names it, else the newest is taken. For each other optimiser a run is
made that takes over the snapshot, the SFT policy, the reward model, the judge and the order of evidence, trains, and passes or fails the gates; nothing is promoted. Then each policy is
compared with the SFT policy by the true taste on questions that nobody was asked, both as they would be served.

Prints a table and a JSON object. What is done is kept in the home's `optimisers.json` and not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout without installing

from alignment.records import Run
from benchmarks.learning import figures
from benchmarks.loop import tacit
from ui.logging import configure_logging
from ui.wiring import open_services

SHARED = ("snapshot", "sft", "reward", "judge", "taste")
"""Stages that do not depend on the optimiser."""

VERDICTS = {True: "passed", False: "rejected", None: "not gated"}


def policy_of(home: Path, optimiser: str, first: Run, settings: list[str], *, gated: bool) -> dict[str, Any]:
    """The policy that an optimiser makes of a run's stages, and what its gates say."""
    with open_services(home) as services:
        overrides = [*settings, f"cycle.optimiser={optimiser}", "cycle.promote=false"]
        run = services.runs.create("cycle" if gated else "ppo", {"overrides": overrides})
        # What PPO has learned is the same, whether or not the best of several completions is served afterwards.
        taken = [*SHARED, "ppo"] if optimiser == "ppo_best_of_n" else SHARED
        for stage in taken:
            if (first.directory / stage).is_dir():
                shutil.copytree(first.directory / stage, run.directory / stage)
        started = time.monotonic()
        result = services.resume_run(run.id)
        return {
            "policy": result.policy_id,
            "passed": all(gate.passed for gate in result.gates) if gated else None,
            "reason": result.reason,
            "seconds": round(time.monotonic() - started),
        }


def newest(home: Path, run_id: str | None) -> Run:
    """The finished cycle that is taken over."""
    with open_services(home) as services:
        done = [
            run
            for run in services.runs.list(100)
            if run.state == "done"
            and (run.policy_id or "").startswith("ppo-")
            and "best_of_n" not in run.metrics
        ]
        if run_id:
            done = [run for run in done if run.id == run_id]
    if not done:
        raise SystemExit(
            f"{home} holds no finished cycle by PPO: run `tacit simulate` and `tacit train cycle` first"
        )
    return max(done, key=lambda run: run.created_at)


def main() -> None:
    """Run what has not been run yet, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--preferences", required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--optimisers", nargs="+", default=["ppo", "best_of_n", "ppo_best_of_n", "trl_rloo"])
    parser.add_argument("--run", help="the finished cycle")
    parser.add_argument(
        "--no-gates", dest="gates", action="store_false", help="win rates only; gates are slower"
    )
    parser.add_argument("--set", action="append", default=[], help="a training setting")
    args = parser.parse_args()
    configure_logging()

    first = newest(args.home, args.run)
    report = args.home / "optimisers.json"
    rows: dict[str, Any] = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    sft = f"sft-{first.id[:8]}"
    for optimiser in args.optimisers:
        if optimiser in rows:
            continue
        if optimiser == "ppo":
            seconds = round(float(first.metrics["ppo"]["seconds"]))
            made = {
                "policy": first.policy_id,
                "passed": all(gate["passed"] for gate in first.gates) if first.gates else None,
                "reason": first.reason,
                "seconds": seconds,
            }
        else:
            made = policy_of(args.home, optimiser, first, args.set, gated=args.gates)
        found = tacit(
            args.home, "policies", "compare", str(made["policy"]), sft, "--questions", str(args.questions),
            "--preferences", args.preferences, "--collection", args.collection,
        )  # fmt: skip
        rows[optimiser] = made | figures(found, str(made["policy"]), sft)
        report.write_text(json.dumps(rows, indent=1), "utf-8")
    for optimiser, row in rows.items():
        print(
            f"{optimiser:<14} win rate {row['win_rate']:.3f} [{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]  asked {row['win_rate_asked']:.3f}"
            f"  key facts {row['key_fact_recall_gained']:+.3f}  grounded {row['groundedness_gained']:+.3f}  length {row['length_ratio']:.2f}"
            f"  KL {row['kl']:.2f}  {VERDICTS[row['passed']]}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
