"""Keys of the store for an identity: MinIO's own STS, with tokens as Kubernetes projects them, and AWS' ways.

The OpenID provider is the test's: it publishes a key and signs tokens by it, as a cluster's API server does.
"""

import base64
import json
import logging
import runpy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import urllib3
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import ServerError

from luthier_kit.rpc import PermissionDenied, SettingsError, Unavailable, load, status_of
from luthier_kit.store import Endpoint, S3Store, Store, StoreSettings, open_store
from luthier_kit.store._identity import PodIdentity, RenewedKeys, WebIdentity, identity_of_aws
from tests.support.services import ROOT
from tests.support.stores import minio_server

POLICIES: Callable[..., dict[str, Any]] = runpy.run_path(str(ROOT / "deploy/store/policies.py"))["policies"]
BUCKET, AUDIENCE = "identities", "luthier-store"
ACCOUNT = "system:serviceaccount:luthier:luthier-{}"
"""How Kubernetes names a ServiceAccount in a token; with claim_name=sub it is the name of the policy in MinIO."""


@dataclass
class OpenId:
    """An OpenID provider on loopback."""

    key: RSA.RsaKey = field(default_factory=lambda: RSA.generate(2048))
    url: str = ""

    def token(
        self, account: str, *, audience: str = AUDIENCE, lives_s: int = 3600, key: RSA.RsaKey | None = None
    ) -> str:
        """A signed token of a ServiceAccount."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": account, "aud": [audience], "iat": now, "exp": now + lives_s}
        signed = ".".join(_url64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "one"}, claims))
        signature = pkcs1_15.new(key or self.key).sign(SHA256.new(signed.encode()))
        return f"{signed}.{_url64(signature)}"

    def document(self, path: str) -> dict[str, Any]:
        """Discovery, or the public key."""
        if path == "/keys":
            numbers = {name: getattr(self.key, name) for name in ("n", "e")}
            public = {k: _url64(v.to_bytes((v.bit_length() + 7) // 8, "big")) for k, v in numbers.items()}
            return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", **public}]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]}  # fmt: skip


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Answers:
    """What a server on loopback answers, and what it was asked: path, headers, body."""

    reply: Callable[[str], tuple[int, str]]
    asked: list[tuple[str, Mapping[str, str], str]] = field(default_factory=list)
    url: str = ""


def serve(answers: Answers) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            answers.asked.append((self.path, dict(self.headers), body))
            status, text = answers.reply(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenId]:
    provider = OpenId()
    answers = Answers(lambda path: (200, json.dumps(provider.document(path))))
    with serve(answers) as server:
        provider.url = answers.url
        yield provider
        server.shutdown()


@pytest.fixture(scope="module")
def trusting(openid: OpenId, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A MinIO that trusts the provider, with the policy of each component under its ServiceAccount's name."""
    settings = {
        "MINIO_IDENTITY_OPENID_CONFIG_URL": f"{openid.url}/.well-known/openid-configuration",
        "MINIO_IDENTITY_OPENID_CLIENT_ID": AUDIENCE,
        "MINIO_IDENTITY_OPENID_CLAIM_NAME": "sub",
    }
    with minio_server(tmp_path_factory.mktemp("trusting"), settings=settings) as root:
        admin = MinioAdmin(
            endpoint=root.host, credentials=StaticProvider(root.access_key, root.secret_key), secure=False
        )
        for component, policy in POLICIES(BUCKET).items():
            admin.policy_add(ACCOUNT.format(component), policy=policy)
        Store(S3Store(root, BUCKET)).prove(create_bucket=True)
        yield root


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.fixture
def settings(trusting: Endpoint, token_file: Path) -> StoreSettings:
    """As the chart sets them with store.s3.auth=webIdentity."""
    return load(
        StoreSettings,
        {
            "LUTHIER_STORE": "s3", "LUTHIER_S3_ENDPOINT": trusting.host, "LUTHIER_BUCKET": BUCKET,
            "LUTHIER_S3_AUTH": "web-identity", "LUTHIER_S3_STS": f"http://{trusting.host}",
            "LUTHIER_S3_IDENTITY_TOKEN": str(token_file), "LUTHIER_STORE_EXPECTED": "1",
        },
    )  # fmt: skip


def test_a_service_without_a_key_opens_the_store_by_its_token(
    openid: OpenId, settings: StoreSettings, token_file: Path
) -> None:
    token_file.write_text(openid.token(ACCOUNT.format("rendering")))
    store = open_store(settings)
    stem = store.blobs.put_bytes("stems", b"s" * (20 << 20), "flac")  # in parts
    assert store.objects.create("actions/render/of-the-token.json", b"{}")  # by a presigned PUT
    assert store.blobs.exists(stem)


@pytest.mark.parametrize("component", POLICIES())
def test_every_component_opens_the_store_by_its_own_token(
    openid: OpenId, settings: StoreSettings, token_file: Path, component: str
) -> None:
    token_file.write_text(openid.token(ACCOUNT.format(component)))
    store = open_store(settings)  # proves it, which writes below proofs/
    if may_read_midi(component):
        assert store.objects.get("midi/none.json", 10) is None
    else:
        with pytest.raises(PermissionDenied, match="does not let this service read midi/"):
            store.objects.get("midi/none.json", 10)


def may_read_midi(component: str) -> bool:
    """As the policy document says."""
    (reads,) = [s for s in POLICIES(BUCKET)[component]["Statement"] if s["Action"] == ["s3:GetObject"]]
    return any(f"arn:aws:s3:::{BUCKET}/midi/none.json".startswith(arn.removesuffix("*")) for arn in reads["Resource"])


def test_its_policy_is_that_of_its_service_account(openid: OpenId, settings: StoreSettings, token_file: Path) -> None:
    token_file.write_text(openid.token(ACCOUNT.format("rendering")))
    store = open_store(settings)
    with pytest.raises(PermissionDenied) as denied:
        store.objects.get("checkpoints/none.bin", 10)
    assert denied.value.reason == "STORE_ACCESS_DENIED"
    with pytest.raises(Unavailable) as refused:
        store.objects.create("models/production/1.json", b"x")
    assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"


@pytest.mark.parametrize("why", ["of another audience", "expired", "signed by another", "without a policy", "no token"])
def test_a_token_that_the_store_does_not_trust_is_refused_and_told_to_nobody(
    openid: OpenId, settings: StoreSettings, token_file: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account = ACCOUNT.format("rendering")
    token = {
        "of another audience": openid.token(account, audience="somebody-else"),
        "expired": openid.token(account, lives_s=-60),
        "signed by another": openid.token(account, key=RSA.generate(2048)),
        "without a policy": openid.token("system:serviceaccount:other:default"),
        "no token": "not a token",
    }[why]
    token_file.write_text(token)
    with pytest.raises(Unavailable) as refused:
        open_store(settings)
    assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"
    assert token not in f"{refused.value} {status_of(refused.value, 'rendering')} {caplog.text}"


def test_a_token_that_is_missing_or_too_long_is_said_with_its_file(settings: StoreSettings, token_file: Path) -> None:
    with pytest.raises(Unavailable, match=f"cannot be read from {token_file}: No such file"):
        open_store(settings)
    token_file.write_bytes(b"x" * 100_000)
    with pytest.raises(Unavailable, match="it holds no token"):
        open_store(settings)


def keys_xml(access_key: str, expires_at: datetime) -> str:
    """As the reference of AssumeRoleWithWebIdentity shows it."""
    return (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>secret"
        f"</SecretAccessKey><SessionToken>session</SessionToken><Expiration>{expires_at:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Sts:
    """An STS that numbers its keys, which live an hour; with a status of 400 or more it gives none."""

    clock: Clock
    status: int = 200
    given: int = 0

    def __call__(self, path: str) -> tuple[int, str]:
        if self.status != 200:
            return self.status, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
        self.given += 1
        return 200, keys_xml(f"key-{self.given}", self.clock.now + timedelta(hours=1))


@pytest.fixture
def sts() -> Iterator[tuple[Sts, Answers]]:
    made = Sts(Clock())
    answers = Answers(made)
    with serve(answers) as server:
        yield made, answers
        server.shutdown()


def keys_of(sts: tuple[Sts, Answers], token_file: Path) -> RenewedKeys:
    made, answers = sts
    http = urllib3.PoolManager(retries=False)
    return RenewedKeys(WebIdentity(answers.url, token_file, "arn:aws:iam::1:role/rendering"), http, made.clock)


def test_keys_are_renewed_before_they_expire_by_the_token_of_that_time(
    sts: tuple[Sts, Answers], token_file: Path
) -> None:
    made, answers = sts
    keys = keys_of(sts, token_file)
    found = []
    for minutes_later, token in ((0, "first"), (54, "second"), (2, "third")):
        token_file.write_text(f"{token}\n")
        made.clock.now += timedelta(minutes=minutes_later)
        found.append(keys.retrieve().access_key)
    assert found == ["key-1", "key-1", "key-2"]
    assert [parse_qs(body)["WebIdentityToken"] for _, _, body in answers.asked] == [["first"], ["third"]]


def test_the_token_is_in_the_body_and_not_in_the_url(sts: tuple[Sts, Answers], token_file: Path) -> None:
    token_file.write_text("the token")
    keys_of(sts, token_file).retrieve()
    ((path, _, body),) = sts[1].asked
    assert path == "/"
    assert {name: values[0] for name, values in parse_qs(body).items()} == {
        "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "WebIdentityToken": "the token",
        "RoleArn": "arn:aws:iam::1:role/rendering", "RoleSessionName": "luthier",
    }  # fmt: skip


@pytest.mark.parametrize("status", [400, 503])
def test_valid_keys_outlive_an_sts_that_fails_and_expired_ones_do_not(
    sts: tuple[Sts, Answers], token_file: Path, status: int
) -> None:
    made, answers = sts
    token_file.write_text("token")
    keys = keys_of(sts, token_file)
    first = keys.retrieve()
    made.status = status
    made.clock.now += timedelta(minutes=57)
    assert keys.retrieve() == keys.retrieve() == first
    assert len(answers.asked) == 2, "not asked again by every request"
    made.clock.now += timedelta(minutes=4)
    with pytest.raises(Unavailable if status == 400 else ServerError):
        keys.retrieve()


def test_an_answer_that_is_none_is_refused(token_file: Path) -> None:
    token_file.write_text("token")
    for text in (
        "",
        "<html>",
        "<a><Expiration>soon</Expiration></a>",
        keys_xml("a", datetime.now(UTC)).replace("T", "?"),
    ):
        answers = Answers(lambda _, text=text: (200, text))  # type: ignore[misc]
        with serve(answers) as server:
            with pytest.raises(Unavailable) as refused:
                WebIdentity(answers.url, token_file).fetch(urllib3.PoolManager(retries=False))
            server.shutdown()
        assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"


def test_roles_for_service_accounts_ask_the_sts_of_the_region() -> None:
    environment = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/a", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    found = identity_of_aws("eu-central-1", environment)
    assert found == WebIdentity("https://sts.eu-central-1.amazonaws.com", Path("/token"), "arn:aws:iam::1:role/a")
    china = identity_of_aws("cn-north-1", environment)
    assert isinstance(china, WebIdentity)
    assert china.sts == "https://sts.cn-north-1.amazonaws.com.cn"


def test_pod_identity_asks_the_agent_with_the_token_of_the_file(token_file: Path) -> None:
    """The answer is that of docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html."""
    token_file.write_text("agent token\n")
    given = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": "2026-11-30T16:00:00Z"}
    answers = Answers(lambda _: (200, json.dumps(given)))
    with serve(answers) as server:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{answers.url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        }
        identity = identity_of_aws("us-east-1", environment)
        assert isinstance(identity, PodIdentity)
        keys = identity.fetch(urllib3.PoolManager(retries=False))
        server.shutdown()
    assert (keys.access_key, keys.secret_key, keys.session_token) == ("a", "b", "c")
    assert keys.expiration == datetime(2026, 11, 30, 16)
    ((path, headers, _),) = answers.asked
    assert (path, headers["Authorization"]) == ("/v1/credentials", "agent token")


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"LUTHIER_S3_AUTH": "web-identity"}, "LUTHIER_S3_STS must be a URL"),
        ({"LUTHIER_S3_AUTH": "web-identity", "LUTHIER_S3_STS": "https://sts?Action=a"}, "LUTHIER_S3_STS must be a URL"),
        ({"LUTHIER_S3_AUTH": "aws"}, "finds no identity"),
        ({"LUTHIER_S3_AUTH": "gke"}, "must be one of static, web-identity, aws"),
    ],
)
def test_an_identity_that_is_not_there_is_a_wrong_setting(
    variables: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=fault):
        load(StoreSettings, {"LUTHIER_STORE": "s3", **variables})


def test_the_agents_token_is_sent_to_no_other_host() -> None:
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/keys",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
    }
    with pytest.raises(SettingsError, match=r"neither https nor the agent of the node: example\.org"):
        identity_of_aws("us-east-1", environment)


def test_an_sts_that_is_away_is_tried_again_and_then_unavailable(token_file: Path, trusting: Endpoint) -> None:
    token_file.write_text("token")
    away = replace(trusting, identity=WebIdentity("http://127.0.0.1:9", token_file), retry_budget_s=0.5)
    with pytest.raises(Unavailable) as refused:
        S3Store(away, BUCKET).size_bytes("midi/none.json")
    assert refused.value.reason == "STORE_UNAVAILABLE"
