"""Muon in float32 is torch's Muon, more exactly computed."""

from __future__ import annotations

import pytest
import torch

from alignment.muon import Float32Muon, orthogonalise

SETTINGS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}


def weights_after(
    optimizer_class: type[torch.optim.Muon], shape: tuple[int, int], steps: int
) -> torch.Tensor:
    """The same gradients applied by an optimiser."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    optimizer = optimizer_class([weight], **SETTINGS)
    for _ in range(steps):
        weight.grad = torch.randn(shape, generator=generator)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32)])
def test_it_does_what_torchs_muon_does(shape: tuple[int, int]) -> None:
    """Momentum, decay, scale and orthogonalisation agree, up to bfloat16's rounding."""
    expected, actual = (weights_after(kind, shape, steps=5) for kind in (torch.optim.Muon, Float32Muon))

    assert (expected - actual).abs().max() < 0.02 * (
        expected - weights_after(Float32Muon, shape, steps=0)
    ).abs().max()


def test_singular_values_come_out_near_one() -> None:
    """Whatever they were."""
    matrix = torch.randn(24, 64, generator=torch.Generator().manual_seed(1)) * 100
    values = torch.linalg.svdvals(orthogonalise(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7))

    assert 0.3 < values.min() <= values.max() < 1.3


def test_a_checkpoint_of_torchs_muon_loads() -> None:
    """A run goes on from either."""
    weight = torch.nn.Parameter(torch.ones(8, 8))
    weight.grad = torch.eye(8)
    old, new = torch.optim.Muon([weight], **SETTINGS), Float32Muon([weight], **SETTINGS)
    old.step()
    new.load_state_dict(old.state_dict())

    assert torch.equal(old.state[weight]["momentum_buffer"], new.state[weight]["momentum_buffer"])


def test_a_closure_is_refused() -> None:
    """Silently not calling it would train on nothing."""
    with pytest.raises(ValueError, match="closure"):
        Float32Muon([torch.nn.Parameter(torch.ones(2, 2))]).step(lambda: None)
