"""Preference functions: a simulated employee's taste, written by anyone as `prefer(question, answers) -> ranking`.

Loads them from `FILE.py:FUNCTION`, checks what they return, and shows them answers in a random order so that no function can win by
favouring a position. Running one runs its author's code with this process's rights: it is a developer's tool, never an upload.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from chatbot.records import Answer
from knowledge_base.errors import UsageError

PreferenceFunction = Callable[[str, Sequence[Answer]], Sequence[Sequence[int]]]
"""Indices of the answers, best first, equals together: `[[2], [0, 1]]`."""

Ranking = tuple[tuple[int, ...], ...]


def load_preferences(reference: str) -> PreferenceFunction:
    """Load `FILE.py:FUNCTION`.

    Raises:
        UsageError: the file or the function is missing, or the file cannot be run.
    """
    file_name, separator, function_name = reference.rpartition(":")
    if not separator or not file_name or not function_name:
        raise UsageError(f"{reference!r} names no preference function: write FILE.py:FUNCTION")
    path = Path(file_name)
    if not path.is_file():
        raise UsageError(f"there is no file {path}: write FILE.py:FUNCTION")
    function: Any = getattr(_import_file(path), function_name, None)
    if not callable(function):
        raise UsageError(f"{path} has no function {function_name!r}")
    checked: PreferenceFunction = function
    return checked


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tacit_preferences_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up here while the file is being run.
    sys.modules[spec.name] = module
    # As for `python FILE.py`: what lies beside it can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def rank(prefer: PreferenceFunction, question: str, answers: Sequence[Answer], rng: random.Random) -> Ranking:
    """Ask the function, with the answers shuffled, and check its verdict.

    Returns:
        The ranking in terms of the order given here.

    Raises:
        UsageError: the function failed, or returned something that is not a ranking of all answers.
    """
    order = list(range(len(answers)))
    rng.shuffle(order)
    try:
        verdict = prefer(question, [answers[i] for i in order])
    except Exception as error:
        raise UsageError(
            f"the preference function failed on {question[:60]!r}: {type(error).__name__}: {error}"
        ) from error
    shown = check_ranking(verdict, len(answers))
    return tuple(tuple(sorted(order[i] for i in group)) for group in shown)


def check_ranking(verdict: object, n: int) -> Ranking:
    """A ranking names every index from 0 to n-1 exactly once.

    Raises:
        UsageError: it does not.

    >>> check_ranking([[1], [0, 2]], 3)
    ((1,), (0, 2))
    """
    try:
        groups = tuple(tuple(int(i) for i in group) for group in verdict if len(group) > 0)  # type: ignore[attr-defined]  # anybody's code returned it; the except names what is wrong
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"a preference function returned {verdict!r}; expected lists of indices, best first"
        ) from error
    if sorted(i for group in groups for i in group) != list(range(n)):
        raise UsageError(
            f"a preference function returned {verdict!r}; expected each of 0..{n - 1} exactly once"
        )
    return groups


def random_ranking(n: int, rng: random.Random) -> Ranking:
    """A ranking by somebody who does not look: a random order with random ties."""
    order = list(range(n))
    rng.shuffle(order)
    groups: list[tuple[int, ...]] = [(order[0],)]
    for index in order[1:]:
        if rng.random() < 0.2:
            groups[-1] = (*groups[-1], index)
        else:
            groups.append((index,))
    return tuple(groups)
