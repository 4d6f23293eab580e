"""One page of what simulated employees have shown: win rate by round, the reliability found of each rater, true reward against KL.

    python benchmarks/report.py --out FOLDER [--learning HOME/learning.json] [--raters RATERS.json] [--over OVER.json]

Reads what the three programs have written (`learning.py` its `learning.json`; of `raters.py` and `over_optimisation.py` what they print, kept in a file), draws the plots into
FOLDER and writes `report.md` beside them. Runs nothing: a figure that is missing here has not been measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import learning, over_optimisation, raters  # noqa: E402 -- programs beside this one


def last_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file is, or that its last line is.

    Raises:
        SystemExit: it holds neither.
    """
    text = path.read_text("utf-8").strip()
    for candidate in (text, text.rpartition("\n")[2]):
        try:
            found = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    raise SystemExit(f"{path} holds no JSON object: give what the program has printed")


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table of rows with the same keys."""
    if not rows:
        return []
    keys = list(rows[0])
    body = [
        [f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in keys] for row in rows
    ]
    return ["| " + " | ".join(cells) + " |" for cells in (keys, ["---"] * len(keys), *body)]


def of_learning(found: dict[str, Any], out: Path) -> list[str]:
    """Does it learn, round after round?"""
    runs = {name: rounds for name, rounds in found.items() if rounds}
    learning.draw(runs, out / "learning.svg")
    return [
        "## Win rate by round",
        "",
        "Over the SFT policy of the first round, by the employees' own taste, on questions that nobody was asked; thin lines are seeds.",
        "",
        "![win rate by round](learning.svg)",
        "",
        *table(learning.summary(runs)),
    ]


def of_raters(found: dict[str, Any], out: Path) -> list[str]:
    """Are those found who do not look, or mean harm?"""
    raters.draw(found["reliabilities"], out / "raters.svg")
    accuracy = [
        {"learned from": name, "pairs decided right": value} for name, value in found["pair_accuracy"].items()
    ]
    policies = [
        {
            "learned from": name,
            "win rate": row["win_rate"],
            "95%": "{:.2f} to {:.2f}".format(*row["interval"]),
            "n": row["n"],
        }
        for name, row in found.get("policies", {}).items()
    ]
    return [
        "## Raters",
        "",
        f"AUC of the reliability found, careful people against the others: {found['auc']:.3f}, after {found['judgements_each']:.0f} judgements each.",
        "",
        "![reliability found, by kind of person](raters.svg)",
        "",
        *table(accuracy),
        *(["", *table(policies)] if policies else []),
    ]


def of_over_optimisation(found: dict[str, Any], out: Path) -> list[str]:
    """How far can a learned reward be followed?"""
    over_optimisation.draw(found["runs"], found["kl_budget"], out / "over_optimisation.svg")
    rows = [
        {"reward": name, **over_optimisation.best_and_last(steps, found["kl_budget"])}
        for name, steps in found["runs"].items()
    ]
    return [
        "## True reward against KL",
        "",
        f"PPO with nothing that holds it back; the gates stop at {found['kl_budget']:g} nats an answer.",
        "",
        "![true and learned reward against KL](over_optimisation.svg)",
        "",
        *table(rows),
    ]


def main() -> None:
    """Write the page of what is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--learning", type=Path)
    parser.add_argument("--raters", type=Path)
    parser.add_argument("--over", type=Path)
    args = parser.parse_args()
    given = [
        (args.learning, of_learning), (args.raters, of_raters), (args.over, of_over_optimisation),
    ]  # fmt: skip
    if not any(path for path, _ in given):
        raise SystemExit("nothing to report: give --learning, --raters or --over")
    args.out.mkdir(parents=True, exist_ok=True)
    lines = ["# What simulated employees have shown"]
    for path, part in given:
        if path is not None:
            lines += ["", *part(last_json(path), args.out)]
    page = args.out / "report.md"
    page.write_text("\n".join(lines) + "\n", "utf-8")
    print(page)


if __name__ == "__main__":
    main()
