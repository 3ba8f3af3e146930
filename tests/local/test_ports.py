"""Ports of a local installation."""

import socket

from luthier_kit.rpc import PORTS
from luthier_local.home import Program
from luthier_local.ports import Wanted, choose, wanted
from luthier_local.services import SERVICES

FIRST, SECOND = 7890, 7891  # in the range that is searched, used by nobody


def test_a_remembered_port_that_is_anothers_default_goes_to_one_of_them() -> None:
    last = {"first": Program(f"127.0.0.1:{SECOND}")}
    wanted = [Wanted("first", "address", FIRST), Wanted("second", "address", SECOND)]

    chosen = choose(wanted, last, set(), print)

    assert chosen["first"].address == f"127.0.0.1:{SECOND}"
    assert chosen["second"].address not in (chosen["first"].address, "127.0.0.1:0")


def test_every_service_has_its_ports_of_the_kit() -> None:
    chosen = {(port.name, port.purpose): port.default for port in wanted(SERVICES, minio=True)}
    assert {name: chosen[name, "address"] for name in PORTS} == PORTS
    assert (chosen["rendering", "metrics"], chosen["curation", "web"], chosen["minio", "address"]) == (7201, 7300, 7400)
    assert chosen["inference", "web"] == 7307
    assert len(set(chosen.values())) == len(chosen) == 19


def test_a_port_of_the_last_start_is_kept_while_the_program_holds_it() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        address = f"127.0.0.1:{held.getsockname()[1]}"
        last, port = {"first": Program(address)}, [Wanted("first", "address", FIRST)]
        assert choose(port, last, {"first"}, print)["first"].address == address
        lines: list[str] = []
        assert choose(port, last, set(), lines.append)["first"].address != address
    assert len(lines) == 1
    assert f"first: port {address.rpartition(':')[2]} (address) is taken by another program" in lines[0]
