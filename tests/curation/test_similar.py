"""Search by sound: vectors of clips, what is nearest, filters, revisions, and work in the background."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from sqlalchemy import Table, delete, select, update

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation import embedding_work, similar
from luthier_curation.curation import Curation
from luthier_curation.embedding import Embedder
from luthier_curation.embedding_work import EmbeddingWork
from luthier_curation.tables import ACCEPTED, REJECTED, BatchRow, ClipRow, ClipVectorRow
from luthier_curation.vectors import Embedded, VectorSets, keep
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound, Unavailable
from luthier_kit.store import Store

from .builders import clip
from .evaluations import Evaluation, asking, spectrum

DEMO = pb.ClipFilter(collection="demo")
SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # the database does not matter


@pytest.fixture
def evaluation(store: Store, tmp_path: Path) -> Evaluation:
    """The evaluation service that curation asks."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    return Evaluation(store, folder)  # type: ignore[abstract]


@pytest.fixture
def embedder(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    """Asks that service over gRPC."""
    monkeypatch.setattr(EmbeddingWork, "start", lambda _: None)  # a test goes on step by step
    with asking(evaluation) as found:
        yield found


@pytest.fixture
def hearing(curation: Curation, embedder: Embedder) -> Curation:
    """Curation that can search by sound."""
    return Curation(curation.repository, curation.store, embedder=embedder)


@pytest.fixture
def ids(hearing: Curation, tones: list[Path]) -> list[str]:
    """Eight clips, a tone each, that have no vectors yet."""
    return hearing.upsert("demo", [clip(hearing.store, tone, song=song) for song, tone in enumerate(tones)]).ids


@pytest.fixture
def embedded(hearing: Curation, ids: list[str]) -> list[str]:
    """The same with vectors."""
    embed(hearing)
    return ids


def embed(curation: Curation, which: pb.ClipFilter = DEMO) -> pb.Batch:
    """Embeds what matches; the batch as it ended."""
    batch = curation.embed(which, "Ada")
    while curation.embedding.advance():
        pass
    return curation.batch(batch.batch_id)


def found(curation: Curation, size: int = 100, which: pb.ClipFilter = DEMO, **query: Any) -> list[str]:
    """Ids of a search, the most similar first."""
    return [one.clip.clip_id for one in curation.search(pb.SearchClipsRequest(filter=which, **query), size).clips]


def loud(store: Store, folder: Path, tone: Path, name: str, gain: float) -> Path:
    """The tone again, at another level: other bytes, the same place among sounds."""
    samples, rate_hz = soundfile.read(tone, always_2d=True)
    soundfile.write(folder / name, samples * gain, rate_hz, subtype="PCM_16")
    return folder / name


# --- embedding


def test_all_clips_are_embedded_once_and_progress_is_told(
    hearing: Curation, evaluation: Evaluation, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_work, "AT_ONCE", 3)
    begun = hearing.embed(DEMO, "Ada")
    assert (begun.state, begun.total) == (pb.BATCH_STATE_RUNNING, 8)
    seen = []
    while hearing.embedding.advance():
        seen.append(hearing.batch(begun.batch_id).seen)
    batch = hearing.batch(begun.batch_id)
    assert seen == [3, 6, 8, 8]
    assert (batch.state, batch.changed, batch.unchanged) == (pb.BATCH_STATE_DONE, 8, 0)
    again = embed(hearing)
    assert (again.state, again.total, len(evaluation.heard)) == (pb.BATCH_STATE_DONE, 0, 8)


@SQLITE
def test_stored_vectors_are_those_that_evaluation_gave(
    hearing: Curation, embedded: list[str], tones: list[Path]
) -> None:
    rows = hearing.repository.read(lambda session: list(session.scalars(select(ClipVectorRow))))
    stored = {row.clip_id: np.frombuffer(row.vector, "<f4") for row in rows}
    for name, tone in zip(embedded, tones, strict=True):
        samples, rate_hz = soundfile.read(tone, always_2d=True)
        np.testing.assert_array_equal(stored[name], spectrum(samples[:, 0], rate_hz))


@SQLITE
def test_silence_and_what_is_no_audio_have_no_vector(hearing: Curation, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.flac", np.zeros((44_100, 2)), 44_100, subtype="PCM_16")
    silent = clip(hearing.store, tmp_path / "silent.flac", song=1)
    broken = clip(hearing.store, b"fLaC broken", song=2)
    names = hearing.upsert("demo", [silent, broken]).ids
    batch = embed(hearing)
    assert (batch.state, batch.seen, batch.changed, batch.unchanged) == (pb.BATCH_STATE_DONE, 2, 0, 2)
    with pytest.raises(FailedPrecondition) as refused:
        found(hearing, clip_id=names[0])
    assert refused.value.reason == "NO_VECTOR"


@SQLITE
def test_without_weights_it_is_said_what_to_bring(hearing: Curation, evaluation: Evaluation, ids: list[str]) -> None:
    evaluation.weights_sha256 = ""
    for act in (lambda: hearing.embed(DEMO, "Ada"), lambda: found(hearing, text="tone 3")):
        with pytest.raises(FailedPrecondition, match="luthier metric-weights clap FOLDER") as refused:
            act()
        assert refused.value.reason == "WEIGHTS_ABSENT"


@SQLITE
def test_without_an_evaluation_service_nothing_is_searched_by_text(curation: Curation) -> None:
    for act in (lambda: curation.embed(DEMO, "Ada"), lambda: found(curation, text="tone 3")):
        with pytest.raises(FailedPrecondition, match="LUTHIER_EVALUATION_ADDRESS") as refused:
            act()
        assert refused.value.reason == "EVALUATION_NOT_CONFIGURED"


@SQLITE
def test_an_embedder_without_texts_says_so(hearing: Curation, evaluation: Evaluation, embedded: list[str]) -> None:
    evaluation.texts = False
    with pytest.raises(FailedPrecondition) as refused:
        found(hearing, text="tone 3")
    assert refused.value.reason == "EMBEDDER_WITHOUT_TEXTS"
    assert len(found(hearing, clip_id=embedded[0])) == 7


@SQLITE
def test_what_evaluation_refuses_ends_the_batch_and_what_passes_does_not(
    hearing: Curation, evaluation: Evaluation, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing.embedder._channel, "retry_budget_s", 0.0)
    batch = hearing.embed(DEMO, "Ada")
    evaluation.fails = Unavailable("restarts", retry_after_s=0.01)
    with pytest.raises(Unavailable):
        hearing.embedding.advance()
    assert hearing.batch(batch.batch_id).state == pb.BATCH_STATE_RUNNING
    evaluation.fails = FailedPrecondition("the weights are gone")
    hearing.embedding.advance()
    ended = hearing.batch(batch.batch_id)
    assert (ended.state, ended.error) == (pb.BATCH_STATE_FAILED, "the weights are gone")


def test_a_replica_goes_on_only_where_another_gave_up_its_claim(
    hearing: Curation, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_work, "AT_ONCE", 3)
    batch = hearing.embed(DEMO, "Ada")
    hearing.embedding.advance()
    other = EmbeddingWork(hearing.repository, hearing.embedder)
    assert not other.advance(), "it is claimed"
    with hearing.repository.engine.begin() as connection:  # the first one died long ago
        connection.execute(update(cast(Table, BatchRow.__table__)).values(updated_at_ms=1))
    while other.advance():
        pass
    assert hearing.batch(batch.batch_id).changed == 8


def test_the_thread_embeds_and_is_ended(curation: Curation, evaluation: Evaluation, tones: list[Path]) -> None:
    curation.upsert("demo", [clip(curation.store, tones[0])])
    with asking(evaluation) as embedder:
        hearing = Curation(curation.repository, curation.store, embedder=embedder)
        batch = hearing.embed(DEMO, "Ada")
        while batch.state == pb.BATCH_STATE_RUNNING:
            batch = hearing.batch(batch.batch_id)
        hearing.embedding.stop()
    assert batch.changed == 1


@SQLITE
def test_embedding_cannot_be_undone(hearing: Curation, embedded: list[str]) -> None:
    batch = embed(hearing)
    with pytest.raises(NotFound):
        hearing.undo(batch.batch_id, "Ada")


# --- what is found


@SQLITE
def test_a_text_finds_what_sounds_so_and_is_asked_once(
    hearing: Curation, evaluation: Evaluation, embedded: list[str]
) -> None:
    assert found(hearing, text="tone 3")[0] == embedded[3]
    best = hearing.search(pb.SearchClipsRequest(filter=DEMO, text="tone 3"), 1).clips[0]
    assert best.similarity == pytest.approx(1, abs=0.01)
    assert evaluation.read == ["tone 3"]


@SQLITE
def test_a_near_duplicate_is_the_most_similar(
    hearing: Curation, embedded: list[str], tones: list[Path], tmp_path: Path
) -> None:
    quieter = loud(hearing.store, tmp_path, tones[5], "quieter.flac", 0.5)
    [planted] = hearing.upsert("demo", [clip(hearing.store, quieter, song="planted")]).ids
    embed(hearing)
    assert found(hearing, clip_id=embedded[5])[0] == planted
    assert found(hearing, clip_id=planted)[0] == embedded[5]
    assert planted not in found(hearing, clip_id=planted)


@dataclass(frozen=True)
class Many:
    """90 clips in two collections, every third of a genre, with random vectors (90, 16)."""

    ids: list[str]
    vectors: np.ndarray


@pytest.fixture
def many(hearing: Curation, monkeypatch: pytest.MonkeyPatch) -> Many:
    """The bounds of the search are small beside them."""
    monkeypatch.setattr(similar, "AT_ONCE", 5)
    monkeypatch.setattr(similar, "NARROW", 6)
    vectors = np.random.default_rng(0).standard_normal((90, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    new = [clip(hearing.store, song=number, genre=("rock", "jazz", "ska")[number % 3]) for number in range(45)]
    ids = [name for collection in ("one", "two") for name in hearing.upsert(collection, new).ids]
    found = [Embedded(name, new[0].audio.sha256, vector) for name, vector in zip(ids, vectors, strict=True)]
    hearing.repository.write(lambda session: keep(session, "clap", "a" * 64, found))
    return Many(ids, vectors)


def test_what_is_found_is_what_comparing_all_finds(hearing: Curation, many: Many) -> None:
    """Also where what matches is what is farthest from the query: the ranking is gone down to its end."""
    scores = many.vectors.astype(np.float64) @ many.vectors[7].astype(np.float64)
    order = [int(place) for place in np.argsort(-scores) if place != 7]
    far = order[-12:]
    hearing.review(dict.fromkeys((many.ids[place] for place in far), 0), Decision(REJECTED, "Ada"))
    for collection, genre, verdict in product(("", "two"), ("", "ska"), (pb.VERDICT_UNSPECIFIED, pb.VERDICT_REJECTED)):
        which = pb.ClipFilter(collection=collection, tag=genre, verdict=verdict)
        expected = [
            many.ids[place]
            for place in (far if verdict else order)
            if (not collection or place >= 45) and (not genre or place % 45 % 3 == 2)
        ]
        assert found(hearing, 8, which, clip_id=many.ids[7]) == expected[:8], which


# --- what is not found


def test_filters_hold_for_what_is_found(hearing: Curation, embedded: list[str]) -> None:
    hearing.review(dict.fromkeys(embedded[:4], 0), Decision(REJECTED, "Ada"))
    hearing.review({embedded[6]: 0}, Decision(ACCEPTED, "Ada"))
    open_ones = pb.ClipFilter(collection="demo", verdict=pb.VERDICT_OPEN)
    assert set(found(hearing, which=open_ones, clip_id=embedded[3])) == {embedded[4], embedded[5], embedded[7]}
    assert found(hearing, which=pb.ClipFilter(text="'Song 5'"), clip_id=embedded[3]) == [embedded[5]]
    assert found(hearing, which=pb.ClipFilter(collection="other"), clip_id=embedded[3]) == []


def test_new_audio_takes_the_vector_away_until_it_is_embedded(
    hearing: Curation, evaluation: Evaluation, embedded: list[str], tones: list[Path], tmp_path: Path
) -> None:
    assert embedded[2] in found(hearing, text="tone 2")
    revised = loud(hearing.store, tmp_path, tones[6], "revised.flac", 0.7)
    hearing.upsert("demo", [clip(hearing.store, revised, song=2)])
    assert embedded[2] not in found(hearing, text="tone 2")
    assert hearing.count_without_vector(DEMO) == 1
    evaluation.heard.clear()
    embed(hearing)
    assert len(evaluation.heard) == 1
    assert found(hearing, text="tone 6", size=2) in ([embedded[6], embedded[2]], [embedded[2], embedded[6]])


@SQLITE
def test_a_revision_with_the_same_audio_keeps_the_vector(
    hearing: Curation, embedded: list[str], tones: list[Path]
) -> None:
    hearing.upsert("demo", [clip(hearing.store, tones[2], song=2, prompts=("A tone",))])
    assert found(hearing, text="tone 2")[0] == embedded[2]


def test_a_vector_of_audio_that_was_replaced_meanwhile_is_not_kept(
    hearing: Curation, evaluation: Evaluation, ids: list[str], tones: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """While evaluation listens to the old audio, the pipeline sends new audio."""
    revised = loud(hearing.store, tmp_path, tones[6], "revised.flac", 0.7)
    audio = hearing.embedder.audio

    def slow(pieces: object) -> object:
        heard = audio(pieces)  # type: ignore[arg-type]
        hearing.upsert("demo", [clip(hearing.store, revised, song=2)])
        return heard

    monkeypatch.setattr(hearing.embedder, "audio", slow)
    batch = embed(hearing)
    assert (batch.changed, batch.unchanged) == (7, 1)
    assert ids[2] not in found(hearing, text="tone 2")


def test_what_was_removed_or_taken_down_is_not_found(hearing: Curation, embedded: list[str]) -> None:
    assert set(found(hearing, text="tone 2")) == set(embedded)
    with hearing.repository.engine.begin() as connection:
        connection.execute(delete(cast(Table, ClipRow.__table__)).where(ClipRow.clip_id == embedded[1]))
    hearing.store.blobs.take_down(hearing.clip(embedded[2]).audio.sha256, by="Ada", reason="licence")
    assert set(found(hearing, text="tone 2")) == set(embedded) - {embedded[1], embedded[2]}


@SQLITE
def test_vectors_of_other_weights_are_not_compared(
    hearing: Curation, evaluation: Evaluation, embedded: list[str], tones: list[Path]
) -> None:
    evaluation.weights_sha256 = "b" * 64
    hearing.embedder._believed_until = 0.0
    assert found(hearing, text="tone 2") == []
    embed(hearing, pb.ClipFilter(collection="demo", text="'Song 5'"))
    assert found(hearing, text="tone 2") == [embedded[5]]
    assert found(hearing, clip_id=embedded[5]) == []
    assert embedded[5] not in found(hearing, clip_id=embedded[4]), "those two have vectors of different weights"


def test_what_another_replica_embedded_is_found(hearing: Curation, embedded: list[str], tones: list[Path]) -> None:
    replica = Curation(hearing.repository, hearing.store, embedder=hearing.embedder)
    assert len(found(replica, text="tone 2")) == 8
    hearing.upsert("demo", [clip(hearing.store, tones[2], song="later")])
    embed(hearing)
    assert len(found(replica, text="tone 2")) == 9


def test_two_sets_are_kept_in_memory() -> None:
    sets = VectorSets()
    first = sets.of("a")
    for name in ("b", "a", "c"):
        sets.of(name)
    assert sets.of("a") is first


# --- bad input


@SQLITE
@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SearchClipsRequest(), "text"),
        (pb.SearchClipsRequest(text=" "), "text"),
        (pb.SearchClipsRequest(text="x" * 2001), "text"),
        (pb.SearchClipsRequest(clip_id=""), "clip_id"),
        (pb.SearchClipsRequest(clip_id="x" * 65), "clip_id"),
        (pb.SearchClipsRequest(text="x", filter=pb.ClipFilter(min_rating=9)), "filter.min_rating"),
    ],
)
def test_a_bad_search_is_refused_by_field(hearing: Curation, request_: pb.SearchClipsRequest, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        hearing.search(request_, 10)
    assert refused.value.violations[0][0] == field


@SQLITE
@pytest.mark.parametrize("size", [0, 101])
def test_a_bad_limit_is_refused(hearing: Curation, size: int) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        hearing.search(pb.SearchClipsRequest(text="x"), size)


@SQLITE
def test_a_clip_that_is_not_there_is_not_found(hearing: Curation) -> None:
    with pytest.raises(NotFound):
        found(hearing, clip_id="clip-none")


@SQLITE
def test_embedding_needs_a_collection_and_a_name(hearing: Curation) -> None:
    for which, who, field in ((pb.ClipFilter(), "Ada", "filter.collection"), (DEMO, " ", "reviewer")):
        with pytest.raises(InvalidRequest) as refused:
            hearing.embed(which, who)
        assert refused.value.violations[0][0] == field
