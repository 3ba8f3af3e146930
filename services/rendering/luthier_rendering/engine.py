"""What the service does, over a store and a pool of workers: inspect a file, render a song, once per action."""

import hashlib
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1 import rendering_pb2
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.errors import FailedPrecondition, QuotaExceeded
from luthier_music.audio import SAMPLE_RATE_HZ
from luthier_rendering import messages
from luthier_rendering.backends import BACKENDS
from luthier_rendering.backends.base import Backend, BackendConfig, BackendError
from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.job import RenderJob, RenderResult
from luthier_rendering.limits import MidiLimits
from luthier_rendering.midi import Song, load_song
from luthier_rendering.mix import Levels
from luthier_rendering.pool import RenderPool, WorkerDied
from luthier_rendering.timeline import part_activity, timeline

INSPECT_VERSION = "2"
RENDER_VERSION = "2"  # raise it whenever the same song would sound or be measured differently
MAX_DEATHS = 3  # of workers on one song, one after another: then it is the song
_FLAC = "audio/flac"
_PACKAGED_LICENCE = "TimGM6mb SoundFont: GPL-2.0-only"


@dataclass(frozen=True)
class RenderOrder:
    """What is asked of one song; `seed` None = a digest of the file."""

    backend: str
    levels: Levels
    seed: int | None
    mix_only: bool


@dataclass(frozen=True)
class Patience:
    """How long the caller waits (None = as long as it takes) and whether it has gone."""

    deadline_s: float | None = None
    gone: Callable[[], bool] = lambda: False


class Engine:
    """Inspects and renders. Safe for calls from many threads."""

    def __init__(
        self, store: Artifacts, pool: RenderPool, config: BackendConfig, limits: MidiLimits, scratch: Path
    ) -> None:
        self._store, self._pool, self._config = store, pool, config
        self._limits, self._scratch = limits, scratch

    def inspect(self, midi: ArtifactRef) -> rendering_pb2.InspectMidiResponse:
        """Facts, faults and fingerprint. InvalidRequest MIDI_* for a file that cannot be rendered."""
        data = self._store.read(midi, self._limits.size_bytes)
        action = Action("inspect", [midi.sha256], {"limits": self._limits.changed()}, version=INSPECT_VERSION)
        response, _ = self._store.run(
            action,
            rendering_pb2.InspectMidiResponse,
            lambda: messages.inspection(load_song(data, self._limits)),
        )
        return response

    def render(self, midi: ArtifactRef, order: RenderOrder, patience: Patience) -> rendering_pb2.RenderSongResponse:
        """Stems, mix and timeline, or the record of having made them before."""
        data = self._store.read(midi, self._limits.size_bytes)
        seed = order.seed if order.seed is not None else int(midi.sha256[:13], 16)  # 52 bits: exact in any JSON
        action = Action(
            "render",
            [midi.sha256],
            {
                **asdict(order.levels),
                "backend": order.backend,
                "mix_only": order.mix_only,
                "limits": self._limits.changed(),
            },
            seed,
            RENDER_VERSION,
            self._tools(order.backend),
            [] if self._config.soundfont else [_PACKAGED_LICENCE],
        )
        response, _ = self._store.run(
            action, rendering_pb2.RenderSongResponse, lambda: self._render(data, order, seed, patience)
        )
        response.mix_loudness_target_lufs = order.levels.mix_loudness_lufs  # not from the record: older ones lack it
        response.mix_only = order.mix_only
        return response

    def instruments(self, names: Sequence[str]) -> rendering_pb2.ListInstrumentsResponse:
        """What the named back ends can play, and why something configured cannot be used."""
        response = rendering_pb2.ListInstrumentsResponse()
        for name in names:
            if name == "vst3" and not self._config.vst3_path:
                continue
            try:
                backend = BACKENDS[name](self._config)
            except BackendError as error:
                response.unavailable.append(str(error))
                continue
            response.instruments.extend(messages.playable(one) for one in backend.playables())
            response.unavailable.extend(backend.faults())
        return response

    def _tools(self, backend: str) -> dict[str, str]:
        packages = ("tinysoundfont", "pedalboard") if backend == "vst3" else ("tinysoundfont",)
        return {**self._backend(backend).digests(), **{name: importlib.metadata.version(name) for name in packages}}

    def _backend(self, name: str) -> Backend:
        """The back end; loads a SoundFont at most, never a plugin (only workers do)."""
        try:
            return BACKENDS[name](self._config)
        except BackendError as error:
            raise FailedPrecondition(str(error), reason="BACKEND_NOT_CONFIGURED") from error

    def _render(
        self, data: bytes, order: RenderOrder, seed: int, patience: Patience
    ) -> rendering_pb2.RenderSongResponse:
        began = time.thread_time()
        song = load_song(data, self._limits)
        response = rendering_pb2.RenderSongResponse(
            timeline=messages.timeline_message(timeline(song)),
            fingerprint=fingerprint(song),
            seed=seed,
            backend=order.backend,
            sample_rate_hz=SAMPLE_RATE_HZ,
            stem_loudness_lufs=order.levels.stem_loudness_lufs,
            stem_jitter_db=order.levels.stem_jitter_db,
        )
        with tempfile.TemporaryDirectory(prefix="render-", dir=self._scratch) as folder:
            out = Path(folder)
            midi = out / f"{hashlib.sha256(data).hexdigest()}.mid"
            midi.write_bytes(data)
            job = RenderJob(str(midi), str(out), order.backend, seed, order.levels, order.mix_only)
            result = self._play(job, patience)
            self._keep(response, song, result, out)
        response.cpu_s = result.cpu_s + time.thread_time() - began
        return response

    def _play(self, job: RenderJob, patience: Patience) -> RenderResult:
        """The song from a worker.

        When one worker after another died of it: FailedPrecondition RENDERER_CRASHED, which is remembered, if all
        crashed; QuotaExceeded RENDERER_KILLED, which is not, if any was killed: for memory, most likely.
        """
        end = None if patience.deadline_s is None else time.monotonic() + patience.deadline_s
        deaths: list[WorkerDied] = []
        while len(deaths) < MAX_DEATHS:
            left_s = None if end is None else max(0.0, end - time.monotonic())
            try:
                return self._pool.render(job, deadline_s=left_s, cancelled=patience.gone)
            except WorkerDied as death:
                deaths.append(death)
        text = f"{MAX_DEATHS} render workers in a row died of this song, the last: {deaths[-1]}"
        if all(death.crashed for death in deaths):
            raise FailedPrecondition(text, reason="RENDERER_CRASHED")
        raise QuotaExceeded(text, reason="RENDERER_KILLED")

    def _keep(self, response: rendering_pb2.RenderSongResponse, song: Song, result: RenderResult, out: Path) -> None:
        """Put the files into the store and what is known about them into the response."""
        response.mix.CopyFrom(self._store.put_file("mixes", out / result.mix, _FLAC))
        response.mix_loudness_lufs, response.mix_peak_dbfs = result.mix_loudness_lufs, result.mix_peak_dbfs
        for stem in result.stems:
            if stem.file:
                response.stems.add(
                    audio=self._store.put_file("stems", out / stem.file, _FLAC),
                    name=song.parts[stem.part].name,
                    activity=messages.activity(part_activity(song, stem.part)),
                    loudness_lufs=stem.loudness_lufs,
                    instrument_source=stem.source,
                )
