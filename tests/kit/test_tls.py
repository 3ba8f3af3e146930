"""TLS and mutual TLS on loopback, with certificates made here: who is trusted, who is not, and rotation."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier_kit import errors, reread
from luthier_kit.rpc import Credentials, Server, ServiceSettings, SettingsError
from tests.kit.certificates import Pair, authority, issued
from tests.kit.listener import Listener, ask, calling, service, serving

HERE = "DNS:localhost"  # connections go to 127.0.0.1: the name that is verified must be the target's


@pytest.fixture(scope="module")
def made(tmp_path_factory):
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


@pytest.fixture
def look_at_once(monkeypatch):
    monkeypatch.setattr(reread, "LOOK_EVERY_S", 0.0)


def tls(pair: Pair, **more) -> dict:
    return {"tls_cert": str(pair.cert), "tls_key": str(pair.key), **more}


def trusting(ca: Pair, shown: Pair | None = None) -> dict[str, str]:
    own = {"LUTHIER_TLS_CLIENT_CERT": str(shown.cert), "LUTHIER_TLS_CLIENT_KEY": str(shown.key)} if shown else {}
    return {"LUTHIER_TLS_CA": str(ca.cert), **own}


@pytest.mark.parametrize(("host", "shown"), [("localhost", "server"), ("127.0.0.1", "by address")])
def test_a_client_that_trusts_the_authority_gets_through_under_the_service_s_name(made, host, shown):
    with serving(Listener(), **tls(made[shown])) as server, calling(server, host, **trusting(made["ours"])) as client:
        assert ask(client) == 1


@pytest.mark.parametrize(
    ("shown", "trusted", "why"),
    [
        ("expired", "ours", "CERTIFICATE_VERIFY_FAILED"),
        ("server", "theirs", "CERTIFICATE_VERIFY_FAILED"),
        ("elsewhere", "ours", "Hostname Verification"),
        ("by address", "ours", "Hostname Verification"),
    ],
)
def test_a_server_that_is_expired_unknown_or_another_is_not_spoken_to(made, shown, trusted, why):
    listener = Listener()
    with (
        serving(listener, **tls(made[shown])) as server,
        calling(server, "localhost", **trusting(made[trusted])) as client,
        pytest.raises(errors.Unavailable, match=why),
    ):
        ask(client, patience_s=0)
    assert listener.callers == []


def test_plaintext_gets_nowhere_but_to_the_health_port(made):
    with serving(Listener(), health_address="127.0.0.1:0", **tls(made["server"])) as server, calling(server) as client:
        with pytest.raises(errors.Unavailable):
            ask(client, patience_s=0)
        with grpc.insecure_channel(server.health_address) as probe:
            assert health_pb2_grpc.HealthStub(probe).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1


@pytest.mark.parametrize(("shown", "name"), [("evaluation", "evaluation"), ("unnamed", "pipeline.luthier.svc")])
def test_mutual_tls_names_the_caller_by_common_name_or_first_dns_name(made, shown, name):
    listener, ca = Listener(), str(made["ours"].cert)
    with (
        serving(listener, **tls(made["server"], tls_client_ca=ca)) as server,
        calling(server, **trusting(made["ours"], made[shown])) as client,
    ):
        ask(client)
    assert listener.callers == [name]


@pytest.mark.parametrize("shown", [None, "stranger"])
def test_mutual_tls_refuses_who_shows_nothing_or_another_authority_s(made, shown):
    listener, ca = Listener(), str(made["ours"].cert)
    with (
        serving(listener, **tls(made["server"], tls_client_ca=ca)) as server,
        calling(server, **trusting(made["ours"], shown and made[shown])) as client,
        pytest.raises(errors.Unavailable),
    ):
        ask(client, patience_s=0)
    assert listener.callers == []


def test_a_certificate_without_a_name_is_no_credential(made):
    with (
        serving(Listener(), **tls(made["server"], tls_client_ca=str(made["ours"].cert))) as server,
        calling(server, **trusting(made["ours"], made["nobody"])) as client,
        pytest.raises(errors.Unauthenticated) as caught,
    ):
        ask(client)
    assert caught.value.reason == "NO_CREDENTIALS"


def test_a_rotated_server_certificate_and_a_rotated_trust_are_picked_up_without_restart(made, tmp_path, look_at_once):
    """The server moves to another authority; a client whose trust moved with it gets in, one that did not stays out."""
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusted = Pair(tmp_path / "ca.crt", tmp_path / "unused.key")
    made["server"].copy_to(used)
    made["ours"].copy_to(trusted)
    other = issued(made["theirs"], tmp_path, "other", san=HERE)
    with serving(Listener(), **tls(used)) as server, calling(server, **trusting(trusted)) as client:
        assert ask(client) == 1
        other.copy_to(used)
        with calling(server, **trusting(made["ours"])) as late, pytest.raises(errors.Unavailable):
            ask(late, patience_s=0)
        made["theirs"].copy_to(trusted)
        client._endpoints._resolve_at = 0.0
        before = list(client._endpoints._known.values())
        assert ask(client) == 1
        assert before[0] not in client._endpoints._known.values()


def test_half_a_rotation_leaves_the_pair_that_fits(made, tmp_path, look_at_once, caplog):
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    made["server"].copy_to(used)
    with serving(Listener(), **tls(used)) as server:
        used.key.write_bytes(made["elsewhere"].key.read_bytes())
        with calling(server, **trusting(made["ours"])) as client:
            assert ask(client) == 1
    assert "what was read before stays" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_what_cannot_work_is_named_at_the_start(made, tmp_path):
    cert, key = str(made["server"].cert), str(made["server"].key)
    for settings, says in [
        ({"tls_cert": cert}, "LUTHIER_TLS_CERT is set and LUTHIER_TLS_KEY is missing"),
        ({"tls_key": key}, "LUTHIER_TLS_KEY is set and LUTHIER_TLS_CERT is missing"),
        ({"tls_client_ca": cert}, "LUTHIER_TLS_CLIENT_CA needs LUTHIER_TLS_CERT and LUTHIER_TLS_KEY"),
        ({"tls_cert": cert, "tls_key": str(made["ours"].key)}, "no certificate and its key"),
        ({"tls_cert": cert, "tls_key": str(tmp_path / "gone")}, "TLS cannot be set up: .*No such file"),
        ({"tls_cert": cert, "tls_key": key, "tls_client_ca": key}, "holds no PEM certificates"),
    ]:
        with pytest.raises(SettingsError, match=says):
            Server(service(Listener()), ServiceSettings(address="127.0.0.1:0", **settings))
    for environ, says in [
        ({"LUTHIER_TLS_CLIENT_CERT": cert}, "LUTHIER_TLS_CLIENT_CERT is set and LUTHIER_TLS_CLIENT_KEY is missing"),
        (
            {"LUTHIER_TLS_CLIENT_CERT": cert, "LUTHIER_TLS_CLIENT_KEY": key},
            "LUTHIER_TLS_CLIENT_CERT needs LUTHIER_TLS_CA",
        ),
    ]:
        with pytest.raises(SettingsError, match=says):
            Credentials(environ)
    assert Credentials({"LUTHIER_TLS_CA": "system"}).secret() is not None
