"""OpenAIGenerator speaks to an OpenAI-compatible server over real sockets; the server here is a small scripted one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chatbot.errors import GenerationError
from chatbot.openai_generator import OpenAIGenerator
from chatbot.prompt import Message
from chatbot.records import Sampling
from chatbot.settings import OpenAIGeneratorSettings

ASK = [Message(role="user", content="How many days?")]


class _Server(ThreadingHTTPServer):
    """Answers with `pieces`, joined or streamed; `behaviour` makes it fail in a chosen way."""

    daemon_threads = True
    pieces = (" You get", " 25 ", "days — naïve [1].", " ")
    behaviour = "good"
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        self.release = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        self.send_response(self.server.status)
        self.end_headers()
        if self.server.status != 200:
            self.wfile.write(b'{"error": {"message": "no\\nsuch model"}}')
        elif body["stream"]:
            self._stream()
        elif self.server.behaviour == "nonsense":
            self.wfile.write(b"<html>")
        else:
            words = "".join(self.server.pieces)
            tokens = {"content": [{"logprob": -1.5}, {"logprob": -0.25}]}
            choice = {"message": {"content": words}, "finish_reason": "stop", "logprobs": tokens}
            self.wfile.write(json.dumps({"choices": [choice]}).encode())

    def _stream(self) -> None:
        for piece in self.server.pieces:
            self._send({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
            if self.server.behaviour == "breaks off":
                return
            if self.server.behaviour == "hangs":
                self.server.release.wait(20)
                return
        self._send({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, event: dict[str, Any]) -> None:
        self.wfile.write(f": keep-alive\n\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the parent's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    """A scripted server on a free port."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def _generator(server: _Server, **settings: Any) -> OpenAIGenerator:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return OpenAIGenerator("tacit-ppo", "ppo-1", OpenAIGeneratorSettings(url=url, **settings))


def test_it_asks_for_a_chat_completion(server: _Server) -> None:
    """Model, messages, sampling and key arrive; the text comes back without outer white space."""
    generator = _generator(server, api_key="secret")

    completion = generator.generate([ASK], Sampling(temperature=0.5, top_p=0.9, max_new_tokens=9, seed=4))[0]

    path, authorization, body = server.requests[0]
    assert completion.text == "You get 25 days — naïve [1]."
    assert completion.ended
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    assert body == {
        "model": "tacit-ppo",
        "messages": [{"role": "user", "content": "How many days?"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 9,
        "stream": False,
        "seed": 4,
    }


def test_a_temperature_that_needs_min_p_is_lowered(server: _Server) -> None:
    """The protocol has no min_p, and 1.5 without it is nonsense."""
    generator = _generator(server)

    generator.generate([ASK], Sampling(temperature=1.5, min_p=0.05))
    generator.generate([ASK], Sampling(temperature=1.5))

    assert [body["temperature"] for _, _, body in server.requests] == [1.0, 1.5]


def test_several_prompts_come_back_in_order_with_their_own_seeds(server: _Server) -> None:
    """One request per prompt, seeds counted up so that samples differ."""
    completions = _generator(server).generate([ASK] * 3, Sampling(seed=7))

    assert len(completions) == 3
    assert sorted(body["seed"] for _, _, body in server.requests) == [7, 8, 9]


def test_it_sums_log_probabilities_when_asked(server: _Server) -> None:
    """With the setting on, the token log-probabilities are summed; off, nothing is claimed."""
    assert _generator(server, logprobs=True).generate([ASK], Sampling())[0].logprob == pytest.approx(-1.75)
    assert _generator(server).generate([ASK], Sampling())[0].logprob is None


def test_stream_pieces_joined_are_the_text(server: _Server) -> None:
    """Pieces arrive as the server sends them and join to the completion's text."""
    deltas = list(_generator(server).stream(ASK, Sampling(), threading.Event()))

    whole = deltas[-1].completion
    assert whole is not None
    assert "".join(d.text for d in deltas) == whole.text == "You get 25 days — naïve [1]."
    assert whole.ended


def test_stop_is_obeyed_while_the_server_is_silent(server: _Server) -> None:
    """A stream ends soon after `stop` although the server sends nothing more."""
    server.behaviour = "hangs"
    stop = threading.Event()

    deltas = []
    for delta in _generator(server).stream(ASK, Sampling(), stop):
        deltas.append(delta)
        stop.set()

    assert deltas[-1].completion is not None
    assert deltas[-1].completion.text == "You get"
    assert not deltas[-1].completion.ended


def test_a_stream_that_breaks_off_is_an_error(server: _Server) -> None:
    """Half an answer is never passed off as a whole one."""
    server.behaviour = "breaks off"

    with pytest.raises(GenerationError, match="broke off before the end"):
        list(_generator(server).stream(ASK, Sampling(), threading.Event()))


def test_a_silent_server_times_out(server: _Server) -> None:
    """Silence longer than the setting is an error that trying again may cure."""
    server.behaviour = "hangs"

    with pytest.raises(GenerationError, match="broke off") as caught:
        list(_generator(server, timeout_seconds=0.2).stream(ASK, Sampling(), threading.Event()))

    assert not caught.value.permanent


@pytest.mark.parametrize(("status", "permanent"), [(404, True), (401, True), (429, False), (500, False)])
def test_an_error_status_is_one_line(server: _Server, status: int, permanent: bool) -> None:
    """The status and the server's words fit one line that says whether trying again helps."""
    server.status = status

    with pytest.raises(GenerationError, match=f"answered {status}") as caught:
        _generator(server).generate([ASK], Sampling())

    assert "\n" not in str(caught.value)
    assert caught.value.permanent is permanent


def test_what_is_no_completion_is_an_error(server: _Server) -> None:
    """A proxy's HTML page is not mistaken for an answer."""
    server.behaviour = "nonsense"

    with pytest.raises(GenerationError, match="no completion"):
        _generator(server).generate([ASK], Sampling())


def test_nobody_listening_is_one_line() -> None:
    """A refused connection names the address and can be tried again."""
    nobody = OpenAIGenerator("m", "x", OpenAIGeneratorSettings(url="http://127.0.0.1:9/v1"))

    with pytest.raises(GenerationError, match=r"http://127\.0\.0\.1:9/v1 does not answer") as caught:
        nobody.generate([ASK], Sampling())

    assert not caught.value.permanent


def test_counting_is_cautious() -> None:
    """The estimate rounds up and is never zero for a text."""
    generator = OpenAIGenerator("m", "x")

    assert [generator.count_tokens(t) for t in ("", "a", "abcd")] == [0, 1, 2]
