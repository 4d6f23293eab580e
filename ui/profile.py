"""Stronger parts for machines that reach a model hub, as one setting, with the embedded parts where one is not to be had.

Knows the ids and nothing else: the parts are loaded by the code that loads any directory or id. What the file or the environment says of a part
goes before its profile, and is then never replaced by the embedded one in silence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from ui.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """Which parts find, rank and write, where their own sections do not say."""

    name: Literal["embedded", "hub"] = "embedded"
    """`embedded`: those that ship with Tacit, no hub is contacted. `hub`: stronger ones by their hub ids (5 GB; 8 GB of memory), fetched at
    the first use; one that cannot be had is replaced by the embedded one, and `tacit doctor` tells."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A part that a profile names."""

    part: str
    section: str
    field: str
    model: str
    embedded: str
    """What does its work without it."""


HUB = (
    Choice("embedder", "embedder", "model", "thenlper/gte-base", "all-MiniLM-L6-v2"),
    Choice("reranker", "reranker", "model", "Alibaba-NLP/gte-reranker-modernbert-base", "none"),
    Choice("base model", "model", "base", "Qwen/Qwen2.5-1.5B-Instruct", "the embedded model"),
)
"""Each under the Apache or MIT licence, as safetensors. The embedder reads questions and passages alike, without a prefix."""


def defaults_of(profile: ProfileSettings, section: str) -> list[str]:
    """What a profile says in a section, as `name=value` texts.

    >>> defaults_of(ProfileSettings(name="hub"), "embedder")
    ['model=thenlper/gte-base']
    >>> defaults_of(ProfileSettings(), "embedder")
    []
    """
    return [f"{c.field}={c.model}" for c in _choices(profile) if c.section == section]


def with_embedded_where_missing(
    settings: Settings, is_at_hand: Callable[[str], bool]
) -> tuple[Settings, list[str]]:
    """Replace those of a profile's parts that are not to be had.

    Args:
        settings: As loaded.
        is_at_hand: Whether a model of this id can be loaded.

    Returns:
        The settings to run with, and a line for each part of the profile.
    """
    lines = []
    for choice in _choices(settings.profile):
        section = getattr(settings, choice.section)
        named = getattr(section, choice.field)
        if named != choice.model:
            lines.append(f"{choice.part} {named or choice.embedded} (your own setting)")
        elif is_at_hand(named):
            lines.append(f"{choice.part} {named}")
        else:
            log.warning("profile_part_missing", part=choice.part, model=named, instead=choice.embedded)
            lines.append(f"{choice.part} {choice.embedded}, because {named} could not be fetched")
            settings = dataclasses.replace(
                settings, **{choice.section: dataclasses.replace(section, **{choice.field: ""})}
            )
    return settings, lines


def _choices(profile: ProfileSettings) -> tuple[Choice, ...]:
    return HUB if profile.name == "hub" else ()
