"""TLS, callers with tokens, a limit for each caller, and traces: switched on together, as in production."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import work
from tests.cluster.collector import Collector
from tests.cluster.kube import Kube, KubeError, name_of, wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import PORT, Release, secret
from tests.cluster.settings import SERVICES
from tests.kit.rpc.certificates import authority, issued

OWN_CALLERS = ("curation", "evaluation", "inference", "pipeline", "ingest", "monitor", "test")
GAME = "game"  # a service of another team
Answers = list[tuple[str, str]]


@pytest.fixture(scope="module")
def collector(prometheus: Prometheus, release: Release) -> Collector:
    """OpenTelemetry's collector, in the namespace of Prometheus."""
    found = Collector(prometheus.kube, release.settings.image("collector"))
    found.install()
    return found


Issue = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Issue:
    """ca.crt, tls.crt and tls.key for the release's names, all of one authority; the common name is asked for."""
    root = authority(tmp_path_factory.mktemp("authority"), "luthier-tests")

    def made(name: str) -> dict[str, str]:
        names = "DNS:*.luthier-test.svc.cluster.local,DNS:*.luthier-test.svc"
        pair = issued(root, tmp_path_factory.mktemp(name), name, san=names)
        found = {"ca.crt": root.cert, "tls.crt": pair.cert, "tls.key": pair.key}
        return {name: path.read_text() for name, path in found.items()}

    return made


@pytest.fixture(scope="module")
def trusted(issue: Issue) -> dict[str, str]:
    """What the release shows where a component has nothing of its own."""
    return issue("server")


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    """The token of every caller."""
    return {name: secrets.token_urlsafe(32) for name in (*OWN_CALLERS, GAME)}


@pytest.fixture(scope="module")
def secured(
    installed: Release, collector: Collector, trusted: dict[str, str], tokens: dict[str, str], figures: dict[str, Any]
) -> Iterator[Release]:
    """The release with all of it on; off again at the end."""
    kube = installed.kube
    kube.apply(
        secret("luthier-tls", trusted),
        secret("luthier-callers", {name: digest(token) for name, token in tokens.items()}),
        secret("luthier-tokens", {name: tokens[name] for name in OWN_CALLERS}),
    )
    values = {
        "tls": {"secret": "luthier-tls"},
        "auth": {"callersSecret": "luthier-callers", "tokenSecret": "luthier-tokens", "callerInFlight": 1},
        "telemetry": {"otlpEndpoint": collector.url},
    }
    begun = time.monotonic()
    installed.helm("upgrade", values=values)
    for service in (*SERVICES, "monitor"):
        kube("rollout", "status", f"deploy/{installed.name}-{service}", "--timeout=300s", timeout_s=310)
    figures["seconds to switch on TLS, tokens and traces"] = round(time.monotonic() - begun)
    yield installed
    installed.helm("upgrade")


def digest(token: str) -> str:
    """A line of the callers' Secret."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def ask(release: Release, credentials: dict[str, str], count: int = 1, name: str = "asks") -> Answers:
    """The answers to `count` Generates at once, from a Pod of another team with these credentials."""
    kube = Kube("luthier-callers")
    kube("delete", "pod", name, "--ignore-not-found", "--wait=true")
    kube("delete", "secret", name, "--ignore-not-found")
    kube.apply(secret(name, credentials), work.asking_pod(release, name, "tuned", count))
    wait_until("the caller ended", lambda: kube.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), 180)
    return work.answers(kube, name)


def test_a_known_caller_is_served_over_tls(secured: Release, trusted: dict[str, str], tokens: dict[str, str]) -> None:
    assert ask(secured, {"ca.crt": trusted["ca.crt"], "token": tokens[GAME]}) == [("OK", "")]


@pytest.mark.parametrize(
    ("held", "code", "says"),
    [
        (("ca.crt",), "UNAUTHENTICATED", "no credentials"),
        (("ca.crt", "token"), "UNAUTHENTICATED", "the token in"),
        ((), "UNAVAILABLE", ""),
    ],
)
def test_other_callers_are_refused(
    secured: Release, trusted: dict[str, str], held: tuple[str, ...], code: str, says: str
) -> None:
    given = {**trusted, "token": secrets.token_urlsafe(32)}
    [(answered, text)] = ask(secured, {name: given[name] for name in held})
    assert answered == code
    assert says in text


def test_a_caller_has_no_more_calls_in_flight_than_its_limit(
    secured: Release, trusted: dict[str, str], tokens: dict[str, str]
) -> None:
    answers = ask(secured, {"ca.crt": trusted["ca.crt"], "token": tokens[GAME]}, count=4)
    codes = [code for code, _ in answers]
    assert codes.count("OK") >= 1
    assert codes.count("RESOURCE_EXHAUSTED") >= 1
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert all("as many as a caller may have" in text for code, text in answers if code != "OK")


def test_luthiers_own_calls_continue(secured: Release, collector: Collector) -> None:
    """Services call each other with their own tokens, and each song is one trace through all of them."""
    secured.helm_test()
    claim = work.corpus_claim(secured, "secured", semitones=9, keep=2)
    submitted = work.submit(secured, "--collection", "secured", "--claim", claim, "--shards", "1")
    secured.kube.wait_job(submitted["run"], 300)
    run = work.run_of(secured, "secured")
    assert (run["songs"], run["rendered"], run["failures"]) == (2, 2, [])
    through = {f"luthier-{name}" for name in ("pipeline", "rendering", "analysis", "prompting", "curation")}

    def whole() -> bool:
        spans = collector.spans()
        songs = {span.trace for span in spans if span.name == "song"}
        return len(songs) >= 2 and all(through <= {s.service for s in spans if s.trace == song} for song in songs)

    wait_until("two songs are two traces", whole, 60)


def test_a_new_token_is_accepted_without_a_restart(
    secured: Release, trusted: dict[str, str], tokens: dict[str, str], figures: dict[str, Any]
) -> None:
    """Two tokens are valid at once; the kubelet updates the mounted Secret in the Pods."""
    fresh = secrets.token_urlsafe(32)
    known = {name: digest(token) for name, token in tokens.items()}
    begun = time.monotonic()
    secured.kube.apply(secret("luthier-callers", {**known, GAME: digest(tokens[GAME]) + digest(fresh)}))

    def accepted() -> bool:
        answers = ask(secured, {"ca.crt": trusted["ca.crt"], "token": fresh})
        if answers[0][0] not in ("OK", "UNAUTHENTICATED"):
            raise KubeError(str(answers))
        return answers[0][0] == "OK"

    wait_until("the new token is accepted", accepted, 180)
    figures["seconds until a rotated token is accepted"] = round(time.monotonic() - begun)
    assert ask(secured, {"ca.crt": trusted["ca.crt"], "token": tokens[GAME]}) == [("OK", "")]


@pytest.fixture
def mutual(secured: Release, trusted: dict[str, str], issue: Issue) -> Release:
    """The release with mutual TLS in place of tokens: a certificate for each of Luthier's own callers."""
    kube = secured.kube
    own = {name: f"luthier-tls-{name}" for name in OWN_CALLERS}
    kube.apply(*(secret(own[name], issue(name)) for name in OWN_CALLERS))
    values = {"tls": {"secret": "luthier-tls", "clientAuth": "mutual", "componentSecrets": own}}
    secured.helm("upgrade", values=values)
    for service in (*SERVICES, "monitor"):
        kube("rollout", "status", f"deploy/{secured.name}-{service}", "--timeout=300s", timeout_s=310)
    return secured


def test_certificates_name_callers_and_are_renewed_without_a_restart(
    mutual: Release, trusted: dict[str, str], issue: Issue, figures: dict[str, Any]
) -> None:
    """Luthier's own calls go on, a stranger's certificate is a name with few permissions, none is no connection."""
    mutual.helm_test()
    submitted = work.submit(mutual, "--collection", "mutual", "--songbook", "--songs", "2", "--shards", "1")
    mutual.kube.wait_job(submitted["run"], 300)
    assert work.run_of(mutual, "mutual")["failures"] == []
    assert ask(mutual, issue(GAME)) == [("OK", "")]
    assert ask(mutual, {"ca.crt": trusted["ca.crt"]})[0][0] == "UNAVAILABLE"

    address = (f"{mutual.name}-inference.{mutual.kube.namespace}.svc", PORT)
    code = f"import ssl; print(ssl.get_server_certificate({address!r}))"

    def shown() -> str:
        return mutual.kube("exec", f"deploy/{mutual.name}-monitor", "--", "python", "-c", code).strip()

    old, pods = shown(), [name_of(pod) for pod in mutual.kube.pods(mutual.selector("inference"))]
    begun = time.monotonic()
    mutual.kube.apply(secret("luthier-tls-inference", issue("inference")))
    wait_until("the new certificate is shown", lambda: shown() != old, 180)
    figures["seconds until a renewed certificate is shown"] = round(time.monotonic() - begun)
    assert [name_of(pod) for pod in mutual.kube.pods(mutual.selector("inference"))] == pods
    assert ask(mutual, issue(GAME)) == [("OK", "")]
