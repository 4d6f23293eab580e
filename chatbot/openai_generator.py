"""A policy served elsewhere by an OpenAI-compatible server (vLLM, llama.cpp, a hosted one), asked over `/chat/completions`.

Knows nothing of evidence, citations or storage. Different from a client library: standard library only, one attempt per call (the
person decides whether to ask again), and a stream is read by a helper thread so that `stop` is obeyed even while the server is silent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from chatbot.errors import GenerationError
from chatbot.prompt import Message, render_prompt
from chatbot.protocols import Delta
from chatbot.records import Completion, Sampling
from chatbot.settings import OpenAIGeneratorSettings

_CHARACTERS_PER_TOKEN = 3
"""Cautious for English (about four); the server's tokenizer is not known here."""
_POLL_SECONDS = 0.1


class OpenAIGenerator:
    """Implements `Generator` by asking a server."""

    def __init__(self, model: str, policy_id: str, settings: OpenAIGeneratorSettings | None = None) -> None:
        """Remember where to ask; no connection is made yet.

        Args:
            model: The server's name for the model.
            policy_id: Stored with each answer.
            settings: Address, key, patience.
        """
        self._model = model
        self._policy_id = policy_id
        self._settings = settings or OpenAIGeneratorSettings()
        self._address = urlsplit(self._settings.url)

    @property
    def policy_id(self) -> str:
        """Which policy version this is."""
        return self._policy_id

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together, in tokens, as configured."""
        return self._settings.context_tokens

    @property
    def evidence_order(self) -> None:
        """No order was learned for a model of another server."""
        return None

    def count_tokens(self, text: str) -> int:
        """An upper estimate: one token per three characters, rounded up."""
        return -(-len(text) // _CHARACTERS_PER_TOKEN)

    def render(self, messages: Sequence[Message]) -> str:
        """The messages as labelled lines; the server applies its own template."""
        return render_prompt(None, messages)

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """Complete several prompts, several requests at once; see `Generator.generate`."""
        seeds = [None if sampling.seed is None else sampling.seed + row for row in range(len(prompts))]
        requests = [
            (messages, replace(sampling, seed=seed)) for messages, seed in zip(prompts, seeds, strict=True)
        ]
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            return list(pool.map(lambda request: self._complete(*request), requests))

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """Complete one prompt piece by piece; see `Generator.stream`."""
        call = self._ask(messages, sampling, stream=True)
        lines: queue.Queue[bytes | Exception | None] = queue.Queue()
        # Daemon: a server that never answers must not keep the process alive; closing the connection ends the thread.
        threading.Thread(target=_read_lines, args=(call.response, lines), daemon=True).start()
        written = _Written(self._settings.logprobs)
        try:
            for event in self._events(lines, stop):
                piece = written.take(event)
                if piece:
                    yield Delta(text=piece)
        finally:
            call.hang_up()
        if not written.has_finished and not stop.is_set():
            raise self._failed("broke off before the end")
        yield Delta(text="", completion=written.completion())

    def _complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        call = self._ask(messages, sampling, stream=False)
        try:
            body = json.loads(call.response.read())
            choice = body["choices"][0]
            text = choice["message"]["content"] or ""
            finish = choice.get("finish_reason")
            logprob = _sum_logprobs(choice) if self._settings.logprobs else None
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise self._failed(f"sent what is no completion ({type(error).__name__})") from error
        finally:
            call.hang_up()
        return Completion(text=text.strip(), token_ids=(), logprob=logprob, ended=finish == "stop")

    def _ask(self, messages: Sequence[Message], sampling: Sampling, *, stream: bool) -> _Call:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if stream else "application/json",
        }
        if self._settings.api_key:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        secure = self._address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._address.netloc, timeout=self._settings.timeout_seconds)
        try:
            body = json.dumps(self._body(messages, sampling, stream=stream))
            connection.request("POST", f"{self._address.path.rstrip('/')}/chat/completions", body, headers)
            line = connection.sock
            response = connection.getresponse()
            problem = b"" if response.status == http.client.OK else response.read(2_000)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._failed(f"does not answer ({str(error) or type(error).__name__})") from error
        if response.status != http.client.OK:
            connection.close()
            said = " ".join(problem.decode("utf-8", "replace").split())[:200]
            raise self._failed(f"answered {response.status} {response.reason}: {said}", response.status)
        return _Call(line=line, response=response)

    def _body(self, messages: Sequence[Message], sampling: Sampling, *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            # There is no min_p, and without it a higher temperature makes nonsense.
            "temperature": min(sampling.temperature, 1.0) if sampling.min_p else sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stream": stream,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if self._settings.logprobs:
            body["logprobs"] = True
        return body

    def _events(
        self, lines: queue.Queue[bytes | Exception | None], stop: threading.Event
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects of a server-sent event stream until it ends, fails or `stop` is set."""
        while not stop.is_set():
            try:
                line = lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(line, Exception):
                raise self._failed(f"broke off ({str(line) or type(line).__name__})") from line
            if line is None or line.strip() == b"data: [DONE]":
                return
            if not line.startswith(b"data:"):
                continue  # blank separators, comments that keep the connection open, event names
            try:
                event = json.loads(line[len(b"data:") :])
            except ValueError as error:
                raise self._failed("sent a piece that is no JSON") from error
            if "error" in event:
                raise self._failed(f"gave up: {' '.join(str(event['error']).split())[:200]}")
            yield event

    def _failed(self, what: str, status: int = 0) -> GenerationError:
        error = GenerationError(
            f"the model server at {self._settings.url} {what}; check that it runs and serves {self._model}"
        )
        # Wrong key or unknown model stay wrong; overload and silence may pass.
        error.permanent = 400 <= status < 500 and status not in (408, 429)
        return error


@dataclass(frozen=True, slots=True)
class _Call:
    """An answered request. The socket is kept: http.client forgets it when the server closes after answering."""

    line: socket.socket
    response: http.client.HTTPResponse

    def hang_up(self) -> None:
        """Close at once; shutting the socket down wakes a thread that is reading from it."""
        with contextlib.suppress(OSError):  # the server has already closed it
            self.line.shutdown(socket.SHUT_RDWR)
        self.line.close()
        self.response.close()


class _Written:
    """What a stream has written so far."""

    def __init__(self, counts_logprobs: bool) -> None:
        self._text = ""
        self._held_space = ""
        self._finish: str | None = None
        self._logprob: float | None = 0.0 if counts_logprobs else None

    def take(self, event: dict[str, Any]) -> str:
        """Add one event; returns its text with leading and trailing white space of the whole left out."""
        choices = event.get("choices") or []
        if not choices:
            return ""
        choice = choices[0]
        self._finish = choice.get("finish_reason") or self._finish
        if self._logprob is not None:
            more = _sum_logprobs(choice)
            self._logprob = None if more is None and not self._finish else self._logprob + (more or 0.0)
        piece = self._held_space + ((choice.get("delta") or {}).get("content") or "")
        if not self._text:
            piece = piece.lstrip()
        bare = piece.rstrip()
        self._held_space = piece[len(bare) :]
        self._text += bare
        return bare

    @property
    def has_finished(self) -> bool:
        return self._finish is not None

    def completion(self) -> Completion:
        return Completion(text=self._text, token_ids=(), logprob=self._logprob, ended=self._finish == "stop")


def _sum_logprobs(choice: dict[str, Any]) -> float | None:
    tokens = (choice.get("logprobs") or {}).get("content")
    return sum(float(token["logprob"]) for token in tokens) if tokens else None


def _read_lines(response: http.client.HTTPResponse, lines: queue.Queue[bytes | Exception | None]) -> None:
    try:
        for line in response:
            lines.put(line)
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        # ValueError and AttributeError: the connection was closed under us because the reader had stopped.
        lines.put(error)
        return
    lines.put(None)
