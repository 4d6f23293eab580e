"""How fast the embedded model writes: Tacit's engine beside plain `transformers`, the same weights and prompts in one run.

    python benchmarks/generation.py [--model FOLDER] [--prompt-tokens 800] [--new-tokens 64] [--threads 2] [--repeats 3]

Prints tokens a second at batch 1 and 8, the time to the first token, and what eight chats at once get against one after another; each over eight
questions of the sample company with as many sentences of its documents as fit the prompt's length, the median of the repeats, engines taking
turns. Greedy, float32; an answer is over where the model ends it, for every engine alike, and the tokens of an answer are what counts. Whether all
wrote the same tokens is printed too, the largest difference of their logits over a text that is read at once, and how many tokens a pass of the
engine's gave. `--random` reads random tokens and writes to the end of the room instead: nothing is quoted there.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from chatbot.llama_forward import LlamaForward
from chatbot.model_loading import LoadedModel, load_model
from chatbot.prompt import NumberedEvidence, build_messages, render_prompt
from chatbot.records import Sampling
from chatbot.settings import LocalGeneratorSettings
from chatbot.shared_steps import SharedSteps
from chatbot.turn_taking import TurnTaking
from chatbot.writing import Engine, Writing
from knowledge_base.sentences import split_sentences
from ui.logging import configure_logging

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "chatbot" / "base_model"
SAMPLE = ROOT / "ui" / "sample_company"
CHATS = 8
LEAST_WORDS = 6
Way = Callable[[Sequence[list[int]], int], tuple[float, list[list[int]]]]
"""Prompts and the most tokens to write; seconds and what was written."""


class Plain(Writing):
    """Ends where `transformers` ends, at the end token or at the end of the room; what reads repetitive is not cut off."""

    def _is_over(self, row: int) -> bool:
        return self._ended[row] or len(self._ids[row]) >= self._room[row]


def random_prompts(loaded: LoadedModel, n: int, length: int) -> list[list[int]]:
    """Random token ids."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(10, len(loaded.tokenizer), (n, length), generator=draw).tolist()


def question_prompts(loaded: LoadedModel, n: int, length: int) -> list[list[int]]:
    """Questions of the sample company, each with the sentence that answers it among others of its pages, up to `length` tokens."""
    rows = [json.loads(line) for line in (SAMPLE / "questions.jsonl").read_text("utf-8").splitlines()]
    asked = [row for row in rows if row["answerable"]][:n]
    pages = [
        sentence.text
        for path in sorted((SAMPLE / "company").rglob("*.md"))
        for sentence in split_sentences(path.read_text("utf-8"))
        if len(sentence.text.split()) > LEAST_WORDS
    ]
    draw = random.Random(0)
    return [_prompt(loaded, row, draw.sample(pages, len(pages)), length) for row in asked]


def _prompt(loaded: LoadedModel, row: dict[str, Any], others: list[str], length: int) -> list[int]:
    """The right sentence is the third."""
    shown, ids = [*others[:2], row["evidence"]], list[int]()
    for other in others[2:]:
        evidence = [
            NumberedEvidence(number=number, heading="Handbook", text=text)
            for number, text in enumerate([*shown, other], 1)
        ]
        rendered = render_prompt(loaded.tokenizer, build_messages(row["question"], evidence))
        longer = loaded.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        if len(longer) > length:
            break
        shown, ids = [*shown, other], longer
    return ids


def plain(loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int) -> tuple[float, list[list[int]]]:
    """`transformers`' own generate."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[loaded.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ends = sorted(loaded.end_ids)
    started = time.perf_counter()
    with torch.inference_mode():
        out = loaded.model.generate(
            ids, attention_mask=mask, max_new_tokens=n_new, do_sample=False, eos_token_id=ends or None, pad_token_id=loaded.pad_id,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    return seconds, [_until_end(row, loaded.end_ids) for row in out[:, longest:].tolist()]


def _until_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    """A row without what fills it up after its end token."""
    return next((ids[: n + 1] for n, token in enumerate(ids) if token in ends), ids)


def with_engine(
    engine: Engine, loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int
) -> tuple[float, list[list[int]]]:
    """An engine, all prompts in one call."""
    started = time.perf_counter()
    writing = Plain(loaded, prompts, Sampling(max_new_tokens=n_new), 0)
    while engine.step(writing):
        pass
    engine.leave(writing)
    return time.perf_counter() - started, [list(c.token_ids) for c in writing.completions()]


def one_by_one(way: Way, prompts: Sequence[list[int]], n_new: int) -> tuple[float, list[list[int]]]:
    """The same prompts in calls of their own."""
    found = [way([prompt], n_new) for prompt in prompts]
    return sum(seconds for seconds, _ in found), [ids for _, rows in found for ids in rows]


def chats(
    engine: Engine, loaded: LoadedModel, prompts: Sequence[list[int]], n_new: int, at_once: int
) -> float:
    """Seconds until every chat has its answer, so many of them at once."""
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda prompt: with_engine(engine, loaded, [prompt], n_new), prompts))
    return time.perf_counter() - started


def largest_difference(loaded: LoadedModel, prompt: list[int]) -> float:
    """Of the logits after a prompt read at once, one read token by token and one read in sevens, and `transformers`' own."""
    forward = LlamaForward(loaded.model)
    with torch.inference_mode():
        theirs = loaded.model(torch.tensor([prompt])).logits[0, -1]
        whole, _ = forward.read([prompt], 0)
        found = [whole[-1]]
        for size in (1, 7):
            _, rows = forward.read([prompt[:1]], len(prompt))
            for begin in range(1, len(prompt), size):
                logits = forward.advance([prompt[begin : begin + size]], rows)
            found.append(logits[-1])
    return max(float((theirs - logits).abs().max()) for logits in found)


def tokens_a_pass(loaded: LoadedModel, engine: Engine, prompts: Sequence[list[int]], n_new: int) -> float:
    """Of one chat: what the guesses bring. Guesses are asked for once before each pass."""
    n_passes = 0

    class Counted(Plain):
        def guesses(self, most: int) -> list[list[int]]:
            nonlocal n_passes
            n_passes += 1
            return super().guesses(most)

    n_tokens = 0
    for prompt in prompts:
        writing = Counted(loaded, [prompt], Sampling(max_new_tokens=n_new), 0)
        while engine.step(writing):
            pass
        engine.leave(writing)
        n_tokens += len(writing.completions()[0].token_ids) - 1
    return n_tokens / n_passes


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    loaded = load_model(str(args.model), LocalGeneratorSettings(dtype="float32", device="cpu"))
    if args.random:
        loaded = replace(loaded, end_ids=frozenset())
        loaded.model.generation_config.eos_token_id = None
    prompts = (random_prompts if args.random else question_prompts)(loaded, CHATS, args.prompt_tokens)
    shared, turns = SharedSteps(loaded), TurnTaking(loaded)
    ways: dict[str, Way] = {
        "transformers generate": lambda p, n: plain(loaded, p, n),
        "turn taking": lambda p, n: with_engine(turns, loaded, p, n),
        "shared steps": lambda p, n: with_engine(shared, loaded, p, n),
    }
    seconds = {
        name: {step: list[float]() for step in ("first 1", "batch 1", "first 8", "batch 8")} for name in ways
    }
    written: dict[str, list[list[list[int]]]] = {name: [] for name in ways}
    together: dict[str, list[float]] = {"one after another": [], "at once": []}
    for round_ in range(args.repeats + 1):
        for name, way in ways.items():
            found = {
                "first 1": one_by_one(way, prompts, 1),
                "batch 1": one_by_one(way, prompts, args.new_tokens),
                "first 8": way(prompts, 1),
                "batch 8": way(prompts, args.new_tokens),
            }
            written[name] = [found["batch 1"][1], found["batch 8"][1]]
            if round_:  # the first one warms up
                for step, (took, _) in found.items():
                    seconds[name][step].append(took)
        for name, at_once in (("one after another", 1), ("at once", CHATS)):
            together[name].append(chats(shared, loaded, prompts, args.new_tokens, at_once))
    theirs = written["transformers generate"]
    n_more = sum(len(ids) - 1 for ids in theirs[0])
    return {
        "rows": [_row(name, {k: statistics.median(v) for k, v in took.items()}, n_more) for name, took in seconds.items()],
        "same_tokens": all(found == theirs for found in written.values()),
        "largest_logit_difference": largest_difference(loaded, prompts[0][:200]),
        "prompt_tokens": statistics.mean(map(len, prompts)),
        "tokens_an_answer": statistics.mean(map(len, theirs[0])),
        "tokens_a_pass": round(tokens_a_pass(loaded, shared, prompts, args.new_tokens), 2),
        "eight_chats": {name: round(statistics.median(found[1:]), 2) for name, found in together.items()}
        | {"transformers one after another": round(statistics.median(seconds["transformers generate"]["batch 1"]), 2)},
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def _row(name: str, took: dict[str, float], n_more: int) -> dict[str, Any]:
    """Seconds of all eight, with the first token and in all; `n_more` is what they wrote after their first tokens."""
    return {
        "engine": name,
        "first_token_ms": round(1000 * took["first 1"] / CHATS),
        "tokens_per_second_batch_1": round(n_more / (took["batch 1"] - took["first 1"]), 1),
        "tokens_per_second_batch_8": round(n_more / (took["batch 8"] - took["first 8"]), 1),
        "answer_ms": round(1000 * took["batch 1"] / CHATS),
    }


def main() -> None:
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--prompt-tokens", type=int, default=800)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--random", action="store_true", help="random tokens instead of questions")
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
            f"batch 8 {row['tokens_per_second_batch_8']:>7} ({row['tokens_per_second_batch_8'] / base['tokens_per_second_batch_8']:.1f} x)   "
            f"whole answer {row['answer_ms']:>5} ms ({base['answer_ms'] / row['answer_ms']:.1f} x)"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
