"""The HTTP interface: documents, feedback, health, metrics; each with the rights of the person who asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from chatbot.records import Answer
from knowledge_base.errors import StorageError
from tests.ui.http_clients import HTML, add_account, bearer, make_client
from ui.wiring import Services

Headers = dict[str, str]


@pytest.fixture
def client(services: Services) -> TestClient:
    """Without credentials: each request brings its key."""
    return make_client(services)


@pytest.fixture
def ann(services: Services) -> Headers:
    """An employee of no group."""
    return bearer(services, add_account(services, "ann"))


@pytest.fixture
def heidi(services: Services) -> Headers:
    """Of human resources."""
    return bearer(services, add_account(services, "heidi", groups=["hr"]))


@pytest.fixture
def jonas(services: Services) -> Headers:
    """Admin, of no group."""
    return bearer(services, add_account(services, "jonas", "admin"))


@pytest.fixture
def priya(services: Services) -> Headers:
    """Ops."""
    return bearer(services, add_account(services, "priya", "ops"))


@pytest.fixture
def restricted_id(services: Services) -> str:
    """The document for `hr` only."""
    return services.knowledge.list_documents("hr-files")[0].id


@pytest.fixture
def open_id(services: Services) -> str:
    """A document that everyone may read."""
    return services.knowledge.list_documents("handbook")[0].id


# Health


def test_health_asks_nothing(client: TestClient) -> None:
    """The process is alive."""
    assert {"status": "ok"} == client.get("/healthz").json()


def test_ready_names_the_policy(client: TestClient) -> None:
    """The database answers and a policy serves."""
    assert {"status": "ready", "policy": "base"} == client.get("/readyz").json()


def test_not_ready_says_why(client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 503, for load balancers."""

    def away(_self: object) -> None:
        raise StorageError("the database cannot be used")

    monkeypatch.setattr(type(services.registry), "serving", away)
    response = client.get("/readyz")

    assert 503 == response.status_code
    assert "database" in response.json()["reason"]


def test_metrics_count_documents_and_jobs(client: TestClient, priya: Headers) -> None:
    """In Prometheus' format."""
    text = client.get("/metrics", headers=priya).text

    assert 'tacit_documents{collection="handbook"} 2.0' in text
    assert 'tacit_jobs{state="queued"} 0.0' in text
    assert 'tacit_policy_serving{policy="base",stage="base"} 1.0' in text


# Documents


def test_only_readable_documents_are_listed(
    client: TestClient, ann: Headers, heidi: Headers, restricted_id: str
) -> None:
    """The restricted one for its group only."""
    hers = client.get("/api/documents", headers=ann).json()["documents"]
    heidis = client.get("/api/documents", headers=heidi).json()["documents"]

    assert restricted_id not in {d["id"] for d in hers}
    assert restricted_id in {d["id"] for d in heidis}
    assert {"id", "collection", "path", "title", "chunks", "bytes", "updated_at"} == set(hers[0])


@pytest.mark.parametrize("address", ["/documents/{}", "/api/documents/{}/file"])
def test_a_restricted_document_does_not_exist_for_others(
    address: str, client: TestClient, ann: Headers, heidi: Headers, restricted_id: str
) -> None:
    """404, the same as for an id that nobody has."""
    missing = client.get(address.format("0" * 32), headers=ann)
    refused = client.get(address.format(restricted_id), headers=ann)

    assert (404, missing.text) == (refused.status_code, refused.text)
    assert 200 == client.get(address.format(restricted_id), headers=heidi).status_code


def test_an_admin_is_no_reader_of_everything(client: TestClient, jonas: Headers, restricted_id: str) -> None:
    """Looking after collections does not mean reading them."""
    assert 404 == client.get(f"/documents/{restricted_id}", headers=jonas).status_code


def test_the_original_is_always_a_download(client: TestClient, ann: Headers, open_id: str) -> None:
    """Shown inline, an uploaded page would run its scripts with our cookie."""
    response = client.get(f"/api/documents/{open_id}/file", headers=ann)

    assert response.headers["content-disposition"].startswith("attachment")
    assert "nosniff" == response.headers["x-content-type-options"]
    assert response.text.startswith("# Annual leave")


def test_the_viewer_marks_the_cited_place(client: TestClient, ann: Headers, open_id: str) -> None:
    """Everything else is escaped text."""
    text = client.get(f"/documents/{open_id}", headers=ann, params={"start": 0, "end": 6}).text

    assert "<mark>" in text


@pytest.mark.parametrize("place", [("-5", "3"), ("5", "3"), ("0", "999999999"), ("x", "y")])
def test_a_place_that_is_not_there_is_not_marked(
    place: tuple[str, str], client: TestClient, ann: Headers, open_id: str
) -> None:
    """The document may have changed since the answer; nonsense is refused."""
    response = client.get(f"/documents/{open_id}", headers=ann, params={"start": place[0], "end": place[1]})

    assert response.status_code in {200, 422}
    assert "<mark>" not in response.text


def test_a_document_s_own_markup_is_escaped(client: TestClient, services: Services, ann: Headers) -> None:
    """A document is data."""
    services.ingestor.ingest_upload("x.txt", b"Before <script>alert(1)</script> after.\n", "handbook")
    found = next(d for d in services.knowledge.list_documents("handbook") if d.path == "x.txt")
    text = client.get(f"/documents/{found.id}", headers=ann, params={"start": 7, "end": 15}).text

    assert "<script>alert" not in text
    assert "<mark>&lt;script&gt;</mark>" in text


def _upload(
    client: TestClient, headers: Headers, name: str, data: bytes, collection: str = "handbook"
) -> int:
    files = {"file": (name, data)}
    response = client.post("/api/documents", headers=headers, files=files, data={"collection": collection})
    return response.status_code


def test_an_upload_is_queued(client: TestClient, services: Services, jonas: Headers) -> None:
    """The answer comes at once, with the job."""
    files = {"file": ("lunch.md", b"# Lunch")}
    response = client.post("/api/documents", headers=jonas, files=files, data={"collection": "handbook"})

    assert 202 == response.status_code
    job = services.jobs.get(response.json()["job"])
    assert ("lunch.md", "jonas") == (job.payload["name"], job.payload["actor"])
    assert b"# Lunch" == services.uploads.path(job.payload["upload"]).read_bytes()


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\etc\\passwd", "/etc/passwd", "a/../passwd"])
def test_a_path_in_an_upload_s_name_is_dropped(
    name: str, client: TestClient, services: Services, jonas: Headers
) -> None:
    """The file lies under a random id, the document is called by the last part."""
    assert 202 == _upload(client, jonas, name, b"text")
    job = services.jobs.list_jobs()[0]

    assert "passwd" == job.payload["name"]
    assert services.home.uploads == services.uploads.path(job.payload["upload"]).parent


def test_an_upload_that_is_too_large_leaves_nothing(
    client: TestClient, services: Services, jonas: Headers
) -> None:
    """Refused with the limit, by the header or while it is read."""
    services.uploads._max_bytes = 10

    assert 422 == _upload(client, jonas, "big.txt", b"x" * 11)
    assert [] == list(services.home.uploads.iterdir())
    too_long = {**jonas, "content-length": str(1 << 40)}
    assert 413 == client.post("/api/documents", headers=too_long, content=b"").status_code


@pytest.mark.parametrize("who", ["ann", "priya"])
def test_only_admins_change_documents(
    who: str, client: TestClient, open_id: str, request: pytest.FixtureRequest
) -> None:
    """Neither employees nor ops."""
    headers: Headers = request.getfixturevalue(who)

    assert 403 == _upload(client, headers, "lunch.md", b"# Lunch")
    assert 403 == client.delete(f"/api/documents/{open_id}", headers=headers).status_code


def test_an_upload_into_no_collection_is_refused(
    client: TestClient, services: Services, jonas: Headers
) -> None:
    """Nothing is saved."""
    assert 404 == _upload(client, jonas, "lunch.md", b"# Lunch", "nowhere")
    assert [] == list(services.home.uploads.iterdir())


def test_a_deleted_document_is_gone(
    client: TestClient, services: Services, jonas: Headers, open_id: str
) -> None:
    """Its chunks, its original, its row; the audit trail remembers."""
    assert {"deleted": open_id} == client.delete(f"/api/documents/{open_id}", headers=jonas).json()

    assert 404 == client.get(f"/api/documents/{open_id}/file", headers=jonas).status_code
    assert 404 == client.delete(f"/api/documents/{open_id}", headers=jonas).status_code
    assert "document.delete" == services.audit.list(limit=1)[0].action


# Feedback


@pytest.fixture
def answers(services: Services, ann: Headers) -> Callable[[int], list[Answer]]:
    """Answers that Ann was given."""
    user = services.accounts.by_name("ann")

    def make(n: int) -> list[Answer]:
        prepared = services.assistant.prepare("How many days of annual leave do I get?", user.as_reader())
        made = services.assistant.sample(prepared, n)
        for answer in made:
            services.answers.save(answer, user.id, "api")
        return made

    return make


def test_a_rating_is_stored_for_its_person(
    client: TestClient, services: Services, ann: Headers, answers: Callable[[int], list[Answer]]
) -> None:
    """Under the surface `api`."""
    body = {"kind": "rating", "answer_id": answers(1)[0].id, "label": False, "comment": "too long"}
    response = client.post("/api/feedback", headers=ann, json=body)
    stored = next(iter(services.feedback.current()))

    assert (201, stored.id) == (response.status_code, response.json()["id"])
    assert (False, "api", "too long") == (stored.label, stored.surface, stored.comment)


def test_a_ranking_with_ties_is_stored(
    client: TestClient, services: Services, ann: Headers, answers: Callable[[int], list[Answer]]
) -> None:
    """Best first, equals together."""
    ids = [answer.id for answer in answers(2)]
    body = {"kind": "comparison", "answer_ids": ids, "ranking": [[1], [0]]}

    assert 201 == client.post("/api/feedback", headers=ann, json=body).status_code
    assert "comparison" == next(iter(services.feedback.current())).kind


def test_a_demonstration_is_stored(client: TestClient, services: Services, ann: Headers) -> None:
    """Of a question, without an answer."""
    body = {"kind": "demonstration", "question": "When is lunch?", "answer": "At noon."}

    assert 201 == client.post("/api/feedback", headers=ann, json=body).status_code
    assert "At noon." == next(iter(services.feedback.current())).answers[0].text


def test_nobody_judges_other_people_s_answers(
    client: TestClient, heidi: Headers, answers: Callable[[int], list[Answer]]
) -> None:
    """It may be an answer from documents that they may not read."""
    body = {"kind": "rating", "answer_id": answers(1)[0].id, "label": True}

    assert client.post("/api/feedback", headers=heidi, json=body).status_code in {403, 404, 422}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "shout"},
        {"kind": "rating"},
        {"kind": "rating", "answer_id": "nobody", "label": True, "labl": True},
        {"kind": "comparison", "answer_ids": ["a"]},
        {"kind": "demonstration", "question": "Why?"},
        {"kind": "rating", "answer_id": 3, "label": "perhaps"},
    ],
)
def test_a_judgement_that_is_none_is_refused_in_one_line(
    body: dict[str, object], client: TestClient, ann: Headers
) -> None:
    """In the shape of all errors."""
    response = client.post("/api/feedback", headers=ann, json=body)

    assert 422 == response.status_code
    assert {"error"} == set(response.json())
    assert isinstance(response.json()["error"], str)


def test_an_unknown_address_is_a_404_in_the_same_shape(client: TestClient, ann: Headers) -> None:
    """For programs; people get a page."""
    assert {"error": "Not Found"} == client.get("/api/nowhere", headers=ann).json()
    assert "Back to the chat" in client.get("/nowhere", headers=ann | HTML).text
