from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from alignment.settings import SettingsError, apply_overrides


@dataclass(frozen=True, kw_only=True)
class Example:
    """Every kind of field an override can set."""

    steps: int = 3
    rate: float = 0.1
    on: bool = False
    folder: Path | None = None
    mode: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1")


def test_each_override_gets_its_fields_type() -> None:
    """Text becomes what the annotation says."""
    given = [
        "steps=1_000",
        "rate=1e-3",
        "on=yes",
        "folder=a/b",
        "mode=slow",
        "names=x, y",
        "weights=a:2,b:0.5",
    ]

    assert apply_overrides(Example, given) == Example(
        steps=1000,
        rate=1e-3,
        on=True,
        folder=Path("a/b"),
        mode="slow",
        names=("x", "y"),
        weights={"a": 2.0, "b": 0.5},
    )


def test_an_instance_keeps_what_is_not_overridden() -> None:
    """Overrides change an existing value without touching the rest."""
    assert apply_overrides(Example(steps=7, rate=0.5), ["rate=0.25"]) == Example(steps=7, rate=0.25)


def test_an_optional_field_takes_none() -> None:
    """`none` empties a field that may be empty."""
    assert apply_overrides(Example(folder=Path("a")), ["folder=none"]).folder is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("speed=3", "Legal names: steps, rate"),
        ("steps", "not name=value"),
        ("steps=many", "not a whole number"),
        ("on=perhaps", "neither true nor false"),
        ("mode=medium", "fast, slow"),
        ("weights=a", "key:value"),
        ("steps=0", "must be at least 1"),
    ],
)
def test_a_wrong_override_says_what_is_legal(override: str, message: str) -> None:
    """The error names the legal names or values."""
    with pytest.raises(SettingsError, match=message):
        apply_overrides(Example, [override])
