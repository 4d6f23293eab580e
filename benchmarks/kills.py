"""Kills a training cycle with SIGKILL at random moments, resumes it, and compares what comes out with a cycle that nobody disturbed.

    python benchmarks/kills.py [--kills 30] [--each 5] [--seed 0]

A small home of real parts (`tests/tiny_home.py`: four documents, a random Llama, 20 judgements) is copied for each cycle. A killed cycle is taken up by `tacit runs resume`,
which is killed again, `--each` times, and then left to finish. Compared byte for byte: the weights that every stage left, the metrics of every stage, the gates' verdicts, and PPO's metrics of each step, all without the seconds.
Prints where each kill hit, and a JSON object; ends with code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a checkout without installing

from tests.tiny_home import TINY_CYCLE, make_tiny_home  # noqa: E402 -- a program beside the packages

LONGER = (
    "sft.max_steps=24",
    "sft.save_steps=3",
    "reward.max_steps=24",
    "ppo.steps=20",
    "ppo.save_every=2",
)
"""So that a stage takes a while, and SFT several passes over its rows."""
STAGES = ("starting", "snapshot", "sft", "reward", "ppo", "gates")
LONGEST_WAIT = 3.0
"""Seconds after a stage has begun; a resumed cycle spends most of that on getting ready, which is a moment like any other."""


def start(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A `tacit` process."""
    with (home / "process.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ui", *arguments, "--home", str(home)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log
        )  # fmt: skip


def train(home: Path) -> subprocess.Popen[bytes]:
    """The first attempt at a cycle."""
    overrides = [part for text in (*TINY_CYCLE, *LONGER) for part in ("--set", text)]
    return start(home, "train", "cycle", *overrides)


def newest_run(home: Path) -> tuple[str, str, str] | None:
    """Id, state and stage of the newest run; None before there is one."""
    with closing(sqlite3.connect(f"file:{home / 'tacit.db'}?mode=ro", uri=True, timeout=30)) as connection:
        row = connection.execute(
            "SELECT id, state, progress FROM runs ORDER BY created_at DESC LIMIT 1"
        ).fetchone()
    if row is None:
        return None
    stage = str(json.loads(row[2] or "{}").get("stage", "starting"))
    # PPO tells of itself by the name of its advantages.
    return row[0], row[1], "ppo" if stage == "rloo" else stage


def fingerprint(home: Path) -> dict[str, str]:
    """Hashes of the weights of each stage and of PPO's metrics, by their place in the run's folder, and of the stages' metrics by their names."""
    found = newest_run(home)
    if found is None or found[1] != "done":
        raise SystemExit(f"the cycle in {home} did not finish: {found}")
    folder = home / "runs" / found[0]
    hashes = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }
    rows = [
        json.loads(line) for line in (folder / "ppo_work" / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    hashes["ppo_work/metrics.jsonl"] = digest(rows)
    with closing(sqlite3.connect(f"file:{home / 'tacit.db'}?mode=ro", uri=True, timeout=30)) as connection:
        metrics, gates = connection.execute(
            "SELECT metrics, gates FROM runs WHERE id = ?", (found[0],)
        ).fetchone()
    hashes |= {
        f"metrics of {stage}": digest(value)
        for stage, value in json.loads(metrics).items()
        if stage != "seconds"
    }
    return hashes | {"gates": digest(json.loads(gates))}


def digest(value: Any) -> str:
    """Of JSON, without what is measured in seconds."""
    return hashlib.sha256(json.dumps(without_seconds(value), sort_keys=True).encode()).hexdigest()


def without_seconds(value: Any) -> Any:
    """The same value, but for times: no two runs take equally long."""
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if "second" not in name}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def disturbed(home: Path, n: int, rng: random.Random) -> list[str]:
    """Kill a cycle n times, each time a random while after it has reached a random stage, and let it finish; the stages that were hit."""
    hit: list[str] = []
    process = train(home)
    for target in sorted(rng.choices(STAGES, k=n), key=STAGES.index):
        stage = wait_for(home, target, process, rng)
        if process.poll() is not None:
            break  # it was faster than the dice
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        hit.append(stage)
        found = newest_run(home)
        if found and found[1] == "done":
            return hit  # killed after its last deed
        process = start(home, "runs", "resume", found[0]) if found else train(home)
    if process.wait() != 0:
        last = (home / "process.log").read_text("utf-8")[-2000:]
        raise SystemExit(f"the cycle failed after kills in {hit}, {newest_run(home)}:\n{last}")
    return hit


def wait_for(home: Path, target: str, process: subprocess.Popen[bytes], rng: random.Random) -> str:
    """Until the cycle has reached a stage, or ends, and a random while longer; the stage it is in then."""
    while process.poll() is None:
        found = newest_run(home)
        if found and found[2] in STAGES and STAGES.index(found[2]) >= STAGES.index(target):
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, LONGEST_WAIT))
    found = newest_run(home)
    return found[2] if found else "starting"


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--each", type=int, default=5, help="kills of one cycle")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # on a GPU the same sums in the same order
    hit: Counter[str] = Counter()
    differing: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redirect_stdout(sys.stderr):
            original = make_tiny_home(folder) / "home"
        calm = folder / "calm"
        shutil.copytree(original, calm)
        if train(calm).wait() != 0:
            raise SystemExit("the undisturbed cycle failed")
        expected = fingerprint(calm)
        cycle = 0
        while hit.total() < args.kills:
            home = folder / f"cycle-{cycle}"
            shutil.copytree(original, home)
            stages = disturbed(home, min(args.each, args.kills - hit.total()), rng)
            hit.update(stages)
            found = fingerprint(home)
            wrong = sorted(
                key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)
            )
            print(
                f"cycle {cycle}: killed in {', '.join(stages)}; {'identical' if not wrong else f'DIFFERENT: {wrong}'}",
                flush=True,
            )
            if wrong:
                differing.append({"cycle": cycle, "stages": stages, "different": wrong})
            shutil.rmtree(home)
            cycle += 1
    result = {
        "kills": hit.total(),
        "cycles": cycle,
        "by_stage": dict(hit),
        "compared": sorted(expected),
        "different": differing,
    }
    print(json.dumps(result))
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
