"""The way of one song: ingest, render (of a recording: decode), cut, enrich, prompt, curate.

Every stage is idempotent: what is done is found by its action record, so a song that is taken once more goes on where
it stood.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf.json_format import MessageToDict

from luthier.analysis.v1.analysis_pb2 import (
    Clip,
    CutClipsRequest,
    CutClipsResponse,
    DecodeAudioRequest,
    DecodeAudioResponse,
)
from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef, ClipSource, Lineage, Prompt, SongName, Tag
from luthier.curation.v1.curation_pb2 import NewClip, UpsertClipsRequest
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongRequest, EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, SongFailure, SongRecord
from luthier.prompting.v1.prompting_pb2 import CheckPromptRequest, ComposePromptsRequest, PromptStyle
from luthier.rendering.v1.rendering_pb2 import (
    FindSolosRequest,
    FindSolosResponse,
    InspectMidiRequest,
    InspectMidiResponse,
    RenderSongRequest,
    RenderSongResponse,
)
from luthier_kit.rpc import (
    MAX_MIDI_BYTES,
    Cancelled,
    DataLoss,
    InvalidRequest,
    LuthierError,
    NotFound,
    is_retryable,
    request_id,
    retry_policy,
    span,
)
from luthier_kit.store import canonical_json, digest_of
from luthier_pipeline.clients import Clients, IdleBudget, is_fatal
from luthier_pipeline.solo import CHOICE_VERSION, MONOPHONIC, POLYPHONIC, Chosen, chosen_passages, solo_timeline
from luthier_pipeline.song_records import (
    OF_RECORDINGS,
    SERVICES,
    Behind,
    Configurations,
    Done,
    Item,
    SongRecords,
    digest_of_answer,
    digest_of_message,
)
from luthier_pipeline.variations import variation_of

R = TypeVar("R")

# longest call of a stage, seconds
INSPECT_TIMEOUT_S: Final = 120.0
RENDER_TIMEOUT_S: Final = 1800.0
DECODE_TIMEOUT_S: Final = 900.0
CUT_TIMEOUT_S: Final = 900.0
ENRICH_TIMEOUT_S: Final = 120.0
PROMPT_TIMEOUT_S: Final = 300.0
CURATE_TIMEOUT_S: Final = 120.0
MAX_NAME_CHARS: Final = 200  # of an artist and a title, as SongName says
MAX_PROMPTS: Final = 16  # of a clip, as NewClip says
MAX_PATH_CHARS: Final = 1024  # as EnrichSongRequest says
EXTERNAL: Final = "external"
"""Subset of clips of recordings."""
AUDIO_LICENCE: Final = "audio_licence"
"""The fact by which a sheet of tags states the licence of a recording."""
CAPTION: Final = "file"
"""Composer of a caption that lay beside a recording."""
MAX_SPANS: Final = 200  # as CutClipsRequest says
FIRST_PAUSE_S: Final = 0.5  # before a stage whose worker was stopped is called again


class StageError(Exception):
    """A stage of a song failed for good."""

    def __init__(self, stage: str, error: LuthierError) -> None:
        super().__init__(f"{stage}: {error}")
        self.stage = stage
        self.error = error


@dataclass(frozen=True)
class SongOptions:
    """How songs are made into clips; zero, empty and None mean the services' defaults.

    `clip_s` is the length of clips aimed for in seconds, 3 to 560; `prompts` the number of prompts of a clip, 1 to 16;
    `styles` those of its prompts by turns; `variations` how many of each song are made beside it, 0 to 100; `subsets`
    are those to make of SUBSETS.
    """

    collection: str
    licence: str = "unknown"
    backend: str = ""
    clip_s: float = 0.0
    prompts: int = 0
    styles: tuple[PromptStyle, ...] = ()
    sheet: ArtifactRef | None = None
    mix_only: bool = False
    humanise_timing_ms: float | None = None  # 0 to 20
    humanise_velocity: float | None = None  # 0 to 20
    subsets: tuple[str, ...] = (POLYPHONIC,)
    variations: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what becomes of a song: how many variations are made beside it does not."""
        values = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("sheet", "variations")
        }
        return digest_of({**values, "sheet": self.sheet.sha256 if self.sheet else ""})

    def set_lengths(self, request: CutClipsRequest | FindSolosRequest) -> None:
        """Wanted, least and greatest length of clips, where they are not the service's own."""
        if target_s := self.clip_s:
            request.target_s = target_s
            request.min_s, request.max_s = target_s * 2 / 3, target_s * 16 / 15  # as 20 and 32 to 30 s


@dataclass
class SongResult:
    """What came of a song. `audio_s` is seconds of music, `cpu_s` CPU seconds by stage where the service says them;
    `solo_s` seconds of solo clips by instrument; `passed_over`: only solos were wanted and none of it was chosen."""

    clips: int = 0
    audio_s: float = 0.0
    computed: int = 0
    reused: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What cutting left out, and why."""
    solo_s: dict[str, float] = field(default_factory=dict)
    passed_over: bool = False
    solos_failed: StageError | None = None
    """Why its solo clips, or some of them, are missing; what else came of it is in curation."""
    behind: Behind = field(default_factory=Behind)
    """What it is made of."""

    @classmethod
    def of(cls, done: Done) -> "SongResult":
        """What came of a song that was done before."""
        came = done.came
        return cls(
            clips=done.clips,
            audio_s=came.audio_s,
            reused=came.answers,
            notes=list(came.notes),
            solo_s=dict(came.solo_s),
        )

    def record(self) -> SongRecord:
        """What is kept of it."""
        return SongRecord(audio_s=self.audio_s, solo_s=self.solo_s, notes=self.notes)

    def count(self, stage: str, action: ActionInfo, cpu_s: float = 0.0) -> None:
        """Counts an action, computed now or found done."""
        self.computed += not action.reused
        self.reused += action.reused
        if cpu_s and not action.reused:
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + cpu_s


@dataclass(frozen=True)
class Made:
    """What clips were cut from. `source` is theirs but for span and name; `actions` made what was cut, with `seed`."""

    song: CorpusFile
    source: ClipSource
    seed: int
    actions: tuple[ActionInfo, ...]


@dataclass(frozen=True)
class IngestedFile:
    """A file of the corpus, and what inspection said of a MIDI file or decoding of a recording; None where it cannot be
    used. `notes` say what was odd about it."""

    file: CorpusFile
    facts: InspectMidiResponse | None = None
    decoded: DecodeAudioResponse | None = None
    notes: tuple[str, ...] = ()

    @property
    def computed(self) -> bool:
        """Whether it was looked at now and not found done."""
        found = self.facts or self.decoded
        return found is not None and not found.action.reused


@dataclass(frozen=True)
class FileKind:
    """What files of a folder are: kind of their blobs, most bytes, reason of the refusal of a larger one."""

    blobs: str
    max_bytes: int
    too_large: str


MIDI: Final = FileKind("midi", MAX_MIDI_BYTES, "MIDI_TOO_LARGE")


def ingest_file(clients: Clients, path: Path, folder: Path) -> IngestedFile:
    """Stores a MIDI file of a folder and inspects it. A file that cannot be used says why in its `failure`.

    Raises LuthierError when no file can be ingested: a service or the store stays away, or lets nobody in.
    """

    def inspect(file: CorpusFile) -> IngestedFile:
        facts = inspect_midi(clients, file)
        file.fingerprint, file.duration_s = facts.fingerprint, round(facts.duration_s, 3)
        file.parts, file.notes = facts.parts, facts.notes
        return IngestedFile(file, facts)

    return ingest_as(clients, path, folder, MIDI, "audio/midi", inspect)


def ingest_as(
    clients: Clients,
    path: Path,
    folder: Path,
    kind: FileKind,
    media_type: str,
    inspect: Callable[[CorpusFile], IngestedFile],
) -> IngestedFile:
    """Stores a file of a folder and has `inspect` complete its row; what cannot be used says why in its `failure`.

    Raises LuthierError as `ingest_file` does.
    """
    written = path.relative_to(folder).as_posix()
    name = written.encode(errors="surrogateescape").decode(errors="backslashreplace")
    file = CorpusFile(path=name)
    try:
        if name != written:
            raise InvalidRequest("the file's name is not UTF-8: rename it", reason="FILE_NAME_NOT_UTF8")
        file.artist, file.title = path.parent.name if path.parent != folder else "", path.stem
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):  # takes a link to itself, too
            raise InvalidRequest("it is a link to a file outside the folder: copy it", reason="FILE_OUTSIDE_FOLDER")
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for who writes into it
                raise InvalidRequest("it is no file but a pipe, a socket or a device", reason="FILE_NOT_REGULAR")
            if (size_bytes := found.st_size) > kind.max_bytes:
                bound = f"must have at most {kind.max_bytes} bytes, got {size_bytes}"
                raise InvalidRequest(reason=kind.too_large, violations=[(kind.blobs, bound)])
            stored = clients.store.blobs.put_file(kind.blobs, path, media_type=media_type)
        except OSError as error:
            dangling = path.is_symlink() and isinstance(error, FileNotFoundError)
            why = "it is a link to a file that is not there" if dangling else f"cannot be read: {error.strerror}"
            raise InvalidRequest(why, reason="FILE_UNREADABLE") from None
        file.key, file.sha256, file.size_bytes = stored.key, stored.sha256, stored.size_bytes
        return inspect(file)
    except LuthierError as error:
        if is_fatal(error):
            raise
        file.failure.CopyFrom(SongFailure(path=name, stage="ingest", reason=error.reason, message=str(error)))
        return IngestedFile(file)


def inspect_midi(clients: Clients, file: CorpusFile) -> InspectMidiResponse:
    """What the notes of a stored file say; found done where it was inspected before."""
    return clients.rendering.InspectMidi(InspectMidiRequest(midi=midi_of(file)), timeout=INSPECT_TIMEOUT_S)


def check_sheet(clients: Clients, sheet: ArtifactRef) -> None:
    """Has enrichment read a sheet of tags, before hours of rendering. Raises InvalidRequest BAD_SHEET by line."""
    request = EnrichSongRequest(song=SongName(title="sheet"), sheet=sheet, providers=["file"])
    try:
        clients.enrichment.EnrichSong(request, timeout=ENRICH_TIMEOUT_S)
    except InvalidRequest as error:
        if error.reason == "BAD_SHEET":
            raise


def midi_of(song: CorpusFile) -> ArtifactRef:
    """The MIDI file in the store."""
    return ArtifactRef(key=song.key, sha256=song.sha256, size_bytes=song.size_bytes, media_type="audio/midi")


def original_of(song: CorpusFile) -> ArtifactRef:
    """The recording in the store, as it came."""
    return ArtifactRef(key=song.key, sha256=song.sha256, size_bytes=song.size_bytes)


class SongPipeline:
    """Takes songs of a corpus through the services into curation. Threads may share it. `solos` are the passages that
    become solo clips."""

    def __init__(self, clients: Clients, options: SongOptions, solos: Chosen | None = None) -> None:
        self.clients = clients
        self.options = options
        self.solos = solos or {}
        self._services = SERVICES  # whose answers make the clips
        self._records: SongRecords | None = None
        self._done: dict[tuple[str, int], Done] = {}  # by digest of the file and number of the variation
        self._answered: dict[str, float] = {}  # when the service of each stage answered last, monotonic clock

    def look_up(self, songs: Sequence[CorpusFile], pool: ThreadPoolExecutor, of: int) -> None:
        """Finds which songs, and which of their variations, are done, so that `run` has nothing to do for them. Without
        it, and where a service does not say how it is configured, `run` asks every stage. Where there are no songs, no
        service is asked. `of`: the songs of the whole corpus, of which these may be a shard's."""
        if not songs:
            return
        if _are_recordings(songs):
            self._services = OF_RECORDINGS
        self._records = SongRecords(self.clients, self.options.collection, self.options.digest, self.configurations)
        each = self.options.variations + 1
        items = (self._item(song, number) for song in songs for number in range(each))
        self._done = self._records.found(items, pool, count=len(songs) * each, of=of * each)

    @cached_property
    def configurations(self) -> Configurations:
        """How the services that make the clips are configured as the run begins."""
        return Configurations.of(self.clients, self._services)

    def solo_question(self, songs: Sequence[CorpusFile], minutes: float) -> str:
        """SHA-256 of all that decides which solo clips are chosen of a corpus; empty where it is not known,
        and of recordings, which have no parts."""
        if _are_recordings(songs) or not (rendering := self.configurations.digests["rendering"]):
            return ""
        lengths = FindSolosRequest()
        self.options.set_lengths(lengths)
        groups = [[song.sha256, song.fingerprint, *song.related_fingerprints] for song in songs]
        asked = {"songs": groups, "minutes": minutes, "lengths": digest_of_message(lengths)}
        return digest_of({"version": CHOICE_VERSION, "rendering": rendering, **asked})

    def _item(self, song: CorpusFile, number: int) -> Item:
        solos = self.solos.get(song.sha256, {}) if MONOPHONIC in self.options.subsets and not number else {}
        return Item(song, number, solos)

    def _is_done(self, song: CorpusFile, done: Done) -> bool:
        """Whether enrichment, where its answers age, still says what it said."""
        enriched = done.came.enriched
        return not enriched or enriched == digest_of_answer(self._enrich(song))

    def run(self, song: CorpusFile, on_stage: Callable[[str], None], number: int = 0) -> SongResult:
        """Takes one song all the way, as written or (1 or more) its variation `number`; `on_stage` gets the name of
        each stage as it begins.

        Raises StageError when the song cannot go on; solos that fail beside a mix are `solos_failed` of the result. An
        artifact that is missing or corrupt voids its record: the way is then taken once more from the start, and what
        was lost is made again.
        """
        request_id.set(f"song-{song.sha256[:12]}")
        about = {"luthier.path": song.path, "luthier.collection": self.options.collection}
        about |= {"luthier.variation": str(number)} if number else {}
        with span("song", **about):
            done = self._done.pop((song.sha256, number), None)
            if done and self._is_done(song, done):
                return SongResult.of(done)
            result = self._run_again(song, on_stage, number)
            if self._records and not (result.solos_failed or result.passed_over):
                self._records.put(self._item(song, number), result.behind, result.record())
            return result

    def _run_again(self, song: CorpusFile, on_stage: Callable[[str], None], number: int) -> SongResult:
        """The way of a song, twice where something was lost."""
        try:
            result = self._run(song, on_stage, number)
            if result.solos_failed is None or not _is_lost(result.solos_failed):
                return result
        except StageError as failed:
            if not _is_lost(failed):
                raise
        return self._run(song, on_stage, number)

    def _run(self, song: CorpusFile, on_stage: Callable[[str], None], number: int) -> SongResult:
        if song.HasField("recording"):
            return self._run_recording(song, on_stage)
        options, clients, result = self.options, self.clients, SongResult()
        solos = self.solos.get(song.sha256) if MONOPHONIC in options.subsets and not number else None
        if POLYPHONIC not in options.subsets and not solos:
            result.passed_over = True
            return result

        on_stage("render")
        render = RenderSongRequest(
            midi=midi_of(song),
            backend=options.backend,
            mix_only=options.mix_only,
            humanise_timing_ms=options.humanise_timing_ms,
            humanise_velocity=options.humanise_velocity,
            variation=variation_of(song.fingerprint, number) if number else None,
            other_instruments=number > 0,
        )
        rendered = self._call("render", partial(clients.rendering.RenderSong, render, timeout=RENDER_TIMEOUT_S))
        result.count("render", rendered.action, rendered.cpu_s)
        stems = (stem.audio for stem in rendered.stems)
        self._behind(result, "rendering", rendered.action, midi_of(song), rendered.mix, *stems)
        result.audio_s = rendered.timeline.duration_s
        source = ClipSource(
            song_fingerprint=song.fingerprint,
            midi_sha256=song.sha256,
            related_fingerprints=song.related_fingerprints,
        )
        if number:
            source.variation.CopyFrom(rendered.variation)  # as it took effect

        if POLYPHONIC in options.subsets:
            clips = self._cut(CutClipsRequest(mix=rendered.mix, timeline=rendered.timeline), result, on_stage)
            made = Made(song, source, rendered.seed, (rendered.action, clips.action))
            self._caption(made, clips.clips, result, on_stage)
        if solos:
            made = Made(song, source, rendered.seed, (rendered.action,))
            try:
                self._cut_solos(made, rendered, solos, result, on_stage)
            except StageError as failed:
                if is_fatal(failed.error) or POLYPHONIC not in options.subsets:
                    raise
                result.solos_failed = failed  # clips of the mix are in curation by now
        return result

    def _run_recording(self, song: CorpusFile, on_stage: Callable[[str], None]) -> SongResult:
        """Clips of a recording, cut by the audio alone, whatever the subsets of what is rendered."""
        result = SongResult()
        on_stage("decode")
        decode = DecodeAudioRequest(original=original_of(song))
        decoded = self._call("decode", partial(self.clients.analysis.DecodeAudio, decode, timeout=DECODE_TIMEOUT_S))
        result.count("decode", decoded.action, decoded.cpu_s)
        self._behind(result, "analysis", decoded.action, original_of(song), decoded.audio)
        result.audio_s = decoded.duration_s

        clips = self._cut(CutClipsRequest(mix=decoded.audio), result, on_stage)
        source = ClipSource(
            song_fingerprint=song.fingerprint, subset=EXTERNAL, related_fingerprints=song.related_fingerprints
        )
        made = Made(song, source, 0, (decoded.action, clips.action))
        self._caption(made, clips.clips, result, on_stage)
        return result

    def _cut(self, cut: CutClipsRequest, result: SongResult, on_stage: Callable[[str], None]) -> CutClipsResponse:
        """Clips as long as the options say."""
        on_stage("cut")
        self.options.set_lengths(cut)
        clips = self._call("cut", partial(self.clients.analysis.CutClips, cut, timeout=CUT_TIMEOUT_S))
        result.count("cut", clips.action, clips.cpu_s)
        self._behind(result, "analysis", clips.action, *(clip.audio for clip in clips.clips))
        result.notes.extend(clips.notes)
        return clips

    def find_solos(self, song: CorpusFile) -> FindSolosResponse:
        """The passages of a song in which a part plays. Raises StageError."""
        find = FindSolosRequest(midi=midi_of(song))
        self.options.set_lengths(find)
        return self._call("solos", partial(self.clients.rendering.FindSolos, find, timeout=INSPECT_TIMEOUT_S))

    def _cut_solos(
        self,
        made: Made,
        rendered: RenderSongResponse,
        chosen: Mapping[int, frozenset[float]],
        result: SongResult,
        on_stage: Callable[[str], None],
    ) -> None:
        """Clips of single parts, cut from their stems; `chosen` are the beginnings of their passages by part."""
        on_stage("solos")
        found = self.find_solos(made.song)
        self._behind(result, "rendering", found.action)
        stems = {stem.sound.part: stem for stem in rendered.stems}
        for part in found.parts:
            passages = chosen_passages(part, chosen.get(part.part, frozenset()))
            stem = stems.get(part.part)
            if not passages or stem is None or not stem.HasField("loudness_lufs"):  # silent: keys without a sample
                continue
            source = ClipSource(subset=MONOPHONIC, part=part.part)
            source.MergeFrom(made.source)
            for first in range(0, len(passages), MAX_SPANS):
                batch = passages[first : first + MAX_SPANS]
                on_stage("cut")
                cut = CutClipsRequest(
                    mix=stem.audio,
                    timeline=solo_timeline(rendered.timeline, part, batch),
                    spans=[passage.span for passage in batch],
                )
                clips = self._call("cut", partial(self.clients.analysis.CutClips, cut, timeout=CUT_TIMEOUT_S))
                result.count("cut-solos", clips.action, clips.cpu_s)
                self._behind(result, "analysis", clips.action, *(clip.audio for clip in clips.clips))
                result.notes.extend(f"part {part.part} alone: {note}" for note in clips.notes)
                of_part = replace(made, source=source, actions=(*made.actions, found.action, clips.action))
                self._caption(of_part, clips.clips, result, on_stage)
                instrument = part.activity.instrument
                seconds = sum(clip.span.end_s - clip.span.start_s for clip in clips.clips)
                result.solo_s[instrument] = result.solo_s.get(instrument, 0.0) + seconds

    def _caption(self, made: Made, clips: Iterable[Clip], result: SongResult, on_stage: Callable[[str], None]) -> None:
        """Tags, prompts and curation of the clips of a song, which are counted in `result`."""
        options, clients, song = self.options, self.clients, made.song
        if (enriched := result.behind.enriched) is None:  # once a song, however many of its parts become clips
            on_stage("enrich")
            enriched = result.behind.enriched = self._enrich(song)
            result.count("enrich", enriched.action)
            self._behind(result, "enrichment", enriched.action)

        licence = _licence(song, enriched, options.licence)
        curate = UpsertClipsRequest(collection=options.collection)
        for clip in clips:
            on_stage("prompt")
            compose = ComposePromptsRequest(
                facts=clip.facts, tags=enriched.tags, count=options.prompts or None, styles=options.styles
            )
            ask = partial(clients.prompting.ComposePrompts, compose, timeout=PROMPT_TIMEOUT_S)
            composed = self._call("prompt", ask)
            result.count("prompt", composed.action)
            self._behind(result, "prompting", composed.action)
            new = NewClip(
                source=made.source, audio=clip.audio, facts=clip.facts, tags=enriched.tags,
                prompts=[*composed.prompts, *self._captions(song, clip, enriched.tags, result)][:MAX_PROMPTS],
                lineage=_lineage(made, licence, (*made.actions, enriched.action, composed.action)),
            )  # fmt: skip
            new.source.span.CopyFrom(clip.span)
            new.source.song.CopyFrom(enriched.song)
            curate.clips.append(new)

        if curate.clips:
            on_stage("curate")
            upserted = self._call("curate", partial(clients.curation.UpsertClips, curate, timeout=CURATE_TIMEOUT_S))
            result.count("curate", ActionInfo(reused=not upserted.created + upserted.revised))
            result.behind.add_clips(upserted)
        result.clips += len(curate.clips)

    def _enrich(self, song: CorpusFile) -> EnrichSongResponse:
        """Tags and facts of a song. Raises StageError."""
        name = SongName(artist=song.artist[:MAX_NAME_CHARS], title=song.title[:MAX_NAME_CHARS])
        bare = song.path.rpartition(".")[0]  # enrichment knows that ".mid" is no part of a title
        path = bare if song.HasField("recording") else song.path
        sheet = self.options.sheet
        enrich = EnrichSongRequest(song=name, path=path[:MAX_PATH_CHARS], sheet=sheet, tags=song.recording.tags)
        return self._call("enrich", partial(self.clients.enrichment.EnrichSong, enrich, timeout=ENRICH_TIMEOUT_S))

    def _behind(self, result: SongResult, service: str, action: ActionInfo, *blobs: ArtifactRef) -> None:
        """Notes an answer of a service and the blobs that it names, where a record is to be made of them."""
        if not self._records:
            return
        result.behind.add_action(action, self.configurations.digests[service])
        for blob in blobs:
            result.behind.add_blob(blob, self.clients.store.blobs.bucket)

    def _captions(self, song: CorpusFile, clip: Clip, tags: Iterable[Tag], result: SongResult) -> Iterable[Prompt]:
        """The captions that lay beside a recording, each checked against the facts of this clip: they were written of
        the whole song, or of another one."""
        for caption in song.recording.captions:
            request = CheckPromptRequest(prompt=caption, facts=clip.facts, tags=tags, allow_subset=True)
            check = partial(self.clients.prompting.CheckPrompt, request, timeout=PROMPT_TIMEOUT_S)
            checked = self._call("prompt", check)
            if self._records:
                result.behind.add_check(checked.configuration, self.configurations.digests["prompting"])
            yield Prompt(text=caption, check=checked.check, composer=CAPTION)

    def _call(self, stage: str, call: Callable[[], R]) -> R:
        """One stage's call. The retry budget is the service's, not the call's: while other songs get through a crowded
        service, this one goes on waiting for its turn. A worker that is stopped in the middle cancels its calls: they
        are made again, elsewhere. A call that takes every server with it (CALL_LOST) ends its song."""

        def retry_on(error: BaseException) -> bool:
            stopped = isinstance(error, Cancelled) and error.reason != "CLIENT_CLOSED"  # by the worker, not by us
            return is_retryable(error) or stopped

        budget = IdleBudget(self.clients.retry_budget_s, lambda: self._answered.get(stage, 0.0))
        try:
            response = retry_policy(budget, retry_on, first_s=FIRST_PAUSE_S)(call)
        except LuthierError as error:
            raise StageError(stage, error) from error
        self._answered[stage] = time.monotonic()
        return response


def _are_recordings(songs: Iterable[CorpusFile]) -> bool:
    """Whether none of the songs is rendered."""
    return all(song.HasField("recording") for song in songs)


def _is_lost(failed: StageError) -> bool:
    """Whether an artifact was missing or corrupt, which voids its record."""
    return isinstance(failed.error, DataLoss | NotFound)


def _licence(song: CorpusFile, enriched: EnrichSongResponse, stated: str) -> str:
    """Of a recording what the sheet says, else what the file says; else what was stated of all."""
    if not song.HasField("recording"):
        return stated
    by_sheet = (fact.value for fact in enriched.facts if fact.name == AUDIO_LICENCE)
    return next(by_sheet, "") or song.recording.licence or stated


def _lineage(made: Made, licence: str, actions: Iterable[ActionInfo]) -> Lineage:
    """Everything behind a clip: the song's file, how it was varied, and every stage's record, versions and licences."""
    lineage = Lineage(inputs=[made.song.sha256], seed=made.seed)
    if made.source.HasField("variation"):
        variation = MessageToDict(made.source.variation, preserving_proto_field_name=True)
        lineage.parameters_json = canonical_json({"variation": variation}).decode()
    licences = {licence}
    for action in actions:
        lineage.inputs.append(action.action_key)
        lineage.versions.update(action.lineage.versions)
        licences.update(action.lineage.licences)
    lineage.licences.extend(sorted(licences))
    return lineage
