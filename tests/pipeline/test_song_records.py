"""A song that is done is found by its record, and whatever makes the record wrong is noticed."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsRequest, CutClipsResponse
from luthier.common.v1.common_pb2 import (
    ActionInfo,
    ArtifactRef,
    ClipFacts,
    InstrumentActivity,
    Span,
    Tag,
    Timeline,
)
from luthier.curation.v1.curation_pb2 import (
    GetClipStampsRequest,
    GetClipStampsResponse,
    UpsertClipsRequest,
    UpsertClipsResponse,
)
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongRequest, EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.prompting.v1.prompting_pb2 import ComposePromptsRequest, ComposePromptsResponse
from luthier.rendering.v1.rendering_pb2 import (
    FindSolosRequest,
    FindSolosResponse,
    InspectMidiRequest,
    InspectMidiResponse,
    NoteSignature,
    RenderSongRequest,
    RenderSongResponse,
    SoloPart,
    SoloPassage,
    Sound,
    Stem,
    VoiceSignature,
)
from luthier_kit.rpc import Unimplemented
from luthier_kit.store import Store
from luthier_pipeline import same_song, song_records
from luthier_pipeline.corpus import newest_corpus
from luthier_pipeline.song import SongOptions, SongPipeline
from luthier_pipeline.song_records import SERVICES
from tests.pipeline.fakes import FakeClients, Stub, luthier

ONE, TWO = "A/One.mid", "B/Two.mid"
STAGES = ("RenderSong", "CutClips", "EnrichSong", "ComposePrompts", "UpsertClips")


@dataclass
class World:
    """Services over a store: answers are blobs and records that are really there, clips are really kept."""

    store: Store
    folder: Path
    configurations: dict[str, str] = field(default_factory=lambda: {name: f"{name}-1" for name in SERVICES})
    answering: dict[str, str] = field(default_factory=dict)  # where a server answers that is configured otherwise
    ages: bool = False
    tags: tuple[str, ...] = ("jazz",)
    notes: dict[str, int] = field(default_factory=dict)  # of fingerprints; the same number is a near-duplicate
    clips: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # what was sent last, and how often it changed
    clients: FakeClients = field(init=False)

    def run(self, *options: str) -> dict[str, Any]:
        """`luthier run`, a process of its own; what it answers."""
        done = luthier(["run", str(self.folder), "--collection", "book", "--json", *options], self.clients_of())
        assert done.code == 0, done.err
        assert done.document["failures"] == []
        return done.document

    def clients_of(self) -> FakeClients:
        """Those of the newest run, which have been asked nothing."""
        self.clients = FakeClients(
            self.store,
            rendering=Stub(InspectMidi=self.inspected, RenderSong=self.rendered, FindSolos=self.solos),
            analysis=Stub(CutClips=self.cut),
            enrichment=Stub(EnrichSong=self.enriched),
            prompting=Stub(ComposePrompts=self.composed),
            curation=Stub(UpsertClips=self.upserted, GetClipStamps=self.stamps),
        )
        self.clients.configurations, self.clients.enrichment_ages = self.configurations, self.ages
        return self.clients

    def asked(self, method: str) -> int:
        """How often a method was asked in the newest run."""
        return len(self.clients.requests(method))

    @property
    def rendered_paths(self) -> list[str]:
        """Files whose songs went the way again in the newest run."""
        paths = {hashlib.sha256((self.folder / path).read_bytes()).hexdigest(): path for path in (ONE, TWO)}
        return sorted(paths[request.midi.sha256] for request in self.clients.requests("RenderSong"))

    def blob(self, kind: str, *names: str) -> ArtifactRef:
        return self.store.blobs.put_bytes(kind, "/".join(names).encode(), "flac")

    def action(self, service: str, stage: str, request: Message) -> ActionInfo:
        configuration = self.answering.get(service, self.configurations[service])
        digest = hashlib.sha256(configuration.encode() + request.SerializeToString(deterministic=True)).hexdigest()
        key = f"actions/{stage}/{digest}.json"
        new = self.store.objects.create(key, b"{}")
        return ActionInfo(action_key=key, reused=not new, configuration=configuration)

    def inspected(self, request: InspectMidiRequest) -> InspectMidiResponse:
        fingerprint = hashlib.sha256(self.store.blobs.read(request.midi)).hexdigest()
        notes = self.notes.get(fingerprint, int(fingerprint[:5], 16))
        return InspectMidiResponse(
            fingerprint=fingerprint,
            duration_s=60.0,
            signature=NoteSignature(voices=[VoiceSignature(hashes=range(1000 * notes, 1000 * notes + 100))]),
            action=self.action("rendering", "inspect", request),
        )

    def rendered(self, request: RenderSongRequest) -> RenderSongResponse:
        about = (request.midi.sha256, str(request.variation.number), request.backend)
        stem = Stem(audio=self.blob("stems", *about), sound=Sound(part=0), loudness_lufs=-20.0)
        return RenderSongResponse(
            action=self.action("rendering", "render", request),
            mix=self.blob("mixes", *about),
            stems=[stem],
            timeline=Timeline(duration_s=62.0),
            variation=request.variation,
        )

    def solos(self, request: FindSolosRequest) -> FindSolosResponse:
        passage = SoloPassage(span=Span(start_s=0, end_s=30), tempo_bpm=100)
        part = SoloPart(part=0, activity=InstrumentActivity(instrument="Cello"), passages=[passage])
        return FindSolosResponse(action=self.action("rendering", "solos", request), parts=[part])

    def cut(self, request: CutClipsRequest) -> CutClipsResponse:
        clips = [
            Clip(
                audio=(audio := self.blob("clips", request.mix.sha256, f"{start}")),
                span=Span(start_s=start, end_s=start + 30),
                facts=ClipFacts(loudness_lufs=-int(audio.sha256[:4], 16)),
            )
            for start in (0, 30)
        ]
        return CutClipsResponse(action=self.action("analysis", "cut", request), clips=clips, notes=["short end"])

    def enriched(self, request: EnrichSongRequest) -> EnrichSongResponse:
        tags = [Tag(text=text) for text in self.tags]
        return EnrichSongResponse(action=self.action("enrichment", "enrich", request), tags=tags)

    def composed(self, request: ComposePromptsRequest) -> ComposePromptsResponse:
        return ComposePromptsResponse(action=self.action("prompting", "prompt", request))

    def upserted(self, request: UpsertClipsRequest) -> UpsertClipsResponse:
        ids, changed = [], 0
        for clip in request.clips:
            of = clip.source
            ids.append(f"{of.song_fingerprint}/{of.subset}/{of.variation.number}/{of.span.start_s:g}")
            sent = clip.SerializeToString(deterministic=True)
            before, times = self.clips.get(ids[-1], (b"", 0))
            self.clips[ids[-1]] = (sent, times + (sent != before))
            changed += sent != before
        return UpsertClipsResponse(clip_ids=ids, revised=changed, stamps=map(self.stamp, ids))

    def stamps(self, request: GetClipStampsRequest) -> GetClipStampsResponse:
        return GetClipStampsResponse(stamps=map(self.stamp, request.clip_ids))

    def stamp(self, clip_id: str) -> str:
        return str(self.clips[clip_id][1]) if clip_id in self.clips else ""

    def keys(self, prefix: str) -> list[str]:
        return sorted(self.store.objects.keys(prefix))

    def record(self, path: str, number: int = 0) -> dict[str, Any]:
        digest = hashlib.sha256((self.folder / path).read_bytes()).hexdigest()
        key = f"songs/book/{digest}{f'.{number}' if number else ''}.json"
        document: dict[str, Any] = json.loads(self.store.objects.get(key, 1 << 20) or b"{}")
        return document


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    for path in (ONE, TWO):
        (tmp_path / "Songs" / path).parent.mkdir(parents=True)
        (tmp_path / "Songs" / path).write_bytes(path.encode())
    return World(store, tmp_path / "Songs")


def test_few_songs_are_asked_for_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard has few of a large corpus: to list the records of all songs would be most of what it asks."""
    world.run()
    listed, keys = list[str](), world.store.objects.keys

    def listing(prefix: str) -> Iterator[str]:
        listed.append(prefix)
        return keys(prefix)

    monkeypatch.setattr(world.store.objects, "keys", listing)
    again = world.run()
    assert (again["computed"], "songs/book/" in listed) == (0, False)


def test_many_songs_are_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    monkeypatch.setattr(song_records, "READS_FOR_A_PAGE", 0)
    assert world.run()["computed"] == 0


def test_a_second_run_asks_no_stage_and_comes_to_the_same(world: World) -> None:
    first = world.run()
    again = world.run()
    assert [world.asked(method) for method in ("InspectMidi", *STAGES)] == [0] * 6
    for name in ("files", "songs", "rendered", "clips", "audio_s", "failures", "without_clips", "manifest"):
        assert again[name] == first[name], name
    assert (first["computed"], again["computed"]) == (2 * 7, 0)  # inspect, render, cut, enrich, two prompts, curate
    assert again["reused"] == 2 * 7


def changed_file(world: World) -> None:
    (world.folder / ONE).write_bytes(b"another take")


def configured(service: str) -> Callable[[World], None]:
    return lambda world: world.configurations.update({service: "another"})


def lost(prefix: str) -> Callable[[World], None]:
    """One object of a kind, of the song ONE."""

    def lose(world: World) -> None:
        record = world.record(ONE)
        named = [*record["blobs"], *record["actions"]]
        key = next(key for key in named if key.startswith(prefix))
        world.store.objects.delete(key)

    return lose


def cut_short(world: World) -> None:
    key = next(key for key in world.record(ONE)["blobs"] if key.startswith("clips/"))
    (world.store.objects.root / "luthier" / key).write_bytes(b"")  # type: ignore[attr-defined]


def taken_down(world: World) -> None:
    key = next(key for key in world.record(ONE)["blobs"] if key.startswith("stems/"))
    world.store.blobs.take_down(Path(key).stem, by="me", reason="asked")


def clip_gone(world: World) -> None:
    del world.clips[world.record(ONE)["clips"][0]["clip_id"]]


def clip_sent_otherwise(world: World) -> None:
    name = world.record(ONE)["clips"][0]["clip_id"]
    world.clips[name] = (b"by another run", world.clips[name][1] + 1)


def record_broken(world: World) -> None:
    key = next(key for key in world.keys("songs/book/") if world.record(ONE)["question"].encode() in
               (world.store.objects.get(key, 1 << 20) or b""))  # fmt: skip
    (world.store.objects.root / "luthier" / key).write_bytes(b"{")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        changed_file, lost("mixes/"), lost("stems/"), lost("clips/"), lost("actions/render/"),
        lost("actions/cut/"), lost("actions/enrich/"), lost("actions/prompt/"), cut_short, taken_down, clip_gone,
        clip_sent_otherwise, record_broken,
    ],
)  # fmt: skip
def test_what_is_changed_or_lost_of_a_song_is_noticed_and_the_other_song_left_alone(
    world: World, change: Callable[[World], None]
) -> None:
    world.run()
    change(world)
    world.run()
    assert world.rendered_paths == [ONE]


@pytest.mark.parametrize("service", SERVICES)
def test_another_configuration_of_a_service_is_noticed(world: World, service: str) -> None:
    world.run()
    configured(service)(world)
    world.run()
    assert world.rendered_paths == [ONE, TWO]
    world.run()
    assert world.rendered_paths == []


@pytest.mark.parametrize(
    "options",
    [
        ["--prompts", "5"], ["--styles", "tags"], ["--clip-seconds", "10"], ["--backend", "map"], ["--mix-only"],
        ["--licence", "CC0-1.0"], ["--humanise-timing-ms", "3"], ["--humanise-velocity", "0"],
    ],
)  # fmt: skip
def test_other_options_are_noticed(world: World, options: list[str]) -> None:
    world.run()
    world.run(*options)
    assert world.rendered_paths == [ONE, TWO]
    world.run(*options)
    assert world.rendered_paths == []


def test_a_midi_file_that_was_lost_is_stored_again(world: World) -> None:
    world.run()
    lost("midi/")(world)
    world.run()
    assert world.rendered_paths == []
    assert all(world.store.objects.size_bytes(key) for key in world.record(ONE)["blobs"])


def test_files_are_inspected_again_by_a_renderer_that_is_configured_otherwise(world: World) -> None:
    world.run()
    configured("rendering")(world)
    world.run()
    assert world.asked("InspectMidi") == 2


def test_a_file_in_whose_place_a_link_out_of_the_folder_lies_is_refused(world: World, tmp_path: Path) -> None:
    world.run()
    (tmp_path / "elsewhere.mid").write_bytes((world.folder / ONE).read_bytes())
    (world.folder / ONE).unlink()
    (world.folder / ONE).symlink_to(tmp_path / "elsewhere.mid")
    done = luthier(["run", str(world.folder), "--collection", "book", "--json"], world.clients)
    assert [failure["reason"] for failure in done.document["failures"]] == ["FILE_OUTSIDE_FOLDER"]


def test_what_becomes_of_near_duplicates_is_decided_again_when_it_is_asked_otherwise(world: World) -> None:
    world.notes = dict.fromkeys((hashlib.sha256(path.encode()).hexdigest() for path in (ONE, TWO)), 7)
    rendered = [world.run(*more)["rendered"] for more in ([], [], ["--near-duplicates", "keep"], [])]
    assert rendered == [1, 1, 2, 1]


def test_a_file_that_cannot_be_used_does_not_make_the_others_be_inspected(world: World) -> None:
    (world.folder / "empty.mid").mkdir()
    (world.folder / "pipe.mid").symlink_to("/nowhere")
    for _ in range(2):
        done = luthier(["run", str(world.folder), "--collection", "book", "--json"], world.clients_of())
    assert (done.document["songs"], len(done.document["failures"]), world.asked("InspectMidi")) == (2, 1, 0)


def test_a_sheet_of_tags_that_was_edited_is_noticed(world: World) -> None:
    sheet = world.folder / "tags.csv"
    sheet.write_text("artist,title,tags\nA,One,jazz\n")
    world.run()
    sheet.write_text("artist,title,tags\nA,One,bebop\n")
    world.run()
    assert world.rendered_paths == [ONE, TWO]


def test_of_a_file_that_is_new_among_known_ones_it_alone_is_inspected(world: World) -> None:
    world.run()
    new = world.folder / "A/New.mid"
    new.write_bytes(b"new")
    document = world.run()
    assert (world.asked("InspectMidi"), world.asked("RenderSong"), document["rendered"]) == (1, 1, 3)
    new.write_bytes(b"newer")
    world.run()
    assert world.asked("InspectMidi") == 1


def test_a_near_duplicate_of_a_known_song_is_found_without_inspecting_the_others(world: World) -> None:
    world.run()
    (world.folder / "A/New.mid").write_bytes(b"new")
    one, new = (hashlib.sha256(data).hexdigest() for data in ((world.folder / ONE).read_bytes(), b"new"))
    world.notes[new] = int(one[:5], 16)
    document = world.run()
    assert document["near_duplicates"] == 1
    assert world.asked("InspectMidi") == 2  # the new one, and the one that it may be
    assert world.asked("RenderSong") == 1  # the one that stays shares its split with another one now


def test_what_another_server_said_of_a_known_song_decides_nothing_for_the_next_run(world: World) -> None:
    """In the middle of a rolling upgrade: a known song is inspected once more, as a new one may be its duplicate."""
    world.run()
    (world.folder / "A/New.mid").write_bytes(b"new")
    one, new = (hashlib.sha256(data).hexdigest() for data in ((world.folder / ONE).read_bytes(), b"new"))
    world.notes[new] = int(one[:5], 16)
    inspected = world.inspected

    def by_the_older_one(request: InspectMidiRequest) -> InspectMidiResponse:
        found = inspected(request)
        if found.fingerprint == one:
            found.action.configuration = "an older one"
        return found

    world.inspected = by_the_older_one  # type: ignore[method-assign]
    assert world.run()["near_duplicates"] == 1
    world.inspected = inspected  # type: ignore[method-assign]
    world.run()
    assert world.asked("InspectMidi") >= 3  # nothing is believed of what is there
    world.run()
    assert world.asked("InspectMidi") == 0


def test_what_near_duplicates_are_is_decided_again_where_the_rules_are_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.notes = dict.fromkeys((hashlib.sha256(path.encode()).hexdigest() for path in (ONE, TWO)), 7)
    assert world.run()["near_duplicates"] == 1
    before = newest_corpus(world.store, "book")
    assert before is not None
    monkeypatch.setattr(same_song, "VERSION", "of another release")
    monkeypatch.setattr("luthier_pipeline.near_duplicates.SAME", 1.1)
    assert world.run()["near_duplicates"] == 0
    assert world.asked("InspectMidi") == 2
    after = newest_corpus(world.store, "book")
    assert after is not None
    assert after.manifest.configuration != before.manifest.configuration


def test_outlines_that_are_lost_or_broken_are_made_again(world: World) -> None:
    world.run()
    for number, key in enumerate(key for key in world.keys("songs/book/") if "outlines" in key):
        broken = {"configuration": same_song.found_by("rendering-1"), "fingerprints": ["f"], "hashes": "AAAA"}
        text = ("{", json.dumps(broken))[number % 2]
        (world.store.objects.root / "luthier" / key).write_text(text)  # type: ignore[attr-defined]
    (world.folder / "A/New.mid").write_bytes(b"new")
    world.run()
    assert world.asked("InspectMidi") == 3


def test_a_song_that_gets_a_relative_is_sent_again_with_it(world: World) -> None:
    world.run()
    (world.folder / "A/One.1.mid").write_bytes(b"by its name another version")
    world.run()
    assert world.asked("RenderSong") == 2  # ONE shares its split now, and the new one; not TWO
    sent = [clip.source for request in world.clients.requests("UpsertClips") for clip in request.clips]
    assert all(source.related_fingerprints for source in sent)


def test_where_enrichments_answers_age_it_is_asked_and_nothing_else(world: World) -> None:
    world.ages = True
    world.run()
    world.run()
    assert [world.asked(method) for method in STAGES] == [0, 0, 2, 0, 0]
    world.tags = ("bebop",)
    world.run()
    assert world.rendered_paths == [ONE, TWO]


def test_what_a_server_that_is_configured_otherwise_answered_is_asked_again(world: World) -> None:
    """In the middle of a rolling upgrade."""
    world.answering = {"analysis": "an older one"}
    world.run()
    assert [key for key in world.keys("songs/") if "outlines" not in key] == []
    world.answering = {}
    world.run()
    assert world.rendered_paths == [ONE, TWO]


@pytest.mark.parametrize("service", SERVICES)
def test_beside_a_server_that_does_not_say_how_it_is_configured_every_stage_is_asked(
    world: World, service: str
) -> None:
    world.configurations[service] = ""
    world.run()
    again = world.run()
    assert world.rendered_paths == [ONE, TWO]
    assert (again["computed"], again["clips"]) == (0, 4)


def test_beside_a_curation_that_knows_no_stamps_every_stage_is_asked(world: World) -> None:
    world.run()
    world.stamps = Unimplemented("unknown method")  # type: ignore[method-assign, assignment]
    world.run()
    assert world.rendered_paths == [ONE, TWO]


def test_variations_have_records_of_their_own(world: World) -> None:
    world.run("--variations", "2")
    again = world.run("--variations", "3")
    assert sorted(request.variation.number for request in world.clients.requests("RenderSong")) == [3, 3]
    assert (again["variations"], again["clips"], again["audio_s"]) == (6, 2 * 4 * 2, 8 * 62.0)


def test_what_is_looked_up_of_many_variations_is_not_held_in_memory(world: World) -> None:
    pipeline, songs = SongPipeline(world.clients_of(), SongOptions("book", variations=50_000)), [CorpusFile()]
    with ThreadPoolExecutor(1) as pool:
        pipeline.look_up(songs, pool, len(songs))  # what is imported and opened once
        tracemalloc.start()
        try:
            pipeline.look_up(songs, pool, len(songs))
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most_bytes < 50_000 * 10


def test_solo_clips_are_chosen_and_cut_once(world: World) -> None:
    both = ("--subsets", "polyphonic,monophonic")
    first = world.run(*both)
    assert world.asked("FindSolos") == 2 + 2  # to choose, and to cut
    again = world.run(*both)
    assert [world.asked(method) for method in ("FindSolos", *STAGES)] == [0] * 6
    assert (again["solo_s"], again["clips"]) == (first["solo_s"], first["clips"])
    world.run(*both, "--solo-minutes", "0.5")  # of the two songs one
    assert world.asked("FindSolos") >= 2
    assert len(world.rendered_paths) == 1


def test_solo_clips_are_chosen_again_where_a_songs_file_is_gone(world: World) -> None:
    line = "run corpora/book --subsets polyphonic,monophonic --json"
    world.run("--subsets", "polyphonic,monophonic")
    luthier(line, world.clients_of())
    assert world.asked("FindSolos") == 0
    world.store.blobs.take_down(hashlib.sha256((world.folder / ONE).read_bytes()).hexdigest(), by="me", reason="asked")
    luthier(line, world.clients_of())
    assert {request.midi.sha256 for request in world.clients.requests("FindSolos")} >= {
        hashlib.sha256((world.folder / path).read_bytes()).hexdigest() for path in (ONE, TWO)
    }


def test_a_song_without_clips_says_again_why(world: World) -> None:
    world.cut = lambda request: CutClipsResponse(  # type: ignore[method-assign]
        action=World.action(world, "analysis", "cut", request), notes=["too short"]
    )
    first = world.run()
    again = world.run()
    assert world.asked("CutClips") == 0
    assert again["without_clips"] == first["without_clips"] == {ONE: ["too short"], TWO: ["too short"]}
