"""The best of several samples by a reward: what a policy could reach without learning anything.

Knows nothing of how rewards are learned. PPO is measured against it, because it asks the same reward and cannot be over-trained: a policy that writes once
should reach what its SFT policy reaches in four tries (Stiennon et al. 2020, arXiv:2009.01325, appendix; Gao et al. 2022, arXiv:2210.10760, section 2).
Different from them: where two samples earn the same the first is taken, so that a reward that knows nothing leaves plain sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from alignment.records import RewardFunction
from alignment.win_rate import prompt_of
from chatbot.prompt import Message
from chatbot.records import Answer


def choose_best(
    samples: Sequence[Sequence[Answer]], reward: RewardFunction, render: Callable[[Sequence[Message]], str]
) -> list[Answer]:
    """The sample of each question that earns most.

    Args:
        samples: One or more answers to each question.
        reward: Asked once, about what the policy wrote. Answers that no policy wrote, because the evidence was too weak, are all alike.
        render: Messages to the prompt in the policy's template.

    Raises:
        ValueError: a question without a sample.
    """
    if not all(samples):
        raise ValueError("every question needs at least one sample to choose from")
    written = [answer for answers in samples for answer in answers if answer.completion]
    prompts = [prompt_of(answer, render) for answer in written]
    scores = reward.score(prompts, [answer.completion for answer in written]) if written else []
    worth = {answer.id: score for answer, score in zip(written, scores, strict=True)}
    return [max(answers, key=lambda answer: worth.get(answer.id, -math.inf)) for answers in samples]


def best_of_n_kl(n: int) -> float:
    """KL divergence of the best of n samples from the policy that wrote them, in nats, at most: ln n - (n - 1) / n.

    Stiennon et al. 2020, appendix; a bound, not an equality (Beirami et al. 2024, arXiv:2401.01879).

    >>> round(best_of_n_kl(4), 3)
    0.636
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    return math.log(n) - (n - 1) / n
