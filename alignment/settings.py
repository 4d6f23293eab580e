"""Overrides given as text, `name=value`, applied to any settings dataclass.

Knows nothing of what the settings mean: types come from the dataclass's annotations, and the dataclass's own `__post_init__`
judges the values. Differs from a configuration library in that there is no file format and no nesting: one flat dataclass a stage.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

S = TypeVar("S")

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(ValueError):
    """An override that cannot be applied; the message names the legal names or values. Trying again does not help."""


@typing.overload
def apply_overrides(settings: type[S], overrides: Sequence[str]) -> S: ...
@typing.overload
def apply_overrides(settings: S, overrides: Sequence[str]) -> S: ...
def apply_overrides(settings: type[S] | S, overrides: Sequence[str]) -> S:
    """Settings with some fields replaced by values written as text.

    Args:
        settings: A settings dataclass, or an instance whose values stay where nothing overrides them.
        overrides: `name=value` each; lists are `a,b`, mappings `key:value,key:value`, an optional field takes `none`.

    Raises:
        SettingsError: For an override without `=`, an unknown name, a value that does not fit the field's type, a required
            field left out, or a value the dataclass itself refuses.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Example:
    ...     steps: int = 3
    >>> apply_overrides(Example, ["steps=5"])
    Example(steps=5)
    """
    owner = settings if isinstance(settings, type) else type(settings)
    if not dataclasses.is_dataclass(owner):
        raise TypeError(f"{owner!r} is not a dataclass")
    types_by_name = typing.get_type_hints(owner)
    legal = [field.name for field in dataclasses.fields(owner) if field.init]
    values: dict[str, Any] = {}
    for override in overrides:
        name, separator, text = override.partition("=")
        name = name.strip()
        if not separator:
            raise SettingsError(f"{override!r} is not name=value. Legal names: {', '.join(legal)}.")
        if name not in legal:
            raise SettingsError(f"Unknown setting {name!r}. Legal names: {', '.join(legal)}.")
        values[name] = _parse(name, text.strip(), types_by_name[name])
    try:
        if isinstance(settings, type):
            return settings(**values)
        return dataclasses.replace(settings, **values)  # type: ignore[type-var]  # checked to be a dataclass above
    except ValueError as error:
        raise SettingsError(str(error)) from error
    except TypeError as error:
        raise SettingsError(f"{owner.__name__}: {error}. Legal names: {', '.join(legal)}.") from error


def _parse(name: str, text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() in {"none", ""}:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _parse(name, text, inner[0])
    if origin is typing.Literal:
        return _parse_choice(name, text, arguments)
    if origin in (tuple, list, Sequence):
        return tuple(_parse(name, part.strip(), arguments[0]) for part in text.split(",") if part.strip())
    if origin in (dict, Mapping):
        return _parse_mapping(name, text, arguments[1])
    return _parse_scalar(name, text, kind)


def _parse_choice(name: str, text: str, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(choice) == text:
            return choice
    raise SettingsError(f"{name}={text!r} is not one of {', '.join(map(str, choices))}.")


def _parse_mapping(name: str, text: str, kind: Any) -> dict[str, Any]:
    pairs = [part.partition(":") for part in text.split(",") if part.strip()]
    if any(not separator for _, separator, _ in pairs):
        raise SettingsError(f"{name}={text!r} is not key:value,key:value.")
    return {key.strip(): _parse(name, value.strip(), kind) for key, _, value in pairs}


def _parse_scalar(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise SettingsError(f"{name}={text!r} is neither true nor false.")
    if kind is Path:
        return Path(text).expanduser()
    if kind is str:
        return text
    if kind in (int, float):
        try:
            return kind(text.replace("_", ""))
        except ValueError:
            raise SettingsError(
                f"{name}={text!r} is not {'a whole number' if kind is int else 'a number'}."
            ) from None
    raise SettingsError(f"{name} cannot be set as text: its type is {kind}.")
