"""Services that answer from a script, and commands called as they are typed."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from typer.testing import CliRunner

from luthier.server.v1.server_pb2 import GetConfigurationResponse
from luthier_kit.store import Store
from luthier_pipeline.cli import app
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import Context


class Stub:
    """Stands for a generated stub: answers each method with the next of its answers (the last one for ever), raises
    those that are errors, and keeps what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            method: list(given) if isinstance(given, list) else [given] for method, given in answers.items()
        }
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(request: Message, timeout: float | None = None) -> Any:
            kept = type(request)()
            kept.CopyFrom(request)
            self.asked.append((method, kept))
            answers = self.answers[method]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer(request) if callable(answer) else answer

        return call

    def requests(self, method: str) -> list[Any]:
        return [request for asked, request in self.asked if asked == method]


class FakeClients(Clients):
    """Clients whose stubs and store are given; a service that is not given cannot be reached."""

    def __init__(self, store: Store | None = None, **stubs: Stub) -> None:
        super().__init__({"LUTHIER_HOME": "/nowhere", "LUTHIER_CACHE": "off"}, retry_budget_s=0.0)
        self.stubs = stubs
        self.configurations: dict[str, str] = {}
        self.enrichment_ages = False
        self.__dict__ |= stubs
        if store is not None:
            self.__dict__["store"] = store

    def requests(self, method: str) -> list[Any]:
        """What was asked of a method, whichever service has it."""
        return [request for stub in self.stubs.values() for request in stub.requests(method)]

    def with_retry_budget(self, retry_budget_s: float) -> Clients:
        return self

    def configuration(self, service: str) -> GetConfigurationResponse:
        return GetConfigurationResponse(digest=self.configurations.get(service, ""), ages=self.enrichment_ages)

    def address(self, service: str) -> str:
        return "127.0.0.9:9"  # closed


@dataclass
class Done:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The last line of `--json`."""
        document: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return document


def luthier(line: str | list[str], clients: Clients | None = None) -> Done:
    """`luthier <line>` in this process."""
    words = shlex.split(line) if isinstance(line, str) else line
    done = CliRunner().invoke(app, words, obj=Context(clients or FakeClients()), prog_name="luthier")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)
