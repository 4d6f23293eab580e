"""What the admin page's acts do: collections and their readers, documents, people. Plain functions on services, a person and values.

Every change leaves a line in the audit trail. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatbot.passwords import generate_password
from chatbot.records import User
from knowledge_base.errors import UsageError
from knowledge_base.records import Document
from ui.fragments import Act

if TYPE_CHECKING:
    from ui.wiring import Services

EVERYONE = "everyone"
"""In place of a group: every employee."""
MAX_SHOWN_DOCUMENTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPassword:
    """A password just made; shown once and kept nowhere."""

    user: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFilter:
    """Which documents the list shows."""

    collection: str = ""
    search: str = ""


def change_collection(services: Services, user: User, act: Act) -> str:
    """Carry out create-collection, grant, revoke, open or restrict; returns a message.

    Raises:
        UsageError: a name is not valid, or there is no such act.
        NotFoundError: there is no such collection.
    """
    name = act.text("collection")
    if act.name == "create-collection":
        return create_collection(services, user, act)
    if act.name == "grant":
        services.change_readers(name, act.text("group"), allow=True, actor=user.name)
        return f"{act.text('group')} may now read {name}."
    if act.name == "revoke":
        services.change_readers(name, act.text("group"), allow=False, actor=user.name)
        return f"{act.text('group')} may no longer read {name}. The next question obeys."
    if act.name == "open":
        services.change_readers(name, EVERYONE, allow=True, actor=user.name)
        return f"Every employee may now read {name}."
    if act.name == "restrict":
        services.change_readers(name, EVERYONE, allow=False, actor=user.name)
        return f"{name} is restricted to its groups."
    raise _unknown_act(act)


def create_collection(services: Services, user: User, act: Act) -> str:
    """Add a collection: open when the readers are `everyone` or left out, else for the groups named."""
    groups = split_groups(act.text("groups"))
    is_open = not groups or EVERYONE in groups
    made = services.knowledge.create_collection(
        act.text("name"), title=act.text("title"), owner=act.text("owner"), groups=None if is_open else groups
    )
    services.audit.record(
        user.name, "collection.create", made.name, owner=made.owner, groups=[EVERYONE] if is_open else groups
    )
    return f"The collection {made.name} is ready for documents."


def find_documents(services: Services, wanted: DocumentFilter) -> tuple[Sequence[Document], int]:
    """The documents to show, and how many match in all.

    Raises:
        NotFoundError: there is no such collection.
    """
    words = wanted.search.casefold().split()
    found = [
        document
        for document in services.knowledge.list_documents(wanted.collection or None)
        if all(word in f"{document.path} {document.title}".casefold() for word in words)
    ]
    return found[:MAX_SHOWN_DOCUMENTS], len(found)


def delete_document(services: Services, user: User, document_id: str) -> str:
    """Delete a document; returns a message.

    Raises:
        NotFoundError: there is none of this id.
    """
    path = services.knowledge.get_document(document_id).path
    advice = services.delete_document(document_id, actor=user.name).advice()
    return f"{path} is deleted, and so are the answers and judgements that rested on it. {advice}".strip()


def add_user(services: Services, user: User, act: Act) -> NewPassword:
    """Make an account with a password that only the caller sees.

    Raises:
        UsageError: the name, role or a group breaks its rules, or the name is taken.
    """
    password = generate_password()
    made = services.accounts.add(
        act.text("name"),
        role=act.text("role") or "employee",
        groups=split_groups(act.text("groups")),
        password=password,
    )
    services.audit.record(user.name, "user.add", made.name, role=made.role, groups=sorted(made.groups))
    return NewPassword(user=made.name, password=password)


def reset_password(services: Services, user: User, user_id: str) -> NewPassword:
    """Give a person another password and end their sessions.

    Raises:
        NotFoundError: there is no such user.
    """
    person = services.accounts.get(user_id)
    password = generate_password()
    services.accounts.set_password(user_id, password)
    services.audit.record(user.name, "user.reset_password", person.name)
    return NewPassword(user=person.name, password=password)


def change_user(services: Services, user: User, act: Act) -> str:
    """Carry out set-user, disable or enable; returns a message.

    Raises:
        UsageError: it would lock the caller out, a role or group breaks its rules, or there is no such act.
        NotFoundError: there is no such user.
    """
    person = services.accounts.get(act.text("user"))
    if person.id == user.id and (act.name == "disable" or act.text("role") not in ("", user.role)):
        raise UsageError("you cannot take your own rights away: ask another administrator")
    if act.name == "disable":
        services.accounts.disable(person.id)
        services.audit.record(user.name, "user.disable", person.name)
        return f"{person.name} is disabled and signed out everywhere."
    if act.name == "enable":
        services.accounts.enable(person.id)
        services.audit.record(user.name, "user.enable", person.name)
        return f"{person.name} may sign in again."
    if act.name == "set-user":
        changed = services.accounts.set_role(person.id, act.text("role"))
        changed = services.accounts.set_groups(person.id, split_groups(act.text("groups")))
        services.audit.record(
            user.name, "user.change", person.name, role=changed.role, groups=sorted(changed.groups)
        )
        return f"{person.name} is saved."
    raise _unknown_act(act)


def delete_user(services: Services, user: User, user_id: str) -> str:
    """Delete a person and all that is theirs; returns a message.

    Raises:
        UsageError: it is the caller, or the last administrator.
        NotFoundError: there is no such user.
    """
    person = services.accounts.get(user_id)
    if person.id == user.id:
        raise UsageError("you cannot delete your own account: ask another administrator")
    advice = services.delete_user(person.id, actor=user.name).advice()
    return f"{person.name} is deleted, with all they asked and judged. {advice}".strip()


def split_groups(text: str) -> list[str]:
    """Group names typed with commas between them.

    >>> split_groups(" hr, finance ,,hr")
    ['finance', 'hr']
    """
    return sorted({part.strip() for part in text.split(",") if part.strip()})


def _unknown_act(act: Act) -> UsageError:
    return UsageError(f"the page sent an unknown act {act.name[:40]!r}: reload it")
