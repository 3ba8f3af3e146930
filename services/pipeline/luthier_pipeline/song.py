"""The way of one song: render, cut, enrich, prompt, into curation. Every stage is idempotent, so a rerun goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from luthier.analysis.v1 import analysis_pb2 as analysis
from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as curation
from luthier.enrichment.v1 import enrichment_pb2 as enrichment
from luthier.prompting.v1 import prompting_pb2 as prompting
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier_kit import telemetry, tracing
from luthier_kit.client import passes
from luthier_kit.errors import Cancelled, DataLoss, LuthierError, NotFound
from luthier_pipeline.corpus import Entry
from luthier_pipeline.failure import StageError
from luthier_pipeline.place import Place

TIMEOUT_S = {"render": 1800.0, "cut": 900.0, "enrich": 120.0, "prompt": 300.0, "curate": 120.0}
AGAIN_S = 0.5


@dataclass(frozen=True)
class Options:
    """How songs are made into clips; zero and empty mean the services' defaults."""

    collection: str
    licence: str = "unknown"
    backend: str = ""
    clip_s: float = 0.0
    prompts: int = 0
    sheet: common.ArtifactRef | None = None
    mix_only: bool = False
    patience_s: float = 900.0


@dataclass
class Made:
    """What came of a song."""

    clips: int = 0
    audio_s: float = 0.0
    computed: int = 0
    reused: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def count(self, reused: bool) -> None:
        """Counts an action."""
        self.computed += not reused
        self.reused += reused


class SongWay:
    """Takes songs along the way of the data."""

    def __init__(self, place: Place, options: Options) -> None:
        self.place = place
        self.options = options
        self._answered: dict[str, float] = {}  # when each service last did anything, on the monotonic clock

    def make(self, entry: Entry, on_stage: Callable[[str], None]) -> Made:
        """Takes one song all the way. Raises StageError when it cannot go on.

        An artifact that is missing or corrupt voids its record: the way is then taken once more from the start, and
        what was lost is made again.
        """
        telemetry.request_id.set(f"song-{entry.sha256[:12]}")
        with tracing.span("song", **{"luthier.path": entry.path, "luthier.collection": self.options.collection}):
            try:
                return self._once(entry, on_stage)
            except StageError as error:
                if not isinstance(error.error, DataLoss | NotFound):
                    raise
                return self._once(entry, on_stage)

    def _once(self, entry: Entry, on_stage: Callable[[str], None]) -> Made:
        made = Made()

        def stage(name: str, service: str, method: str, request: Any) -> Any:
            on_stage(name)
            response = self._call(name, service, method, request)
            if hasattr(response, "action"):
                made.count(response.action.reused)
                if not response.action.reused and hasattr(response, "cpu_s"):
                    made.cpu_s[name] = made.cpu_s.get(name, 0.0) + response.cpu_s
            return response

        song = stage("render", "rendering", "RenderSong", self._render(entry))
        cut = stage("cut", "analysis", "CutClips", self._cut(song))
        known = stage("enrich", "enrichment", "EnrichSong", self._enrich(entry))
        clips = [self._clip(entry, song, cut, known, clip, stage) for clip in cut.clips]
        if clips:
            upserted = stage("curate", "curation", "UpsertClips", self._upsert(clips))
            made.count(reused=not upserted.created + upserted.revised)
        made.clips = len(clips)
        made.audio_s = song.timeline.duration_s
        return made

    def _call(self, stage: str, service: str, method: str, request: Any) -> Any:
        """One stage's call. Patience is with the service, not with the call: while other songs get through a crowded
        service, this one goes on waiting for its turn. A worker that is stopped in the middle cancels its calls: they
        are made again, elsewhere. A call that takes every server with it (CALL_LOST) ends its song."""
        begun, patience_s = time.monotonic(), self.options.patience_s
        while True:
            try:
                response = self.place[service].call(method, request, timeout_s=TIMEOUT_S[stage], patience_s=patience_s)
            except LuthierError as error:
                now = time.monotonic()
                idle_s = min(now - self._answered.get(service, begun), now - begun)
                if not (passes(error) or _was_stopped(error)) or idle_s >= patience_s:
                    raise StageError(stage, error) from error
                time.sleep(AGAIN_S)
            else:
                self._answered[service] = time.monotonic()
                return response

    def _render(self, entry: Entry) -> rendering.RenderSongRequest:
        options = self.options
        return rendering.RenderSongRequest(midi=entry.midi, backend=options.backend, mix_only=options.mix_only)

    def _cut(self, song: rendering.RenderSongResponse) -> analysis.CutClipsRequest:
        request = analysis.CutClipsRequest(mix=song.mix, timeline=song.timeline)
        if target_s := self.options.clip_s:
            request.target_s, request.min_s, request.max_s = target_s, target_s * 2 / 3, target_s * 16 / 15
        return request

    def _enrich(self, entry: Entry) -> enrichment.EnrichSongRequest:
        name = common.SongName(artist=entry.artist[:200], title=entry.title[:200])
        return enrichment.EnrichSongRequest(song=name, path=entry.path[:1024], sheet=self.options.sheet)

    def _clip(
        self,
        entry: Entry,
        song: rendering.RenderSongResponse,
        cut: analysis.CutClipsResponse,
        known: enrichment.EnrichSongResponse,
        clip: analysis.Clip,
        stage: Any,
    ) -> curation.NewClip:
        request = prompting.ComposePromptsRequest(facts=clip.facts, tags=known.tags)
        if self.options.prompts:
            request.count = self.options.prompts
        composed = stage("prompt", "prompting", "ComposePrompts", request)
        return curation.NewClip(
            source=common.ClipSource(
                song_fingerprint=entry.fingerprint, span=clip.span, song=known.song, midi_sha256=entry.sha256
            ),
            audio=clip.audio,
            facts=clip.facts,
            tags=known.tags,
            prompts=composed.prompts,
            lineage=self._lineage(entry, song, cut, known, composed),
        )

    def _lineage(self, entry: Entry, *parts: Any) -> common.Lineage:
        """Everything behind a clip: the MIDI file and every stage's record, versions and licences."""
        lineage = common.Lineage(inputs=[entry.sha256], seed=parts[0].seed)
        licences = {self.options.licence}
        for part in parts:
            lineage.inputs.append(part.action.action_key)
            lineage.versions.update(part.action.lineage.versions)
            licences.update(part.action.lineage.licences)
        lineage.licences.extend(sorted(licences))
        return lineage

    def _upsert(self, clips: list[curation.NewClip]) -> curation.UpsertClipsRequest:
        return curation.UpsertClipsRequest(collection=self.options.collection, clips=clips)


def _was_stopped(error: LuthierError) -> bool:
    """Whether the worker ended the call, not this command."""
    return isinstance(error, Cancelled) and error.reason != "CLIENT_CLOSED"
