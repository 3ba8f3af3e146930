"""A server on loopback that speaks the chat-completions API, with answers that the test decides."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

CUT = "<cut>"
"""At the end of an answer: the model did not come to an end."""


class ChatServer:
    """`answer(request) -> (status, text)` decides; `requests` keeps (headers, body) of every call.

    `reply(text) -> bytes`, where it is set, makes the whole body of the reply; `pause_s` is waited before each byte.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, str]] = lambda _: (200, "")
        self.reply: Callable[[str], bytes] | None = None
        self.reply_headers: dict[str, str] = {}
        self.pause_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                known = self.path == "/v1/chat/completions"
                status, text = outer.answer(body) if known else (404, "no such path")
                data = json.dumps(_completion(body, text) if status == 200 else {"error": {"message": text}}).encode()
                data = outer.reply(text) if outer.reply else data
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **outer.reply_headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                for piece in [data] if not outer.pause_s else [bytes([byte]) for byte in data]:
                    time.sleep(outer.pause_s)
                    self.wfile.write(piece)

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):  # a client that gave up
                    super().handle_one_request()

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    finish = "length" if text.endswith(CUT) else "stop"
    text = text.removesuffix(CUT)
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()
