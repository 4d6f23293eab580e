"""What every page event does first and last: find the person and check the role; turn a failure into one friendly line.

Events of a mounted page can be called by any program with a session, so each one asks again who is calling; the page's own
authorisation only decides who sees it. Knows nothing of what the events do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import structlog

from chatbot.records import Role, User
from knowledge_base.errors import AccessDeniedError, TacitError
from ui.fragments import notice

if TYPE_CHECKING:
    from ui.wiring import Services

log = structlog.get_logger(__name__)

T = TypeVar("T")

UNEXPECTED = "Something went wrong on our side. It has been logged; try again, or tell your administrator."


def signed_in(services: Services, name: str | None, role: Role | None = None) -> User:
    """The person behind a page event, when they may cause it.

    Args:
        services: To look the account up.
        name: `request.username`.
        role: The role needed; None for everybody with an account.

    Raises:
        AccessDeniedError: nobody is signed in, the account is disabled, or the role is another one by now.
        NotFoundError: the account is gone.
    """
    if not name:
        raise AccessDeniedError("you are signed out: sign in again")
    user = services.user(name)
    if role is not None and user.role != role:
        raise AccessDeniedError(f"this needs the role {role}")
    return user


def attempt(action: Callable[[], T]) -> tuple[T | None, str]:
    """Do it; returns its value and no message, or None and the message to show as HTML."""
    try:
        return action(), ""
    except Exception as error:  # noqa: BLE001 -- the edge of the product: a page shows a line, never a traceback
        return None, explain(error)


def explain(error: Exception) -> str:
    """An error as the HTML of a notice: our own in their words, any other logged and kept from view."""
    if isinstance(error, TacitError):
        log.info("page_event_refused", error=type(error).__name__, reason=str(error))
        return notice(sentence(str(error)), "error")
    log.error("page_event_failed", exc_info=error)
    return notice(UNEXPECTED, "error")


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop, as pages show it.

    >>> sentence("the question is empty: type one")
    'The question is empty: type one.'
    """
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
