"""The admin page's handlers: readers, documents, people, each with its line in the audit trail, and for admins only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chatbot.records import User
from knowledge_base.errors import AccessDeniedError, NotFoundError, UsageError
from tests.ui.page_fakes import act, add_user
from ui import admin_handlers, admin_view
from ui.admin_page import _AdminEvents
from ui.wiring import Services


@pytest.fixture
def jonas(services: Services) -> User:
    """An administrator."""
    return add_user(services, "jonas", "admin", groups=["hr"])


def last_action(services: Services) -> tuple[str, str]:
    """Who did what last."""
    event = services.audit.list(1)[0]
    return event.actor, event.action


def test_granting_and_revoking_change_who_may_read(services: Services, jonas: User) -> None:
    """The next question obeys, and the trail says who did it."""
    admin_handlers.change_collection(services, jonas, act("grant", collection="hr-files", group="legal"))
    assert {"hr", "legal"} == services.knowledge.get_collection("hr-files").groups

    admin_handlers.change_collection(services, jonas, act("revoke", collection="hr-files", group="hr"))

    assert {"legal"} == services.knowledge.get_collection("hr-files").groups
    assert ("jonas", "collection.revoke") == last_action(services)


def test_opening_and_restricting(services: Services, jonas: User) -> None:
    """Everyone, and back to the groups."""
    admin_handlers.change_collection(services, jonas, act("open", collection="hr-files"))
    assert services.knowledge.get_collection("hr-files").is_open

    admin_handlers.change_collection(services, jonas, act("restrict", collection="hr-files"))

    assert not services.knowledge.get_collection("hr-files").is_open


@pytest.mark.parametrize(("groups", "is_open"), [("", True), ("everyone", True), ("hr, legal", False)])
def test_a_new_collection_has_an_owner_and_readers(
    services: Services, jonas: User, groups: str, is_open: bool
) -> None:
    """Open unless groups are named."""
    admin_handlers.change_collection(
        services, jonas, act("create-collection", name="legal", title="Legal", owner="Lea", groups=groups)
    )

    made = services.knowledge.get_collection("legal")
    assert ("Lea", is_open) == (made.owner, made.is_open)
    assert "collection.create" == last_action(services)[1]


def test_documents_are_found_by_words_and_collection(services: Services) -> None:
    """Path or title, any case."""
    found, n_matching = admin_handlers.find_documents(services, admin_handlers.DocumentFilter(search="LEAVE"))
    of_hr, _ = admin_handlers.find_documents(services, admin_handlers.DocumentFilter(collection="hr-files"))

    assert (["leave.md"], 1) == ([d.path for d in found], n_matching)
    assert ["pay.md"] == [d.path for d in of_hr]


def test_a_deleted_document_is_gone(services: Services, jonas: User) -> None:
    """From the list and from retrieval."""
    document = services.knowledge.list_documents("handbook")[0]

    admin_handlers.delete_document(services, jonas, document.id)

    assert document.id not in {d.id for d in services.knowledge.list_documents()}
    with pytest.raises(NotFoundError):
        admin_handlers.delete_document(services, jonas, document.id)


def test_a_new_person_gets_a_password_that_works_and_is_stored_nowhere(
    services: Services, jonas: User
) -> None:
    """Shown once."""
    secret = admin_handlers.add_user(
        services, jonas, act("add-user", name="bob", role="employee", groups="it")
    )

    assert services.sign_in.sign_in("bob", secret.password)
    assert secret.password not in str(services.audit.list(10))
    people = services.accounts.list()
    assert secret.password in admin_view.render_people(people, jonas, secret)
    assert secret.password not in admin_view.render_people(people, jonas)


def test_role_and_groups_are_changed_together(services: Services, jonas: User) -> None:
    """From the next request on."""
    bob = add_user(services, "bob")

    admin_handlers.change_user(services, jonas, act("set-user", user=bob.id, role="ops", groups="it, hr"))

    changed = services.accounts.get(bob.id)
    assert ("ops", {"it", "hr"}) == (changed.role, changed.groups)


def test_disabling_and_enabling(services: Services, jonas: User) -> None:
    """A disabled person may do nothing."""
    bob = add_user(services, "bob")

    admin_handlers.change_user(services, jonas, act("disable", user=bob.id))
    with pytest.raises(AccessDeniedError):
        services.user("bob")
    admin_handlers.change_user(services, jonas, act("enable", user=bob.id))

    assert "bob" == services.user("bob").name


def test_a_person_is_deleted(services: Services, jonas: User) -> None:
    """From the list; the message says what went, the trail who did it, under no name."""
    bob = add_user(services, "bob")

    message = admin_handlers.delete_user(services, jonas, bob.id)

    assert "bob is deleted" in message
    assert services.accounts.find("bob") is None
    assert ("jonas", "user.delete") == last_action(services)
    assert "bob" not in repr(services.audit.list())


def test_admins_cannot_delete_themselves(services: Services, jonas: User) -> None:
    """By a slip; another administrator can."""
    with pytest.raises(UsageError, match="your own account"):
        admin_handlers.delete_user(services, jonas, jonas.id)

    assert services.accounts.find("jonas") is not None


def test_the_page_asks_before_it_deletes_a_person(services: Services, jonas: User) -> None:
    """And offers it for everybody but oneself."""
    bob = add_user(services, "bob")
    shown = admin_view.render_people(services.accounts.list(), jonas)
    (before, after) = shown.split("delete-user")

    assert "Delete bob for good?" in after
    assert bob.id in after
    assert "Delete jonas" not in before + after


@pytest.mark.parametrize("name", ["disable", "set-user"])
def test_admins_cannot_lock_themselves_out(services: Services, jonas: User, name: str) -> None:
    """Somebody must remain who can undo it."""
    with pytest.raises(UsageError, match="own rights"):
        admin_handlers.change_user(services, jonas, act(name, user=jonas.id, role="employee"))


@pytest.mark.parametrize("role", ["employee", "ops"])
def test_every_event_refuses_other_roles(services: Services, role: str) -> None:
    """The page being hidden is not enough: each event asks again, and changes nothing."""
    add_user(services, "mallory", role)
    events, request = _AdminEvents(services), _request("mallory")
    document = services.knowledge.list_documents("handbook")[0]

    refusals = [
        events.on_documents(_event("delete-document", id=document.id), ("", ""), request)[-1],
        events.on_collections(_event("open", collection="hr-files"), request)[-1],
        events.on_people(_event("add-user", name="eve", role="admin"), request)[-1],
        events.on_people(_event("delete-user", user=add_user(services, "bob").id), request)[-1],
    ]
    for direct in (events.load, lambda r: events.on_tick("", ("", ""), r)):
        with pytest.raises(AccessDeniedError):
            direct(request)

    assert all("needs the role admin" in refusal for refusal in refusals)
    assert services.knowledge.get_document(document.id)
    assert not services.knowledge.get_collection("hr-files").is_open
    assert services.accounts.find("eve") is None
    assert services.accounts.find("bob") is not None


def test_names_from_outside_are_escaped(services: Services, jonas: User) -> None:
    """Titles and owners are data."""
    services.knowledge.create_collection("x", title="<img src=x>", owner="<script>")

    shown = admin_view.render_collections(services.knowledge.list_collections())

    assert "<img" not in shown
    assert "<script>" not in shown


def _request(name: str) -> Any:
    return SimpleNamespace(username=name)


def _event(name: str, /, **fields: str) -> Any:
    return SimpleNamespace(act=name, fields={key: [value] for key, value in fields.items()})
