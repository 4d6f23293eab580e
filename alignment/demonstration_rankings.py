"""Demonstrations as comparisons: what a person wrote is preferred to what the model says by itself.

Knows nothing of trainers or judgements. A demonstration says more than "imitate this": somebody took the trouble because the answers they could have had were
worse. So a few answers of the base model, which has not imitated anybody, are sampled to the same prompt, and each is compared with the
demonstration (Ziegler et al. 2019, arXiv 1909.08593, section 2.1, let labelers compare demonstrations too; Chen et al. 2024, SPIN, arXiv
2401.01335, sample the other side). Different from SPIN: nothing is optimised against these pairs alone. They are a part of a reward
model's judgements, with less weight than a comparison that somebody made, since nobody has seen these samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from alignment.completion_forward import pad_prompts
from alignment.model_directory import load_causal_model, load_tokenizer
from alignment.models import (
    CausalForward,
    autocast,
    autocast_dtype,
    end_of_text_ids,
    pick_device,
)
from alignment.padding import encode_prompt
from alignment.ppo_settings import PpoSettings
from alignment.records import PromptCompletion, RankedCompletions
from alignment.rollouts import SamplingRule, completion_texts, sample_completions
from alignment.sft_rows import only_demonstrations


def rank_demonstrations(
    rows: Sequence[PromptCompletion], *, policy_dir: Path, samples: int, weight: float, sampling: PpoSettings
) -> list[RankedCompletions]:
    """Comparisons of each demonstration with other answers to its prompt.

    Args:
        rows: Those that are no demonstrations are passed over.
        policy_dir: Who answers; normally the base model.
        samples: Answers to each prompt.
        weight: Of a demonstration's comparisons together; 0 makes none.
        sampling: How answers are drawn, their length, seed, device and precision.

    Returns:
        The demonstration first, a different answer second; none for prompts that are too long, or where the model says the same.
    """
    demonstrations = only_demonstrations(rows)
    if not demonstrations or weight == 0:
        return []
    prompts = list(dict.fromkeys(row.prompt for row in demonstrations))
    answers = dict(_sample(prompts, policy_dir, samples, sampling))
    compared = []
    for row in demonstrations:
        others = [text for text in dict.fromkeys(answers.get(row.prompt, ())) if text != row.completion]
        compared += [
            RankedCompletions(
                prompt=row.prompt,
                completions=(row.completion, text),
                ranking=((0,), (1,)),
                question_id=row.question_id,
                labeler_id=row.labeler_id,
                weight=weight / len(others),
                seen=False,
            )
            for text in others
        ]
    return compared


def _sample(
    prompts: Sequence[str], policy_dir: Path, samples: int, sampling: PpoSettings
) -> Iterator[tuple[str, list[str]]]:
    device = pick_device(sampling.device)
    model, tokenizer = load_causal_model(policy_dir, device), load_tokenizer(policy_dir)
    forward = CausalForward(model)
    rule = SamplingRule(
        samples_per_prompt=samples,
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        end_ids=end_of_text_ids(model, tokenizer),
    )
    generator = torch.Generator(device).manual_seed(sampling.seed)
    encoded = [(prompt, encode_prompt(tokenizer, prompt)) for prompt in prompts]
    fitting = [(prompt, ids) for prompt, ids in encoded if 0 < len(ids) <= sampling.max_prompt_tokens]
    # Prompts of like length together: less padding.
    fitting.sort(key=lambda item: len(item[1]))
    size = sampling.sampling_batch_prompts
    for start in range(0, len(fitting), size):
        batch = fitting[start : start + size]
        ids, mask = pad_prompts([tokens for _, tokens in batch], device)
        with autocast(device, autocast_dtype(sampling.precision, device)):
            drawn, written, _, _ = sample_completions(forward, ids, mask, rule, generator)
        texts = completion_texts(tokenizer, drawn, written, rule.end_ids)
        for place, (prompt, _) in enumerate(batch):
            yield prompt, texts[place * samples : (place + 1) * samples]
