"""Puts the evidence into a question file that only says where it stands, so that no text of a handbook lies in this repository.

    python tools/fill_in_evidence.py benchmarks/questions/clef.jsonl HANDBOOK_FOLDER > questions.jsonl

The result is what `tacit evaluate` and `benchmarks/answers.py` read. Clef's handbook is github.com/clef/handbook at commit
a9a576eb7362d76a5435de69b83bdb650bd86e90. Its 130 questions are for development: settings and models may be chosen by them, and figures on
them are no evidence of quality.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def fill_in(line: str, handbook: Path) -> str:
    """One question with its evidence as text; `evidence` is `[start, end]` in the document, or null without an answer."""
    row = json.loads(line)
    place = row["evidence"]
    row["evidence"] = ""
    if place:
        path = handbook / row["document"]
        if not path.is_file():
            raise SystemExit(f"{path} is not there: give the folder of the handbook's Markdown files")
        row["evidence"] = path.read_text("utf-8")[slice(*place)]
    return json.dumps(row, ensure_ascii=False)


def main() -> None:
    """Print the questions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("handbook", type=Path)
    args = parser.parse_args()
    for line in args.questions.read_text("utf-8").splitlines():
        print(fill_in(line, args.handbook))


if __name__ == "__main__":
    main()
