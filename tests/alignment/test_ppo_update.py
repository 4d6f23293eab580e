"""Updates: independent of how a minibatch is cut, exactly as many as asked for, and none that is not finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alignment.completion_forward import (
    TokenBatch,
    choice_surprise,
    completion_outputs,
    pad_prompts,
    token_logprobs,
)
from alignment.errors import TrainingError
from alignment.experience import Experience, completion_logprobs, completion_values
from alignment.models import CausalForward
from alignment.ppo_settings import PpoSettings
from alignment.ppo_update import Updater
from alignment.value_model import ValueModel, load_value_model
from tests.alignment.ppo_fakes import save_tiny_models, tiny_model


def settings(**changes: Any) -> PpoSettings:
    """Four prompts with two samples each, float32, no early stop."""
    chosen: dict[str, Any] = {
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "value_warmup_steps": 0,
        "precision": "float32",
        "learning_rate": 1e-3,
        "approxkl_limit": None,
        "ratio_limit": None,
        "kl_loss_coef": 0.0,
    }
    return PpoSettings(**(chosen | changes))


def experience(policy: Any, value: ValueModel | None, chosen: PpoSettings) -> Experience:
    """Made-up completions of very different lengths: a mean of means would differ from the mean over tokens."""
    generator = torch.Generator().manual_seed(0)
    prompt_ids, prompt_mask = pad_prompts([[5, 9, 30], [7], [8, 8], [20] * 6], torch.device("cpu"))
    lengths = torch.tensor([1, 9, 2, 2, 7, 3, 1, 5])
    tokens = TokenBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=torch.randint(3, 262, (8, 9), generator=generator),
        completion_mask=torch.arange(9) < lengths[:, None],
    )
    logprobs = completion_logprobs(CausalForward(policy), tokens, chosen).logprobs
    advantages = torch.randn(8, 9, generator=generator) * tokens.completion_mask
    return Experience(
        tokens=tokens,
        logprobs=logprobs,
        advantages=advantages,
        returns=None if value is None else torch.randn(8, 9, generator=generator),
        values=None if value is None else completion_values(value, tokens, chosen),
        metrics={},
    )


def updated(reward_dir: Path, **changes: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """All weights of policy and value model after one step of updates, and its metrics."""
    chosen = settings(**changes)
    policy, value = tiny_model(), load_value_model(reward_dir, torch.device("cpu"))
    # Plain gradient descent: Adam would hide a gradient that is wrong by a factor.
    updater = Updater(chosen, policy, CausalForward(policy), value, dtype=None)
    updater.policy_optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    updater.value_optimizer = torch.optim.SGD(value.parameters(), lr=0.1)
    metrics = updater.update(experience(policy, value, chosen), step=0)
    weights = {**policy.state_dict(), **{f"value.{k}": v for k, v in value.state_dict().items()}}
    return {name: tensor.clone() for name, tensor in weights.items()}, metrics


@pytest.fixture(scope="module")
def reward_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reward model."""
    return save_tiny_models(tmp_path_factory.mktemp("models"))[1]


@pytest.mark.parametrize("minibatches", [1, 2, 4])
@pytest.mark.parametrize("micro_batch_prompts", [1, 2, 3])
@pytest.mark.parametrize("share_prompts", [True, False])
def test_updates_do_not_depend_on_the_cut(
    reward_dir: Path, minibatches: int, micro_batch_prompts: int, share_prompts: bool
) -> None:
    """Weights and metrics equal those of whole minibatches, for uneven cuts too."""
    whole, whole_metrics = updated(reward_dir, minibatches=minibatches, micro_batch_prompts=4)
    cut, cut_metrics = updated(
        reward_dir,
        minibatches=minibatches,
        micro_batch_prompts=micro_batch_prompts,
        share_prompts=share_prompts,
    )

    for name, weight in whole.items():
        assert torch.allclose(weight, cut[name], atol=1e-5), name
    assert cut_metrics == pytest.approx(whole_metrics, abs=1e-4)


@pytest.mark.parametrize("minibatches", [1, 2, 4])
def test_each_minibatch_is_one_optimiser_step(reward_dir: Path, minibatches: int) -> None:
    """Epochs times minibatches, and the ratio is that of all tokens, not a share of it."""
    _, metrics = updated(
        reward_dir, minibatches=minibatches, epochs=3, micro_batch_prompts=1, max_grad_norm=0.01
    )

    assert metrics["policy/updates"] == 3 * minibatches
    assert metrics["val/ratio"] == pytest.approx(1.0, abs=0.2)


def test_the_first_ratio_is_one(reward_dir: Path) -> None:
    """Old log-probabilities come from the same forward pass."""
    _, metrics = updated(reward_dir, minibatches=1, epochs=1)

    assert metrics["val/ratio"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["policy/approxkl_avg"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["policy/clipfrac_avg"] == 0


def test_the_policys_rate_rises_after_the_value_models_start(reward_dir: Path) -> None:
    """While the value model learns alone nothing rises; then it takes the steps that are set, while the decay goes on."""
    chosen = settings(steps=10, value_warmup_steps=2, lr_warmup_steps=3)
    policy, value = tiny_model(), load_value_model(reward_dir, torch.device("cpu"))
    updater = Updater(chosen, policy, CausalForward(policy), value, dtype=None)

    factors = [updater.set_learning_rates(step) for step in range(2, 7)]

    assert factors == pytest.approx([0.8 / 4, 0.7 * 2 / 4, 0.6 * 3 / 4, 0.5, 0.4])


def test_the_first_update_follows_the_policy_gradient(reward_dir: Path) -> None:
    """The gradient is that of minus the mean of advantage times log-probability over all tokens, written out here."""
    chosen = settings(minibatches=1, epochs=1, micro_batch_prompts=1, max_grad_norm=1e9, lr_warmup_steps=0)
    policy, twin = tiny_model().double(), tiny_model().double()
    data = experience(policy, None, chosen)
    updater = Updater(chosen, policy, CausalForward(policy), None, dtype=None)
    updater.policy_optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)

    updater.update(data, step=0)

    tokens = data.tokens
    logits = completion_outputs(CausalForward(twin), tokens, share_prompts=False)
    logprobs = token_logprobs(logits, tokens.completion_ids, chosen.temperature)
    loss = -(logprobs * data.advantages)[tokens.completion_mask].sum() / tokens.completion_mask.sum()
    loss.backward()
    for (name, trained), fixed in zip(policy.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(fixed - 0.1 * fixed.grad, trained, atol=1e-5), name


def test_a_loss_that_is_not_finite_changes_no_weight() -> None:
    """And says so in one line."""
    chosen = settings()
    policy = tiny_model()
    before = [p.clone() for p in policy.parameters()]
    data = experience(policy, None, chosen)
    data.advantages[1, 0] = float("nan")

    with pytest.raises(TrainingError, match="policy loss is not finite at step 0"):
        Updater(chosen, policy, CausalForward(policy), None, dtype=None).update(data, step=0)

    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_updates_end_when_the_ratio_runs_away() -> None:
    """The update that would go further is withheld, and counted."""
    chosen = settings(learning_rate=0.1, approxkl_limit=0.01, epochs=4)
    policy = tiny_model()
    data = experience(policy, None, chosen)

    metrics = Updater(chosen, policy, CausalForward(policy), None, dtype=None).update(data, step=0)

    assert metrics["policy/updates"] == 1
    assert metrics["policy/updates_skipped"] == 1


def test_warm_up_trains_the_value_model_alone(reward_dir: Path) -> None:
    """The policy stays as it is, the value model comes nearer to its targets."""
    before = tiny_model().state_dict()

    after, metrics = updated(reward_dir, value_warmup_steps=1, epochs=1)
    later, _ = updated(reward_dir, value_warmup_steps=1, epochs=2)

    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not torch.equal(after["value.head.weight"], later["value.head.weight"])
    assert metrics["policy/updates"] == 0


def test_ptx_rows_pull_the_policy_towards_text() -> None:
    """Rows the policy is given become likelier, others being equal."""
    row = [1, 70, 71, 72, 73, 74]
    chosen = settings(ptx_coef=10.0, learning_rate=3e-3)
    policy = tiny_model()
    forward = CausalForward(policy)
    data = experience(policy, None, chosen)
    data.advantages.mul_(1e-9)
    asked = []

    def rows(update: int) -> list[list[int]]:
        asked.append(update)
        return [row, [1, 70]]

    def loss() -> float:
        with torch.no_grad():
            logits = policy(input_ids=torch.tensor([row])).logits
        return -float(token_logprobs(logits[:, :-1], torch.tensor([row[1:]]), 1.0).mean())

    before = loss()
    metrics = Updater(chosen, policy, forward, None, dtype=None, ptx_rows=rows).update(data, step=0)

    assert loss() < before - 0.1
    assert asked == [0, 1, 2, 3]
    assert metrics["loss/ptx_avg"] > 0


def with_choices(data: Experience, policy: Any, chosen: PpoSettings) -> Experience:
    """The same completions, each token drawn from itself and one other."""
    ids = data.tokens.completion_ids
    choices = torch.stack([ids, (ids + 7) % 200], dim=-1).masked_fill(
        ~data.tokens.completion_mask.unsqueeze(-1), -1
    )
    tokens = replace(data.tokens, choices=choices)
    logprobs = completion_logprobs(CausalForward(policy), tokens, chosen).logprobs
    return replace(data, tokens=tokens, logprobs=logprobs)


def outside(policy: Any, tokens: TokenBatch) -> float:
    """Mean of minus the log-probability of all that could be drawn."""
    assert tokens.choices is not None
    with torch.no_grad():
        logits = completion_outputs(CausalForward(policy), tokens, share_prompts=False)
    return float(choice_surprise(logits, tokens.choices)[tokens.completion_mask].mean())


def test_what_could_not_be_drawn_is_held_down() -> None:
    """With nothing else to learn, the choices together become likelier; the gradient does not depend on the cut."""
    found = []
    for size in (1, 4):
        chosen = settings(choices_coef=1.0, minibatches=1, micro_batch_prompts=size)
        policy = tiny_model()
        data = with_choices(experience(policy, None, chosen), policy, chosen)
        data.advantages.mul_(1e-9)
        before = outside(policy, data.tokens)
        Updater(chosen, policy, CausalForward(policy), None, dtype=None).update(data, step=0)
        found.append(outside(policy, data.tokens))
        assert found[-1] < before - 0.02
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def moved(policy: Any) -> Any:
    """A policy a little away from another."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return policy


def reference_logits(tokens: TokenBatch) -> Tensor:
    """Of the model that policies start from here."""
    return completion_outputs(CausalForward(tiny_model()), tokens, share_prompts=False)


def test_the_kl_in_the_loss_has_the_gradient_of_the_kl_over_the_vocabulary() -> None:
    """With an advantage of next to nothing, a step goes down the mean KL of the tokens, times its factor, however it is cut."""
    for size in (1, 3, 4):
        chosen = settings(
            kl_loss_coef=0.5,
            minibatches=1,
            epochs=1,
            micro_batch_prompts=size,
            max_grad_norm=1e9,
            lr_warmup_steps=0,
        )
        policy, twin = moved(tiny_model()), moved(tiny_model())
        data = experience(policy, None, chosen)
        data.advantages.mul_(1e-12)
        updater = Updater(chosen, policy, CausalForward(policy), None, dtype=None, reference=reference_logits)
        updater.policy_optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)

        metrics = updater.update(data, step=0)

        logits = completion_outputs(CausalForward(twin), data.tokens, share_prompts=False)
        temperature, mask = chosen.temperature, data.tokens.completion_mask
        log_p, log_q = (
            (found / temperature).log_softmax(-1) for found in (logits, reference_logits(data.tokens))
        )
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)[mask].mean()
        (0.5 * kl).backward()
        assert metrics["loss/kl_avg"] == pytest.approx(float(kl.detach()), rel=1e-4)
        for (name, trained), fixed in zip(policy.named_parameters(), twin.parameters(), strict=True):
            assert torch.allclose(fixed - 0.1 * fixed.grad, trained, atol=1e-5), name


def test_a_kl_in_the_loss_asks_for_the_model_to_stay_near() -> None:
    """A run does not pass over a term that its settings ask for."""
    policy = tiny_model()

    with pytest.raises(ValueError, match=r"kl_loss_coef=0.2 needs a reference model"):
        Updater(settings(kl_loss_coef=0.2), policy, CausalForward(policy), None, dtype=None)


def test_a_token_without_alternative_teaches_nothing() -> None:
    """Drawn from itself alone it has probability 1 whatever the weights, so its advantage moves none."""
    chosen = settings(choices_coef=0.0)
    policy = tiny_model()
    data = experience(policy, None, chosen)
    alone = data.tokens.completion_ids.unsqueeze(-1).masked_fill(
        ~data.tokens.completion_mask.unsqueeze(-1), -1
    )
    data = replace(
        data,
        tokens=replace(data.tokens, choices=alone),
        logprobs=torch.zeros_like(data.logprobs),
    )
    before = [p.clone() for p in policy.parameters()]

    Updater(chosen, policy, CausalForward(policy), None, dtype=None).update(data, step=0)

    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, policy.parameters(), strict=True))


def test_prompts_whose_samples_are_equally_good_cost_nothing() -> None:
    """Weights are those of the others alone; where all are equally good there is no update."""
    chosen = settings(minibatches=1, epochs=1, micro_batch_prompts=1)
    policy = tiny_model()
    data = experience(policy, None, chosen)
    data.advantages[2:6] = 0.0
    seen: list[int] = []

    class Watched(CausalForward):
        def __call__(self, **arguments: Any) -> Any:
            seen.append(arguments["input_ids"].shape[0])
            return super().__call__(**arguments)

    metrics = Updater(chosen, policy, Watched(policy), None, dtype=None).update(data, step=0)
    assert metrics["policy/updates"] == 1
    assert sum(size for size in seen if size == 1) == 2, "each prompt that teaches is read once"

    data.advantages.zero_()
    before = [p.clone() for p in policy.parameters()]
    metrics = Updater(chosen, policy, CausalForward(policy), None, dtype=None).update(data, step=0)
    assert metrics["policy/updates"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
