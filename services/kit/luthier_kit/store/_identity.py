"""Short-lived keys of an S3 for the identity of this process, where it has no key of its own.

Two ways, both with a token that Kubernetes writes to a file and renews: AssumeRoleWithWebIdentity of an STS (AWS,
MinIO, Ceph), and the agent of EKS Pod Identity. minio-py has providers for them, but its own sends the token in the
query of a URL, which proxies and exceptions show; here it is in the body.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import unescape

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider
from minio.error import ServerError
from urllib3.exceptions import HTTPError

from luthier_kit.rpc import SettingsError, Unavailable

log = logging.getLogger(__name__)
RENEW_BEFORE = timedelta(minutes=5)
"""Keys live 15 minutes at least (AWS) and are asked for anew this long before they expire."""
TRY_AGAIN_AFTER = timedelta(seconds=30)
"""While keys are still valid, an STS that failed is not asked again by every request."""
MAX_TOKEN_BYTES, MAX_ANSWER_BYTES = 1 << 16, 1 << 16
_SESSION = "luthier"
_ELEMENT = re.compile(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration|Code)>([^<]*)</")
_AWS_ROLE, _AWS_TOKEN_FILE = "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"
_AGENT_URL, _AGENT_TOKEN_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_AGENT_HOSTS = frozenset({"169.254.170.23", "fd00:ec2::23", "127.0.0.1", "localhost", "::1"})
"""Where EKS' agent is (docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html), and loopback: the token goes
nowhere else in the clear."""


@dataclass(frozen=True)
class WebIdentity:
    """A token of an OpenID provider, such as a projected one of Kubernetes, for keys of an STS.

    `sts` is a URL, `role` an ARN (empty where the STS knows the role by the token, as MinIO can), `token_file` is read
    anew for each request.
    """

    sts: str
    token_file: Path
    role: str = ""

    def fetch(self, http: urllib3.PoolManager) -> Credentials:
        """New keys. Unavailable STORE_CREDENTIALS_REFUSED when the STS refuses the identity; transient errors of
        urllib3, ServerError."""
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "WebIdentityToken": _token(self.token_file),
        }
        if self.role:
            form |= {"RoleArn": self.role, "RoleSessionName": _SESSION}
        where = urlsplit(self.sts).netloc
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, answer = _answer_of(http, "POST", self.sts, urlencode(form), headers, where)
        found = _texts(answer)
        if status == 200 and found.keys() >= {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}:
            return _keys(
                found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], found["Expiration"], where
            )
        raise _refused(where, found.get("Code", f"HTTP status {status}"))


@dataclass(frozen=True)
class PodIdentity:
    """The agent of EKS Pod Identity on the node: `url` and `token_file` as EKS puts them in the environment."""

    url: str
    token_file: Path

    def fetch(self, http: urllib3.PoolManager) -> Credentials:
        """As `WebIdentity.fetch`."""
        where = urlsplit(self.url).netloc
        headers = {"Authorization": _token(self.token_file)}
        status, answer = _answer_of(http, "GET", self.url, None, headers, where)
        try:
            found = json.loads(answer) if status == 200 else {}
            return _keys(found["AccessKeyId"], found["SecretAccessKey"], found["Token"], found["Expiration"], where)
        except (ValueError, KeyError, TypeError):
            raise _refused(where, f"HTTP status {status}") from None


Identity = WebIdentity | PodIdentity


def identity_of_aws(region: str, environment: Mapping[str, str] = os.environ) -> Identity:
    """Who AWS says that this process is: IAM roles for service accounts, then EKS Pod Identity.

    The role of the node is not asked for: it would be every Pod's. SettingsError when there is neither.
    """
    role, token_file = environment.get(_AWS_ROLE), environment.get(_AWS_TOKEN_FILE)
    if role and token_file:
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return WebIdentity(f"https://sts.{region}.{domain}", Path(token_file), role)
    url, token_file = environment.get(_AGENT_URL), environment.get(_AGENT_TOKEN_FILE)
    if url and token_file:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _AGENT_HOSTS:
            raise SettingsError(f"{_AGENT_URL} is neither https nor the agent of the node: {parts.hostname}")
        return PodIdentity(url, Path(token_file))
    raise SettingsError(
        f"LUTHIER_S3_AUTH=aws finds no identity: neither {_AWS_ROLE} with {_AWS_TOKEN_FILE} (annotation"
        f" eks.amazonaws.com/role-arn of the ServiceAccount) nor {_AGENT_URL} with {_AGENT_TOKEN_FILE} (a Pod Identity"
        " association)"
    )


class RenewedKeys(Provider):
    """Keys for minio's client, renewed before they expire. Threads share one.

    While the old ones are valid, an STS that fails is logged and asked again later.
    """

    def __init__(
        self, identity: Identity, http: urllib3.PoolManager, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._identity, self._http, self._now = identity, http, now
        self._lock = threading.Lock()
        self._keys: Credentials | None = None
        self._renew_at = self._expires_at = datetime.min.replace(tzinfo=UTC)

    def retrieve(self) -> Credentials:
        """Valid keys. Raises what `fetch` raises."""
        with self._lock:
            now = self._now()
            if self._keys is None or now >= self._renew_at:
                self._renew(now)
            assert self._keys is not None
            return self._keys

    def _renew(self, now: datetime) -> None:
        try:
            keys = self._identity.fetch(self._http)
        except (Unavailable, HTTPError, ServerError, OSError) as error:
            if self._keys is None or now >= self._expires_at:
                raise
            self._renew_at = min(now + TRY_AGAIN_AFTER, self._expires_at)
            log.warning("keys of the store were not renewed (%s); the old ones are valid", type(error).__name__)
            return
        expires_at = (keys.expiration or now).replace(tzinfo=UTC)  # minio's are in UTC and do not say so
        self._keys, self._expires_at = keys, expires_at
        self._renew_at = expires_at - min(RENEW_BEFORE, (expires_at - now) / 2)


def _token(file: Path) -> str:
    """The token in a file. Unavailable without its content when it cannot be read."""
    try:
        with file.open("rb") as opened:
            token = opened.read(MAX_TOKEN_BYTES + 1)
        if not 0 < len(token) <= MAX_TOKEN_BYTES:
            raise ValueError(f"{len(token)} bytes, not 1 to {MAX_TOKEN_BYTES}")
        return token.decode("ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no token"
        text = f"the token of this service's identity cannot be read from {file}: {why}"
        raise Unavailable(
            text, reason="STORE_CREDENTIALS_REFUSED", public="this service has no identity for the artifact store"
        ) from None


def _answer_of(
    http: urllib3.PoolManager, method: str, url: str, body: str | None, headers: Mapping[str, str], where: str
) -> tuple[int, bytes]:
    """Status and body. ServerError for what may succeed a moment later."""
    response = http.request(method, url, body=body, headers=dict(headers), redirect=False, preload_content=False)
    try:
        answer = response.read(MAX_ANSWER_BYTES)
    finally:
        response.release_conn()
    if response.status >= 500 or response.status == 429:
        raise ServerError(f"{where} gave no keys", response.status)
    return response.status, answer


def _texts(answer: bytes) -> dict[str, str]:
    """The texts that matter in an STS' answer, by the names of their elements."""
    return {name: unescape(text) for name, text in _ELEMENT.findall(answer.decode(errors="replace"))}


def _keys(access_key: str, secret_key: str, session_token: str, expiration: str, where: str) -> Credentials:
    try:
        return Credentials(access_key, secret_key, session_token, datetime.fromisoformat(expiration).astimezone(UTC))
    except ValueError:
        raise _refused(where, "empty keys, or an expiry that is no time") from None


def _refused(where: str, code: str) -> Unavailable:
    text = (
        f"{where} gave this service no keys of the object store ({code}); check its role, whom that trusts, its token"
    )
    return Unavailable(
        text, reason="STORE_CREDENTIALS_REFUSED", public=f"the artifact store refused this service's identity ({code})"
    )
