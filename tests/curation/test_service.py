"""The RPCs over real gRPC: what comes back, and which status answers what."""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from sqlalchemy import Engine

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier_curation.__main__ import service_of
from luthier_curation.curation import Curation
from luthier_kit.rpc import (
    Aborted,
    Channel,
    Credentials,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    ServiceSettings,
)
from luthier_kit.store import Store
from tests.support.services import running

from .builders import PROMPT
from .builders import clip as message


@pytest.fixture
def client(curation: Curation) -> Iterator[CurationServiceStub]:
    """A client of a running service."""
    with running(service_of(curation)) as address, Channel(address) as channel:
        yield CurationServiceStub(channel)


def upsert(client: CurationServiceStub, *clips: pb.NewClip, collection: str = "demo") -> pb.UpsertClipsResponse:
    return client.UpsertClips(pb.UpsertClipsRequest(collection=collection, clips=clips))


def listed(client: CurationServiceStub, **request: object) -> pb.ListClipsResponse:
    return client.ListClips(pb.ListClipsRequest(**request))  # type: ignore[arg-type]


def test_what_was_sent_is_what_is_listed(client: CurationServiceStub, store: Store) -> None:
    sent = message(store, b"fLaC")
    sent.prompts[0].check.disagreements.add(subject="tempo", reason="NOT_IN_FACTS", stated="90 BPM")
    answer = upsert(client, sent)
    assert (answer.created, answer.revised, answer.unchanged) == (1, 0, 0)
    page = listed(client)
    [clip] = page.clips
    assert (clip.clip_id, clip.collection, page.total) == (answer.clip_ids[0], "demo", 1)
    for field in ("source", "audio", "facts"):
        assert getattr(clip, field) == getattr(sent, field)
    assert list(clip.prompts) == list(sent.prompts)
    assert list(clip.tags) == list(sent.tags)
    assert (clip.verdict, clip.revision) == (pb.VERDICT_OPEN, 1)
    assert clip.updated_at.seconds > 1_700_000_000


def test_the_whole_way_from_upsert_to_data_set(client: CurationServiceStub, store: Store) -> None:
    upsert(client, *(message(store, b"fLaC", song=song, passed=song != 3) for song in range(4)))
    checked = pb.ClipFilter(collection="demo", checked=True)
    review = pb.ReviewClipsRequest(
        filter=checked, verdict=pb.VERDICT_ACCEPTED, reviewer="accept checked", automatic=True
    )
    assert client.ReviewClips(review).changed == 3
    accepted = listed(client, filter=pb.ClipFilter(verdict=pb.VERDICT_ACCEPTED))
    assert {(clip.reviewer, clip.automatic) for clip in accepted.clips} == {("accept checked", True)}
    done = client.ExportDataset(pb.ExportDatasetRequest(collection="demo", exported_by="Ada"))
    assert (done.name, done.version, done.download_path) == ("demo", 1, "/datasets/demo/1.zip")
    assert sum(split.clips for split in done.splits) == 3
    assert store.blobs.exists(done.manifest)
    again = client.ExportDataset(pb.ExportDatasetRequest(collection="demo", exported_by="Bob"))
    assert (again.manifest, again.unchanged) == (done.manifest, True)
    assert (again.validation_share, again.test_share) == (0.1, 0.1)
    other = pb.ExportDatasetRequest(collection="demo", exported_by="Ada", validation_share=0.25, test_share=0)
    shares = client.ExportDataset(other)
    assert (shares.validation_share, shares.test_share, shares.version) == (0.25, 0, 2)


def test_an_edit_comes_back_and_its_facts_are_a_persons(client: CurationServiceStub, store: Store) -> None:
    [name] = upsert(client, message(store, b"fLaC")).clip_ids
    edit = pb.UpdateClipRequest(
        clip_id=name,
        expected_revision=1,
        reviewer="Ada",
        prompts=["By hand", PROMPT],
        instruments=pb.InstrumentsEdit(instruments=[common.InstrumentFact(instrument="cello", share=0.5)]),
        tempo=common.TempoFact(tempo_bpm=61, estimator="essentia"),
        voice=common.VOICE_PRESENCE_NONE,
        tags=pb.TagsEdit(tags=[common.Tag(text="Jazz", kind="genre")]),
        remark="lovely",
    )
    clip = client.UpdateClip(edit).clip
    assert clip.prompts[0].text == "By hand"
    assert "cello" in clip.prompts[1].text.lower()
    assert "61" in clip.prompts[1].text
    assert [(tag.text, tag.kind) for tag in clip.tags] == [("jazz", "genre")]
    assert [(fact.instrument, fact.family) for fact in clip.facts.instruments] == [("Cello", "Strings")]
    assert clip.facts.tempo == common.TempoFact(tempo_bpm=61, beat_quarters=1, source=common.FACT_SOURCE_PERSON)
    assert clip.facts.voice == common.VoiceFact(presence=common.VOICE_PRESENCE_NONE, source=common.FACT_SOURCE_PERSON)
    assert (clip.revision, clip.remark) == (2, "lovely")
    assert list(clip.edited_fields) == ["facts.instruments", "facts.tempo", "facts.voice", "prompts", "tags"]
    with pytest.raises(Aborted) as stale:
        client.UpdateClip(edit)
    assert stale.value.reason == "REVISION_MISMATCH"


def test_long_prompts_make_shorter_pages_and_lose_nothing(client: CurationServiceStub, store: Store) -> None:
    long = tuple(f"{index} " + "é" * 1990 for index in range(16))
    for first in range(0, 60, 30):
        clips = [message(store, b"fLaC", song=song, prompts=long) for song in range(first, first + 30)]
        upsert(client, *clips)
    seen, token = set(), ""
    while True:
        page = listed(client, page_size=500, page_token=token)
        assert page.ByteSize() < 4 << 20
        seen |= {clip.clip_id for clip in page.clips}
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == page.total == 60


def new(store: Store, **changes: object) -> pb.NewClip:
    clip = message(store, b"fLaC")
    for path, value in changes.items():
        *parents, field = path.split("__")
        target = clip
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, field, value)
    return clip


BAD_CLIPS = [
    ({"source__song_fingerprint": "../../etc"}, InvalidRequest, "clips[0].source.song_fingerprint"),
    ({"source__span__start_s": -1.0}, InvalidRequest, "clips[0].source.span.start_s"),
    ({"source__span__end_s": 0.0}, InvalidRequest, "clips[0].source.span.end_s"),
    ({"source__span__end_s": float("inf")}, InvalidRequest, "clips[0].source.span.end_s"),
    ({"source__song__title": "x" * 201}, InvalidRequest, "clips[0].source.song.title"),
    ({"source__subset": "Solo clips"}, InvalidRequest, "clips[0].source.subset"),
    ({"source__part": 4096}, InvalidRequest, "clips[0].source.part"),
    ({"source__variation__number": -1}, InvalidRequest, "clips[0].source.variation.number"),
    ({"source__song__artist": "nul\0"}, InvalidRequest, "clips[0].source.song.artist"),
    ({"facts__duration_s": float("nan")}, InvalidRequest, "clips[0].facts.duration_s"),
    ({"facts__loudness_lufs": float("-inf")}, InvalidRequest, "clips[0].facts.loudness_lufs"),
    ({"audio__key": ""}, InvalidRequest, "clips[0].audio"),
    ({"audio__key": "clips/../secret"}, InvalidRequest, "clips[0].audio.key"),
    ({"audio__key": f"generated/{'0' * 64}.flac", "audio__sha256": "0" * 64}, InvalidRequest, "clips[0].audio.key"),
    ({"audio__bucket": "somebody-elses"}, PermissionDenied, ""),
    ({"audio__sha256": "0" * 64}, FailedPrecondition, ""),
]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("changes", "kind", "field"), BAD_CLIPS)
def test_a_bad_clip_is_refused_by_field(
    client: CurationServiceStub, store: Store, changes: dict[str, object], kind: type[LuthierError], field: str
) -> None:
    with pytest.raises(kind) as refused:
        upsert(client, new(store, **changes))
    if field:
        assert isinstance(refused.value, InvalidRequest)
        assert field in [name for name, _ in refused.value.violations]
    assert listed(client).total == 0


BAD_REQUESTS = [
    (pb.UpsertClipsRequest(collection="demo"), InvalidRequest),
    (
        pb.UpsertClipsRequest(collection="No Name", clips=[pb.NewClip()]),
        InvalidRequest,
    ),
    (pb.ListClipsRequest(page_size=0), InvalidRequest),
    (pb.ListClipsRequest(page_size=501), InvalidRequest),
    (pb.ListClipsRequest(page_token="!"), InvalidRequest),
    (pb.ListClipsRequest(filter=pb.ClipFilter(text="x" * 201)), InvalidRequest),
    (
        pb.ListClipsRequest(filter=pb.ClipFilter(min_tempo_bpm=float("nan"))),
        InvalidRequest,
    ),
    (pb.ListClipsRequest(filter=pb.ClipFilter(verdict=cast(pb.Verdict, 77))), InvalidRequest),
    (
        pb.UpdateClipRequest(clip_id="x", expected_revision=1, reviewer="Ada"),
        NotFound,
    ),
    (pb.UpdateClipRequest(clip_id="x", reviewer="Ada"), InvalidRequest),
    (
        pb.ReviewClipsRequest(verdict=pb.VERDICT_ACCEPTED, reviewer="Ada"),
        InvalidRequest,
    ),
    (
        pb.ReviewClipsRequest(clips=[pb.ClipRevision(clip_id="x")], verdict=pb.VERDICT_ACCEPTED, reviewer="Ada"),
        NotFound,
    ),
    (
        pb.ReviewClipsRequest(clips=[pb.ClipRevision(clip_id="x")], reviewer="Ada"),
        InvalidRequest,
    ),
    (
        pb.ExportDatasetRequest(collection="demo", exported_by="Ada"),
        FailedPrecondition,
    ),
    (pb.ExportDatasetRequest(collection="demo"), InvalidRequest),
]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_each_bad_request_gets_its_status(client: CurationServiceStub, engine: Engine) -> None:
    methods: dict[type[Message], Callable[..., object]] = {
        pb.UpsertClipsRequest: client.UpsertClips,
        pb.ListClipsRequest: client.ListClips,
        pb.UpdateClipRequest: client.UpdateClip,
        pb.ReviewClipsRequest: client.ReviewClips,
        pb.ExportDatasetRequest: client.ExportDataset,
    }
    for request, kind in BAD_REQUESTS:
        with pytest.raises(LuthierError) as refused:
            methods[type(request)](request)
        assert type(refused.value) is kind, f"{type(request).__name__} {request}: {refused.value!r}"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_name_that_is_too_long_beside_its_callers_is_refused_and_never_cut(
    curation: Curation, store: Store, tmp_path: Path
) -> None:
    token = "shop-token-0123456789"
    callers = tmp_path / "callers"
    callers.mkdir()
    (callers / "shop").write_text(f"sha256:{hashlib.sha256(token.encode()).hexdigest()}")
    settings = ServiceSettings(address="127.0.0.1:0", callers=str(callers), caller_permissions=("shop=read+curate",))
    credentials = Credentials({"LUTHIER_TOKEN": token})
    with (
        running(service_of(curation), settings) as address,
        Channel(address, credentials=credentials) as channel,
    ):
        client = CurationServiceStub(channel)
        [name] = upsert(client, message(store)).clip_ids
        edit = pb.UpdateClipRequest(clip_id=name, expected_revision=1, remark="mine", reviewer="A" * 91)
        with pytest.raises(InvalidRequest) as refused:
            client.UpdateClip(edit)
        edit.reviewer = "A" * 90
        client.UpdateClip(edit)
    assert [field for field, _ in refused.value.violations] == ["reviewer"]
    assert curation.history(name)[0].who == f"shop (as {'A' * 90})"


def instruments(share: float) -> pb.InstrumentsEdit:
    return pb.InstrumentsEdit(instruments=[common.InstrumentFact(instrument="Drums", share=share)])


NOT_NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"tempo": common.TempoFact(tempo_bpm=value)}, "tempo.tempo_bpm") for value in NOT_NUMBERS),
        *(({"instruments": instruments(value)}, "instruments[0].share") for value in NOT_NUMBERS),
        ({"key": common.KeyFact(tonic="\x00")}, "key.tonic"),
        ({"key": common.KeyFact(tonic="C", mode=9999)}, "key.mode"),  # type: ignore[arg-type]
        ({"expected_revision": -(1 << 63)}, "expected_revision"),
        ({"remark": "a\x00b"}, "remark"),
        ({"prompts": ["\x00"]}, "prompts[0]"),
    ],
)
def test_an_edit_that_is_no_fact_is_refused_by_its_field(
    client: CurationServiceStub, store: Store, changes: dict[str, Any], field: str
) -> None:
    [name] = upsert(client, message(store)).clip_ids
    request = pb.UpdateClipRequest(**{"clip_id": name, "expected_revision": 1, "reviewer": "ann", **changes})
    with pytest.raises(InvalidRequest) as refused:
        client.UpdateClip(request)
    assert field in [place for place, _ in refused.value.violations]
    assert listed(client).clips[0].revision == 1


def test_pages_stay_below_the_message_limit_whatever_clips_hold(client: CurationServiceStub, store: Store) -> None:
    for song in range(6):
        heavy = message(store, song=song)
        heavy.tags.extend(common.Tag(text="\U0001f3b8" * 1000, kind="genre", weight=1) for _ in range(240))
        upsert(client, heavy)
    seen, token = [], ""
    while True:
        page = listed(client, page_size=500, page_token=token)
        assert page.ByteSize() < 4 << 20
        seen += [clip.clip_id for clip in page.clips]
        token = page.next_page_token
        if not token:
            break
    assert len(set(seen)) == len(seen) == 6


def test_a_clip_that_would_fill_a_page_is_refused(client: CurationServiceStub, store: Store) -> None:
    heavy = message(store)
    heavy.tags.extend(common.Tag(text="x" * 9000, kind="genre", weight=1) for _ in range(200))
    with pytest.raises(InvalidRequest, match="must have at most 1048576 bytes"):
        upsert(client, heavy)


def stamps(client: CurationServiceStub, *ids: str) -> list[str]:
    return list(client.GetClipStamps(pb.GetClipStampsRequest(clip_ids=ids)).stamps)


def test_a_stamp_stays_while_the_pipeline_sends_the_same_whatever_people_do(
    client: CurationServiceStub, store: Store
) -> None:
    sent = upsert(client, message(store), message(store, song=2))
    assert stamps(client, *sent.clip_ids) == list(sent.stamps)
    assert upsert(client, message(store), message(store, song=2)).stamps == sent.stamps
    first = sent.clip_ids[0]
    client.UpdateClip(pb.UpdateClipRequest(clip_id=first, expected_revision=1, reviewer="me", prompts=["Other."]))
    client.ReviewClips(
        pb.ReviewClipsRequest(
            filter=pb.ClipFilter(collection="demo"), verdict=pb.VERDICT_ACCEPTED, reviewer="me", automatic=True
        )
    )
    assert stamps(client, *sent.clip_ids) == list(sent.stamps)


def test_a_stamp_is_another_one_once_the_pipeline_sends_something_else(
    client: CurationServiceStub, store: Store
) -> None:
    sent = upsert(client, message(store))
    other = message(store, b"fLaC another render")
    revised = upsert(client, other)
    assert revised.clip_ids == sent.clip_ids
    assert revised.stamps != sent.stamps
    back = upsert(client, message(store))
    assert len({sent.stamps[0], revised.stamps[0], back.stamps[0]}) == 3
    assert stamps(client, back.clip_ids[0]) == list(back.stamps)


def test_a_clip_that_is_not_there_has_no_stamp(client: CurationServiceStub, store: Store) -> None:
    sent = upsert(client, message(store))
    many = [f"clip-{number:024x}" for number in range(1200)]
    assert stamps(client, *many, sent.clip_ids[0], many[0]) == [""] * 1200 + [sent.stamps[0], ""]


@pytest.mark.parametrize("count", [0, 5001])
def test_stamps_are_asked_for_one_to_5000_clips(client: CurationServiceStub, count: int) -> None:
    with pytest.raises(InvalidRequest, match="clip_ids"):
        stamps(client, *["clip-0"] * count)
