"""Who may call, by token; how much each may have in flight; and that no token is ever written down."""

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from luthier.analysis.v1 import analysis_pb2
from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc as rpc
from luthier.common.v1.common_pb2 import Permission, permission
from luthier.curation.v1 import curation_pb2
from luthier.enrichment.v1 import enrichment_pb2
from luthier.evaluation.v1 import evaluation_pb2
from luthier.inference.v1 import inference_pb2
from luthier.prompting.v1 import prompting_pb2
from luthier.rendering.v1 import rendering_pb2
from luthier.server.v1 import server_pb2
from luthier.server.v1.server_pb2 import GetConfigurationRequest
from luthier.server.v1.server_pb2_grpc import ServerServiceStub
from luthier.training.v1 import training_pb2
from luthier_kit.rpc import (
    Callers,
    Channel,
    Credentials,
    LuthierError,
    PermissionDenied,
    QuotaExceeded,
    Server,
    ServiceSettings,
    SettingsError,
    Unauthenticated,
    actor,
    configure_logging,
    current_caller,
)
from luthier_kit.rpc._telemetry import REFUSED_BY_CALLER_LIMIT
from tests.kit.rpc.serving import NAME, Analysis, analyze, calling, cut, service, serving, wait_until

ALICE, BOB, STALE = "alice-token-0123456789", "bob-token-0123456789", "stale-token-0123456789"
pytestmark = pytest.mark.usefixtures("look_at_once")


@pytest.fixture
def callers(tmp_path: Path) -> Path:
    folder = tmp_path / "callers"
    folder.mkdir()
    (folder / "alice").write_text(f"# since May\n{line(ALICE)}\n\n")
    (folder / "bob").write_text(line(BOB))
    (folder / ".hidden").write_text("not a digest")
    return folder


def line(token: str) -> str:
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def reason(client: Channel) -> str:
    with pytest.raises(LuthierError) as caught:
        analyze(client)
    return caught.value.reason


def test_a_token_names_the_caller(callers: Path) -> None:
    servicer = Analysis()
    with serving(servicer, callers=str(callers)) as server:
        for token in (ALICE, BOB):
            with calling(server, {"LUTHIER_TOKEN": token}) as client:
                analyze(client)
    assert servicer.callers == ["alice", "bob"]


def test_no_token_and_a_wrong_one_are_refused_each_with_its_reason(callers: Path) -> None:
    servicer = Analysis()
    with serving(servicer, callers=str(callers)) as server:
        with calling(server) as client:
            assert reason(client) == "NO_CREDENTIALS"
        for wrong in (STALE, line(ALICE), ALICE[:-1]):
            with calling(server, {"LUTHIER_TOKEN": wrong}) as client:
                assert reason(client) == "BAD_CREDENTIALS"
        for header in (f"Basic {ALICE}", ALICE, "Bearer "):
            with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
                rpc.AnalysisServiceStub(channel).AnalyzeAudio(
                    pb.AnalyzeAudioRequest(), metadata=(("authorization", header),)
                )
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert servicer.callers == []


def test_where_nobody_is_asked_a_token_does_no_harm() -> None:
    servicer = Analysis()
    with serving(servicer) as server, calling(server, {"LUTHIER_TOKEN": ALICE}) as client:
        analyze(client)
    assert servicer.callers == [""]


def test_only_callers_on_the_list_may_call(callers: Path) -> None:
    with serving(Analysis(), callers=str(callers), callers_allowed=("alice",)) as server:
        with calling(server, {"LUTHIER_TOKEN": ALICE}) as client:
            assert analyze(client) == 1
        with calling(server, {"LUTHIER_TOKEN": BOB}) as client, pytest.raises(PermissionDenied) as caught:
            analyze(client)
    assert (caught.value.reason, str(caught.value)) == (
        "CALLER_NOT_ALLOWED", "the caller 'bob' may not call this service",
    )  # fmt: skip


def test_a_token_is_rotated_on_both_sides_without_a_restart_and_the_old_one_ends(callers: Path, tmp_path: Path) -> None:
    mine, fresh = tmp_path / "token", "alice-token-rotated"
    mine.write_text(ALICE + "\n")
    with (
        serving(Analysis(), callers=str(callers)) as server,
        calling(server, {"LUTHIER_TOKEN_FILE": str(mine)}) as client,
    ):
        assert analyze(client) == 1
        (callers / "alice").write_text(f"{line(ALICE)}\n{line(fresh)}\n")  # both are good
        assert analyze(client) == 1
        mine.write_text(fresh)
        assert analyze(client) == 1
        (callers / "alice").write_text(line(fresh))
        assert analyze(client) == 1
        with calling(server, {"LUTHIER_TOKEN": ALICE}) as old:
            assert reason(old) == "BAD_CREDENTIALS"
        (callers / "alice").unlink()
        assert reason(client) == "BAD_CREDENTIALS"


def test_a_line_that_becomes_wrong_is_logged_and_counts_for_nothing(
    callers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Analysis(), callers=str(callers)) as server, calling(server, {"LUTHIER_TOKEN": ALICE}) as client:
        (callers / "alice").write_text(f"{ALICE}\n")
        assert reason(client) == "BAD_CREDENTIALS"
        with calling(server, {"LUTHIER_TOKEN": BOB}) as other:
            assert analyze(other) == 1
    assert "alice, line 1: must be sha256:" in caplog.text
    assert ALICE not in caplog.text


def test_health_is_for_everybody_and_reflection_for_callers(callers: Path) -> None:
    listed = reflection_pb2.ServerReflectionRequest(list_services="")
    with serving(Analysis(), callers=str(callers)) as server, grpc.insecure_channel(server.address) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME)).status == 1
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        with pytest.raises(grpc.RpcError) as caught:
            next(reflect(iter([listed])))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answer = next(reflect(iter([listed]), metadata=(("authorization", f"Bearer {ALICE}"),)))
        assert NAME in {found.name for found in answer.list_services_response.service}


def test_a_caller_beyond_its_bound_is_refused_at_once_while_another_passes(callers: Path) -> None:
    servicer = Analysis()
    with serving(servicer, callers=str(callers), slots=2, caller_in_flight=2) as server:
        with (
            calling(server, {"LUTHIER_TOKEN": ALICE}) as alice,
            calling(server, {"LUTHIER_TOKEN": ALICE}) as alice_again,
            calling(server, {"LUTHIER_TOKEN": ALICE}, retry_budget_s=0) as alice_impatient,
            calling(server, {"LUTHIER_TOKEN": BOB}) as bob,
            ThreadPoolExecutor(3) as pool,
        ):
            held = [pool.submit(cut, alice) for _ in range(2)]
            wait_until(lambda: servicer.begun == 2)
            with pytest.raises(QuotaExceeded, match="alice has 2 calls of work in flight") as caught:
                cut(alice_impatient)
            assert caught.value.reason == "CALLER_IN_FLIGHT"
            assert analyze(alice_again) == 1  # quick calls are no work
            held.append(pool.submit(cut, bob))
            wait_until(
                lambda: server.dispatcher.admission.queue.taken == 3
            )  # bob waits in the queue: 4 places, 3 taken
            servicer.release.set()
            assert all(call.result() is not None for call in held)
            assert cut(alice_again) is not None
        assert server.dispatcher.admission.queue.taken == 0
    assert REFUSED_BY_CALLER_LIMIT.labels(NAME)._value.get() >= 1


def test_a_client_is_told_of_no_more_room_than_its_caller_has() -> None:
    with serving(Analysis(work_s=0.01), slots=8, caller_in_flight=4) as server, calling(server) as client:
        analyze(client)
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(cut, client) for _ in range(40)]
        assert all(call.result() is not None for call in calls)


def test_without_names_the_bound_goes_by_the_host() -> None:
    servicer = Analysis()
    with (
        serving(servicer, slots=2, caller_in_flight=1) as server,
        calling(server) as one,
        calling(server) as other,
        calling(server, retry_budget_s=0) as impatient,
        ThreadPoolExecutor(1) as pool,
    ):
        held = pool.submit(cut, one)
        wait_until(lambda: servicer.begun == 1)
        with pytest.raises(QuotaExceeded, match=r"127\.0\.0\.1 has 1 calls"):
            cut(impatient)
        with ThreadPoolExecutor(1) as more:
            waiting = more.submit(cut, other)  # there will be room
            servicer.release.set()
            assert waiting.result() is not None
        assert held.result() is not None


def test_the_log_names_the_caller_and_the_refused_one_s_reason_and_host_but_no_token(
    callers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("INFO")
    try:
        with serving(Analysis(work_s=0), callers=str(callers)) as server:
            with calling(server, {"LUTHIER_TOKEN": ALICE}) as client:
                cut(client)
            with calling(server, {"LUTHIER_TOKEN": STALE}) as client:
                reason(client)
    finally:
        root.handlers[:], root.level = handlers, level
    text = capsys.readouterr().err
    calls = [found for found in map(json.loads, text.splitlines()) if found["message"] == "call"]
    assert [(found.get("caller"), found["code"], found.get("reason"), found.get("peer")) for found in calls] == [
        ("alice", "OK", None, None),
        (None, "UNAUTHENTICATED", "BAD_CREDENTIALS", "127.0.0.1"),
    ]
    assert not [token for token in (ALICE, STALE) if token in text]


def test_what_cannot_work_is_named_at_the_start_without_the_line(callers: Path, tmp_path: Path) -> None:
    (callers / "carol").write_text(f"{line(BOB)}\n{ALICE}\n")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"callers": str(tmp_path / "gone")}, "LUTHIER_CALLERS .*gone is not a folder"),
        ({"callers": str(callers)}, "LUTHIER_CALLERS carol, line 2: must be sha256:"),
        ({"callers_allowed": ("alice",)}, "LUTHIER_CALLERS_ALLOWED needs LUTHIER_CALLERS"),
    ]
    for settings, says in wrong:
        with pytest.raises(SettingsError, match=says) as caught:
            Server(service(Analysis()), ServiceSettings(address="127.0.0.1:0", **settings))
        assert ALICE not in str(caught.value)
    (tmp_path / "token").write_text("two words")
    for environ in ({"LUTHIER_TOKEN_FILE": str(tmp_path / "token")}, {"LUTHIER_TOKEN_FILE": str(tmp_path / "gone")}):
        with pytest.raises(SettingsError, match="LUTHIER_TOKEN") as caught:
            Credentials(environ)
        assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    ("permissions", "refused"),
    [
        ((), {"cut"}),
        (("alice=operate",), set()),
        (("bob=operate",), {"cut"}),
        (("*=operate",), set()),
        (("alice=", "*=operate"), {"cut"}),
        (("alice=read+curate",), {"cut"}),
    ],
)
def test_a_method_asks_for_its_permission_and_nothing_is_granted_by_silence(
    callers: Path, permissions: tuple[str, ...], refused: set[str]
) -> None:
    servicer = Analysis(work_s=0)
    with (
        serving(servicer, callers=str(callers), caller_permissions=permissions) as server,
        calling(server, {"LUTHIER_TOKEN": ALICE}, retry_budget_s=0) as client,
    ):
        if not refused:
            assert cut(client) is not None
            return
        with pytest.raises(PermissionDenied, match="'alice' has no permission to operate") as caught:
            cut(client)
    assert (caught.value.reason, caught.value.metadata) == ("CALLER_NOT_PERMITTED", {"permission": "operate"})
    assert servicer.begun == 0


def test_without_callers_everything_is_permitted(server: Server, servicer: Analysis) -> None:
    servicer.work_s = 0
    with calling(server) as client:
        assert cut(client) is not None


@pytest.mark.parametrize("entry", ["alice", "=read", "alice=fly", "alice=unspecified", "alice=read,bob=fly"])
def test_a_permission_that_does_not_exist_is_a_wrong_setting(callers: Path, entry: str) -> None:
    with pytest.raises(SettingsError, match=r"LUTHIER_CALLER_PERMISSIONS .* must be name=permission"):
        Callers(ServiceSettings(callers=str(callers), caller_permissions=tuple(entry.split(","))))


def test_permissions_without_callers_are_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="LUTHIER_CALLER_PERMISSIONS needs LUTHIER_CALLERS"):
        Callers(ServiceSettings(caller_permissions=("alice=read",)))


def test_every_method_of_every_contract_says_which_permission_it_asks_for() -> None:
    modules = (
        analysis_pb2, curation_pb2, enrichment_pb2, evaluation_pb2, inference_pb2, prompting_pb2, rendering_pb2,
        training_pb2, server_pb2,
    )  # fmt: skip
    asked = {
        method.name: Permission.Name(method.GetOptions().Extensions[permission])
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert len(asked) == 54
    assert "PERMISSION_UNSPECIFIED" not in asked.values()
    reading = {name for name in asked if name.startswith(("Get", "List", "Watch", "Check", "Detect", "Search"))}
    assert {name for name, wanted in asked.items() if wanted == "PERMISSION_READ"} == reading - {"ListUsage"}
    assert asked["ListUsage"] == "PERMISSION_OPERATE"  # it tells of other callers
    assert (asked["RegisterModel"], asked["PromoteModel"]) == ("PERMISSION_REGISTER", "PERMISSION_PROMOTE")


@pytest.mark.parametrize(
    ("caller", "claimed", "recorded"),
    [
        ("", "Ada", "Ada"),
        ("shop", "", "shop"),
        ("shop", "shop", "shop"),
        ("shop", "Ada", "shop (as Ada)"),
        ("shop", "A" * 100, f"shop (as {'A' * 100})"),
    ],  # whoever bounds names refuses; nothing is cut
)
def test_the_actor_of_a_record_is_the_caller_and_a_name_it_gives_is_a_claim(
    caller: str, claimed: str, recorded: str
) -> None:
    token = current_caller.set(caller)
    try:
        assert actor(claimed) == recorded
    finally:
        current_caller.reset(token)


def test_how_a_server_is_configured_is_for_callers_who_may_read(callers: Path) -> None:
    with serving(Analysis(), callers=str(callers), caller_permissions=("alice=read", "bob=generate")) as server:
        with calling(server, {"LUTHIER_TOKEN": ALICE}) as client:
            ServerServiceStub(client).GetConfiguration(GetConfigurationRequest())
        with calling(server, {"LUTHIER_TOKEN": BOB}) as client, pytest.raises(PermissionDenied):
            ServerServiceStub(client).GetConfiguration(GetConfigurationRequest())
        with calling(server) as client, pytest.raises(Unauthenticated):
            ServerServiceStub(client).GetConfiguration(GetConfigurationRequest())
