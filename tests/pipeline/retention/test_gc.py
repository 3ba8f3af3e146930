"""gc: what may go, and what must not, however work runs beside it."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from luthier.analysis.v1.analysis_pb2 import AnalyzeAudioResponse
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import CuratedClip, ListClipsResponse
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import (
    AudioItem,
    AudioSet,
    CreateEvaluationRequest,
    EvaluationOutcome,
    EvaluationPlan,
    EvaluationProgress,
)
from luthier.inference.v1.inference_pb2 import GenerateRequest
from luthier.pipeline.v1.pipeline_pb2 import SongRecord
from luthier.registry.v1.registry_pb2 import ModelVersion
from luthier.store.v1.store_pb2 import CallerSpending, QuotaSpending
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, KeptCheckpoint, TrainingProgress
from luthier_kit.registry import RunKind, RunLog, claim_request
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Action, FolderStore, Store, Stored
from luthier_pipeline.retention import gc
from luthier_pipeline.retention.gc import Amount, Rule, collect
from tests.pipeline.fakes import FakeClients, Stub, luthier
from tests.pipeline.filled_store import TRAINING, FilledStore

EVERYTHING_IS_OLD = Rule(grace_s=-60, generated_s=-60)
ALL_IS_YOUNG = Rule(grace_s=3600, generated_s=3600)


def keys(store: Store) -> set[str]:
    return {found.key for found in store.objects.stored("") if "/" in found.key}


def make_old(store: Store, *refs: ArtifactRef) -> None:
    """As if they were written in 1970."""
    assert isinstance(store.objects, FolderStore)
    for ref in refs:
        os.utime(store.objects._path(ref.key), (0, 0))


def name_it(store: Store, ref: ArtifactRef) -> None:
    """A document names a blob."""
    store.series(ModelVersion, "models/late").append(ModelVersion(checkpoint=ref))


def test_gc_keeps_a_models_adapter_and_the_checkpoint_beneath(store: Store) -> None:
    filled = FilledStore(store)
    version = filled.adapt("adapted", filled.adapt("once", filled.base))
    collect(store, EVERYTHING_IS_OLD)
    assert {ref.key for ref in version.files} <= keys(store)


def test_gc_deletes_what_nothing_reaches_and_keeps_the_rest(each_store: Store) -> None:
    store = each_store
    filled = FilledStore(store)
    crashed = filled.blob("mixes", "a worker died before its record")
    in_curation = filled.blob("clips", "only curation knows it")
    before = keys(store)
    assert collect(store, ALL_IS_YOUNG, [in_curation.sha256]).total.blobs == 0
    told = collect(store, EVERYTHING_IS_OLD, [in_curation.sha256], dry_run=True)
    assert keys(store) == before
    done = collect(store, EVERYTHING_IS_OLD, [in_curation.sha256])
    assert before - keys(store) == {crashed.key, filled.audio.key}
    assert done == told
    assert done.went["unreferenced"] == {"mixes": Amount(1, crashed.size_bytes)}
    # the evaluation holds the other audio
    assert done.went["expired"] == {"generated": Amount(1, filled.audio.size_bytes)}
    assert done.total == Amount(2, crashed.size_bytes + filled.audio.size_bytes)
    assert collect(store, EVERYTHING_IS_OLD, [in_curation.sha256]).total.blobs == 0


def test_gc_keeps_the_audio_of_sets_that_an_evaluation_names(store: Store) -> None:
    heard, alone = (store.blobs.put_bytes("audio", text, "flac") for text in (b"of a set", b"of a set of nobody"))
    named = store.put("audio-sets", AudioSet(name="truth", items=[AudioItem(audio=heard)]))
    store.put("audio-sets", AudioSet(name="lost", items=[AudioItem(audio=alone)]))
    plan = EvaluationPlan(request=CreateEvaluationRequest(request_id="x", candidate_audio=named))
    kind = RunKind("evaluation", EvaluationPlan, EvaluationProgress, EvaluationOutcome)
    RunLog.create(store, kind, "x", plan)
    collect(store, EVERYTHING_IS_OLD)
    assert [store.blobs.exists(ref) for ref in (named, heard, alone)] == [True, True, False]


def test_gc_keeps_the_checkpoints_that_a_run_keeps_and_not_those_that_it_let_go(each_store: Store) -> None:
    """A runner that dies between letting go and deleting leaves a checkpoint that only an earlier entry names."""
    store = each_store
    best, newest, let_go = (
        store.blobs.put_bytes("checkpoints/training-x", text, "safetensors") for text in (b"best", b"newest", b"let go")
    )
    log = RunLog.create(store, TRAINING, "x", CreateTrainingRunRequest(request_id="x"))
    own = RunLog(store, TRAINING, log.id, "runner")
    own.start()
    own.progress(TrainingProgress(checkpoint=let_go, kept=[KeptCheckpoint(step=1, checkpoint=best)]))
    own.progress(TrainingProgress(checkpoint=newest, kept=[KeptCheckpoint(step=1, checkpoint=best)]))
    collect(store, EVERYTHING_IS_OLD)
    assert [store.blobs.exists(ref) for ref in (best, newest, let_go)] == [True, True, False]


def test_the_command_keeps_what_curation_holds_and_says_what_went(store: Store) -> None:
    crashed, held = (store.blobs.put_bytes("mixes", text, "flac") for text in (b"crashed", b"held"))
    make_old(store, crashed, held)
    curation = Stub(ListClips=ListClipsResponse(clips=[CuratedClip(audio=held)]))
    told = luthier("gc --dry-run", FakeClients(store, curation=curation)).out
    assert told.splitlines()[-1] == "1 blobs (0.0 MB) would go, 1 stay"
    assert luthier("gc --json", FakeClients(store, curation=curation)).document == {
        "blobs": 1, "bytes": 7, "kept": 1, "went": {"unreferenced": {"mixes": [1, 7]}}, "requests": 0, "spending": 0,
        "dry_run": False,
    }  # fmt: skip
    assert (store.blobs.exists(crashed), store.blobs.exists(held)) == (False, True)


def test_generated_audio_alone_expires_without_asking_curation(store: Store) -> None:
    """As the hourly expiry calls it: a week old goes; young, an evaluation's and other blobs stay."""
    filled = FilledStore(store)
    crashed = filled.blob("mixes", "a worker died before its record")
    young = store.blobs.put_bytes("generated", b"young", "flac")
    before = keys(store)
    make_old(store, crashed, *(ArtifactRef(key=key) for key in before if key.startswith("generated/")))
    make_old(store, filled.audio)
    os.utime(store.objects._path(young.key))  # type: ignore[attr-defined]
    document = luthier("gc --generated --json", FakeClients(store)).document
    assert document["went"] == {"expired": {"generated": [1, filled.audio.size_bytes]}}
    assert before - keys(store) == {filled.audio.key}


def test_audio_that_was_measured_expires_and_audio_in_a_data_set_stays(each_store: Store) -> None:
    """Data sets of clips of generated audio are from before curation refused them."""
    store = each_store
    FilledStore(store)
    measured, in_dataset = (store.blobs.put_bytes("generated", data, "flac") for data in (b"measured", b"in a set"))
    store.actions.run(Action("analyze", [measured.sha256]), AnalyzeAudioResponse, AnalyzeAudioResponse)
    manifest = store.put("manifests", DatasetManifest(rows=[DatasetRow(clip_id="clip-0", audio=in_dataset)]))
    store.series(DatasetVersion, "datasets/old").append(DatasetVersion(manifest=manifest))
    told = [collect(store, EVERYTHING_IS_OLD, generated_only=alone, dry_run=True) for alone in (True, False)]
    assert [one.went["expired"]["generated"].blobs for one in told] == [2, 2]
    collect(store, EVERYTHING_IS_OLD, generated_only=True)
    assert (store.blobs.exists(measured), store.blobs.exists(in_dataset)) == (False, True)


def test_a_note_of_a_song_holds_nothing_and_stays(each_store: Store) -> None:
    store = each_store
    clip = store.blobs.put_bytes("clips", b"its record is gone", "flac")
    key = f"songs/book/{'ab' * 32}.json"
    store.put_note(key, SongRecord(blobs={clip.key: clip.size_bytes}))
    collect(store, EVERYTHING_IS_OLD)
    assert not store.blobs.exists(clip)
    assert store.note(SongRecord, key) is not None


def documents_read(store: Store, monkeypatch: pytest.MonkeyPatch, rule: Rule) -> int:
    """How many objects are read until generated audio has expired."""
    read: list[str] = []
    with monkeypatch.context() as watched:
        for name in ("chunks", "get"):
            method = getattr(store.objects, name)

            def noted(key: str, *more: int, method: Callable[..., object] = method) -> object:
                read.append(key)
                return method(key, *more)

            watched.setattr(store.objects, name, noted)
        collect(store, rule, generated_only=True)
    return len(read)


def test_what_the_hourly_expiry_reads_does_not_grow_with_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = FilledStore(store)
    assert documents_read(store, monkeypatch, ALL_IS_YOUNG) == 0
    few = documents_read(store, monkeypatch, EVERYTHING_IS_OLD)
    for n in range(50):
        filled.render(filled.blob("midi", f"another song {n}", "mid"))
        filled.generate(f"Another prompt {n}")
    assert documents_read(store, monkeypatch, ALL_IS_YOUNG) == 0
    assert documents_read(store, monkeypatch, EVERYTHING_IS_OLD) == few > 0
    assert store.blobs.exists(filled.judged)


def asks(store: Store, request_id: str, prompt: str) -> str:
    """A call with an id of its own; the key of what it asked."""
    before = set(store.objects.keys("requests/"))
    claim_request(store, "generate", request_id, GenerateRequest(prompt=prompt))
    (key,) = set(store.objects.keys("requests/")) - before or before
    return key


def test_what_a_request_id_asked_is_forgotten_after_a_week(store: Store) -> None:
    key = asks(store, "mine", "jazz")
    for days, stays in ((6.9, True), (7.1, False)):
        os.utime(store.objects._path(key), (time.time() - days * 86400,) * 2)  # type: ignore[attr-defined]
        told = luthier("gc --generated --dry-run --json", FakeClients(store)).document["requests"]
        assert luthier("gc --generated --json", FakeClients(store)).document["requests"] == told == (not stays)
        assert (key in store.objects.keys("")) is stays
    asks(store, "mine", "rock")  # as good as new


def test_what_callers_spent_is_forgotten_after_ninety_days(store: Store) -> None:
    key = "quotas/2026-08-31/replica.json"
    store.put_note(key, QuotaSpending(callers=[CallerSpending(caller="shop", calls=1)]))
    for days, stays in ((89, True), (91, False)):
        os.utime(store.objects._path(key), (time.time() - days * 86400,) * 2)  # type: ignore[attr-defined]
        told = luthier("gc --generated --dry-run --json", FakeClients(store)).document["spending"]
        assert luthier("gc --generated --json", FakeClients(store)).document["spending"] == told == (not stays)
        assert (key in store.objects.keys("")) is stays


def test_a_request_id_of_running_work_stays_whatever_the_hours(store: Store) -> None:
    """Two hours are more than a generation takes; the audio's life may be set to one."""
    key = asks(store, "mine", "jazz")
    os.utime(store.objects._path(key), (time.time() - 7200,) * 2)  # type: ignore[attr-defined]
    assert "request id" not in luthier("gc --generated --generated-older-than 1", FakeClients(store)).out
    with pytest.raises(FailedPrecondition, match="something else before"):
        asks(store, "mine", "rock")


def test_an_id_that_is_used_again_while_gc_looks_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = asks(store, "mine", "jazz")
    os.utime(store.objects._path(key), (0, 0))  # type: ignore[attr-defined]
    listed = store.objects.stored

    def listed_then_used_again(prefix: str) -> Iterator[Stored]:
        found = list(listed(prefix))
        if prefix == "requests/":
            store.objects.delete(key)
            asks(store, "mine", "rock")
        return iter(found)

    monkeypatch.setattr(store.objects, "stored", listed_then_used_again)
    assert collect(store, ALL_IS_YOUNG).requests == 0
    assert list(store.objects.keys("requests/")) == [key]


def test_expired_audio_is_made_again_when_it_is_asked_for_again(store: Store) -> None:
    filled = FilledStore(store)
    collect(store, EVERYTHING_IS_OLD)
    assert not store.blobs.exists(filled.audio)
    filled.generate("A rock song")
    assert store.blobs.exists(filled.audio)


def test_gc_keeps_what_is_written_again_or_recorded_while_it_looks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = store.blobs.put_bytes("mixes", b"late", "flac")
    documents = store.objects.keys
    looks: list[int] = []

    def keys_then_a_record(prefix: str) -> Iterator[str]:
        found = list(documents(prefix))
        if prefix == "" and not looks:
            looks.append(1)
            name_it(store, late)
        return iter(found)

    monkeypatch.setattr(store.objects, "keys", keys_then_a_record)
    collect(store, EVERYTHING_IS_OLD)
    assert store.blobs.exists(late)


def after_each_delete(store: Store, monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], object]) -> None:
    delete = store.objects.delete

    def deleted(key: str) -> None:
        delete(key)
        happens(key)

    monkeypatch.setattr(store.objects, "delete", deleted)
    monkeypatch.setattr(gc, "BATCH", 1)


def test_gc_keeps_what_is_written_again_while_it_deletes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def write() -> list[ArtifactRef]:
        return [store.blobs.put_bytes("mixes", b"%d" % n, "flac") for n in range(2)]

    refs = write()
    make_old(store, *refs)
    after_each_delete(store, monkeypatch, lambda _: write())
    assert collect(store, ALL_IS_YOUNG).total.blobs == 1
    assert all(store.blobs.exists(ref) for ref in refs)


def test_gc_keeps_what_is_recorded_while_it_deletes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = {ref.key: ref for ref in (store.blobs.put_bytes("mixes", b"%d" % n, "flac") for n in range(3))}

    def recorded(gone: str) -> None:
        for key, ref in refs.items():
            if key != gone:
                name_it(store, ref)

    after_each_delete(store, monkeypatch, recorded)
    assert collect(store, EVERYTHING_IS_OLD).total.blobs == 1


@pytest.mark.parametrize("option", ["--older-than", "--generated-older-than"])
@pytest.mark.parametrize("hours", ["0", "0.9", "nan"])
def test_gc_has_a_grace_of_an_hour_at_least(option: str, hours: str) -> None:
    done = luthier(["gc", option, hours])
    assert done.code == 2
    assert f"'{option}': must be between 1 and 87660 hours, got {hours}" in done.err
