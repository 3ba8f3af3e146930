"""Clients of the services, and the store.

Where they are, in order: `LUTHIER_<NAME>_ADDRESS` and `LUTHIER_STORE…` in the environment; what `make up` wrote into
`.luthier/` (`LUTHIER_HOME` moves it; it is looked for here and in the folders above); the usual ports on loopback, and
`store` in that folder. The last is a guess, and it is said when it is used.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier.enrichment.v1.enrichment_pb2_grpc import EnrichmentServiceStub
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier.prompting.v1.prompting_pb2_grpc import PromptingServiceStub
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier.server.v1.server_pb2 import GetConfigurationRequest, GetConfigurationResponse
from luthier.server.v1.server_pb2_grpc import ServerServiceStub
from luthier.training.v1.training_pb2_grpc import TrainingServiceStub
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import (
    PORTS,
    UNREACHABLE,
    Cancelled,
    Channel,
    LuthierError,
    PermissionDenied,
    RetryBudget,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    load,
)
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_pipeline.console import UsageError

RETRY_BUDGET_S: Final = 900.0
"""A service that crashes is restarted; the command waits for it."""
SAY_EVERY_S: Final = 30.0  # that a service is waited for
STORE: Final = frozenset({"LUTHIER_STORE", "LUTHIER_STORE_FOLDER"})
"""Any of these names a store: what `make up` wrote down is another one."""
MAX_WRITTEN_BYTES: Final = 1 << 20  # of a file of `make up`; they have some 2 kB


def say_waiting(text: str) -> None:
    """Tells people what a command waits for."""
    print(text, file=sys.stderr, flush=True)


class Clients:
    """One generated stub for each service, and the store; opened when first used. Threads may share it.

    `retry_budget_s`: for how long a call is tried again while its service is away or full, in seconds from its first
    failure. `say` gets a line when a service is away and waited for, and when services or the store are only guessed.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        retry_budget_s: float = RETRY_BUDGET_S,
        say: Callable[[str], None] = say_waiting,
    ) -> None:
        self.environ, self.retry_budget_s, self.say = environ, retry_budget_s, say
        self._says_waiting = True
        self._said_at: dict[str, float] = {}  # of services that are waited for, monotonic clock
        self._guesses: set[str] = set()  # that were said
        self._home = _home(environ)
        self._channels: dict[str, Channel] = {}
        self._closed = False
        self._lock = threading.Lock()

    def with_retry_budget(self, retry_budget_s: float) -> "Clients":
        """Clients of the same services that give up sooner or later, and wait without a word."""
        others = Clients(self.environ, retry_budget_s, self.say)
        others._says_waiting, others._guesses = False, self._guesses
        return others

    @cached_property
    def rendering(self) -> RenderingServiceStub:
        return RenderingServiceStub(self._channel("rendering"))

    @cached_property
    def analysis(self) -> AnalysisServiceStub:
        return AnalysisServiceStub(self._channel("analysis"))

    @cached_property
    def enrichment(self) -> EnrichmentServiceStub:
        return EnrichmentServiceStub(self._channel("enrichment"))

    @cached_property
    def prompting(self) -> PromptingServiceStub:
        return PromptingServiceStub(self._channel("prompting"))

    @cached_property
    def curation(self) -> CurationServiceStub:
        return CurationServiceStub(self._channel("curation"))

    @cached_property
    def training(self) -> TrainingServiceStub:
        return TrainingServiceStub(self._channel("training"))

    @cached_property
    def inference(self) -> InferenceServiceStub:
        return InferenceServiceStub(self._channel("inference"))

    @cached_property
    def evaluation(self) -> EvaluationServiceStub:
        return EvaluationServiceStub(self._channel("evaluation"))

    def configuration(self, service: str) -> GetConfigurationResponse:
        """What a service says of its configuration; nothing where it is older than the question, or does not answer it
        to this caller."""
        about = ServerServiceStub(self._channel(service))
        try:
            return about.GetConfiguration(GetConfigurationRequest())
        except (Unimplemented, PermissionDenied):
            return GetConfigurationResponse()

    @cached_property
    def store(self) -> Store:
        """The store that the services use. They and `make up` begin one in a folder, commands never: UsageError."""
        settings = self.store_settings
        folder = settings.store_folder.absolute()
        if settings.store == "folder" and not settings.store_expected and not (folder / settings.bucket).is_dir():
            text = "start the services there (make up), or name the store (LUTHIER_HOME, LUTHIER_STORE_FOLDER)"
            raise UsageError(f"no store at {folder / settings.bucket}: {text}")
        if not self.environ.keys() & STORE and not self._written("store"):
            self._say_guess("store", f"neither LUTHIER_STORE_FOLDER nor {self._home} names a store: using {folder}")
        return open_store(settings)

    @property
    def store_settings(self) -> StoreSettings:
        """Where nothing in the environment names a store, the one that `make up` wrote down."""
        if self.environ.keys() & STORE:
            return load(StoreSettings, self.environ)
        written = self._written("store") or {"LUTHIER_STORE_FOLDER": str(self._home / "store")}
        return load(StoreSettings, {**self.environ, **written})

    @property
    def curation_page(self) -> str:
        """host:port of the curation page; empty when unknown."""
        return str(self._written("services").get("curation", {}).get("web", ""))

    @property
    def generate_page(self) -> str:
        """host:port of inference's page; empty when unknown."""
        return str(self._written("services").get("inference", {}).get("web", ""))

    def address(self, service: str) -> str:
        """host:port of a service."""
        return self._named_address(service) or f"127.0.0.1:{PORTS[service]}"

    def _named_address(self, service: str) -> str:
        """host:port where something says so, else empty."""
        named = self.environ.get(f"LUTHIER_{service.upper()}_ADDRESS")
        return str(named or self._written("services").get(service, {}).get("address", ""))

    def _written(self, what: str) -> dict[str, Any]:
        """What `make up` wrote down of its services or its store."""
        return _read(self._home / f"{what}.json")

    @contextmanager
    def thread_pool(self, threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
        """Threads that make calls. Waits for their work; after an exception it is left at once, its calls are ended."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self.close()
            raise
        pool.shutdown()

    def close(self) -> None:
        """Closes all channels; calls that run are cancelled, and those that threads were about to make."""
        with self._lock:
            self._closed = True
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()

    def _channel(self, service: str) -> Channel:
        if not self._named_address(service):
            name = f"LUTHIER_{service.upper()}_ADDRESS"
            text = f"neither {name} nor {self._home} says where {service} is: asking the usual ports of this machine"
            self._say_guess("services", text)
        with self._lock:
            if self._closed:
                raise Cancelled("the client was closed", reason="CLIENT_CLOSED")
            if service not in self._channels:
                self._channels[service] = Channel(
                    self.address(service),
                    retry_budget_s=self.retry_budget_s,
                    on_wait=lambda why: self._waits_for(service, why),
                )
            return self._channels[service]

    def _say_guess(self, what: str, text: str) -> None:
        """Says once that services, or the store, are only guessed."""
        with self._lock:
            if what in self._guesses:
                return
            self._guesses.add(what)
        self.say(f"{text} (make up makes an installation; LUTHIER_HOME names it)")

    def _waits_for(self, service: str, why: LuthierError) -> None:
        """Says that a service is away, at once and then every SAY_EVERY_S. One that is full is no news."""
        now = time.monotonic()
        with self._lock:
            if not self._says_waiting or why.reason != UNREACHABLE:
                return
            if now < self._said_at.get(service, float("-inf")) + SAY_EVERY_S:
                return
            self._said_at[service] = now
        self.say(
            f"{service} does not answer at {self.address(service)}; trying for {self.retry_budget_s:g} s"
            " (make ps shows the services, make up starts them)"
        )


class IdleBudget(RetryBudget):
    """The seconds that may pass without any answer, for work that goes on as long as it is answered now and then.

    `answered` is called with each answer; `others` says when other calls were answered last, on the monotonic clock.
    """

    def __init__(self, budget_s: float, others: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(budget_s)
        self._answered_at = time.monotonic()
        self._others = others

    def answered(self) -> None:
        self._answered_at = time.monotonic()

    def left_s(self) -> float:
        return self.budget_s - (time.monotonic() - max(self._answered_at, self._others()))


def is_fatal(error: LuthierError) -> bool:
    """True when no song can go on: a service or the store stays away, or lets nobody in."""
    return isinstance(error, Unavailable | Unauthenticated | PermissionDenied | Unimplemented)


def _home(environ: Mapping[str, str]) -> Path:
    if named := environ.get("LUTHIER_HOME"):
        return Path(named)
    here = Path.cwd()
    found = [folder / ".luthier" for folder in (here, *here.parents) if (folder / ".luthier/services.json").exists()]
    return found[0] if found else here / ".luthier"


def _read(path: Path) -> dict[str, Any]:
    """What `make up` wrote into a file. Raises UsageError naming the file when it is not what `make up` writes."""
    try:
        with path.open("rb") as file:
            written = read_json(file.read(MAX_WRITTEN_BYTES + 1), max_bytes=MAX_WRITTEN_BYTES)
        if not isinstance(written, dict):
            raise ValueError("must be an object")
        return written
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{path} is not as make up writes it: {error}. Remove it, then make up") from None
