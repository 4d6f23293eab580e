"""OpenAI's shape: what their clients send and read, with citations under `tacit`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from chatbot.records import PolicyVersion
from knowledge_base.database import now
from tests.ui.http_clients import add_account, bearer, make_client
from ui.wiring import Services

QUESTION = "How many days of annual leave do I get?"
PATH = "/v1/chat/completions"


@pytest.fixture
def client(services: Services) -> TestClient:
    """Ann's program."""
    client = make_client(services)
    client.headers.update(bearer(services, add_account(services, "ann")))
    return client


def _ask(content: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **fields}


def _events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert "[DONE]" == lines.pop()
    return [json.loads(line) for line in lines]


def test_an_answer_has_openai_s_shape(client: TestClient) -> None:
    """And ours under `tacit`."""
    body = client.post(PATH, json=_ask()).json()

    assert {"id", "object", "created", "model", "choices", "tacit"} <= set(body)
    assert ("chat.completion", "tacit") == (body["object"], body["model"])
    choice = body["choices"][0]
    assert ("assistant", "stop") == (choice["message"]["role"], choice["finish_reason"])
    assert "annual leave" in choice["message"]["content"]


def test_citations_lead_to_the_place(client: TestClient) -> None:
    """The address of a citation opens the document there."""
    tacit = client.post(PATH, json=_ask()).json()["tacit"]
    citation = tacit["citations"][0]

    assert {"answer_id", "abstained", "policy", "citations"} == set(tacit)
    assert {"number", "document", "heading", "page", "text", "url"} == set(citation)
    assert "<mark>" in client.get(citation["url"]).text


def test_the_answer_can_be_rated(client: TestClient) -> None:
    """By the id that came with it."""
    answer_id = client.post(PATH, json=_ask()).json()["tacit"]["answer_id"]
    rating = {"kind": "rating", "answer_id": answer_id, "label": True}

    assert 201 == client.post("/api/feedback", json=rating).status_code


def test_a_stream_ends_with_the_citations(client: TestClient) -> None:
    """First the role, then pieces, then the whole with `stop`, then DONE."""
    response = client.post(PATH, json=_ask(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *pieces, last = _events(response.text)

    assert "assistant" == first["choices"][0]["delta"]["role"]
    assert {"chat.completion.chunk"} == {event["object"] for event in (first, *pieces, last)}
    assert 1 == len({event["id"] for event in (first, *pieces, last)})
    assert "annual leave" in "".join(event["choices"][0]["delta"]["content"] for event in pieces)
    assert "stop" == last["choices"][0]["finish_reason"]
    assert last["tacit"]["citations"]
    assert "annual leave" in last["tacit"]["text"]


def test_a_streamed_answer_is_stored(client: TestClient, services: Services) -> None:
    """As any other."""
    last = _events(client.post(PATH, json=_ask(stream=True)).text)[-1]

    assert services.answers.get(last["tacit"]["answer_id"])


def test_what_the_reader_may_not_see_is_not_used(client: TestClient) -> None:
    """Ann is not of human resources."""
    tacit = client.post(PATH, json=_ask("What is the middle of pay band T3?")).json()["tacit"]

    assert "pay.md" not in {citation["document"] for citation in tacit["citations"]}


def test_a_follow_up_is_understood(client: TestClient) -> None:
    """Earlier turns are part of the request; a client's system message is left out."""
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "25 days."},
        {"role": "user", "content": "And how many of them can be carried over?"},
    ]

    assert 200 == client.post(PATH, json={"messages": messages}).status_code


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 3},
        {"n": 2},
        {"temperature": 9},
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "hello"}]},
        {"messages": [{"role": "tool", "content": "hello"}]},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [{"role": "user", "content": "why " * 25_000}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_understood_is_refused_in_openai_s_shape(
    stream: bool, fields: dict[str, Any], client: TestClient
) -> None:
    """Before a stream begins: the status line still tells."""
    response = client.post(PATH, json=_ask(stream=stream) | fields)

    assert 422 == response.status_code
    assert {"message", "type"} <= set(response.json()["error"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{"model": "nobody"}, {"collections": ["nobody"]}])
def test_what_does_not_exist_is_a_404(stream: bool, fields: dict[str, Any], client: TestClient) -> None:
    """An unknown policy or collection, named."""
    response = client.post(PATH, json=_ask(stream=stream, **fields))

    assert 404 == response.status_code
    assert "nobody" in response.json()["error"]["message"]


def test_a_restricted_collection_is_not_told_from_a_missing_one(client: TestClient) -> None:
    """Its name alone may say something."""
    missing = client.post(PATH, json=_ask(collections=["nobody"])).json()["error"]["message"]
    restricted = client.post(PATH, json=_ask(collections=["hr-files"])).json()["error"]["message"]

    assert missing == restricted.replace("hr-files", "nobody")


def test_a_rejected_policy_answers_nobody(client: TestClient, services: Services) -> None:
    """Its gates said no; the list does not show it either."""
    services.registry.add(
        PolicyVersion(
            id="ppo-bad",
            stage="ppo",
            state="rejected",
            parent="base",
            path="/nowhere",
            created_at=now(),
            metrics={},
            gates=(),
            manifest={},
            reason="too long",
        )
    )

    assert 422 == client.post(PATH, json=_ask(model="ppo-bad")).status_code
    assert ["tacit", "base"] == [model["id"] for model in client.get("/v1/models").json()["data"]]
