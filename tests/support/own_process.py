"""A service in a process of its own: what it costs is not mixed with what its test costs, and it may die alone."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TypeVar

from luthier_kit.rpc import Server, Service, ServiceSettings

START_S = 120.0
S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class OwnProcess:
    """Where a service listens, and the process that it is."""

    address: str
    pid: int


@contextmanager
def in_own_process(build: Callable[[S], Service], settings: S, *, prepared: bool = True) -> Iterator[OwnProcess]:
    """Serves what `build`, a function of an installed module, makes of settings, until the end of the block.

    Without `prepared` it only answers: what it begins at its start (a scheduler, say) is left out.
    """
    spawn = multiprocessing.get_context("spawn")  # never fork: gRPC's threads do not survive it
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, build, settings, prepared))
    process.start()
    theirs.close()
    try:
        assert ours.poll(START_S), f"the service does not serve after {START_S:g} s"
        assert process.pid is not None
        yield OwnProcess(ours.recv(), process.pid)
    finally:
        ours.close()  # tells it to stop
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(pipe: Connection, build: Callable[[S], Service], settings: S, prepared: bool) -> None:
    service = build(settings)
    server = Server(service if prepared else replace(service, prepare=None, close=None), settings)
    server.start()
    pipe.send(server.address)
    with suppress(EOFError):  # the test has ended, however it did
        pipe.recv()
    server.stop(grace_s=0)
