"""`luthier add-audio`: recordings to clips by services that answer from a script."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsResponse, DecodeAudioRequest, DecodeAudioResponse, FileTag
from luthier.common.v1.common_pb2 import (
    ActionInfo,
    ArtifactRef,
    ClipFacts,
    Disagreement,
    Lineage,
    Prompt,
    PromptCheck,
    Span,
    Tag,
)
from luthier.curation.v1.curation_pb2 import UpsertClipsRequest, UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse, ReleaseFact
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.prompting.v1.prompting_pb2 import (
    PROMPT_STYLE_SHORT,
    PROMPT_STYLE_TAGS,
    CheckPromptRequest,
    CheckPromptResponse,
    ComposePromptsResponse,
    PromptStyle,
)
from luthier.server.v1.server_pb2 import GetConfigurationResponse
from luthier_kit.rpc import InvalidRequest, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.add_audio import audio_files, licence_of
from luthier_pipeline.corpus import corpus_of, newest_corpus, publish, read_manifest, shard_of
from luthier_pipeline.run_status import RunStatusReader
from luthier_pipeline.song import SongOptions, SongPipeline
from luthier_pipeline.song_records import OF_RECORDINGS
from tests.pipeline.fakes import FakeClients, Stub, luthier

FILES = {
    "Nina/Sinnerman.mp3": b"sinnerman", "Nina/Sinnerman.flac": b"sinnerman ", "Odd/Two.OGG": b"two",
    "Odd/Noise.wav": b"?", "loose.m4a": b"loose", "Odd/Two.mid": b"MThd", "notes.txt": b"no caption of a song",
}  # fmt: skip
DENIED = Disagreement(subject="tempo", reason="CONTRADICTS_FACTS", stated="200 BPM", expected="120 BPM")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "Tapes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Tapes" / name).write_bytes(data)
    return tmp_path / "Tapes"


def clients_of(
    store: Store, tags: dict[str, str] | None = None, facts: tuple[ReleaseFact, ...] = (), checker: str | None = None
) -> FakeClients:
    """Every service. `?` is no audio; files that differ by blanks are the same music; each song gives two clips. With
    `checker` they say that they are configured as "1", and who checks captions as that."""
    configuration = "" if checker is None else "1"
    action = ActionInfo(action_key="actions/stage/0.json", configuration=configuration)

    def decode(request: DecodeAudioRequest) -> DecodeAudioResponse:
        data = store.blobs.read(request.original).strip()
        if data == b"?":
            raise InvalidRequest("it is no audio that can be read", reason="INVALID_AUDIO")
        decoded = hashlib.sha256(data).hexdigest()
        return DecodeAudioResponse(
            audio=ArtifactRef(key=f"decoded/{decoded}.flac", sha256=decoded),
            fingerprint=decoded,
            duration_s=62.0,
            cpu_s=0.5,
            tags=[FileTag(name=name, value=value) for name, value in (tags or {}).items()],
            notes=["1 of 9 packets could not be decoded"] if data == b"two" else [],
            action=ActionInfo(
                action_key="actions/decode/0.json",
                lineage=Lineage(versions={"decode": "1"}),
                configuration=configuration,
            ),
        )

    def check(request: CheckPromptRequest) -> CheckPromptResponse:
        wrong = [DENIED] if "200 BPM" in request.prompt else []
        return CheckPromptResponse(check=PromptCheck(passed=not wrong, disagreements=wrong), configuration=checker)

    def upsert(request: UpsertClipsRequest) -> UpsertClipsResponse:
        ids = [str(number) for number in range(len(request.clips))]
        return UpsertClipsResponse(created=len(ids), clip_ids=ids, stamps=ids)

    clips = [Clip(span=Span(start_s=at, end_s=at + 30), facts=ClipFacts(duration_s=30)) for at in (0, 30)]
    enriched = EnrichSongResponse(action=action, tags=[Tag(text="jazz", kind="genre")], facts=facts)
    composed = ComposePromptsResponse(action=action, prompts=[Prompt(text="Jazz.", composer="grammar")])
    clients = FakeClients(
        store,
        analysis=Stub(DecodeAudio=decode, CutClips=CutClipsResponse(action=action, clips=clips, cpu_s=1.0)),
        enrichment=Stub(EnrichSong=enriched),
        prompting=Stub(ComposePrompts=composed, CheckPrompt=check),
        curation=Stub(UpsertClips=upsert),
    )
    clients.configurations = dict.fromkeys(OF_RECORDINGS, configuration)
    return clients


def add(clients: FakeClients, folder: Path, *more: str) -> dict[str, Any]:
    done = luthier(["add-audio", str(folder), *more, "--json"], clients)
    assert done.code == 0, done.err
    return done.document


def upserts(clients: FakeClients) -> dict[str, UpsertClipsRequest]:
    """What was sent to curation, by the fingerprint of the song."""
    return {request.clips[0].source.song_fingerprint: request for request in clients.requests("UpsertClips")}


def test_a_folder_of_recordings_goes_all_the_way_and_everything_is_accounted_for(store: Store, folder: Path) -> None:
    document = add(clients_of(store), folder)
    assert (document["files"], document["songs"], document["duplicates"]) == (5, 3, 1)
    assert (document["rendered"], document["clips"], document["audio_s"]) == (3, 6, 186.0)
    assert [(f["path"], f["stage"], f["reason"]) for f in document["failures"]] == [
        ("Odd/Noise.wav", "ingest", "INVALID_AUDIO")
    ]
    assert document["cpu_s"] == {"decode": 3.5, "cut": 3.0}
    assert document["notes"] == {"Odd/Two.OGG": ["1 of 9 packets could not be decoded"]}
    assert document["collection"] == "tapes"


def test_clips_are_of_the_subset_external_and_name_the_original(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    add(clients, folder, "--collection", "mixed", "--licence", "CC-BY-4.0")
    request = upserts(clients)[hashlib.sha256(b"two").hexdigest()]
    assert request.collection == "mixed"
    for clip in request.clips:
        assert (clip.source.subset, clip.source.midi_sha256) == ("external", "")
        assert list(clip.lineage.inputs[:2]) == [hashlib.sha256(b"two").hexdigest(), "actions/decode/0.json"]
        assert list(clip.lineage.licences) == ["CC-BY-4.0"]
        assert clip.lineage.versions["decode"] == "1"
    cuts = clients.requests("CutClips")
    assert all(not cut.HasField("timeline") and cut.mix.key.startswith("decoded/") for cut in cuts)
    assert len(cuts) == 3


@pytest.mark.parametrize(
    ("options", "count", "styles"),
    [
        (["--styles", "short, tags"], 0, [PROMPT_STYLE_SHORT, PROMPT_STYLE_TAGS]),
        (["--styles", "tags,tags,tags,short"], 4, [*[PROMPT_STYLE_TAGS] * 3, PROMPT_STYLE_SHORT]),
        (["--styles", "tags", "--prompts", "2"], 2, [PROMPT_STYLE_TAGS]),
        ([], 0, []),
    ],
)
def test_styles_are_asked_of_prompting_as_run_does(
    store: Store, folder: Path, options: list[str], count: int, styles: list[PromptStyle]
) -> None:
    clients = clients_of(store)
    add(clients, folder, *options)
    requests = clients.requests("ComposePrompts")
    assert requests
    assert all((list(request.styles), request.count) == (styles, count) for request in requests)


def test_a_style_that_there_is_not_is_refused(store: Store, folder: Path) -> None:
    done = luthier(["add-audio", str(folder), "--styles", "haiku"], clients_of(store))
    assert (done.code, "'haiku' is none of sentence, short, tags, metadata" in done.err) == (2, True)


def test_of_audio_and_midi_side_by_side_the_audio_is_taken_and_it_says_so(store: Store, folder: Path) -> None:
    done = luthier(["add-audio", str(folder)], clients_of(store))
    assert "skipped 1 MIDI files: add-audio takes recordings alone" in done.err
    assert "3 recordings cut (03:06 of music), 6 clips in collection tapes" in done.out
    assert "FAILED Odd/Noise.wav: ingest: INVALID_AUDIO: it is no audio that can be read" in done.out


def test_files_are_known_by_their_endings_whatever_the_case(folder: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in audio_files(folder)]
    assert names == ["Nina/Sinnerman.flac", "Nina/Sinnerman.mp3", "Odd/Noise.wav", "Odd/Two.OGG", "loose.m4a"]


def test_a_folder_without_audio_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(b"MThd")
    done = luthier(["add-audio", str(tmp_path)], clients_of(store))
    assert done.code == 1
    assert "FOLDER_EMPTY" in done.err


def test_the_name_is_the_files_own_where_it_states_all_of_it_else_the_paths(store: Store, folder: Path) -> None:
    clients = clients_of(store, tags={"artist": "Nina Simone", "title": "Sinnerman (live)", "genre": "Jazz; Soul"})
    add(clients, folder)
    for asked in clients.requests("EnrichSong"):
        assert (asked.song.artist, asked.song.title) == ("Nina Simone", "Sinnerman (live)")
        assert [(tag.text, tag.kind, tag.source) for tag in asked.tags] == [
            ("Jazz", "genre", "audio-file"), ("Soul", "genre", "audio-file"),
        ]  # fmt: skip
        assert "." not in asked.path

    clients = clients_of(store, tags={"title": "Track 1"})
    add(clients, folder)
    names = {(asked.song.artist, asked.song.title) for asked in clients.requests("EnrichSong")}
    assert names == {("Nina", "Sinnerman"), ("Odd", "Two"), ("", "loose")}


@pytest.mark.parametrize(
    ("of_the_sheet", "of_the_file", "counts"),
    [("CC0-1.0", "CC-BY-3.0", "CC0-1.0"), ("", "CC-BY-3.0", "CC-BY-3.0"), ("", "", "mine")],
)
def test_a_licence_is_the_sheets_else_the_files_else_the_one_stated(
    store: Store, folder: Path, of_the_sheet: str, of_the_file: str, counts: str
) -> None:
    facts = (ReleaseFact(name="audio_licence", value=of_the_sheet),) if of_the_sheet else ()
    clients = clients_of(store, {"licence": of_the_file} if of_the_file else {}, facts)
    add(clients, folder, "--licence", "mine")
    for request in clients.requests("UpsertClips"):
        assert list(request.clips[0].lineage.licences) == [counts]


@pytest.mark.parametrize(
    ("tags", "licence"),
    [
        ({"copyright": "2009 X. http://creativecommons.org/licenses/by-nc-sa/3.0/"}, "CC-BY-NC-SA-3.0"),
        ({"comment": "https://creativecommons.org/publicdomain/zero/1.0/"}, "CC0-1.0"),
        ({"licence": "Free for all"}, "Free for all"),
        ({"copyright": "All rights reserved"}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_read_where_tags_state_one(tags: dict[str, str], licence: str) -> None:
    assert licence_of(tags) == licence


def test_captions_beside_a_recording_are_checked_for_each_clip_and_come_after_what_is_proven(
    store: Store, folder: Path
) -> None:
    (folder / "Odd/Two.txt").write_text("Calm jazz for the night\n\nFrantic jazz at 200 BPM\n")
    clients = clients_of(store)
    add(clients, folder)
    for clip in upserts(clients)[hashlib.sha256(b"two").hexdigest()].clips:
        assert [(prompt.text, prompt.composer, prompt.check.passed) for prompt in clip.prompts] == [
            ("Jazz.", "grammar", False), ("Calm jazz for the night", "file", True),
            ("Frantic jazz at 200 BPM", "file", False),
        ]  # fmt: skip
        assert list(clip.prompts[2].check.disagreements) == [DENIED]
    asked = clients.requests("CheckPrompt")
    assert len(asked) == 4
    assert all(request.allow_subset and request.facts.duration_s == 30 for request in asked)
    assert [tag.text for tag in asked[0].tags] == ["jazz"]
    other = upserts(clients)[hashlib.sha256(b"loose").hexdigest()]
    assert [prompt.composer for prompt in other.clips[0].prompts] == ["grammar"]


@pytest.mark.parametrize("checker", ["1", "2", ""])
def test_captions_that_a_server_configured_otherwise_checked_are_checked_again(
    store: Store, folder: Path, checker: str
) -> None:
    """In the middle of a rolling upgrade of prompting: no record says that the song is done."""
    (folder / "Odd/Two.txt").write_text("Calm jazz for the night\n")
    add(clients_of(store, checker=checker), folder)
    [collection] = {key.split("/")[1] for key in store.objects.keys("songs/")}
    done = {key.rpartition("/")[2] for key in store.objects.keys(f"songs/{collection}/")}
    with_captions = f"{hashlib.sha256(FILES['Odd/Two.OGG']).hexdigest()}.json"
    assert (with_captions in done) == (checker == "1")
    assert f"{hashlib.sha256(FILES['loose.m4a']).hexdigest()}.json" in done


def test_what_lies_beside_names_the_song_and_states_its_licence(store: Store, folder: Path) -> None:
    (folder / "loose.json").write_text('{"artist": "Korp", "title": "Indigo", "license": "CC0-1.0", "moods": ["sad"]}')
    clients = clients_of(store)
    document = add(clients, folder)
    [song] = [file for file in read_manifest(store, ref(document)).songs if file.path == "loose.m4a"]
    assert (song.artist, song.title, song.recording.licence) == ("Korp", "Indigo", "CC0-1.0")
    assert [(tag.text, tag.kind, tag.source) for tag in song.recording.tags] == [("sad", "mood", "caption-file")]


def ref(document: dict[str, Any]) -> ArtifactRef:
    return ArtifactRef(**{name: document["manifest"][name] for name in ("key", "sha256")})


def test_the_manifest_can_be_run_again_by_shards(store: Store, folder: Path) -> None:
    add(clients_of(store), folder, "--collection", "tapes")
    clients = clients_of(store)
    done = [luthier(f"run corpora/tapes --shard {index}/2 --json", clients).document for index in (0, 1)]
    assert sum(document["rendered"] for document in done) == 3
    assert {clip.source.subset for request in clients.requests("UpsertClips") for clip in request.clips} == {"external"}


def without_a_renderer(clients: FakeClients) -> list[str]:
    """Makes the renderer one that cannot be reached; the services that are asked how they are configured."""
    asked = list[str]()

    def configuration(service: str) -> GetConfigurationResponse:
        asked.append(service)
        if service == "rendering":
            raise Unavailable("nobody is there", reason="UNREACHABLE")
        return GetConfigurationResponse(digest=f"{service}-1")

    clients.configuration = configuration  # type: ignore[method-assign]
    return asked


def test_recordings_need_no_renderer_that_runs(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    asked = without_a_renderer(clients)
    assert add(clients, folder, "--collection", "tapes")["rendered"] == 3
    assert sorted(asked) == ["analysis", "enrichment", "prompting"]


def test_what_recordings_came_to_is_known_without_a_renderer(store: Store, folder: Path) -> None:
    add(clients_of(store), folder, "--collection", "tapes")
    clients = clients_of(store)
    without_a_renderer(clients)
    pipeline = SongPipeline(clients, SongOptions("tapes"))
    corpus = newest_corpus(store, "tapes")
    assert corpus is not None
    with ThreadPoolExecutor(1) as pool:
        pipeline.look_up(corpus.songs, pool, len(corpus.songs))
    assert pipeline.configurations.known


def test_solos_of_recordings_are_none_and_ask_nobody(store: Store, folder: Path) -> None:
    add(clients_of(store), folder, "--collection", "tapes")
    clients = clients_of(store)
    without_a_renderer(clients)
    done = luthier("run corpora/tapes --subsets polyphonic,monophonic --json", clients)
    assert (done.code, done.document["rendered"]) == (0, 3), done.err


@pytest.mark.parametrize("subsets", ["polyphonic", "monophonic", "polyphonic,monophonic"])
def test_a_shard_without_songs_asks_nobody(store: Store, subsets: str) -> None:
    song = CorpusFile(path="a.mid", key="midi/0.mid", sha256="0", fingerprint="0")
    publish(store, "book", "r", corpus_of([song], "unknown"), None)
    clients = clients_of(store)
    asked = without_a_renderer(clients)
    empty = 1 - shard_of(song.fingerprint, 2)
    done = luthier(f"run corpora/book --shard {empty}/2 --subsets {subsets} --json", clients)
    assert (done.code, done.document["songs"], asked) == (0, 0, []), done.err


def test_recordings_ask_for_no_render_worker(store: Store, folder: Path) -> None:
    add(clients_of(store), folder)
    [run] = RunStatusReader(store).runs("tapes")
    assert (run.state, run.songs, [part.need_render for part in run.parts]) == ("DONE", 3, [0, 0])


def test_a_service_that_stays_away_ends_it_and_it_says_what_to_do(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    clients.stubs["analysis"].answers["DecodeAudio"] = [Unavailable("no analysis", reason="UNREACHABLE")]
    done = luthier(["add-audio", str(folder), "--json"], clients)
    assert (done.code, done.document["error"]["reason"]) == (1, "UNREACHABLE")
    assert not clients.requests("UpsertClips")


def test_the_length_and_number_of_clips_and_prompts_are_as_asked(store: Store, folder: Path) -> None:
    clients = clients_of(store)
    add(clients, folder, "--clip-seconds", "15", "--prompts", "5", "--in-flight", "1")
    assert {cut.target_s for cut in clients.requests("CutClips")} == {15}
    assert {request.count for request in clients.requests("ComposePrompts")} == {5}


def test_a_large_file_is_refused_before_it_is_stored(store: Store, tmp_path: Path) -> None:
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate((1 << 30) + 1)
    document = add(clients_of(store), tmp_path)
    assert [failure["reason"] for failure in document["failures"]] == ["AUDIO_TOO_LARGE"]
    assert not list(store.objects.keys("audio/"))
