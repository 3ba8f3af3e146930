"""What every object store must keep, said once and held against both: a folder, and S3 as a real MinIO speaks it."""

import io
import json
import multiprocessing
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.artifacts import Action, Artifacts, Endpoint, FolderStore, ObjectStore, S3Store
from luthier_kit.artifacts.testing import minio_server
from luthier_kit.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

Where = Endpoint | Path


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with minio_server(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "minio"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    return tmp_path / "objects" if request.param == "folder" else request.getfixturevalue("minio")


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    return f"b{abs(hash(request.node.nodeid)):x}"


@pytest.fixture
def store(where: Where, bucket: str) -> Artifacts:
    opened = opened_at(where, bucket)
    opened.objects.ensure_bucket(create=True)
    return opened


def opened_at(where: Where, bucket: str, allowed: frozenset[str] = frozenset()) -> Artifacts:
    objects: ObjectStore = S3Store(where, bucket) if isinstance(where, Endpoint) else FolderStore(where, bucket)
    return Artifacts(objects, allowed)


def overwrite(store: Artifacts, key: str, data: bytes) -> None:
    """Damage an object behind the store's back."""
    store.objects.put(key, lambda: io.BytesIO(data), len(data), "application/octet-stream")


def rendering(store: Artifacts, audio: bytes = b"audio", seed: int = 7) -> RenderSongResponse:
    return RenderSongResponse(mix=store.put_bytes("mixes", audio, "flac", "audio/flac"), seed=seed)


RENDER = Action(
    "render", ["ab" * 32], {"gain_db": -3.5}, seed=7, version="2", tools={"soundfont": "cd" * 32}, licences=["MIT"]
)


# Blobs


def test_a_blob_is_named_by_its_digest_and_comes_back_as_it_went(store: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "mix.flac"
    source.write_bytes(b"music" * 1000)

    ref = store.put_file("mixes", source, "audio/flac")

    assert ref.key == f"mixes/{ref.sha256}.flac"
    assert ref.size_bytes == 5000
    assert store.read(ref) == source.read_bytes()
    assert store.fetch(ref, tmp_path / "out").read_bytes() == source.read_bytes()
    assert store.exists(ref)


def test_an_empty_blob_is_a_blob(store: Artifacts, tmp_path: Path) -> None:
    ref = store.put_bytes("manifests", b"", "json", "application/json")
    assert store.read(ref) == b""
    assert store.fetch(ref, tmp_path).read_bytes() == b""


def test_a_source_that_changes_while_it_is_written_stores_nothing(store: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "mix.flac"
    source.write_bytes(b"one")
    put = store.objects.put

    def put_later(key: str, *arguments: object) -> None:
        source.write_bytes(b"two")
        put(key, *arguments)  # type: ignore[arg-type]

    store.objects.put = put_later  # type: ignore[method-assign]
    with pytest.raises(DataLoss) as caught:
        store.put_file("mixes", source, "audio/flac")
    assert caught.value.reason == "ARTIFACT_SOURCE_CHANGED"
    assert list(store.objects.keys("mixes/")) == []


@pytest.mark.parametrize("change", [b"", b"on", b"one and more"])
def test_a_source_of_another_length_stores_nothing(store: Artifacts, change: bytes) -> None:
    data = b"one"

    class Changing(io.BytesIO):
        def __init__(self) -> None:
            super().__init__(change)

    ref = store._named("mixes/" + "0" * 64 + ".flac", "0" * 64, len(data), "audio/flac")
    with pytest.raises(DataLoss):
        store._put(Changing, ref)
    assert list(store.objects.keys("mixes/")) == []


def test_corrupt_bytes_are_data_loss_and_are_set_aside(store: Artifacts, tmp_path: Path) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    overwrite(store, ref.key, b"noise")

    with pytest.raises(DataLoss):
        store.fetch(ref, tmp_path)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "objects"])
    assert not store.exists(ref)
    assert list(store.objects.keys("quarantine/")) == [f"quarantine/{ref.key}"]


def test_a_truncated_object_is_data_loss(store: Artifacts) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    overwrite(store, ref.key, b"mus")
    assert not store.exists(ref)
    with pytest.raises(DataLoss):
        store.read(ref)


def test_a_digest_that_is_wrong_only_once_is_not_corruption(store: Artifacts) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    chunks, damaged = store.objects.chunks, [b"noise"]
    store.objects.chunks = lambda key: iter([damaged.pop()]) if damaged else chunks(key)  # type: ignore[method-assign]
    assert store.read(ref) == b"music"
    assert store.exists(ref)


def test_a_missing_object_is_not_found(store: Artifacts, tmp_path: Path) -> None:
    ref = ArtifactRef(key=f"mixes/{'0' * 64}.flac", sha256="0" * 64)
    for read in (lambda: store.read(ref), lambda: store.fetch(ref, tmp_path)):
        with pytest.raises(NotFound) as caught:
            read()
        assert caught.value.reason == "ARTIFACT_NOT_FOUND"
    assert not store.exists(ref)


def test_a_local_copy_is_kept_only_while_it_is_right(store: Artifacts, tmp_path: Path) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    path = store.fetch(ref, tmp_path)
    path.write_bytes(b"noise")
    assert store.fetch(ref, tmp_path).read_bytes() == b"music"


def test_more_than_the_bound_is_refused_before_it_is_read(store: Artifacts) -> None:
    ref = store.put_bytes("mixes", b"x" * 100, "flac")
    with pytest.raises(InvalidRequest, match="at most 99 bytes"):
        store.read(ref, max_bytes=99)


def test_a_wrong_size_in_the_reference_is_refused(store: Artifacts) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    ref.size_bytes = 6
    with pytest.raises(FailedPrecondition) as caught:
        store.read(ref)
    assert caught.value.reason == "ARTIFACT_SIZE_MISMATCH"


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"key": "../etc/passwd"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": "mixes/../../x"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": f"actions/{'0' * 64}.json"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": ""}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"key": "m" * 600}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"sha256": "xyz"}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"size_bytes": -1}, InvalidRequest, "ARTIFACT_REF_INVALID"),
        ({"sha256": "0" * 64}, FailedPrecondition, "ARTIFACT_DIGEST_MISMATCH"),
        ({"bucket": "other"}, PermissionDenied, "BUCKET_NOT_ALLOWED"),
    ],
)
def test_a_bad_reference_is_refused(
    store: Artifacts, tmp_path: Path, change: dict, kind: type[LuthierError], reason: str
) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    ref.MergeFrom(ArtifactRef(**change))
    if "key" in change:
        ref.key = change["key"]
    for read in (lambda: store.read(ref), lambda: store.fetch(ref, tmp_path), lambda: store.exists(ref)):
        with pytest.raises(kind) as caught:
            read()
        assert caught.value.reason == reason


def test_an_allowed_bucket_is_read(where: Where, bucket: str, store: Artifacts) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    reader = opened_at(where, f"{bucket}-reader", allowed=frozenset({bucket}))
    assert reader.read(ref) == b"music"


def test_a_long_blob_is_streamed(store: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "weights.safetensors"
    with source.open("wb") as file:
        file.truncate(48 << 20)
    tracemalloc.start()
    try:
        ref = store.put_file("checkpoints", source)
        store.fetch(ref, tmp_path / "out")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 << 20


# Takedowns


def test_what_was_taken_down_is_refused_to_every_reader(
    where: Where, bucket: str, store: Artifacts, tmp_path: Path
) -> None:
    ref = store.put_bytes("mixes", b"music", "flac")
    store.take_down(ref.sha256, by="label", reason="claim 7")
    store.take_down(ref.sha256, by="another", reason="again")
    for reader in (store, opened_at(where, bucket)):
        for read in (lambda: reader.read(ref), lambda: reader.fetch(ref, tmp_path), lambda: reader.exists(ref)):
            with pytest.raises(NotFound) as caught:
                read()
            assert caught.value.reason == "ARTIFACT_TAKEN_DOWN"


def test_nothing_is_built_on_or_answered_with_what_was_taken_down(store: Artifacts) -> None:
    response, _ = store.run(RENDER, RenderSongResponse, lambda: rendering(store))
    store.take_down(response.mix.sha256, by="label", reason="claim 7")
    for action in (RENDER, Action("cut", [response.mix.sha256])):
        with pytest.raises(NotFound, match="was taken down"):
            store.run(action, RenderSongResponse, lambda: rendering(store))


# Conditional creates


def test_of_sixteen_racing_threads_one_wins(store: Artifacts) -> None:
    start = threading.Barrier(16)

    def create(racer: int) -> bool:
        start.wait()
        return store.objects.create("actions/race/x.json", b"%d" % racer)

    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            won = list(pool.map(create, range(16)))
            assert sum(won) == 1
            assert store.objects.get("actions/race/x.json", 10) == b"%d" % won.index(True)
            store.objects.delete("actions/race/x.json")


def test_of_sixteen_racing_writers_in_four_processes_one_wins(where: Where, bucket: str, store: Artifacts) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(where, bucket, start, results)) for _ in range(4)]
    for racer in racers:
        racer.start()
    won = [wins for _ in racers for wins in results.get(timeout=60)]
    for racer in racers:
        racer.join()
    assert len(won) == 16
    assert sum(won) == 1


def _race(where: Where, bucket: str, start: "threading.Barrier", results: "multiprocessing.Queue") -> None:
    store = opened_at(where, bucket)
    ready = threading.Barrier(4, action=start.wait)

    def create(racer: int) -> bool:
        ready.wait()
        return store.objects.create("actions/race/x.json", f"{id(store)} {racer}".encode())

    with ThreadPoolExecutor(4) as pool:
        results.put(list(pool.map(create, range(4))))


def test_the_start_up_proof_passes_and_leaves_nothing(store: Artifacts) -> None:
    store.prove(create_bucket=False)
    assert list(store.objects.keys("proofs/")) == []


def test_a_missing_bucket_is_created_only_when_asked(where: Where, bucket: str) -> None:
    store = opened_at(where, f"{bucket}-new")
    with pytest.raises(Unavailable) as caught:
        store.prove(create_bucket=False)
    assert caught.value.reason == "STORE_BUCKET_MISSING"
    store.prove(create_bucket=True)
    store.prove(create_bucket=True)


# Action records


def test_an_action_is_computed_once_and_found_again(store: Artifacts) -> None:
    calls: list[int] = []

    def compute() -> RenderSongResponse:
        calls.append(1)
        return rendering(store)

    first, reused_first = store.run(RENDER, RenderSongResponse, compute)
    second, reused_second = store.run(RENDER, RenderSongResponse, compute)

    assert (reused_first, reused_second, len(calls)) == (False, True, 1)
    assert first.mix == second.mix
    assert (first.action.reused, second.action.reused) == (False, True)
    assert first.action.action_key == f"actions/render/{RENDER.digest}.json"


def test_a_record_says_everything_behind_its_result(store: Artifacts) -> None:
    response, _ = store.run(RENDER, RenderSongResponse, lambda: rendering(store))

    document = json.loads(store.objects.get(response.action.action_key, 1 << 20) or b"")

    assert document["result"]["mix"]["sha256"] == response.mix.sha256
    assert [blob["key"] for blob in document["blobs"]] == [response.mix.key]
    assert document["inputs"] == ["ab" * 32]
    assert document["parameters"] == {"gain_db": -3.5}
    assert (document["seed"], document["version"], document["generation"]) == (7, "2", 1)
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


def lose(store: Artifacts, key: str) -> None:
    store.objects.delete(key)


def cut(store: Artifacts, key: str) -> None:
    overwrite(store, key, b"aud")


def corrupt(store: Artifacts, key: str) -> None:
    overwrite(store, key, b"noise")
    sha256 = key.split("/")[1].split(".")[0]
    with pytest.raises(DataLoss):  # some reader notices
        store.read(ArtifactRef(key=key, sha256=sha256))


@pytest.mark.parametrize("damage", [lose, cut, corrupt])
def test_a_void_record_is_replaced_by_its_next_generation(
    store: Artifacts, damage: Callable[[Artifacts, str], None]
) -> None:
    first, _ = store.run(RENDER, RenderSongResponse, lambda: rendering(store))
    damage(store, first.mix.key)

    second, reused = store.run(RENDER, RenderSongResponse, lambda: rendering(store))

    assert not reused
    assert second.action.action_key == f"actions/render/{RENDER.digest}.2.json"
    assert store.read(second.mix) == b"audio"
    assert store.run(RENDER, RenderSongResponse, lambda: rendering(store))[1]


def test_an_unreadable_record_is_void(store: Artifacts) -> None:
    first, _ = store.run(RENDER, RenderSongResponse, lambda: rendering(store))
    overwrite(store, first.action.action_key, b'{"stage": "ren')
    second, reused = store.run(RENDER, RenderSongResponse, lambda: rendering(store))
    assert not reused
    assert second.action.action_key.endswith(".2.json")


def test_an_aged_record_is_refreshed_by_its_next_generation(store: Artifacts) -> None:
    store.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=1))
    assert store.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=2), max_age_s=3600)[1]
    fresh, reused = store.run(RENDER, RenderSongResponse, lambda: rendering(store, seed=2), max_age_s=0)
    assert (reused, fresh.seed) == (False, 2)
    assert store.run(RENDER, RenderSongResponse, lambda: rendering(store))[0].seed == 2


def test_a_permanent_refusal_is_remembered(store: Artifacts) -> None:
    def refuse() -> RenderSongResponse:
        raise InvalidRequest(
            "too many notes", reason="MIDI_TOO_LONG", violations=[("midi", "at most 10 notes")], notes="11"
        )

    def never() -> RenderSongResponse:
        raise AssertionError("computed again")

    for compute in (refuse, never):
        with pytest.raises(InvalidRequest, match="too many notes") as caught:
            store.run(RENDER, RenderSongResponse, compute)
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
def test_what_may_pass_is_not_remembered(store: Artifacts, error: Exception) -> None:
    def fail() -> RenderSongResponse:
        raise error

    with pytest.raises(type(error)):
        store.run(RENDER, RenderSongResponse, fail)
    assert store.run(RENDER, RenderSongResponse, lambda: rendering(store))[1] is False


def test_of_two_racing_workers_one_commits_and_the_other_adopts(where: Where, bucket: str, store: Artifacts) -> None:
    workers = [store, opened_at(where, bucket)]
    both_compute = threading.Barrier(2)

    def work(seed: int) -> tuple[RenderSongResponse, bool]:
        def compute() -> RenderSongResponse:
            both_compute.wait(timeout=30)
            return rendering(workers[seed], b"audio %d" % seed, seed)

        return workers[seed].run(RENDER, RenderSongResponse, compute)

    with ThreadPoolExecutor(2) as pool:
        (one, one_reused), (two, two_reused) = pool.map(work, range(2))
    assert one_reused != two_reused
    assert one.mix == two.mix
    assert one.seed == two.seed


def test_the_same_action_in_one_process_is_computed_once(store: Artifacts) -> None:
    calls: list[int] = []

    def compute() -> RenderSongResponse:
        calls.append(1)
        return rendering(store)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: store.run(RENDER, RenderSongResponse, compute), range(8)))
    assert len(calls) == 1
    assert sum(not reused for _, reused in results) == 1


# Series


def test_a_series_is_numbered_from_one_and_its_newest_is_the_state(store: Artifacts) -> None:
    assert store.latest("runs/a") is None
    assert [store.append("runs/a", {"step": step}) for step in range(11)] == list(range(1, 12))
    assert store.latest("runs/a") == (11, {"step": 10})
    assert store.series("runs/a", after=9) == [(10, {"step": 9}), (11, {"step": 10})]
    assert store.names("runs/") == ["a"]
    assert store.names("models/") == []


def test_racing_appends_all_find_a_place(store: Artifacts) -> None:
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda racer: store.append("runs/a", {"racer": racer}), range(16)))
    assert sorted(numbers) == list(range(1, 17))
    assert sorted(document["racer"] for _, document in store.series("runs/a")) == list(range(16))


def test_an_entry_is_never_overwritten(store: Artifacts) -> None:
    assert store.append_at("runs/a", 1, {"by": "one"})
    assert not store.append_at("runs/a", 1, {"by": "two"})
    assert store.entry("runs/a", 1) == {"by": "one"}
