"""TLS and mutual TLS on loopback, with certificates made here: who is trusted, who is not, and rotation."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier_kit.rpc import Credentials, Server, ServiceSettings, SettingsError, Unauthenticated, Unavailable
from tests.kit.rpc.certificates import Pair, authority, issued
from tests.kit.rpc.serving import Analysis, analyze, calling, service, serving

Made = dict[str, Pair]
HERE = "DNS:localhost"  # connections go to 127.0.0.1: the name that is verified must be the target's


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = authority(folder, "ours"), authority(folder, "theirs")
    return {
        "ours": ours,
        "theirs": theirs,
        "server": issued(ours, folder, "server", san=HERE),
        "by address": issued(ours, folder, "by-address", san="IP:127.0.0.1"),
        "elsewhere": issued(ours, folder, "elsewhere", san="DNS:elsewhere.example"),
        "expired": issued(ours, folder, "expired", san=HERE, expired=True),
        "evaluation": issued(ours, folder, "evaluation"),
        "unnamed": issued(ours, folder, "unnamed", subject="/O=x", san="DNS:pipeline.luthier.svc,DNS:second"),
        "nobody": issued(ours, folder, "nobody", subject="/O=x"),
        "stranger": issued(theirs, folder, "stranger", subject="/CN=evaluation"),
    }


def tls(pair: Pair, **more: str) -> dict[str, str]:
    return {"tls_cert": str(pair.cert), "tls_key": str(pair.key), **more}


def trusting(ca: Pair, shown: Pair | None = None) -> dict[str, str]:
    own = {"LUTHIER_TLS_CLIENT_CERT": str(shown.cert), "LUTHIER_TLS_CLIENT_KEY": str(shown.key)} if shown else {}
    return {"LUTHIER_TLS_CA": str(ca.cert), **own}


@pytest.mark.parametrize(("host", "shown"), [("localhost", "server"), ("127.0.0.1", "by address")])
def test_a_client_that_trusts_the_authority_gets_through_under_the_service_s_name(
    made: Made, host: str, shown: str
) -> None:
    with (
        serving(Analysis(), **tls(made[shown])) as server,
        calling(server, trusting(made["ours"]), host=host) as client,
    ):
        assert analyze(client) == 1


@pytest.mark.parametrize(
    ("shown", "trusted", "why"),
    [
        ("expired", "ours", "CERTIFICATE_VERIFY_FAILED"),
        ("server", "theirs", "CERTIFICATE_VERIFY_FAILED"),
        ("elsewhere", "ours", "Hostname Verification"),
        ("by address", "ours", "Hostname Verification"),
    ],
)
def test_a_server_that_is_expired_unknown_or_another_is_not_spoken_to(
    made: Made, shown: str, trusted: str, why: str
) -> None:
    servicer = Analysis()
    with (
        serving(servicer, **tls(made[shown])) as server,
        calling(server, trusting(made[trusted]), retry_budget_s=0) as client,
        pytest.raises(Unavailable, match=why),
    ):
        analyze(client)
    assert servicer.callers == []


def test_plaintext_gets_nowhere_but_to_the_health_port(made: Made) -> None:
    with (
        serving(Analysis(), health_address="127.0.0.1:0", **tls(made["server"])) as server,
        calling(server, retry_budget_s=0) as client,
    ):
        with pytest.raises(Unavailable):
            analyze(client)
        with grpc.insecure_channel(server.health_address) as probe:
            assert health_pb2_grpc.HealthStub(probe).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1


@pytest.mark.parametrize(("shown", "name"), [("evaluation", "evaluation"), ("unnamed", "pipeline.luthier.svc")])
def test_mutual_tls_names_the_caller_by_common_name_or_first_dns_name(made: Made, shown: str, name: str) -> None:
    servicer, ca = Analysis(), str(made["ours"].cert)
    with (
        serving(servicer, **tls(made["server"], tls_client_ca=ca)) as server,
        calling(server, trusting(made["ours"], made[shown])) as client,
    ):
        analyze(client)
    assert servicer.callers == [name]


@pytest.mark.parametrize("shown", [None, "stranger"])
def test_mutual_tls_refuses_who_shows_nothing_or_another_authority_s(made: Made, shown: str | None) -> None:
    servicer, ca = Analysis(), str(made["ours"].cert)
    with (
        serving(servicer, **tls(made["server"], tls_client_ca=ca)) as server,
        calling(server, trusting(made["ours"], made[shown] if shown else None), retry_budget_s=0) as client,
        pytest.raises(Unavailable),
    ):
        analyze(client)
    assert servicer.callers == []


def test_a_certificate_without_a_name_is_no_credential(made: Made) -> None:
    with (
        serving(Analysis(), **tls(made["server"], tls_client_ca=str(made["ours"].cert))) as server,
        calling(server, trusting(made["ours"], made["nobody"])) as client,
        pytest.raises(Unauthenticated) as caught,
    ):
        analyze(client)
    assert caught.value.reason == "NO_CREDENTIALS"


def test_a_rotated_server_certificate_and_a_rotated_trust_are_picked_up_without_restart(
    made: Made, tmp_path: Path, look_at_once: None
) -> None:
    """The server moves to another authority; a client whose trust moved with it gets in, one that did not stays out."""
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusted = Pair(tmp_path / "ca.crt", tmp_path / "unused.key")
    made["server"].copy_to(used)
    made["ours"].copy_to(trusted)
    other = issued(made["theirs"], tmp_path, "other", san=HERE)
    with serving(Analysis(), **tls(used)) as server, calling(server, trusting(trusted)) as client:
        assert analyze(client) == 1
        other.copy_to(used)
        with calling(server, trusting(made["ours"]), retry_budget_s=0) as late, pytest.raises(Unavailable):
            analyze(late)
        made["theirs"].copy_to(trusted)
        client._resolve_at = 0.0
        before = list(client._known.values())
        assert analyze(client) == 1
        assert before[0] not in client._known.values()


def test_half_a_rotation_leaves_the_pair_that_fits(
    made: Made, tmp_path: Path, look_at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    made["server"].copy_to(used)
    with serving(Analysis(), **tls(used)) as server:
        used.key.write_bytes(made["elsewhere"].key.read_bytes())
        with calling(server, trusting(made["ours"])) as client:
            assert analyze(client) == 1
    assert "what was read before stays" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_what_cannot_work_is_named_at_the_start(made: Made, tmp_path: Path) -> None:
    cert, key = str(made["server"].cert), str(made["server"].key)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"tls_cert": cert}, "LUTHIER_TLS_CERT is set and LUTHIER_TLS_KEY is missing"),
        ({"tls_key": key}, "LUTHIER_TLS_KEY is set and LUTHIER_TLS_CERT is missing"),
        ({"tls_client_ca": cert}, "LUTHIER_TLS_CLIENT_CA needs LUTHIER_TLS_CERT and LUTHIER_TLS_KEY"),
        (
            {"tls_cert": cert, "tls_key": str(made["ours"].key)},
            "LUTHIER_TLS_CERT=.* and LUTHIER_TLS_KEY=.* are no certificate and its key",
        ),
        (
            {"tls_cert": cert, "tls_key": str(tmp_path / "gone")},
            "LUTHIER_TLS_CERT=.* and LUTHIER_TLS_KEY=.*gone cannot be read: No such file",
        ),
        (
            {"tls_cert": cert, "tls_key": key, "tls_client_ca": key},
            "LUTHIER_TLS_CLIENT_CA=.* holds no PEM certificates",
        ),
    ]
    for settings, says in wrong:
        with pytest.raises(SettingsError, match=says):
            Server(service(Analysis()), ServiceSettings(address="127.0.0.1:0", **settings))
    for environ, says in [
        ({"LUTHIER_TLS_CLIENT_CERT": cert}, "LUTHIER_TLS_CLIENT_CERT is set and LUTHIER_TLS_CLIENT_KEY is missing"),
        (
            {"LUTHIER_TLS_CLIENT_CERT": cert, "LUTHIER_TLS_CLIENT_KEY": key},
            "LUTHIER_TLS_CLIENT_CERT needs LUTHIER_TLS_CA",
        ),
        ({"LUTHIER_TLS_CA": str(tmp_path / "gone")}, "LUTHIER_TLS_CA=.*gone cannot be read: No such file"),
        ({"LUTHIER_TLS_CA": key}, "LUTHIER_TLS_CA=.* holds no PEM certificates"),
    ]:
        with pytest.raises(SettingsError, match=says):
            Credentials(environ)
    assert Credentials({"LUTHIER_TLS_CA": "system"}).secret() is not None
