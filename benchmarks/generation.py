"""How fast the embedded model writes: Tacit's engine beside plain `transformers`, the same weights and prompts in one run.

    python benchmarks/generation.py [--model FOLDER] [--prompt-tokens 800] [--new-tokens 64] [--threads 2] [--repeats 3]

Prints tokens a second at batch 1 and 8, the time to the first token, and what eight chats at once get against one after another; each the median
of the repeats, engines taking turns. Greedy, float32, no end token, so that all write equally much; whether all wrote the same tokens is printed
too, and the largest difference of their logits over a text that is read at once. Prompts are random tokens: speed does not depend on what is read.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from chatbot.llama_forward import LlamaForward
from chatbot.model_loading import LoadedModel, load_model
from chatbot.records import Sampling
from chatbot.settings import LocalGeneratorSettings
from chatbot.shared_steps import SharedSteps
from chatbot.turn_taking import TurnTaking
from chatbot.writing import Engine, Writing
from ui.logging import configure_logging

MODEL = Path(__file__).resolve().parent.parent / "chatbot" / "base_model"
CHATS = 8


class Endless(Writing):
    """Writes on whatever it says, as `transformers` is told to below."""

    def _is_over(self, row: int) -> bool:
        return len(self._ids[row]) >= self._room[row]


def make_prompts(loaded: LoadedModel, n: int, length: int) -> list[list[int]]:
    """Random token ids."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(10, len(loaded.tokenizer), (n, length), generator=draw).tolist()


def plain(loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int) -> tuple[float, list[list[int]]]:
    """`transformers`' own generate; seconds and what it wrote."""
    ids = torch.tensor(list(prompts))
    started = time.perf_counter()
    with torch.inference_mode():
        out = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False, eos_token_id=None, pad_token_id=loaded.pad_id,
        )  # fmt: skip
    return time.perf_counter() - started, out[:, ids.shape[1] :].tolist()


def with_engine(
    engine: Engine, loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int
) -> tuple[float, list[list[int]]]:
    """An engine, all prompts in one call."""
    started = time.perf_counter()
    writing = Endless(loaded, prompts, Sampling(max_new_tokens=n_new), 0)
    while engine.step(writing):
        pass
    engine.leave(writing)
    return time.perf_counter() - started, [list(c.token_ids) for c in writing.completions()]


def chats(
    engine: Engine, loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int, at_once: int
) -> float:
    """Seconds until every chat has its answer, so many of them at once."""
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda prompt: with_engine(engine, loaded, [prompt], n_new), prompts))
    return time.perf_counter() - started


def largest_difference(loaded: LoadedModel, prompt: list[int]) -> float:
    """Of the logits after a prompt read at once and after one read token by token, and `transformers`' own."""
    forward = LlamaForward(loaded.model)
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        theirs = loaded.model(ids).logits[:, -1]
        whole, _ = forward.read(ids, torch.ones_like(ids), 0)
        logits, cache = forward.read(ids[:, :1], torch.ones(1, 1, dtype=torch.long), len(prompt))
        for token in prompt[1:]:
            logits = forward.advance(torch.tensor([token]), cache)
    return max(float((theirs - found).abs().max()) for found in (whole, logits))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    loaded = load_model(str(args.model), LocalGeneratorSettings(dtype="float32", device="cpu"))
    loaded = replace(loaded, end_ids=frozenset())
    loaded.model.generation_config.eos_token_id = None
    prompts = make_prompts(loaded, CHATS, args.prompt_tokens)
    shared, turns = SharedSteps(loaded), TurnTaking(loaded)
    ways: dict[str, Callable[[Sequence[list[int]], int], tuple[float, list[list[int]]]]] = {
        "transformers generate": lambda p, n: plain(loaded, p, n),
        "turn taking": lambda p, n: with_engine(turns, loaded, p, n),
        "shared steps": lambda p, n: with_engine(shared, loaded, p, n),
    }
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"first": [], "batch 1": [], "batch 8": []} for name in ways
    }
    written: dict[str, list[list[int]]] = {}
    together: dict[str, list[float]] = {"one after another": [], "at once": []}
    for _ in range(args.repeats + 1):  # the first round warms up and is left out
        for name, way in ways.items():
            first, _ = way(prompts[:1], 1)
            one, _ = way(prompts[:1], args.new_tokens)
            eight, written[name] = way(prompts, args.new_tokens)
            eight_first, _ = way(prompts, 1)
            seconds[name]["first"].append(first)
            seconds[name]["batch 1"].append(one - first)
            seconds[name]["batch 8"].append(eight - eight_first)
        together["one after another"].append(chats(shared, loaded, prompts, args.new_tokens, 1))
        together["at once"].append(chats(shared, loaded, prompts, args.new_tokens, CHATS))
    n_more = args.new_tokens - 1
    rows = [
        {
            "engine": name,
            "first_token_ms": round(1000 * statistics.median(found["first"][1:])),
            "tokens_per_second_batch_1": round(n_more / statistics.median(found["batch 1"][1:]), 1),
            "tokens_per_second_batch_8": round(CHATS * n_more / statistics.median(found["batch 8"][1:]), 1),
        }
        for name, found in seconds.items()
    ]
    return {
        "rows": rows,
        "same_tokens": all(found == written["transformers generate"] for found in written.values()),
        "largest_logit_difference": largest_difference(loaded, prompts[0][:200]),
        "eight_chats": {name: round(statistics.median(found[1:]), 2) for name, found in together.items()},
        "threads": torch.get_num_threads(),
        "python_threads": threading.active_count(),
    }


def main() -> None:
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--prompt-tokens", type=int, default=800)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    configure_logging()
    torch.set_num_threads(args.threads)
    result = measure(args)
    base = result["rows"][0]
    for row in result["rows"]:
        print(
            f"{row['engine']:<24} first token {row['first_token_ms']:>5} ms   "
            f"batch 1 {row['tokens_per_second_batch_1']:>7} tokens/s ({row['tokens_per_second_batch_1'] / base['tokens_per_second_batch_1']:.1f} x)   "
            f"batch 8 {row['tokens_per_second_batch_8']:>7} ({row['tokens_per_second_batch_8'] / base['tokens_per_second_batch_8']:.1f} x)"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
