"""Sessions and keys: who gets in, and what stops working at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from chatbot import tables
from chatbot.accounts import Accounts
from chatbot.errors import SignInError
from chatbot.passwords import Passwords
from chatbot.records import User
from chatbot.sign_in import ApiKeys, SignIn, SignInSettings
from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from tests.chatbot.cast import Clock, quick_passwords

PASSWORD = "correct horse"


class CountingPasswords(Passwords):
    """Counts checks: the expensive part that a stopwatch would see."""

    def __init__(self) -> None:
        super().__init__(quick_passwords().settings)
        self.checks = 0

    def matches(self, password: str, stored: str | None) -> bool:
        """Count, then check."""
        self.checks += 1
        return super().matches(password, stored)


@pytest.fixture
def accounts(db: Database) -> Accounts:
    """Accounts with quick password hashing."""
    return Accounts(db, quick_passwords())


@pytest.fixture
def alice(accounts: Accounts) -> User:
    """She has a password."""
    return accounts.add("alice", password=PASSWORD)


@pytest.fixture
def sign_in(db: Database, clock: Clock) -> SignIn:
    """Three tries, then a wait."""
    return SignIn(db, SignInSettings(max_attempts=3), quick_passwords(), clock=clock)


def test_the_right_password_opens_a_session(sign_in: SignIn, alice: User) -> None:
    """Names are looked up ignoring case, as people type them."""
    assert alice == sign_in.user_of_session(sign_in.sign_in("Alice", PASSWORD))


def test_signing_out_revokes_at_once(sign_in: SignIn, alice: User) -> None:
    """Only this session."""
    first, second = sign_in.sign_in("alice", PASSWORD), sign_in.sign_in("alice", PASSWORD)

    sign_in.sign_out(first)

    assert (None, alice) == (sign_in.user_of_session(first), sign_in.user_of_session(second))


def test_all_failures_read_the_same(sign_in: SignIn, accounts: Accounts, alice: User) -> None:
    """Unknown, odd name, no password, disabled, wrong password, too many tries: one message."""
    accounts.add("robot")
    accounts.disable(accounts.add("gone", password=PASSWORD).id)
    messages = set()
    for name in ("nobody", "no body\n", "robot", "gone", "alice", "alice", "alice", "alice"):
        with pytest.raises(SignInError) as caught:
            sign_in.sign_in(name, PASSWORD if name == "gone" else "wrong")
        messages.add(str(caught.value))

    assert len(messages) == 1


@pytest.mark.parametrize("name", ["alice", "nobody", "robot", "gone", "x" * 500])
def test_every_failure_costs_one_password_check(
    db: Database, accounts: Accounts, alice: User, name: str
) -> None:
    """A stopwatch does not tell which names exist."""
    accounts.add("robot")
    accounts.disable(accounts.add("gone", password=PASSWORD).id)
    passwords = CountingPasswords()

    with pytest.raises(SignInError):
        SignIn(db, passwords=passwords).sign_in(name, "wrong guess")

    assert passwords.checks == 1


def test_after_too_many_tries_even_the_right_password_waits(
    sign_in: SignIn, alice: User, clock: Clock
) -> None:
    """And is let in again when the window has passed."""
    for _ in range(3):
        with pytest.raises(SignInError):
            sign_in.sign_in("alice", "wrong guess")
    with pytest.raises(SignInError):
        sign_in.sign_in("ALICE", PASSWORD)

    clock.advance(minutes=15)

    assert sign_in.sign_in("alice", PASSWORD)


def test_a_success_clears_the_tries(sign_in: SignIn, alice: User) -> None:
    """People who mistype now and then are never locked out."""
    for _ in range(4):
        with pytest.raises(SignInError):
            sign_in.sign_in("alice", "wrong guess")
        assert sign_in.sign_in("alice", PASSWORD)


def test_guesses_sent_all_at_once_are_all_counted(db: Database, alice: User) -> None:
    """Parallel requests do not slip under the limit."""
    passwords = CountingPasswords()
    sign_in = SignIn(db, SignInSettings(max_attempts=5), passwords)

    def guess(_: int) -> bool:
        with pytest.raises(SignInError):
            sign_in.sign_in("alice", "wrong guess")
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(guess, range(16)))
    with db.read() as connection:
        assert len(connection.execute(sa.select(tables.login_attempts)).all()) == 5


def test_a_session_slides_with_use_but_not_for_ever(sign_in: SignIn, alice: User, clock: Clock) -> None:
    """Used every week it lives to its longest age, then ends."""
    token = sign_in.sign_in("alice", PASSWORD)
    for _ in range(12):
        clock.advance(days=7)
        assert sign_in.user_of_session(token) is not None

    clock.advance(days=6.5)

    assert sign_in.user_of_session(token) is None


def test_an_unused_session_ends(sign_in: SignIn, alice: User, clock: Clock) -> None:
    """Fourteen days without use."""
    token = sign_in.sign_in("alice", PASSWORD)
    clock.advance(days=14)

    assert sign_in.user_of_session(token) is None


def test_disabling_stops_sessions_and_keys_at_once(
    sign_in: SignIn, accounts: Accounts, alice: User, db: Database
) -> None:
    """Nothing that was handed out before works."""
    keys = ApiKeys(db)
    token, (_, secret) = sign_in.sign_in("alice", PASSWORD), keys.create(alice.id, "script")

    accounts.disable(alice.id)

    assert (None, None) == (sign_in.user_of_session(token), keys.user_of_key(secret))


def test_enabling_again_does_not_revive_sessions(sign_in: SignIn, accounts: Accounts, alice: User) -> None:
    """They ended when the account was shut."""
    token = sign_in.sign_in("alice", PASSWORD)
    accounts.disable(alice.id)
    accounts.enable(alice.id)

    assert sign_in.user_of_session(token) is None


def test_a_new_password_ends_all_sessions(sign_in: SignIn, accounts: Accounts, alice: User) -> None:
    """Whoever stole the old one is out."""
    token = sign_in.sign_in("alice", PASSWORD)
    accounts.set_password(alice.id, "another horse")

    assert sign_in.user_of_session(token) is None
    assert sign_in.sign_in("alice", "another horse")


def test_a_password_changed_while_it_was_checked_opens_nothing(
    db: Database, accounts: Accounts, alice: User
) -> None:
    """Between reading the hash and opening the session an administrator may act."""

    class SlowPasswords(CountingPasswords):
        def matches(self, password: str, stored: str | None) -> bool:
            accounts.set_password(alice.id, "another horse")
            return super().matches(password, stored)

    with pytest.raises(SignInError):
        SignIn(db, passwords=SlowPasswords()).sign_in("alice", PASSWORD)


def test_the_database_holds_no_token_and_no_key(sign_in: SignIn, alice: User, db: Database) -> None:
    """Only digests: a copy of it opens no door."""
    token, (_, secret) = sign_in.sign_in("alice", PASSWORD), ApiKeys(db).create(alice.id, "script")

    with db.read() as connection:
        rows = [connection.execute(sa.select(table)).all() for table in (tables.sessions, tables.api_keys)]
    assert token not in repr(rows)
    assert secret not in repr(rows)


def test_weak_hashes_are_renewed_at_sign_in(db: Database, alice: User) -> None:
    """Raising the work factor reaches people without asking them."""
    settings = type(quick_passwords().settings)(iterations=2, memory_kib=16, lanes=1)
    stronger = Passwords(settings)
    SignIn(db, passwords=stronger).sign_in("alice", PASSWORD)

    with db.read() as connection:
        stored = connection.execute(sa.select(tables.users.c.password_hash)).scalar_one()
    assert "m=16,t=2" in stored
    assert SignIn(db, passwords=stronger).sign_in("alice", PASSWORD)


def test_a_revoked_key_stops_working_at_once(db: Database, alice: User) -> None:
    """It stays on the list, marked."""
    keys = ApiKeys(db)
    key, secret = keys.create(alice.id, "script")
    assert alice == keys.user_of_key(secret)

    keys.revoke(key.id, user_id=alice.id)

    assert keys.user_of_key(secret) is None
    assert [key.id] == [k.id for k in keys.list(alice.id) if k.revoked_at is not None]


def test_people_revoke_only_their_own_keys(db: Database, accounts: Accounts, alice: User) -> None:
    """Another's key is not found."""
    bob, keys = accounts.add("bob"), ApiKeys(db)
    key, secret = keys.create(alice.id, "script")

    with pytest.raises(NotFoundError):
        keys.revoke(key.id, user_id=bob.id)
    assert alice == keys.user_of_key(secret)


def test_keys_are_recognisable_and_named(db: Database, accounts: Accounts, alice: User) -> None:
    """The prefix is for secret scanners; a key for nobody or without a name is refused."""
    keys = ApiKeys(db)

    assert keys.create(alice.id, "script")[1].startswith("tacit_")
    assert keys.user_of_key("tacit_guess") is None
    with pytest.raises(UsageError, match="name"):
        keys.create(alice.id, " ")
    accounts.disable(alice.id)
    with pytest.raises(NotFoundError):
        keys.create(alice.id, "late")


def test_sign_in_settings_name_the_bad_value() -> None:
    """Construction fails, not the first sign-in."""
    with pytest.raises(ValueError, match="session_days=100"):
        SignInSettings(session_days=100)
