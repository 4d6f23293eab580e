"""Who has an account, and what goes when it goes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chatbot import tables
from chatbot.accounts import Accounts, check_user_name
from chatbot.answers import AnswerStore
from chatbot.conversations import ConversationStore
from chatbot.feedback import FeedbackStore
from chatbot.passwords import Passwords, PasswordSettings, generate_password
from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from tests.chatbot.cast import Clock, add_user, make_answer, quick_passwords


@pytest.fixture
def accounts(db: Database, clock: Clock) -> Accounts:
    """Accounts with quick password hashing."""
    return Accounts(db, quick_passwords(), clock=clock)


def test_an_added_user_comes_back_by_name_and_id(accounts: Accounts) -> None:
    """Both ways give the same record, groups included."""
    alice = accounts.add("alice", role="ops", groups=["hr", "all"])

    assert alice == accounts.by_name("alice") == accounts.get(alice.id)
    assert frozenset({"hr", "all"}) == alice.groups


def test_a_name_differing_in_case_only_is_taken(accounts: Accounts) -> None:
    """Nobody can pose as Alice by a capital letter."""
    accounts.add("alice")

    with pytest.raises(UsageError, match="taken"):
        accounts.add("Alice")


@given(st.text(max_size=80))
def test_only_plain_names_of_limited_length_are_accepted(name: str) -> None:
    """Whatever is accepted needs no escaping anywhere."""
    try:
        check_user_name(name)
    except UsageError:
        return

    assert 1 <= len(name) <= 64
    assert name.isascii()
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-")


@pytest.mark.parametrize(("role", "groups"), [("boss", []), ("employee", ["a,b"]), ("employee", [""])])
def test_an_unknown_role_or_odd_group_is_refused(accounts: Accounts, role: str, groups: list[str]) -> None:
    """The row is not written."""
    with pytest.raises(UsageError):
        accounts.add("alice", role=role, groups=groups)

    assert accounts.find("alice") is None


def test_groups_are_replaced_and_the_role_changed(accounts: Accounts) -> None:
    """Old groups do not linger."""
    alice = accounts.add("alice", groups=["hr"])

    accounts.set_role(alice.id, "admin")
    changed = accounts.set_groups(alice.id, ["it"])

    assert ("admin", frozenset({"it"})) == (changed.role, changed.groups)


def test_an_unknown_user_cannot_be_changed(accounts: Accounts) -> None:
    """Every change says so."""
    for change in (
        accounts.disable,
        accounts.enable,
        accounts.delete,
        lambda i: accounts.set_groups(i, ["x"]),
    ):
        with pytest.raises(NotFoundError):
            change("nobody")


def test_ensure_makes_an_account_once(accounts: Accounts) -> None:
    """Imports and simulations call it for every name they meet."""
    assert accounts.ensure("carol") == accounts.ensure("carol")
    assert ["carol"] == [user.name for user in accounts.list()]


def test_disabling_again_keeps_the_first_time(accounts: Accounts, clock: Clock) -> None:
    """It tells since when the person is gone."""
    alice = accounts.add("alice")
    first = accounts.disable(alice.id).disabled_at
    clock.advance(days=1)

    assert first == accounts.disable(alice.id).disabled_at
    assert accounts.enable(alice.id).disabled_at is None


def test_deleting_a_user_erases_rows_and_words_but_keeps_counts(accounts: Accounts, db: Database) -> None:
    """No text of theirs is left in any table; the answers' numbers are."""
    alice = add_user(db)
    answer = make_answer("Am I ill?", text="Perhaps [1].")
    AnswerStore(db).save(answer, alice.id, "chat")
    conversations = ConversationStore(db)
    conversations.append_turn(
        alice.id, conversations.create(alice.id).id, "Am I ill?", "Perhaps [1].", answer.id
    )
    FeedbackStore(db).rate(alice, answer.id, True, comment="Perhaps so")

    accounts.delete(alice.id)

    with db.read() as connection:
        left = {
            table.name: connection.execute(sa.select(table)).all()
            for table in (
                tables.users,
                tables.user_groups,
                tables.conversations,
                tables.messages,
                tables.judgements,
            )
        }
        row = connection.execute(sa.select(tables.answers)).one()
    assert {name: [] for name in left} == left
    assert row.user_id is None
    assert [word for word in ("Am I ill?", "Perhaps", "25 days", "sunny") if word in repr(row)] == []
    assert AnswerStore(db).figures().n == 1


def test_the_last_administrator_cannot_be_deleted(accounts: Accounts) -> None:
    """A disabled one does not count: nobody could sign in to make another."""
    olga, oleg = accounts.add("olga", role="admin"), accounts.add("oleg", role="admin")
    accounts.disable(oleg.id)
    with pytest.raises(UsageError, match="olga is the last administrator"):
        accounts.delete(olga.id)

    accounts.enable(oleg.id)
    accounts.delete(olga.id)

    assert ["oleg"] == [user.name for user in accounts.list()]


def test_a_generated_password_is_strong_and_typeable() -> None:
    """Sixteen characters from an alphabet without look-alikes, never the same twice."""
    made = {generate_password() for _ in range(200)}

    assert len(made) == 200
    assert all(len(password.replace("-", "")) == 16 for password in made)
    assert not set("".join(made)) & set("0o1li")


def test_password_hashes_are_argon2id_and_salted() -> None:
    """The same password gives another hash each time."""
    passwords = quick_passwords()
    first, second = passwords.hash("correct horse"), passwords.hash("correct horse")

    assert first.startswith("$argon2id$")
    assert first != second
    assert passwords.matches("correct horse", first)


@pytest.mark.parametrize("password", ["short", "x" * 257])
def test_too_short_or_too_long_passwords_are_refused(accounts: Accounts, password: str) -> None:
    """The message gives the limits."""
    with pytest.raises(UsageError, match="8 to 256"):
        accounts.add("alice", password=password)


def test_a_long_guess_never_matches_by_its_beginning() -> None:
    """Guesses are cut before hashing, but not before comparing."""
    passwords = Passwords(PasswordSettings(iterations=1, memory_kib=8, lanes=1, max_characters=8))

    assert not passwords.matches("12345678x", passwords.hash("12345678"))


def test_password_settings_name_the_bad_value() -> None:
    """Construction fails, not the first sign-in."""
    with pytest.raises(ValueError, match="memory_kib=4"):
        PasswordSettings(memory_kib=4)


def test_the_last_administrator_is_neither_disabled_nor_given_another_role(accounts: Accounts) -> None:
    """As with deleting: nobody could undo it on the pages."""
    olga = accounts.add("olga", role="admin")
    for change in (lambda: accounts.disable(olga.id), lambda: accounts.set_role(olga.id, "employee")):
        with pytest.raises(UsageError, match="olga is the last administrator"):
            change()

    assert ("admin", None) == (accounts.get(olga.id).role, accounts.get(olga.id).disabled_at)


def test_two_administrators_who_were_both_disabled_are_not_both_deleted(
    accounts: Accounts, db: Database, clock: Clock
) -> None:
    """As when each deletes the other at once: deleting begins with disabling."""
    pair = [accounts.add(name, role="admin") for name in ("olga", "oleg")]
    with db.write() as connection:
        connection.execute(sa.update(tables.users).values(disabled_at=clock.at))
    for user in pair:
        with pytest.raises(UsageError, match="is the last administrator"):
            accounts.delete(user.id)
