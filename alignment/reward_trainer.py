"""TRL's `RewardTrainer` with another loss: ties, rankings, thumbs and weights in one likelihood.

Knows nothing of files or prompts; batches come from `JudgementCollator`. What is kept of TRL: the training loop, mixed precision,
accumulation, scheduling, dropout off, logging. What is replaced: tokenising and filtering (TRL drops over-long pairs silently),
collating, the loss (Bradley-Terry on strict pairs), the optimiser's groups (a fresh head and the scalars learn faster than the body).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from trl import RewardTrainer

from alignment.reward_scoring import completion_scores
from alignment.tie_likelihood import comparison_log_likelihood, rating_log_likelihood
from alignment.trl_trainers import QuietTrainerMixin

HEAD_SPEED = 10.0
"""The head starts from noise: its learning rate is this many times the body's."""
SCALAR_LEARNING_RATE = 0.02
"""Of ln nu, the threshold and the log slope, which move by about a unit; in their own units, whatever the body's rate."""


class TieLikelihood(nn.Module):
    """The three learned scalars of the likelihood."""

    def __init__(self, log_nu: float, threshold: float, slope: float = 1.0) -> None:
        """Start from where the traits put them, or the data's tie rate and thumbs at equal scores."""
        super().__init__()
        self.log_nu = nn.Parameter(torch.tensor(log_nu))
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.log_slope = nn.Parameter(torch.tensor(math.log(slope)))

    def negative_log_likelihood(self, scores: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Weighted sum of the negative log-likelihoods of a batch's judgements, in nats.

        Args:
            scores: (B, K, M) float32; the sum is the mean over the M members, each with its own weights of the elements.
            batch: `pairs`, `pair_weights`, `ratings`, `rating_labels`, `rating_weights`, `member_weights` of `JudgementCollator`.
        """
        members = range(scores.shape[-1])
        found = [self._of_member(scores[..., m], batch["member_weights"][:, m], batch) for m in members]
        return torch.stack(found).mean()

    def _of_member(self, scores: Tensor, shares: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Of one member's scores (B, K), with its weights (B,) of the elements."""
        pairs, ratings = batch["pairs"], batch["ratings"]
        total = (
            scores.sum() * 0.0
        )  # a batch may hold only thumbs or only pairs; the graph must reach the model anyway
        if len(pairs):
            first, second = scores[pairs[:, 0], pairs[:, 1]], scores[pairs[:, 0], pairs[:, 2]]
            said = comparison_log_likelihood(first, second, pairs[:, 3], self.log_nu)
            total = total - (batch["pair_weights"] * shares[pairs[:, 0]] * said).sum()
        if len(ratings):
            rated = scores[ratings[:, 0], ratings[:, 1]]
            said = rating_log_likelihood(rated, batch["rating_labels"], self.threshold, self.log_slope.exp())
            total = total - (batch["rating_weights"] * shares[ratings[:, 0]] * said).sum()
        return total


class JudgementTrainer(QuietTrainerMixin, RewardTrainer):
    """Trains a sequence classifier with a `likelihood` submodule on elements of `reward_dataset`.

    The scalars live on the model (`model.likelihood`) because the training loop zeroes gradients through the model.
    """

    def __init__(
        self, *args: Any, shares_prompts: bool, judgements_per_element: float, **kwargs: Any
    ) -> None:
        """As `RewardTrainer`; `shares_prompts` says how completions are scored, `judgements_per_element` what a loss is divided by."""
        self._shares_prompts = shares_prompts
        self._judgements_per_element = judgements_per_element
        model = kwargs["model"]
        members = model.config.num_labels
        model.config.num_labels = 1  # TRL refuses a reward model with several scores; it never looks again
        super().__init__(*args, **kwargs)
        model.config.num_labels = members

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset  # already token ids, already counted

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 -- transformers' signature
    ) -> Any:
        """Negative log-likelihood per judgement, plus TRL's pull towards a mean score of zero where asked for.

        It is divided by what a full micro-batch holds on average, not by what this one holds: a judgement would weigh more the fewer
        others its micro-batch has, so that memory would decide what is learned.
        """
        learned = completion_scores(model, inputs, shares_prompts=self._shares_prompts)
        scores = learned + inputs["offsets"]
        said = self._unwrapped(model).likelihood.negative_log_likelihood(scores, inputs)
        loss = said / (self._judgements_per_element * self.args.per_device_train_batch_size)
        judged = learned[inputs["ends"] >= 0]
        if self.args.center_rewards_coefficient is not None:
            loss = loss + self.args.center_rewards_coefficient * (judged**2).mean()
        mode = "train" if self.model.training else "eval"
        with torch.no_grad():
            self._metrics[mode]["mean_reward"].append(float(judged.mean()))
            self._metrics[mode]["min_reward"].append(float(judged.min()))
            self._metrics[mode]["max_reward"].append(float(judged.max()))
        return (loss, {"scores": scores}) if return_outputs else loss

    def _unwrapped(self, model: Any) -> Any:
        return self.accelerator.unwrap_model(model)

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW in three groups: body, head, scalars."""
        optimizer: Any = self.__dict__.get("optimizer")
        if optimizer is None:
            owner = model if model is not None else self.model
            named = [(name, p) for name, p in owner.named_parameters() if p.requires_grad]
            rate, decay = self.args.learning_rate, self.args.weight_decay
            body = [p for name, p in named if not name.startswith(("score.", "likelihood."))]
            head = [p for name, p in named if name.startswith("score.")]
            scalars = [p for name, p in named if name.startswith("likelihood.")]
            optimizer = self.optimizer = torch.optim.AdamW(
                [
                    {"params": body, "lr": rate, "weight_decay": decay},
                    {"params": head, "lr": rate * HEAD_SPEED, "weight_decay": decay},
                    {"params": scalars, "lr": SCALAR_LEARNING_RATE, "weight_decay": 0.0},
                ],
                lr=rate,
                eps=1e-5,  # with the usual 1e-8 the first steps are as large as the learning rate allows, whatever the gradient
            )
        return optimizer
