"""run: from a folder or a manifest, or a shard of one, to clips in curation.

There is no state of its own: a stage that is done is found by its action record, so a run that was interrupted, killed
or repeated goes on where the work stands. How far it is, is published for `luthier status` and the monitor.
"""

import os
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.pipeline.v1.pipeline_pb2 import (
    PART_STATE_DONE,
    PART_STATE_RUNNING,
    CorpusFile,
    PartProgress,
    ShardProgress,
    SoloChoice,
    SongFailure,
)
from luthier.rendering.v1.rendering_pb2 import FindSolosResponse
from luthier_kit.rpc import Internal
from luthier_pipeline import corpus as corpora
from luthier_pipeline.clients import Clients, is_fatal
from luthier_pipeline.console import Context, Progress, UsageError, clock, plain
from luthier_pipeline.corpus import Shard, StoredCorpus, as_collection, as_name, parse_shard, read_manifest
from luthier_pipeline.ingest import POLICIES, ingest_collection, tag_sheet
from luthier_pipeline.notes import find_note, keep_note
from luthier_pipeline.options import (
    Backend,
    ClipSeconds,
    HumaniseTimingMs,
    HumaniseVelocity,
    InFlight,
    Json,
    Licence,
    MixOnly,
    NearDuplicates,
    Prompts,
    RunName,
    SoloMinutes,
    Styles,
    Subsets,
    Tags,
    Variations,
    begin,
    check_subsets,
    prompts_for,
    styles_of,
)
from luthier_pipeline.run_status import (
    MAX_FAILURES,
    NO_CLIPS,
    SILENT_S,
    ProgressPublisher,
    failed_name,
    part_series,
    silent_s,
)
from luthier_pipeline.solo import (
    MONOPHONIC,
    POLYPHONIC,
    Candidate,
    Chosen,
    as_choice,
    by_song,
    candidates_of,
    choose,
    of_choice,
)
from luthier_pipeline.song import SongOptions, SongPipeline, SongResult, StageError, check_sheet
from luthier_pipeline.song_records import solo_choice_key

SHARD_IN_FLIGHT: Final = 16  # a shard only calls: the work is done by workers elsewhere, as many as there are
LOOK_EVERY_S: Final = 1.0
SOLO_MINUTES: Final = 10.0  # of each instrument


class SongVariation(NamedTuple):
    """A song as written, or (1 or more) one of its variations."""

    song: CorpusFile
    number: int = 0

    def failure(self, stage: str, reason: str, message: str) -> SongFailure:
        return SongFailure(path=self.song.path, stage=stage, reason=reason, message=message, variation=self.number)

    def failed(self, why: StageError) -> SongFailure:
        return self.failure(why.stage, why.error.reason, str(why.error))


@dataclass
class RunSummary:
    """What a run came to; the last line of `luthier run --json`.

    files = songs + duplicates + near_duplicates + failures at ingest; songs = rendered + failures after ingest, those
    of variations and of solos beside a mix left out. `variations` are complete. `seconds` is wall clock, `audio_s`
    seconds of rendered music, `cpu_s` CPU seconds by stage where the service says them; `variations_audio_s` and
    `variations_cpu_s` are the variations' share of both; `solo_s` seconds of solo clips by instrument.
    """

    files: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    songs: int = 0
    rendered: int = 0
    variations: int = 0
    clips: int = 0
    seconds: float = 0.0
    audio_s: float = 0.0
    variations_audio_s: float = 0.0
    computed: int = 0
    reused: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    variations_cpu_s: dict[str, float] = field(default_factory=dict)
    failures: list[SongFailure] = field(default_factory=list)
    without_clips: list[SongFailure] = field(default_factory=list)
    """Songs and variations that went all the way and gave no clip, and why."""
    solo_s: dict[str, float] = field(default_factory=dict)

    def add(self, item: SongVariation, result: SongResult) -> None:
        """A song or a variation that went all the way."""
        if result.solos_failed:
            self.failures.append(item.failed(result.solos_failed))
        elif not result.clips and not result.passed_over:
            why = "; ".join(result.notes) or "nothing in it is long enough for a clip"
            self.without_clips.append(item.failure("cut", NO_CLIPS, why))
        self.clips += result.clips
        self.audio_s += result.audio_s
        self.computed += result.computed
        self.reused += result.reused
        for stage, cpu_s in result.cpu_s.items():
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + cpu_s
        for instrument, solo_s in result.solo_s.items():
            self.solo_s[instrument] = self.solo_s.get(instrument, 0.0) + solo_s
        if not item.number:
            self.rendered += 1
            return
        self.variations += 1
        self.variations_audio_s += result.audio_s
        for stage, cpu_s in result.cpu_s.items():
            self.variations_cpu_s[stage] = self.variations_cpu_s.get(stage, 0.0) + cpu_s

    def lost(self, most: int) -> list[SongFailure]:
        """What came to no clip, and why: the last failures, then, while there is room, songs that gave none."""
        failures = self.failures[-most:]
        return [*failures, *self.without_clips[: most - len(failures)]]

    def text(self, collection: str, done: str) -> str:
        """For people; `done` says what became of the songs."""
        refused = self.files - self.songs - self.duplicates - self.near_duplicates
        lines = [
            f"{self.files} files: {self.songs} songs, {self.duplicates} duplicates, {self.near_duplicates} "
            f"near-duplicates, {refused} refused",
            f"{done} ({clock(self.audio_s)} of music), {self.clips} clips in collection {collection}, "
            f"in {clock(self.seconds)}",
            f"{self.computed} actions computed, {self.reused} found done",
        ]
        lines += [f"FAILED {failed_name(f)}: {f.stage}: {f.reason}: {f.message}" for f in self.failures]
        lines += [f"NO CLIP {failed_name(f)}: {f.message}" for f in self.without_clips]
        return "\n".join(lines)

    def solos_in_words(self) -> str:
        return f"solo clips of {len(self.solo_s)} instruments, {clock(sum(self.solo_s.values()))} in all"

    def document(self) -> Mapping[str, object]:
        """Plain JSON."""
        return {
            **vars(self),
            "solo_s": {instrument: round(solo_s, 3) for instrument, solo_s in self.solo_s.items()},
            "failures": [plain(failure, zeros=True) for failure in self.failures],
            "without_clips": {failed_name(failure): [failure.message] for failure in self.without_clips},
        }


def run(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|corpora/NAME|MANIFEST", help="MIDI files, or what luthier ingest wrote of them."
        ),
    ],
    collection: Annotated[
        str,
        typer.Option(metavar="NAME", help="Collection in curation; default: the source's name."),
    ] = "",
    in_flight: InFlight = None,
    backend: Backend = "",
    humanise_timing_ms: HumaniseTimingMs = None,
    humanise_velocity: HumaniseVelocity = None,
    clip_seconds: ClipSeconds = None,
    prompts: Prompts = None,
    styles: Styles = "",
    variations: Variations = 0,
    mix_only: MixOnly = False,
    subsets: Subsets = POLYPHONIC,
    solo_minutes: SoloMinutes = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only the songs of shard I of N, counted from 0.")] = "",
    shards: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the songs of shard JOB_COMPLETION_INDEX of N.")
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for the manifest.")] = 6
    * 3600.0,
    tags: Tags = "",
    licence: Licence = "unknown",
    near_duplicates: NearDuplicates = "drop",
    submission: RunName = "",
    json: Json = False,
) -> RunSummary:
    """Take a folder or a corpus, or one shard of it, all the way into curation.

    Resumable: after Ctrl-C, a kill or a failure run it again, and what is done is found.
    """
    context, began = begin(ctx, json), time.monotonic()
    wanted = check_subsets(subsets, mix_only=mix_only, variations=variations)
    try:
        part = parse_shard(shard, shards or 0, os.environ)
    except ValueError as error:
        raise UsageError(f"--shard {error}") from None
    if part.count > 1 and Path(source).is_dir():
        raise UsageError("--shard takes its songs from corpora/NAME or a manifest, which luthier ingest writes first")
    name = source.removeprefix(corpora.ROOT)
    if collection or name != source:
        collection = as_collection(collection or name)
    else:
        collection = as_name(Path(source).resolve().name)

    if Path(source).is_dir():
        stored, inspected = ingest_collection(
            context, Path(source), collection, licence, tags, POLICIES[near_duplicates]
        )
        computed = len(inspected.computed)
    else:
        whole = MONOPHONIC in wanted  # solo clips are chosen over all songs
        stored, computed = _stored(context, source, Shard() if whole else part, submission, wait_s), 0
    corpus = stored.corpus
    songs = _songs_of(context, part, corpus.songs, stored.songs)
    if variations:
        _look_for_recordings(context, source, corpus.songs)
    if part.count > 1:  # files that are no songs are counted where the whole is run, not by shards
        summary = RunSummary(files=len(songs), songs=len(songs))
    else:
        counts = corpus.counts
        summary = RunSummary(
            files=counts.files,
            duplicates=counts.duplicates,
            near_duplicates=counts.near_duplicates,
            songs=len(songs),
            computed=computed,
        )
        summary.failures.extend(corpus.failures)
        if Path(source).is_dir():
            summary.reused = counts.files - counts.failed - computed

    sheet = tag_sheet(context.clients.store, tags)
    if sheet and not Path(source).is_dir():  # the sheet of a folder was read before its files were
        check_sheet(context.clients, sheet)
    options = SongOptions(
        collection,
        licence=corpus.manifest.licence,
        backend=backend,
        humanise_timing_ms=humanise_timing_ms,
        humanise_velocity=humanise_velocity,
        clip_s=clip_seconds or 0.0,
        prompts=prompts or prompts_for(styles_of(styles)),
        styles=tuple(styles_of(styles)),
        sheet=sheet or stored.sheet,
        mix_only=mix_only,
        subsets=wanted,
        variations=variations,
    )
    flight = Flight(collection, stored.run, part, stored.songs, songs, summary, variations)
    threads = in_flight or (SHARD_IN_FLIGHT if part.count > 1 else default_in_flight())
    pipeline = SongPipeline(context.clients, options)
    with ProgressPublisher(context.clients.store, flight.progress(None)) as publisher:
        if MONOPHONIC in wanted and songs:  # a shard without songs makes no clips: it has nothing to choose
            pipeline.solos = choose_solos(pipeline, corpus.songs, solo_minutes or SOLO_MINUTES, threads, flight)
        run_corpus(pipeline, flight, threads, publisher, began)

    document = {**summary.document(), "collection": collection, "manifest": plain(stored.manifest)}
    varied = f" and {summary.variations} variations ({clock(summary.variations_audio_s)})" if variations else ""
    text = summary.text(collection, f"{summary.rendered} songs{varied} rendered")
    text += f"\n{summary.solos_in_words()}" if MONOPHONIC in wanted else ""
    context.answer({**document, "shard": part.index, "shards": part.count}, text)
    return summary


def run_corpus(
    pipeline: SongPipeline, flight: "Flight", in_flight: int, publisher: ProgressPublisher, began: float
) -> None:
    """Takes the songs of a flight all the way and publishes how far it is; `began` on the monotonic clock."""
    with pipeline.clients.thread_pool(in_flight, "record") as pool:
        pipeline.look_up(flight.songs, pool, flight.corpus_songs)
    run_songs(pipeline, flight, in_flight, publisher)
    flight.summary.seconds = round(time.monotonic() - began, 1)
    publisher.finish(flight.progress(0.0))


def _songs_of(context: Context, part: Shard, songs: list[CorpusFile], of: int) -> list[CorpusFile]:
    """The songs of a shard. Says so where it has none of all `of`."""
    mine = part.of(songs)
    if of and not mine:
        context.say(f"shard {part.index}/{part.count} has no songs: there is nothing to ask of the services")
    return mine


def _look_for_recordings(context: Context, source: str, songs: list[CorpusFile]) -> None:
    """Says how many songs have no variations. Raises UsageError where none has any."""
    recordings = sum(not _may_vary(song) for song in songs)
    if recordings and recordings == len(songs):
        raise UsageError(f"--variations are of MIDI files, and {source} holds recordings only: leave it out")
    if recordings:
        context.say(f"{recordings} recordings have no variations")


def _stored(context: Context, source: str, shard: Shard, submission: str, wait_s: float) -> StoredCorpus:
    """The corpus that `corpora/NAME`, a manifest file or a `manifests/…` key names; at least the songs of a shard."""
    store = context.clients.store
    if source.startswith(corpora.ROOT):
        name = as_collection(source.removeprefix(corpora.ROOT))
        return corpora.wait_for(store, name, submission, wait_s, context.say, shard)
    if Path(source).is_file():
        manifest = store.blobs.put_file("manifests", Path(source), media_type="application/json")
    elif source.startswith("manifests/"):
        manifest = ArtifactRef(key=source, sha256=Path(source).stem)
    else:
        raise UsageError(f"must be a folder, corpora/NAME, a manifest file or a manifests/… key, got {source}")
    corpus = read_manifest(store, manifest)
    return StoredCorpus(f"manifest-{manifest.sha256[:12]}", corpus, manifest, len(corpus.songs))


@dataclass
class Flight:
    """The songs of a shard, which of them are under way, and what has come of the others.

    Songs as written come first; a song's variations follow, one after the other, once it has gone all the way: what
    cannot be rendered, or gives no clip, is tried once. A recording has none.
    """

    collection: str
    run: str
    shard: Shard
    corpus_songs: int
    songs: list[CorpusFile]
    summary: RunSummary
    variations: int = 0  # of each song
    running: dict[Future[SongResult], SongVariation] = field(default_factory=dict)
    stages: dict[tuple[str, int], str] = field(default_factory=dict)  # of what runs, the stage that began last
    settled: int = 0  # songs
    variations_failed: int = 0
    waiting: deque[SongVariation] = field(init=False)
    varied: int = field(init=False)  # songs that have variations, as far as it is known which give clips
    music_s: float = field(init=False)  # of songs and variations to make, as far as it is known

    def __post_init__(self) -> None:
        self.waiting = deque(map(SongVariation, self.songs))
        self.varied = sum(map(_may_vary, self.songs))
        self.music_s = sum(song.duration_s * (1 + self.variations * _may_vary(song)) for song in self.songs)

    def next(self) -> SongVariation | None:
        """What is to be taken next; None while nothing waits."""
        if not self.waiting:
            return None
        item = self.waiting.popleft()
        if item.number:
            self._follow(item)
        return item

    def _follow(self, item: SongVariation) -> None:
        """The next variation of a song waits behind all others: so the first ones of every song come first."""
        if item.number < self.variations:
            self.waiting.append(SongVariation(item.song, item.number + 1))

    def settle(self, future: Future[SongResult]) -> SongVariation:
        """Counts what went all the way or failed. Raises the error of a service that stays away."""
        item = self.running.pop(future)
        self.stages.pop((item.song.path, item.number), None)
        self.settled += not item.number
        to_vary = False
        try:
            result = future.result()
            self.summary.add(item, result)
            to_vary = bool(result.clips) or result.passed_over
        except StageError as failed:
            if is_fatal(failed.error):
                raise failed.error from None
            self.summary.failures.append(item.failed(failed))
            self.variations_failed += item.number > 0
        if not item.number and _may_vary(item.song):
            if to_vary:
                self._follow(item)
            else:
                self.varied -= 1
                self.music_s -= self.variations * item.song.duration_s
        return item

    @property
    def failed(self) -> int:
        """Songs that failed as written."""
        return self.settled - self.summary.rendered

    @property
    def items(self) -> int:
        """Songs and variations to make, as far as it is known which songs give clips."""
        return len(self.songs) + self.variations * self.varied

    def progress(self, eta_s: float | None) -> PartProgress:
        """What is published; songs and variations whose rendering is not over need a render worker."""
        summary, under_way = self.summary, list(self.running.values())
        in_flight = sum(not item.number for item in under_way)
        over = self.settled + summary.variations + self.variations_failed
        recordings = bool(self.songs) and self.songs[0].HasField("recording")  # a corpus has none, or nothing else
        played = sum(self.stages.get((item.song.path, item.number), "render") != "render" for item in under_way)
        work = ShardProgress(
            shard=self.shard.index,
            shards=self.shard.count,
            songs=len(self.songs),
            waiting=len(self.songs) - self.settled - in_flight,
            in_flight=in_flight,
            rendered=summary.rendered,
            failed=self.failed,
            clips=summary.clips,
            computed=summary.computed,
            reused=summary.reused,
            audio_s=summary.audio_s,
            cpu_s=summary.cpu_s,
            eta_s=eta_s,
            files=summary.files,
            duplicates=summary.duplicates,
            near_duplicates=summary.near_duplicates,
            seconds=summary.seconds,
            variations=self.items - len(self.songs),
            variations_rendered=summary.variations,
            variations_failed=self.variations_failed,
        )
        return PartProgress(
            collection=self.collection,
            run=self.run,
            part=str(self.shard),
            failures=summary.lost(MAX_FAILURES),
            corpus_songs=self.corpus_songs,
            need_render=0 if recordings else self.items - over - played,
            shard=work,
        )


def _may_vary(song: CorpusFile) -> bool:
    """A recording is cut as it is: it has no notes to transpose and no instruments to change."""
    return not song.HasField("recording")


def choose_solos(
    pipeline: SongPipeline, songs: list[CorpusFile], minutes: float, in_flight: int, flight: Flight
) -> Chosen:
    """The solo clips of all songs of a corpus, so that every shard chooses the same. Shard 0 searches for all of them;
    another one only where that one does not come to a choice. A song that cannot be read has none: it fails when it is
    rendered. What was chosen before holds while the files of the shard's songs are there. Raises the error of a service
    that stays away."""
    store, question = pipeline.clients.store, pipeline.solo_question(songs, minutes)
    key = solo_choice_key(flight.collection)
    known = _choice_of_the_first(pipeline.clients, flight, key, question) if question else None
    files = {song.key: song.size_bytes for song in flight.songs}
    if known and store.blobs.stored(files).issuperset(files):
        flight.summary.reused += known.searched
        return of_choice(known)
    first = len(songs) * flight.shard.index // flight.shard.count  # what one shard has asked, others find done
    with (
        Progress("songs searched for solos", len(songs)) as progress,
        pipeline.clients.thread_pool(in_flight, "solos") as pool,
    ):

        def look(song: CorpusFile) -> FindSolosResponse | None:
            if song.HasField("recording"):  # has no parts
                return None
            try:
                return pipeline.find_solos(song)
            except StageError as failed:
                if is_fatal(failed.error):
                    raise failed.error from None
                return None

        candidates, searched = list[Candidate](), 0
        in_turn = [*songs[first:], *songs[:first]]
        for song, found in zip(in_turn, pool.map(look, in_turn), strict=True):
            if found:
                candidates.extend(candidates_of(song, found))
                flight.summary.computed += not found.action.reused
                flight.summary.reused += found.action.reused
                searched += 1
                if found.action.configuration != pipeline.configurations.digests["rendering"]:  # another server
                    question = ""
            elif not song.HasField("recording"):
                question = ""  # it may be readable the next time
            progress.advance()
    chosen = by_song(choose(candidates, 60 * minutes))
    if question:
        keep_note(store, key, as_choice(chosen, question, searched))
    return chosen


def _choice_of_the_first(clients: Clients, flight: Flight, key: str, question: str) -> SoloChoice | None:
    """The choice that was kept, which all shards but the first wait for while that one searches: thousands that all
    search through all songs would ask for each song thousands of times. None where there is none to wait for."""
    first = part_series(clients.store, flight.collection, flight.run, str(Shard(0, flight.shard.count)))
    began, said = time.monotonic(), False
    alive_at = began
    while True:
        newest = first.latest() if flight.shard.index else None
        known = find_note(clients.store, SoloChoice, key)
        if known and known.question == question:
            return known
        now = time.monotonic()
        if newest:
            part = newest[1]
            if part.state == PART_STATE_DONE or part.shard.in_flight or part.shard.rendered:
                return None  # it had nothing to choose for, or could not keep what it chose
            if part.state == PART_STATE_RUNNING and not silent_s(part, time.time()):
                alive_at = now
        if not flight.shard.index or now - alive_at > SILENT_S:
            return None
        if not said:
            clients.say("waiting for shard 0 to choose the solo clips of all songs")
            said = True
        time.sleep(min(max(LOOK_EVERY_S, corpora.LOOKS_LATE * (now - began)), corpora.SELDOM_S))


def run_songs(pipeline: SongPipeline, flight: Flight, in_flight: int, publisher: ProgressPublisher) -> None:
    """Takes songs and their variations all the way, `in_flight` at a time, and fills the flight's summary.

    Raises the error of a service that stays away; a song that fails is a row of the summary. On KeyboardInterrupt the
    songs in flight are abandoned where they stand.
    """
    with (
        Progress("songs", flight.items, flight.music_s) as progress,
        pipeline.clients.thread_pool(in_flight, "song") as pool,
    ):

        def on_stage(item: SongVariation, stage: str) -> None:
            flight.stages[item.song.path, item.number] = stage
            progress.show(f"{stage}: {item.song.path}{f', variation {item.number}' if item.number else ''}")

        while True:
            while len(flight.running) < in_flight and (item := flight.next()) is not None:
                future = pool.submit(pipeline.run, item.song, partial(on_stage, item), item.number)
                flight.running[future] = item
            if not flight.running:
                break
            publisher.update(flight.progress(progress.eta_s))
            for future in wait(flight.running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED).done:
                item = flight.settle(future)
                progress.total, progress.weight = flight.items, flight.music_s
                failures = len(flight.summary.failures)
                progress.advance(item.song.duration_s, f"{flight.summary.clips} clips, {failures} failures")
    if flight.settled != len(flight.songs):
        raise Internal(f"{len(flight.songs) - flight.settled} songs are not accounted for", reason="SONGS_LOST")


def default_in_flight() -> int:
    """Twice the cores: while one song is rendered, another is cut."""
    return max(4, 2 * (os.cpu_count() or 2))
