"""Action records, the same in a folder and in S3: computed once, void without their blobs, refusals kept."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, NotFound, Unavailable
from luthier_kit.store import Action, Store
from tests.support.stores import OpenStore, damage

TOOLS = {"soundfont": "cd" * 32}
RENDER = Action("render", ["ab" * 32], {"gain_db": -3.5}, seed=7, version="2", tools=TOOLS, licences=["MIT"])


def rendering(store: Store, audio: bytes = b"audio", seed: int = 7) -> RenderSongResponse:
    return RenderSongResponse(mix=store.blobs.put_bytes("mixes", audio, "flac", "audio/flac"), seed=seed)


def test_an_action_is_computed_once_and_found_again(store: Store) -> None:
    calls: list[int] = []

    def compute() -> RenderSongResponse:
        calls.append(1)
        return rendering(store)

    first, reused_first = store.actions.run(RENDER, RenderSongResponse, compute)
    second, reused_second = store.actions.run(RENDER, RenderSongResponse, compute)

    assert (reused_first, reused_second, len(calls)) == (False, True, 1)
    assert first.mix == second.mix
    assert (first.action.reused, second.action.reused) == (False, True)
    assert first.action.action_key == f"actions/render/{RENDER.digest}.json"


def test_a_record_says_everything_behind_its_result(store: Store) -> None:
    response, _ = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))

    document = json.loads(store.objects.get(response.action.action_key, 1 << 20) or b"")

    assert document["result"]["mix"]["sha256"] == response.mix.sha256
    assert [blob["key"] for blob in document["blobs"]] == [response.mix.key]
    assert (document["stage"], document["digest"], document["generation"]) == ("render", RENDER.digest, "1")
    assert document["lineage"] == {
        "inputs": ["ab" * 32],
        "parameters_json": '{"gain_db":-3.5}',
        "seed": "7",
        "versions": {"render": "2", "soundfont": "cd" * 32},
        "licences": ["MIT"],
    }
    assert response.action.lineage.versions == {"render": "2", "soundfont": "cd" * 32}
    assert response.action.lineage.licences == ["MIT"]
    assert response.action.lineage.parameters_json == '{"gain_db":-3.5}'


@pytest.mark.parametrize(
    "other",
    [
        Action("render", ["ab" * 32], {"gain_db": -3.5}, seed=8, version="2", tools={"soundfont": "cd" * 32}),
        Action("render", ["ab" * 32], {"gain_db": -3.5}, seed=7, version="3", tools={"soundfont": "cd" * 32}),
        Action("render", ["ab" * 32], {"gain_db": -3.5}, seed=7, version="2", tools={"soundfont": "ee" * 32}),
        Action("render", ["ab" * 32], {"gain_db": -3.0}, seed=7, version="2", tools={"soundfont": "cd" * 32}),
        Action("render", ["ee" * 32], {"gain_db": -3.5}, seed=7, version="2", tools={"soundfont": "cd" * 32}),
    ],
)
def test_whatever_decides_the_result_names_another_action(other: Action) -> None:
    assert other.digest != RENDER.digest


def lose(store: Store, key: str) -> None:
    store.objects.delete(key)


def cut(store: Store, key: str) -> None:
    damage(store, key, b"aud")


def corrupt(store: Store, key: str) -> None:
    damage(store, key, b"noise")
    sha256 = key.split("/")[1].split(".")[0]
    with pytest.raises(DataLoss):  # some reader notices
        store.blobs.read(ArtifactRef(key=key, sha256=sha256))


@pytest.mark.parametrize("damage", [lose, cut, corrupt])
def test_a_void_record_is_replaced_by_its_next_generation(store: Store, damage: Callable[[Store, str], None]) -> None:
    first, _ = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    damage(store, first.mix.key)

    second, reused = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))

    assert not reused
    assert second.action.action_key == f"actions/render/{RENDER.digest}.2.json"
    assert store.blobs.read(second.mix) == b"audio"
    assert store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))[1]


def test_an_unreadable_record_is_void(store: Store) -> None:
    first, _ = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    damage(store, first.action.action_key, b'{"stage": "ren')
    second, reused = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    assert not reused
    assert second.action.action_key.endswith(".2.json")


def test_an_aged_record_is_refreshed_by_its_next_generation(store: Store) -> None:
    store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=1))
    assert store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=2), max_age_s=3600)[1]
    fresh, reused = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=2), max_age_s=0)
    assert (reused, fresh.seed) == (False, 2)
    assert store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))[0].seed == 2


def test_a_permanent_refusal_is_remembered(store: Store) -> None:
    def refuse() -> RenderSongResponse:
        raise InvalidRequest(
            "too many notes", reason="MIDI_TOO_LONG", violations=[("midi", "at most 10 notes")], notes="11"
        )

    def never() -> RenderSongResponse:
        raise AssertionError("computed again")

    for compute in (refuse, never):
        with pytest.raises(InvalidRequest, match="too many notes") as caught:
            store.actions.run(RENDER, RenderSongResponse, compute)
        assert caught.value.reason == "MIDI_TOO_LONG"
        assert caught.value.violations == (("midi", "at most 10 notes"),)
        assert caught.value.metadata == {"notes": "11"}


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("down"),
        DataLoss("corrupt"),
        NotFound("gone"),
        ValueError("a bug"),
        FailedPrecondition("another caller may know the digest", reason="ARTIFACT_DIGEST_MISMATCH"),
    ],
)
def test_what_may_pass_is_not_remembered(store: Store, error: Exception) -> None:
    def fail() -> RenderSongResponse:
        raise error

    with pytest.raises(type(error)):
        store.actions.run(RENDER, RenderSongResponse, fail)
    assert store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))[1] is False


def test_of_two_racing_workers_one_commits_and_the_other_adopts(
    open_store: OpenStore, bucket: str, store: Store
) -> None:
    workers = [store, open_store(bucket)]
    both_compute = threading.Barrier(2)

    def work(seed: int) -> tuple[RenderSongResponse, bool]:
        def compute() -> RenderSongResponse:
            both_compute.wait(timeout=30)
            return rendering(workers[seed], b"audio %d" % seed, seed)

        return workers[seed].actions.run(RENDER, RenderSongResponse, compute)

    with ThreadPoolExecutor(2) as pool:
        (one, one_reused), (two, two_reused) = pool.map(work, range(2))
    assert one_reused != two_reused
    assert one.mix == two.mix
    assert one.seed == two.seed


def test_the_same_action_in_one_process_is_computed_once(store: Store) -> None:
    calls: list[int] = []

    def compute() -> RenderSongResponse:
        calls.append(1)
        return rendering(store)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: store.actions.run(RENDER, RenderSongResponse, compute), range(8)))
    assert len(calls) == 1
    assert sum(not reused for _, reused in results) == 1


def test_nothing_is_built_on_or_answered_with_what_was_taken_down(store: Store) -> None:
    response, _ = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    store.blobs.take_down(response.mix.sha256, by="label", reason="claim 7")
    for action in (RENDER, Action("cut", [response.mix.sha256])):
        with pytest.raises(NotFound, match="was taken down"):
            store.actions.run(action, RenderSongResponse, lambda: rendering(store))


def test_what_is_taken_down_while_it_is_worked_on_gets_no_record(store: Store) -> None:
    def compute() -> RenderSongResponse:
        store.blobs.take_down(RENDER.inputs[0], by="label", reason="claim 7")
        return rendering(store)

    with pytest.raises(NotFound, match="was taken down"):
        store.actions.run(RENDER, RenderSongResponse, compute)
    assert not list(store.objects.keys("actions/render/"))


def test_an_answer_names_the_configuration_of_the_server_that_gives_it(
    store: Store, open_store: OpenStore, bucket: str
) -> None:
    """Not of the one that computed it: what is found was asked for by today's question."""
    store.actions.configuration = "one"
    computed, _ = store.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    upgraded = open_store(bucket)
    upgraded.actions.configuration = "another"
    found, _ = upgraded.actions.run(RENDER, RenderSongResponse, lambda: rendering(store))
    assert (computed.action.configuration, found.action.configuration) == ("one", "another")
