"""How well the reward model learns what people said: ties, accuracy beside people's own agreement, calibration, length.

    python benchmarks/reward_model.py --data DATA [--sets qafeedback pandalm oasst] [--folds 1] [--length removed] [--seed 0] [--limit N]

First, without any model, the likelihood: judgements with a known taste and 30% ties; the tie parameter that is recovered, and the held-out log-likelihood
of the fit beside one that throws ties away and predicts them at their mean rate. Then for each set of human preferences the reward model
as a cycle trains it (traits, then the embedded language model), split by question into quarters: with `--folds 1` the first is held out, with 4 each of
them in its turn, by four reward models. A calibration error is never 0: `ece_of_perfect` is what a model would show that is never too sure or too
unsure, with as many independent judgements. `--length removed` prints what the same models say with length beside it. DATA holds `pref_pandalm`, `pref_oasst100`, `qa_feedback`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import math
import statistics
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from alignment.records import RankedCompletions, StageProgress  # noqa: E402 -- a program beside the packages
from alignment.reward_model import RewardModel  # noqa: E402
from alignment.reward_settings import RewardSettings  # noqa: E402
from alignment.reward_training import train_reward  # noqa: E402
from alignment.tie_likelihood import (  # noqa: E402
    FIRST_WINS,
    TIE,
    comparison_log_likelihood,
    pairs_of_ranking,
)
from chatbot.prompt import NumberedEvidence, build_messages, render_prompt  # noqa: E402
from knowledge_base.sentences import split_sentences  # noqa: E402
from ui.wiring import EMBEDDED_MODEL  # noqa: E402

FOLDS = 4
BINS = 10
EVIDENCE_CHARACTERS = 2_000


# The likelihood alone


def synthetic_ties(
    seed: int, *, n: int = 40_000, features: int = 8, tie_rate: float = 0.3
) -> dict[str, float]:
    """A linear taste of known weights, judged by Davidson's model; half of it to fit, half to predict."""
    rng = torch.Generator().manual_seed(seed)
    taste = torch.randn(features, generator=rng, dtype=torch.float64)
    differences = torch.randn(n, features, generator=rng, dtype=torch.float64)
    scores = differences @ taste
    log_nu = _nu_for(scores, tie_rate)
    probabilities = torch.softmax(
        torch.stack([scores, torch.zeros_like(scores), log_nu + scores / 2], dim=-1), dim=-1
    )
    outcomes = torch.multinomial(probabilities, 1, generator=rng)[:, 0]
    half = n // 2
    with_ties = _fit(differences[:half], outcomes[:half], keep_ties=True)
    without = _fit(differences[:half], outcomes[:half], keep_ties=False)
    test, said = differences[half:], outcomes[half:]
    rate = float((outcomes[:half] == TIE).double().mean())
    return {
        "tie_rate": rate,
        "nu_true": math.exp(log_nu),
        "nu_found": math.exp(with_ties[1]),
        "nu_error": abs(math.exp(with_ties[1] - log_nu) - 1),
        "log_likelihood_with_ties": float(_davidson(test @ with_ties[0], said, with_ties[1]).mean()),
        "log_likelihood_ties_dropped": float(_strict(test @ without[0], said, rate).mean()),
        "scale_with_ties": float(with_ties[0].norm() / taste.norm()),
        "scale_ties_dropped": float(without[0].norm() / taste.norm()),
    }  # fmt: skip


def _nu_for(scores: torch.Tensor, tie_rate: float) -> float:
    """The ln nu that gives this share of ties, by bisection."""
    low, high = -6.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        logits = torch.stack([scores, torch.zeros_like(scores), middle + scores / 2], dim=-1)
        rate = float(torch.softmax(logits, dim=-1)[:, 2].mean())
        low, high = (middle, high) if rate < tie_rate else (low, middle)
    return (low + high) / 2


def _davidson(scores: torch.Tensor, outcomes: torch.Tensor, log_nu: float | torch.Tensor) -> torch.Tensor:
    return comparison_log_likelihood(scores, torch.zeros_like(scores), outcomes, torch.as_tensor(log_nu))


def _strict(scores: torch.Tensor, outcomes: torch.Tensor, tie_rate: float) -> torch.Tensor:
    """Bradley-Terry on what was decided, ties at their mean rate."""
    won = torch.where(outcomes == FIRST_WINS, scores, -scores)
    decided = torch.nn.functional.logsigmoid(won) + math.log(1 - tie_rate)
    return torch.where(outcomes == TIE, torch.full_like(scores, math.log(tie_rate)), decided)


def _fit(x: torch.Tensor, outcomes: torch.Tensor, *, keep_ties: bool) -> tuple[torch.Tensor, float]:
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    log_nu = torch.zeros((), dtype=torch.float64, requires_grad=True)
    if not keep_ties:
        decided = outcomes != TIE
        x, outcomes = x[decided], outcomes[decided]
    optimizer = torch.optim.LBFGS([weights, log_nu], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = x @ weights
        said = _davidson(scores, outcomes, log_nu) if keep_ties else _strict(scores, outcomes, 0.5)
        total: torch.Tensor = -said.mean() + 1e-6 * (weights**2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach(), float(log_nu.detach())


# People's preferences


def read_set(name: str, data: Path, tokenizer: Any) -> Iterator[tuple[RankedCompletions, list[int]]]:
    """Judgements, and where there were several people, what each voted (1 the first, 2 the second)."""
    if name == "qafeedback":
        yield from ((row, []) for row in _read_qafeedback(data, tokenizer))
        return
    path = data / {"pandalm": "pref_pandalm", "oasst": "pref_oasst100"}[name] / "pairs.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            asked = (
                row["prompt"]
                if isinstance(row["prompt"], str)
                else "\n".join(turn["content"] for turn in row["prompt"])
            )
            answers = [str(row["chosen"]), str(row["rejected"])]  # "True" was an answer, and became a boolean
            # The file has the better one first, which would make a model that sees no difference look right.
            flipped = zlib.crc32("\n".join(answers).encode()) % 2
            yield (
                RankedCompletions(
                    prompt=render_prompt(tokenizer, build_messages(asked, [])),
                    completions=(answers[flipped], answers[1 - flipped]),
                    ranking=((flipped,), (1 - flipped,)),
                    question_id=asked,
                    labeler_id="people",
                ),
                row.get("votes", []),
            )


def _read_qafeedback(data: Path, tokenizer: Any) -> Iterator[RankedCompletions]:
    """Four answers each, all six pairs judged: 0 a tie, 1 the first, 2 the second."""
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    with gzip.open(data / "qa_feedback" / "dev_feedback_raw.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    for row in rows:
        prompt = render_prompt(tokenizer, build_messages(row["question"], _evidence(row["passages"])))
        answers = [row[f"prediction {number}"] for number in range(1, 5)]
        for (first, second), said in zip(pairs, row["preference"], strict=True):
            if answers[first] == answers[second]:
                continue
            ranking = {0: ((0, 1),), 1: ((0,), (1,)), 2: ((1,), (0,))}[said]
            yield RankedCompletions(
                prompt=prompt,
                completions=(answers[first], answers[second]),
                ranking=ranking,
                question_id=row["question"],
                labeler_id="people",
                weight=1 / len(pairs),
            )


def _evidence(passages: Sequence[Sequence[str]]) -> list[NumberedEvidence]:
    found: list[NumberedEvidence] = []
    size = 0
    for title, *texts in passages:
        for text in texts:
            for span in split_sentences(text):
                size += len(span.text)
                if size > EVIDENCE_CHARACTERS:
                    return found
                found.append(NumberedEvidence(number=len(found) + 1, heading=title, text=span.text))
    return found


def say_progress(what: str, progress: StageProgress) -> None:
    """Write over the line before."""
    print(f"{what}: {progress.done}/{progress.total}", end="\r", file=sys.stderr, flush=True)


def measure_set(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train on three quarters of the questions, predict the fourth; the folds' predictions are put together."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model, local_files_only=True)
    rows = list(read_set(name, args.data, tokenizer))[: args.limit or None]
    fold_of = [zlib.crc32(f"{args.seed}:{row.question_id}".encode()) % FOLDS for row, _ in rows]
    predictions, with_length = Predictions(), Predictions()
    results = []
    for fold in range(args.folds):
        train = [row for (row, _), at in zip(rows, fold_of, strict=True) if at != fold]
        test = [row for (row, _), at in zip(rows, fold_of, strict=True) if at == fold]
        settings = RewardSettings(
            seed=args.seed + 11,
            epochs=args.epochs,
            context=args.context,
            length=args.length,
            language_model_min_judgements=args.language_model_min_judgements,
        )
        with tempfile.TemporaryDirectory() as folder:
            results.append(
                train_reward(
                    settings,
                    init_dir=args.model,
                    judgements=train,
                    held_out=test,
                    out_dir=Path(folder) / "reward",
                    progress=partial(say_progress, f"{name}, fold {fold}"),
                )
            )
            model = RewardModel.load(Path(folder) / "reward")
            predictions.add(model, test)
            if args.length == "removed":
                model.encoder = dataclasses.replace(model.encoder, length=None)
                with_length.add(model, test)
    votes = [vote for (_, vote), at in zip(rows, fold_of, strict=True) if at < args.folds and vote]

    def mean(metric: str) -> float:
        return statistics.mean(result.metrics[metric] for result in results)

    return {
        "n_train": round(mean("n_judgements")),
        "n_test": sum(at < args.folds for at in fold_of),
        "people_agree": agreement(votes),
        **predictions.figures(args.seed),
        **{
            f"{name}_with_length": value
            for name, value in (with_length.figures(args.seed) if with_length.scores else {}).items()
            if name in {"accuracy", "length_correlation"}
        },
        "log_likelihood": mean("held_out_log_likelihood"),
        "scale": mean("scale"),
        "n_cut": mean("n_cut"),
        "n_dropped": mean("n_dropped"),
        "steps": mean("n_steps"),
        "seconds": round(sum(result.seconds for result in results)),
    }


@dataclass
class Predictions:
    """Of held-out judgements, by one model or several; scores are standardised."""

    sure: list[float] = field(default_factory=list)
    """Probability of the likeliest outcome of each pair."""
    hit: list[float] = field(default_factory=list)
    """Whether that was said."""
    right: list[float] = field(default_factory=list)
    """Of pairs that are not ties, whether the one with the higher score won."""
    scores: list[float] = field(default_factory=list)
    words: list[int] = field(default_factory=list)

    def add(self, model: RewardModel, test: Sequence[RankedCompletions]) -> None:
        """What a model predicts."""
        texts = [text for row in test for text in row.completions]
        scores = model.score_texts([row.prompt for row in test for _ in row.completions], texts)
        at = 0
        for row in test:
            ours = torch.tensor(scores[at : at + len(row.completions)], dtype=torch.float64)
            at += len(row.completions)
            for pair in pairs_of_ranking(row.ranking):
                a, b = ours[pair.first : pair.first + 1], ours[pair.second : pair.second + 1]
                probabilities = model.outcome_log_probs(a, b)[0].exp()
                self.sure.append(float(probabilities.max()))
                self.hit.append(float(int(probabilities.argmax()) == pair.outcome))
                if pair.outcome != TIE:
                    self.right.append(0.5 if a == b else float((a > b) == (pair.outcome == FIRST_WINS)))
        self.scores += scores
        self.words += [len(text.split()) for text in texts]

    def figures(self, seed: int) -> dict[str, float]:
        """Accuracy, calibration, and what the scores have to do with length."""
        rng = np.random.default_rng(seed)
        perfect = [
            expected_calibration_error(
                self.sure, (rng.random(len(self.sure)) < self.sure).astype(float).tolist()
            )
            for _ in range(200)
        ]
        return {
            "accuracy": statistics.mean(self.right),
            "n_decided": len(self.right),
            "ece": expected_calibration_error(self.sure, self.hit),
            "ece_of_perfect": statistics.mean(perfect),
            "mean_sure": statistics.mean(self.sure),
            "mean_hit": statistics.mean(self.hit),
            "length_correlation": rank_correlation(self.scores, self.words),
        }


def agreement(votes: Sequence[Sequence[int]]) -> float | None:
    """Mean share of the other people who vote as one does; None where there was one person."""
    same = [
        float(mine == other)
        for row in votes
        for at, mine in enumerate(row)
        for other in (*row[:at], *row[at + 1 :])
    ]
    return statistics.mean(same) if same else None


def expected_calibration_error(sure: Sequence[float], hit: Sequence[float]) -> float:
    """Naeini et al. 2015, over ten bins of equal count."""
    order = np.argsort(np.asarray(sure), kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    return float(
        sum(len(p) * abs(np.asarray(sure)[p].mean() - np.asarray(hit)[p].mean()) for p in bins) / len(order)
    )


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's, ties at their mean rank."""

    def ranks(values: Sequence[float]) -> Any:
        array = np.asarray(values, dtype=np.float64)
        _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        return (ends - (counts - 1) / 2)[inverse]

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the preference sets; without it the likelihood alone"
    )
    parser.add_argument("--sets", nargs="*", default=["qafeedback", "pandalm", "oasst"])
    parser.add_argument("--model", type=Path, default=EMBEDDED_MODEL)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument(
        "--context", choices=["full", "question"], default="full", help="see `RewardSettings`"
    )
    parser.add_argument(
        "--folds", type=int, choices=range(1, FOLDS + 1), default=1, help="quarters that are held out in turn"
    )
    parser.add_argument(
        "--length", choices=["learned", "removed"], default="learned", help="see `RewardSettings`"
    )
    parser.add_argument(
        "--language-model-min-judgements",
        type=int,
        default=RewardSettings.language_model_min_judgements,
        help="see `RewardSettings`; 0 trains it always",
    )
    parser.add_argument("--limit", type=int, default=0, help="judgements of each set; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: dict[str, Any] = {"ties": synthetic_ties(args.seed)}
    for name in args.sets if args.data else ():
        found[name] = measure_set(name, args)
    sys.stdout.write(json.dumps(found | {"seed": args.seed}) + "\n")


if __name__ == "__main__":
    main()
