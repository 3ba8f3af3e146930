"""`luthier run`: files to clips by services that answer from a script; what is summed, published and refused."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsRequest, CutClipsResponse, DecodeAudioResponse
from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef, InstrumentActivity, Span, Timeline
from luthier.curation.v1.curation_pb2 import UpsertClipsRequest, UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import (
    PART_STATE_DONE,
    PART_STATE_FAILED,
    PART_STATE_RUNNING,
    CorpusFile,
    PartProgress,
    PartState,
    Recording,
    ShardProgress,
    SongFailure,
)
from luthier.prompting.v1.prompting_pb2 import (
    PROMPT_STYLE_METADATA,
    PROMPT_STYLE_SHORT,
    PROMPT_STYLE_TAGS,
    ComposePromptsResponse,
    PromptStyle,
)
from luthier.rendering.v1.rendering_pb2 import (
    FindSolosRequest,
    FindSolosResponse,
    InspectMidiRequest,
    InspectMidiResponse,
    RenderSongRequest,
    RenderSongResponse,
    SoloPart,
    SoloPassage,
    Stem,
)
from luthier_kit.rpc import InvalidRequest, Unavailable
from luthier_kit.store import Store
from luthier_pipeline import run as runs
from luthier_pipeline.console import Progress
from luthier_pipeline.corpus import Shard, corpus_of, ingest_series, publish, read_manifest
from luthier_pipeline.notes import keep_note
from luthier_pipeline.run import Flight, RunSummary, run_songs
from luthier_pipeline.run_status import MAX_FAILURES, ProgressPublisher, RunStatusReader, part_series, state_name
from luthier_pipeline.solo import as_choice, by_song
from luthier_pipeline.song import SongPipeline, SongResult, StageError, midi_of
from luthier_pipeline.song_records import SERVICES, solo_choice_key
from tests.pipeline.fakes import FakeClients, Stub, luthier

FILES = {"A/One.mid": b"one", "A/One.1.mid": b"one", "B/Two.mid": b"two", "B/Long.mid": b"long", "Broken.mid": b"?"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, notes in FILES.items():
        (tmp_path / "Songs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Songs" / name).write_bytes(notes)
    return tmp_path / "Songs"


def clients_of(store: Store, render: Exception | None = None) -> FakeClients:
    """Every service. `?` is no MIDI file, `long` is too long to render; each other song gives two clips."""

    def inspect(request: InspectMidiRequest) -> InspectMidiResponse:
        notes = store.blobs.read(request.midi)
        if notes == b"?":
            raise InvalidRequest("it has no header", reason="MIDI_NOT_MIDI")
        return InspectMidiResponse(fingerprint=hashlib.sha256(notes).hexdigest(), duration_s=60.0, action=ActionInfo())

    def rendered(request: RenderSongRequest) -> RenderSongResponse:
        if store.blobs.read(request.midi) == b"long":
            raise InvalidRequest("must be shorter", reason="MIDI_TOO_LONG")
        return RenderSongResponse(action=ActionInfo(), timeline=Timeline(duration_s=62.0), cpu_s=1.5)

    def upserted(request: UpsertClipsRequest) -> UpsertClipsResponse:
        return UpsertClipsResponse(created=len(request.clips))

    return FakeClients(
        store,
        rendering=Stub(InspectMidi=inspect, RenderSong=render or rendered),
        analysis=Stub(CutClips=CutClipsResponse(action=ActionInfo(reused=True), clips=[Clip(), Clip()])),
        enrichment=Stub(EnrichSong=EnrichSongResponse(action=ActionInfo())),
        prompting=Stub(ComposePrompts=ComposePromptsResponse(action=ActionInfo())),
        curation=Stub(UpsertClips=upserted),
    )


def test_a_folder_goes_all_the_way_and_everything_is_accounted_for(store: Store, folder: Path) -> None:
    document = luthier(["run", str(folder), "--licence", "CC0-1.0", "--json"], clients_of(store)).document
    assert (document["files"], document["songs"], document["duplicates"]) == (5, 3, 1)
    assert (document["rendered"], document["clips"], document["audio_s"]) == (2, 4, 124.0)
    assert {(f["path"], f["stage"], f["reason"]) for f in document["failures"]} == {
        ("Broken.mid", "ingest", "MIDI_NOT_MIDI"), ("B/Long.mid", "render", "MIDI_TOO_LONG"),
    }  # fmt: skip
    # 4 files inspected; of each song render, enrich, two prompts and curate computed, cut found done
    assert (document["computed"], document["reused"], document["cpu_s"]) == (4 + 2 * 5, 2, {"render": 3.0})
    assert set(document) == {
        "files", "duplicates", "near_duplicates", "songs", "rendered", "clips", "seconds", "audio_s", "computed",
        "reused", "cpu_s", "failures", "collection", "manifest", "shard", "shards", "without_clips", "variations",
        "variations_audio_s", "variations_cpu_s", "solo_s",
    }  # fmt: skip
    assert document["collection"] == "songs"


def test_variations_are_made_of_every_song_that_can_be_rendered_and_counted(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    document = luthier(["run", str(folder), "--variations", "3", "--json"], clients).document
    assert (document["songs"], document["rendered"], document["variations"], document["clips"]) == (3, 2, 6, 2 * 4 * 2)
    assert (document["audio_s"], document["variations_audio_s"]) == (8 * 62.0, 6 * 62.0)
    assert (document["cpu_s"], document["variations_cpu_s"]) == ({"render": 12.0}, {"render": 9.0})
    asked = [request.variation.number for request in clients.requests("RenderSong")]
    assert sorted(asked) == [0, 0, 0, 1, 1, 2, 2, 3, 3]  # not of the song that is too long
    assert [f["path"] for f in document["failures"] if f["variation"]] == []


def test_songs_as_written_come_before_their_variations(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    luthier(["run", str(folder), "--variations", "2", "--in-flight", "1"], clients)
    asked = [request.variation.number for request in clients.requests("RenderSong")]
    assert asked == [0, 0, 0, 1, 1, 2, 2]


def test_a_variation_that_fails_is_named_and_its_song_stays(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    render = clients.stubs["rendering"].answers["RenderSong"][0]

    def fails_second(request: RenderSongRequest) -> RenderSongResponse:
        if request.variation.number == 2 and store.blobs.read(request.midi) == b"one":
            raise InvalidRequest("every draw was silent", reason="INSTRUMENT_FAILED")
        answer: RenderSongResponse = render(request)
        return answer

    clients.stubs["rendering"].answers["RenderSong"] = [fails_second]
    done = luthier(["run", str(folder), "--variations", "3", "--collection", "book"], clients)
    assert "FAILED A/One.mid, variation 2: render: INSTRUMENT_FAILED: every draw was silent" in done.out.splitlines()
    assert "2 songs and 5 variations (05:10) rendered (07:14 of music), 14 clips in collection book" in done.out
    assert done.code == 0
    shard = RunStatusReader(store).runs("book")[0].shards[0].shard
    assert (shard.rendered, shard.failed, shard.waiting, shard.in_flight) == (2, 1, 0, 0)
    assert (shard.variations, shard.variations_rendered, shard.variations_failed) == (6, 5, 1)
    said = luthier("status --collection book", FakeClients(store)).out
    assert "6/6 (1 failed)" in said
    assert "FAILED book: A/One.mid, variation 2: render: INSTRUMENT_FAILED: every draw was silent" in said


def test_variations_that_wait_ask_for_render_workers(store: Store, folder: Path) -> None:
    """At any moment of a run: what is not yet rendered, of songs and variations."""
    seen: list[tuple[int, int, int]] = []
    clients = clients_of(store)
    songs = [CorpusFile(path=name, sha256=name, key="midi/x", duration_s=60.0) for name in ("a", "b")]
    flight = Flight("book", "run", Shard(), 2, songs, RunSummary(songs=2), variations=2)

    class Publisher:
        def update(self, progress: PartProgress) -> None:
            shard = progress.shard
            seen.append((progress.need_render, shard.waiting + shard.in_flight, shard.variations))

    class Takes:
        clients = FakeClients(store)

        def run(self, song: CorpusFile, on_stage: Callable[[str], None], number: int) -> SongResult:
            on_stage("render")
            return SongResult(clips=1)

    Takes.clients = clients
    run_songs(cast(SongPipeline, Takes()), flight, 1, cast(ProgressPublisher, Publisher()))
    assert seen == [(6, 2, 4), (5, 1, 4), (4, 0, 4), (3, 0, 4), (2, 0, 4), (1, 0, 4)]
    assert (flight.settled, flight.summary.variations) == (2, 4)


def test_variations_that_will_not_come_are_no_time_to_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Progress] = []

    class Kept(Progress):
        def __init__(self, what: str, total: int, weight: float = 0.0) -> None:
            super().__init__(what, total, weight)
            shown.append(self)

    class Takes:
        clients = FakeClients(store)

        def run(self, song: CorpusFile, _on_stage: Callable[[str], None], _number: int) -> SongResult:
            if song.path == "broken":
                raise StageError("render", InvalidRequest("must be shorter", reason="MIDI_TOO_LONG"))
            return SongResult(clips=song.path != "silent")

    class Publisher:
        def update(self, _progress: PartProgress) -> None:
            pass

    monkeypatch.setattr(runs, "Progress", Kept)
    songs = [CorpusFile(path=path, sha256=path, duration_s=60.0) for path in ("good", "broken", "silent", "tape")]
    songs[3].recording.SetInParent()
    flight = Flight("book", "run", Shard(), 4, songs, RunSummary(songs=4), variations=2)
    run_songs(cast(SongPipeline, Takes()), flight, 1, cast(ProgressPublisher, Publisher()))
    [progress] = shown
    assert (progress.done, progress.total, progress.weight, progress.eta_s) == (6, 6, 6 * 60.0, 0.0)


def announced(store: Store, *songs: CorpusFile) -> None:
    """The corpus `book` in the store."""
    publish(store, "book", "r", corpus_of(list(songs), "CC0-1.0"), None)


def test_a_corpus_of_recordings_has_no_variations(store: Store) -> None:
    announced(store, CorpusFile(path="a.mp3", key="audio/a", sha256="a" * 64, fingerprint="a", recording=Recording()))
    clients = clients_of(store)
    done = luthier("run corpora/book --variations 2", clients)
    assert (done.code, clients.requests("CutClips")) == (2, [])
    assert "--variations are of MIDI files, and corpora/book holds recordings only" in done.err


def test_of_recordings_beside_midi_files_only_the_files_are_varied(store: Store) -> None:
    midi = store.blobs.put_bytes("midi", b"one", "mid")
    song = CorpusFile(path="a.mid", key=midi.key, sha256=midi.sha256, fingerprint="a", duration_s=60)
    recording = CorpusFile(path="b.mp3", key="audio/b", sha256="b" * 64, fingerprint="b", recording=Recording())
    announced(store, song, recording)
    clients = clients_of(store)
    clients.stubs["analysis"].answers["DecodeAudio"] = [DecodeAudioResponse(action=ActionInfo())]
    done = luthier("run corpora/book --variations 2 --json", clients)
    assert (done.document["rendered"], done.document["variations"], done.document["clips"]) == (2, 2, 8)
    assert len(clients.requests("DecodeAudio")) == 1
    assert "1 recordings have no variations" in done.err
    shard = RunStatusReader(store).runs("book")[0].shards[0].shard
    assert (shard.variations, shard.variations_rendered, shard.failed) == (2, 2, 0)


def test_people_read_what_came_of_it(store: Store, folder: Path) -> None:
    done = luthier(["run", str(folder), "--collection", "book"], clients_of(store))
    lines = done.out.splitlines()
    assert lines[0] == "5 files: 3 songs, 1 duplicates, 0 near-duplicates, 1 refused"
    assert lines[1].startswith("2 songs rendered (02:04 of music), 4 clips in collection book, in 00:0")
    assert "FAILED B/Long.mid: render: MIDI_TOO_LONG: must be shorter" in lines
    assert done.code == 0  # songs that failed are rows of the summary


def test_what_is_published_at_the_end_is_the_summary(store: Store, folder: Path) -> None:
    luthier(["run", str(folder), "--collection", "book"], clients_of(store))
    [run] = RunStatusReader(store).runs("book")
    assert (run.state, run.songs, [state_name(part.state) for part in run.parts]) == ("DONE", 3, ["DONE", "DONE"])
    shard = run.shards[0].shard
    assert (shard.rendered, shard.failed, shard.waiting, shard.in_flight, shard.clips) == (2, 1, 0, 0, 4)
    assert (run.shards[0].need_render, shard.files, shard.duplicates) == (0, 5, 1)


def test_every_song_goes_once_however_many_are_in_flight(store: Store, folder: Path) -> None:
    clients, at_once, most, lock = clients_of(store), 0, 0, threading.Event()
    cut = clients.analysis

    class Counting:
        def CutClips(self, request: CutClipsRequest, timeout: float | None = None) -> Any:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            lock.wait(0.1)
            at_once -= 1
            return cut.CutClips(request, timeout=timeout)

    clients.__dict__["analysis"] = Counting()
    luthier(["run", str(folder), "--in-flight", "1"], clients)
    assert most == 1
    assert len(clients.requests("UpsertClips")) == 2


def test_a_service_that_stays_away_ends_the_run_and_says_so_in_the_store(store: Store, folder: Path) -> None:
    away = Unavailable("no renderer", reason="UNREACHABLE")
    done = luthier(["run", str(folder), "--collection", "book", "--json"], clients_of(store, render=away))
    assert (done.code, done.document["error"]["reason"]) == (1, "UNREACHABLE")
    [run] = RunStatusReader(store).runs("book")
    assert (run.state, run.shards[0].error.message) == ("FAILED", "no renderer")


def test_shards_take_their_songs_from_the_announced_corpus(store: Store, folder: Path) -> None:
    luthier(["ingest", str(folder), "--collection", "book"], clients_of(store))
    summaries = [luthier(f"run corpora/book --shard {i}/2 --json", clients_of(store)).document for i in range(2)]
    assert sum(summary["songs"] for summary in summaries) == 3
    assert sum(summary["rendered"] for summary in summaries) == 2
    assert {(summary["shard"], summary["shards"], summary["collection"]) for summary in summaries} == {
        (0, 2, "book"), (1, 2, "book"),
    }  # fmt: skip
    assert len({summary["manifest"]["sha256"] for summary in summaries}) == 1


def solos_of(store: Store) -> FakeClients:
    """Services by which each song has a cello that plays from 0 to 30 s; what is cut of it is one clip. `long` cannot
    be searched."""
    clients = clients_of(store)

    def found(request: FindSolosRequest) -> FindSolosResponse:
        if store.blobs.read(request.midi) == b"long":
            raise InvalidRequest("must be shorter", reason="MIDI_TOO_LONG")
        passage = SoloPassage(span=Span(start_s=0, end_s=30))
        part = SoloPart(activity=InstrumentActivity(instrument="Cello"), passages=[passage])
        return FindSolosResponse(parts=[part], action=ActionInfo())

    def rendered(request: RenderSongRequest) -> RenderSongResponse:
        stem = Stem(audio=ArtifactRef(key="stems/1.flac"), loudness_lufs=-24.0)
        return RenderSongResponse(action=ActionInfo(), timeline=Timeline(duration_s=62.0), stems=[stem])

    def cut(request: CutClipsRequest) -> CutClipsResponse:
        clips = [Clip(span=span) for span in request.spans] or [Clip(), Clip()]
        return CutClipsResponse(action=ActionInfo(), clips=clips, cpu_s=0.5)

    clients.stubs["rendering"].answers |= {"FindSolos": [found], "RenderSong": [rendered]}
    clients.stubs["analysis"].answers["CutClips"] = [cut]
    return clients


def test_both_subsets_go_into_one_collection(store: Store, folder: Path) -> None:
    clients = solos_of(store)
    done = luthier(["run", str(folder), "--subsets", "polyphonic,monophonic"], clients)
    made = [new.source.subset for request in clients.requests("UpsertClips") for new in request.clips]
    assert (made.count(""), made.count("monophonic")) == (6, 2)
    assert "solo clips of 1 instruments, 01:00 in all" in done.out.splitlines()


def test_a_song_whose_solos_fail_beside_its_mix_is_rendered_and_varied(store: Store, folder: Path) -> None:
    clients = solos_of(store)
    cut = clients.stubs["analysis"].answers["CutClips"][0]

    def no_solos(request: CutClipsRequest) -> CutClipsResponse:
        if request.spans:
            raise InvalidRequest("a span lies outside the audio", reason="INVALID_SPANS")
        answer: CutClipsResponse = cut(request)
        return answer

    clients.stubs["analysis"].answers["CutClips"] = [no_solos]
    line = ["run", str(folder), "--subsets", "polyphonic,monophonic", "--variations", "2", "--collection", "book"]
    document = luthier([*line, "--json"], clients).document
    assert (document["rendered"], document["variations"], document["clips"]) == (3, 6, 18)
    assert {(f["path"], f["stage"], f["reason"]) for f in document["failures"]} == {
        ("Broken.mid", "ingest", "MIDI_NOT_MIDI"), ("A/One.mid", "cut", "INVALID_SPANS"),
        ("B/Two.mid", "cut", "INVALID_SPANS"),
    }  # fmt: skip
    shard = RunStatusReader(store).runs("book")[0].shards[0].shard
    assert (shard.rendered, shard.failed, shard.variations_rendered) == (3, 0, 6)


def test_solos_alone_are_of_the_songs_that_were_chosen_and_the_others_are_not_rendered(
    store: Store, folder: Path
) -> None:
    clients = solos_of(store)
    line = ["run", str(folder), "--subsets", "monophonic", "--solo-minutes", "0.5", "--json"]
    document = luthier(line, clients).document
    assert len(clients.requests("RenderSong")) == 1
    assert (document["rendered"], document["clips"], document["solo_s"]) == (3, 1, {"Cello": 30.0})
    assert (document["failures"][1:], document["without_clips"]) == ([], {})  # the first one is no MIDI file


def test_shards_choose_the_same_of_the_whole_corpus(store: Store, folder: Path) -> None:
    luthier(["ingest", str(folder), "--collection", "book"], clients_of(store))

    def solos(line: str) -> set[str]:
        clients = solos_of(store)
        luthier(f"run corpora/book --subsets monophonic --solo-minutes 1 {line}", clients)
        return {new.source.midi_sha256 for asked in clients.requests("UpsertClips") for new in asked.clips}

    whole, first, second = solos(""), solos("--shard 0/2"), solos("--shard 1/2")
    assert len(whole) == 2
    assert (first | second, first & second) == (whole, set())


def begun(store: Store, state: PartState, *, in_flight: int = 0) -> None:
    """What shard 0 of 2 says of itself."""
    newest = ingest_series(store, "book").latest()
    assert newest
    shard = ShardProgress(shard=0, shards=2, in_flight=in_flight)
    part = PartProgress(collection="book", run=newest[1].run, part="0-of-2", state=state, shard=shard)
    part.updated_at.GetCurrentTime()
    part_series(store, "book", part.run, part.part).append(part)


def second_of_two(store: Store) -> FakeClients:
    """Runs shard 1 of 2 with solo clips, by services that say how they are configured."""
    clients = solos_of(store)
    clients.configurations = {name: f"{name}-1" for name in SERVICES}
    found = clients.stubs["rendering"].answers["FindSolos"][0]

    def configured(request: FindSolosRequest) -> FindSolosResponse:
        answer: FindSolosResponse = found(request)
        answer.action.configuration = "rendering-1"
        return answer

    clients.stubs["rendering"].answers["FindSolos"] = [configured]
    done = luthier("run corpora/book --shard 1/2 --subsets monophonic --solo-minutes 1", clients)
    assert done.code == 0, done.err
    return clients


def test_a_shard_waits_for_the_choice_of_shard_0(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    luthier(["ingest", str(folder), "--collection", "book"], clients_of(store))
    begun(store, PART_STATE_RUNNING)
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.02)

    def choose_meanwhile(pipeline: SongPipeline, songs: list[CorpusFile], minutes: float) -> str:
        asked = question(pipeline, songs, minutes)
        nothing = as_choice(by_song([]), asked, searched=2)
        threading.Timer(0.2, keep_note, (store, solo_choice_key("book"), nothing)).start()
        return asked

    question = SongPipeline.solo_question
    monkeypatch.setattr(SongPipeline, "solo_question", choose_meanwhile)
    assert second_of_two(store).requests("FindSolos") == []


@pytest.mark.parametrize(
    ("state", "in_flight"), [(PART_STATE_RUNNING, 3), (PART_STATE_FAILED, 0), (PART_STATE_DONE, 0)]
)
def test_a_shard_searches_itself_where_shard_0_comes_to_no_choice(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, state: PartState, in_flight: int
) -> None:
    luthier(["ingest", str(folder), "--collection", "book"], clients_of(store))
    begun(store, state, in_flight=in_flight)
    monkeypatch.setattr(runs, "SILENT_S", 0.1)
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.02)
    asked = second_of_two(store).requests("FindSolos")
    assert len({request.midi.sha256 for request in asked}) == 3  # all songs of the corpus


def test_a_manifest_is_a_source_by_its_key_and_as_a_file(store: Store, folder: Path, tmp_path: Path) -> None:
    ingested = luthier(["ingest", str(folder), "--json"], clients_of(store)).document
    key = ingested["manifest"]["key"]
    by_key = luthier(f"run {key} --collection book --json", clients_of(store)).document
    (tmp_path / "book.json").write_bytes(store.objects.get(key, 1 << 20) or b"")
    as_file = luthier(["run", str(tmp_path / "book.json"), "--json"], clients_of(store)).document
    assert by_key["rendered"] == as_file["rendered"] == 2
    assert by_key["manifest"]["sha256"] == as_file["manifest"]["sha256"]
    assert as_file["collection"] == "book.json"


def test_a_sheet_beside_the_files_goes_to_enrichment(store: Store, folder: Path) -> None:
    (folder / "tags.csv").write_text("artist,title,tag\n")
    clients = clients_of(store)
    luthier(["run", str(folder)], clients)
    assert {store.blobs.read(request.sheet) for request in clients.requests("EnrichSong")} == {b"artist,title,tag\n"}


@pytest.mark.parametrize(
    ("options", "count", "styles"),
    [
        (["--styles", "short, tags"], 0, [PROMPT_STYLE_SHORT, PROMPT_STYLE_TAGS]),
        (["--styles", "tags,tags,tags,short"], 4, [*[PROMPT_STYLE_TAGS] * 3, PROMPT_STYLE_SHORT]),
        (["--styles", "metadata", "--prompts", "5"], 5, [PROMPT_STYLE_METADATA]),
        ([], 0, []),
    ],
)
def test_styles_are_asked_of_prompting_and_of_more_than_three_each_once(
    store: Store, folder: Path, options: list[str], count: int, styles: list[PromptStyle]
) -> None:
    clients = clients_of(store)
    assert luthier(["run", str(folder), *options], clients).code == 0
    requests = clients.requests("ComposePrompts")
    assert requests
    assert all((list(request.styles), request.count) == (styles, count) for request in requests)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("run nowhere", "must be a folder, corpora/NAME, a manifest file or a manifests/… key, got nowhere"),
        ("run corpora/book --shard 4/4", "--shard must be I/N with 0 <= I < N"),
        ("run corpora/book --shards 2", "JOB_COMPLETION_INDEX"),
        ("run FOLDER --shard 0/2", "which luthier ingest writes first"),
        ("run FOLDER --clip-seconds nan", "must be between 3 and 560 seconds, got nan"),
        ("run FOLDER --humanise-timing-ms 21", "must be between 0 and 20 milliseconds, got 21"),
        ("run FOLDER --humanise-velocity nan", "must be between 0 and 20 steps, got nan"),
        ("run FOLDER --subsets monophonic --mix-only", "cuts solo clips from stems, and --mix-only keeps none"),
        ("run FOLDER --subsets monophonic --variations 2", "of songs as written, and --variations makes others"),
        ("run FOLDER --subsets external", "polyphonic and monophonic, one or both between commas, got 'external'"),
        ("run FOLDER --subsets monophonic,monophonic", "one or both between commas"),
        ("run FOLDER --solo-minutes 0", "must be between 0.5 and 1000 minutes, got 0"),
        ("run FOLDER --styles short,haiku", "'haiku' is none of sentence, short, tags, metadata"),
        (f"run FOLDER --styles {','.join(['tags'] * 17)}", "at most 16, got 17"),
        ("run FOLDER --variations 101", "less than or equal to 100"),
    ],
)
def test_wrong_usage_is_told(store: Store, folder: Path, line: str, text: str) -> None:
    done = luthier(line.replace("FOLDER", str(folder)), clients_of(store))
    assert done.code == 2
    assert text in done.err


def test_what_a_shard_takes_is_stored_in_the_manifest(store: Store, folder: Path) -> None:
    ingested = luthier(["ingest", str(folder), "--json"], clients_of(store)).document
    from luthier.common.v1.common_pb2 import ArtifactRef

    manifest = ingested["manifest"]
    corpus = read_manifest(store, ArtifactRef(key=manifest["key"], sha256=manifest["sha256"]))
    assert [song.path for song in Shard().of(corpus.songs)] == ["A/One.mid", "B/Long.mid", "B/Two.mid"]
    assert store.blobs.read(midi_of(corpus.songs[0])) == b"one"


def test_a_song_that_gives_no_clip_says_why(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    clients.stubs["analysis"].answers["CutClips"] = [CutClipsResponse(notes=["0 to 60 s: silence"])]
    done = luthier(["run", str(folder)], clients)
    assert "NO CLIP A/One.mid: 0 to 60 s: silence" in done.out.splitlines()
    assert "0 clips in collection" in done.out


def test_a_song_that_gives_no_clip_is_not_varied(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    clients.stubs["analysis"].answers["CutClips"] = [CutClipsResponse(notes=["0 to 60 s: silence"])]
    document = luthier(["run", str(folder), "--variations", "2", "--collection", "book", "--json"], clients).document
    assert (document["rendered"], document["variations"], set(document["without_clips"])) == (
        2, 0, {"A/One.mid", "B/Two.mid"},
    )  # fmt: skip
    shard = RunStatusReader(store).runs("book")[0].shards[0]
    assert (shard.shard.variations, shard.need_render) == (0, 0)


def test_what_is_published_of_many_is_the_failures_first() -> None:
    summary = RunSummary(
        failures=[SongFailure(path=f"failed {at}") for at in range(3)],
        without_clips=[SongFailure(path=f"silent {at}") for at in range(600)],
    )
    assert [failure.path for failure in summary.lost(5)] == ["failed 0", "failed 1", "failed 2", "silent 0", "silent 1"]
    assert [failure.path for failure in summary.lost(2)] == ["failed 1", "failed 2"]
    flight = Flight("book", "run", Shard(), 603, [], summary)
    published = flight.progress(None).failures
    assert len(published) == MAX_FAILURES
    assert [failure.path for failure in published[:3]] == ["failed 0", "failed 1", "failed 2"]


def test_why_a_song_of_a_job_gave_no_clip_is_seen_from_afar(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    clients.stubs["analysis"].answers["CutClips"] = [CutClipsResponse(notes=["0 to 60 s: silence"])]
    luthier(["run", str(folder), "--collection", "book"], clients)
    assert (
        "NO CLIP book: A/One.mid: cut: NO_CLIPS: 0 to 60 s: silence" in luthier("status --collection book", clients).out
    )


def test_a_file_name_that_is_no_text_fails_alone(store: Store, folder: Path) -> None:
    (folder / os.fsdecode(b"B/Caf\xe9.mid")).write_bytes(b"latin")
    document = luthier(["run", str(folder), "--json"], clients_of(store)).document
    assert document["rendered"] == 2
    assert [f["path"] for f in document["failures"] if f["reason"] == "FILE_NAME_NOT_UTF8"] == ["B/Caf\\xe9.mid"]


def test_a_link_that_leaves_the_folder_is_not_followed(store: Store, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "B/Link.mid").symlink_to(tmp_path / "secret")
    document = luthier(["run", str(folder), "--json"], clients_of(store)).document
    assert [f["reason"] for f in document["failures"] if f["path"] == "B/Link.mid"] == ["FILE_OUTSIDE_FOLDER"]
    assert hashlib.sha256(b"secret").hexdigest() not in " ".join(store.objects.keys("midi/"))


def test_a_sheet_of_tags_that_cannot_be_read_is_found_before_anything_is_inspected(store: Store, folder: Path) -> None:
    (folder / "tags.csv").write_text("artist,title,tag\n")
    clients = clients_of(store)
    refused = InvalidRequest(violations=[("sheet", "line 3: tag must not be empty")], reason="BAD_SHEET")
    clients.stubs["enrichment"].answers["EnrichSong"] = [refused]
    done = luthier(["run", str(folder)], clients)
    assert (done.code, "line 3: tag must not be empty" in done.err) == (1, True)
    assert clients.requests("InspectMidi") == clients.requests("RenderSong") == []


def test_what_may_hold_songs_and_is_not_taken_is_named(store: Store, folder: Path) -> None:
    (folder / "B/Karaoke.KAR").write_bytes(b"MThd")
    (folder / "more.zip").write_bytes(b"PK")
    (folder / "notes.txt").write_bytes(b"")
    [line] = [line for line in luthier(["run", str(folder)], clients_of(store)).err.splitlines() if "skipped" in line]
    assert "skipped 2 that may hold songs" in line
    assert "B/Karaoke.KAR (MIDI with lyrics: rename it to .mid), more.zip (unpack it)" in line
