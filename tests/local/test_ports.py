"""Ports of a local installation."""

from luthier_local import ports

FIRST, SECOND = 7890, 7891  # in the range that is searched, used by nobody


def test_a_remembered_port_that_is_anothers_default_goes_to_one_of_them() -> None:
    remembered = {"first": {"address": f"127.0.0.1:{SECOND}"}}
    wanted = [("first", "address", FIRST), ("second", "address", SECOND)]

    chosen = ports.choose(wanted, remembered, set(), print)

    assert chosen["first"]["address"] == f"127.0.0.1:{SECOND}"
    assert chosen["second"]["address"] not in (chosen["first"]["address"], "127.0.0.1:0")
