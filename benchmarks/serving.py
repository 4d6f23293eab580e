"""How long an employee waits, and how much memory the server takes: `tacit serve` as a process of its own, asked over HTTP.

    python benchmarks/serving.py QUESTIONS.jsonl --collection NAME --home DIR [--at-once 1] [--limit N] [--port 7899]

Asks every question of the file by streaming from `/v1/chat/completions`, so many at once, and prints the seconds to the first word and to the
last (median and 95th percentile; refusals are answers too), answers a second, and the server's resident memory with everything loaded, its worker
included: when it is ready, at its largest, and at the end. The first three questions warm up and are left out. The home gets an account
`benchmark` and answers of that person; nothing else changes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from alignment.answer_metrics import percentile
from knowledge_base.questions import load_questions
from ui.logging import configure_logging
from ui.wiring import open_services

WARM_UP = 3
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Waited:
    """Seconds."""

    first: float
    last: float


@contextmanager
def server(home: Path, port: int) -> Iterator[psutil.Process]:
    """`tacit serve` with its worker, ready to answer; stopped at the end."""
    command = [sys.executable, "-m", "ui", "serve", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/readyz")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(
                f"tacit serve ended with exit code {process.returncode}: is the port taken, or the home missing?"
            )
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise SystemExit(f"tacit serve was not ready after {PATIENCE_SECONDS:.0f} seconds")


def key_for(home: Path) -> str:
    """A bearer key of the account that asks."""
    with open_services(home) as services:
        return services.api_keys.create(services.accounts.ensure("benchmark").id, "benchmarks/serving.py")[1]


def ask(client: httpx.Client, question: str, collection: str) -> Waited:
    """Ask, and read the stream to its end."""
    body = {
        "model": "tacit",
        "stream": True,
        "collections": [collection],
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
    }
    started, first = time.perf_counter(), None
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.is_error:
            raise SystemExit(f"the server answered {response.status_code}: {response.read().decode()[:300]}")
        for line in response.iter_lines():
            if first is None and _has_text(line):
                first = time.perf_counter() - started
    last = time.perf_counter() - started
    return Waited(first if first is not None else last, last)


def _has_text(line: str) -> bool:
    data = line.removeprefix("data: ")
    if not data.startswith("{"):
        return False
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise SystemExit(f"the server could not answer: {event['error']['message']}")
    return any(choice["delta"].get("content") for choice in event["choices"])


def resident(process: psutil.Process) -> float:
    """Resident memory of a process and its children, in MB; pages that they share count for each."""
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_info().rss for member in family)) / 1e6


def measure(args: argparse.Namespace, questions: Sequence[str]) -> dict[str, Any]:
    """All figures."""
    headers = {"Authorization": f"Bearer {key_for(args.home)}"}
    with (
        server(args.home, args.port) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{args.port}", headers=headers, timeout=300) as client,
    ):
        memory = [resident(process)]
        for question in questions[:WARM_UP]:
            ask(client, question, args.collection)
        started = time.perf_counter()
        with ThreadPoolExecutor(args.at_once) as pool:
            waited = []
            for found in pool.map(lambda q: ask(client, q, args.collection), questions[WARM_UP:]):
                waited.append(found)
                memory.append(resident(process))
        seconds = time.perf_counter() - started
    return {
        "n": len(waited),
        "at_once": args.at_once,
        "first_word": {f"p{p}": round(percentile([w.first for w in waited], p / 100), 3) for p in (50, 95)},
        "last_word": {f"p{p}": round(percentile([w.last for w in waited], p / 100), 3) for p in (50, 95)},
        "answers_per_second": round(len(waited) / seconds, 2),
        "resident_mb": {
            "ready": round(memory[0]),
            "largest": round(max(memory)),
            "end": round(memory[-1]),
        },
    }


def main() -> None:
    """Print the figures and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--port", type=int, default=7899)
    args = parser.parse_args()
    configure_logging()
    questions = [q.question for q in load_questions(args.questions)][: args.limit]
    if len(questions) <= WARM_UP:
        raise SystemExit(f"{args.questions} has too few questions: {WARM_UP} of them only warm up")
    result = measure(args, questions)
    for name, label in (("first_word", "first word"), ("last_word", "last word")):
        print(f"{label:<12} median {result[name]['p50']:.2f} s   p95 {result[name]['p95']:.2f} s")
    print(f"{result['answers_per_second']} answers a second with {args.at_once} at once")
    print("resident memory " + ", ".join(f"{name} {mb} MB" for name, mb in result["resident_mb"].items()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
