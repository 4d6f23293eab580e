"""OpenAI's chat shape over our assistant: any client that speaks it can ask, stream, and read citations under `tacit`.

Different from OpenAI: `model` names a policy version (`tacit` means the one that serves now); sampling parameters other than
`temperature`, `top_p`, `max_tokens` and `seed` are refused by name rather than ignored. Knows nothing of pages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from chatbot.prompt import Message
from chatbot.records import Answer, Sampling, User
from chatbot.turn_events import TextWritten, TurnEvent, TurnFinished
from knowledge_base.database import new_id
from knowledge_base.errors import TacitError, UsageError
from ui.api import current_user
from ui.document_page import source_link

if TYPE_CHECKING:
    from ui.wiring import Services

SERVING_MODEL = "tacit"


class ChatMessage(BaseModel):
    """One utterance."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """A chat completion request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    model: str = SERVING_MODEL
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=160, ge=1, le=2048)
    seed: int | None = None
    user: str | None = None
    collections: list[str] | None = Field(default=None, description="our addition: where to search")


def error_body(error: TacitError) -> dict[str, Any]:
    """An error in OpenAI's shape, which their clients show."""
    return {"error": {"message": str(error), "type": type(error).__name__, "param": None, "code": None}}


def make_router(services: Services) -> APIRouter:
    """The routes of this module, on the given services."""
    router = APIRouter()

    @router.get("/v1/models")
    def models() -> dict[str, Any]:
        """The serving policy under the name `tacit`, and every version by id."""
        ids = [SERVING_MODEL, *[p.id for p in services.registry.list() if p.state != "rejected"]]
        return {"object": "list", "data": [{"id": i, "object": "model", "owned_by": "tacit"} for i in ids]}

    @router.post("/v1/chat/completions")
    def complete(request: Request, body: ChatRequest) -> Response:
        """Answer the last user message from the documents that the person may read."""
        user = current_user(request)
        question, history = _split(body.messages)
        policy_id = _policy_id(services, body.model)
        sampling = Sampling(
            temperature=body.temperature, top_p=body.top_p, max_new_tokens=body.max_tokens, seed=body.seed
        )
        arguments: dict[str, Any] = {
            "collections": body.collections,
            "history": history,
            "policy_id": policy_id,
            "sampling": sampling,
        }
        if body.stream:
            events = services.assistant.stream(question, user.as_reader(), **arguments)
            # The first event before the status line: what is wrong with the question or the policy becomes a status of its own.
            first = next(events)
            chunks = _stream(services, user, chain([first], events), body.model)
            return StreamingResponse(chunks, media_type="text/event-stream")
        answer = services.assistant.answer(question, user.as_reader(), **arguments)
        services.answers.save(answer, user.id, "api")
        return JSONResponse(_completion(answer, body.model))

    return router


def _policy_id(services: Services, model: str) -> str | None:
    if model == SERVING_MODEL:
        return None
    policy = services.registry.get(model)
    if policy.state == "rejected":
        raise UsageError(
            f"policy {policy.id} was rejected by its gates and answers nobody: use {SERVING_MODEL!r}"
        )
    return policy.id


def _split(messages: Sequence[ChatMessage]) -> tuple[str, list[Message]]:
    if messages[-1].role != "user":
        raise UsageError("the last message must be the user's question")
    # System messages of clients are left out: the instruction is ours, and part of what was trained and gated.
    history = [Message(role=m.role, content=m.content) for m in messages[:-1] if m.role != "system"]
    return messages[-1].content, history


def _completion(answer: Answer, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        "created": int(answer.created_at.timestamp()),
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}
        ],
        "tacit": _extras(answer),
    }


def _extras(answer: Answer) -> dict[str, Any]:
    return {
        "answer_id": answer.id,
        "abstained": answer.abstained,
        "policy": answer.policy_id,
        "citations": [
            {
                "number": c.number,
                "document": c.document,
                "heading": c.heading,
                "page": c.page,
                "text": c.text,
                "url": source_link(c.document_id, c.start, c.end),
            }
            for c in answer.citations
        ],
    }


def _stream(services: Services, user: User, events: Iterator[TurnEvent], model: str) -> Iterator[str]:
    created, stream_id = int(time.time()), f"chatcmpl-{new_id()}"

    def chunk(delta: dict[str, str], finish: str | None = None, **extra: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {
            "id": stream_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [choice],
            **extra,
        }
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    try:
        for event in events:
            if isinstance(event, TextWritten):
                yield chunk({"content": event.text})
            elif isinstance(event, TurnFinished):
                services.answers.save(event.answer, user.id, "api")
                # The grounded text may differ from what was streamed: `tacit.text` is the one to keep.
                yield chunk({}, "stop", tacit={**_extras(event.answer), "text": event.answer.text})
    except TacitError as error:
        # The status line is long gone: the error travels in the stream, as OpenAI's does.
        yield f"data: {json.dumps(error_body(error))}\n\n"
    yield "data: [DONE]\n\n"
