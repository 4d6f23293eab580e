from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.run_control import stop_on_signals
from alignment.token_training import TokenTrainingSettings, make_loss_function, wsd_factor

RUN = TokenTrainingSettings(
    work_dir=Path("unused"), total_steps=100, warmup_steps=10, decay_steps=20, final_lr_share=0.1
)


def test_the_rate_rises_stays_and_falls() -> None:
    """Warm-up, stable, decay at their corners."""
    expected = {0: 0.1, 9: 1.0, 50: 1.0, 80: 1.0, 90: 0.55, 100: 0.1}

    assert {step: pytest.approx(wsd_factor(step, RUN)) for step in expected} == expected


@given(step=st.integers(0, 1000))
def test_the_rate_is_never_zero_nor_above_its_peak(step: int) -> None:
    """Also past the planned end."""
    assert 0 < wsd_factor(step, RUN) <= 1


def test_prolonging_a_run_leaves_its_stable_part_alone() -> None:
    """A longer run has the same rates until the shorter one would have decayed."""
    longer = TokenTrainingSettings(work_dir=Path("unused"), total_steps=300, warmup_steps=10, decay_steps=20)

    assert [wsd_factor(n, RUN) for n in range(80)] == [wsd_factor(n, longer) for n in range(80)]


@pytest.mark.parametrize(
    ("field", "value"), [("total_steps", 0), ("muon_lr", -1.0), ("decay_steps", 95), ("final_lr_share", 2.0)]
)
def test_settings_that_cannot_work_are_refused_by_name(field: str, value: float) -> None:
    """The error names the field."""
    values = {"total_steps": 100, "warmup_steps": 10, "decay_steps": 20, field: value}
    with pytest.raises(ValueError, match=field):
        TokenTrainingSettings(work_dir=Path("unused"), **values)  # type: ignore[arg-type]  # one value is wrong on purpose


def test_sigterm_asks_the_loop_to_stop() -> None:
    """The signal sets a flag inside the block; outside, handlers are as before."""
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)

        assert stop.is_set
    assert before == signal.getsignal(signal.SIGTERM)


def test_leaving_out_the_places_that_weigh_nothing_changes_neither_loss_nor_gradient() -> None:
    """Logits are computed where a loss counts; the sum is the same."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)  # fmt: skip
    model = LlamaForCausalLM(config)
    settings = TokenTrainingSettings(work_dir=Path("unused"), precision="float32", compile=False)
    ids, weights = torch.randint(50, (3, 12)), torch.zeros(3, 12)
    weights[:, 8:], weights[1, 5] = 1.0, 0.25
    results = []
    for mostly_unweighted in (False, True):
        function = make_loss_function(
            model, settings, torch.device("cpu"), mostly_unweighted=mostly_unweighted
        )
        model.zero_grad()
        loss = function(ids, weights)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        results.append((loss.detach(), model.lm_head.weight.grad.clone()))

    torch.testing.assert_close(results[0], results[1])
