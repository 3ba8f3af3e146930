"""luthier.rendering.v1.RenderingService: each call is an action, so what was answered before is found, not computed.

A song's bytes go from the store to a worker process, as a hostile file costs it a second and a hundred megabytes, and
come back as facts and files. Inspection has processes of its own: it answers in milliseconds, while the others play.
"""

import importlib.metadata
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import grpc

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier.rendering.v1 import rendering_pb2_grpc
from luthier_kit.rpc import Checks, FailedPrecondition, Service, SettingsError
from luthier_kit.store import Action, Store, open_store
from luthier_kit.workers import Call, Reasons, Workers
from luthier_music.audio import SAMPLE_RATE_HZ
from luthier_music.instruments import instrument
from luthier_rendering.backends import BACKENDS
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.inspection import inspect_file
from luthier_rendering.midi import FAULTS
from luthier_rendering.render import Levels, RenderParameters, render_file, scratch_error
from luthier_rendering.settings import RenderingSettings
from luthier_rendering.smf import MidiLimits

INSPECT_VERSION: Final = "4"  # raise it whenever the same file would be described differently
RENDER_VERSION: Final = "4"  # raise it whenever the same song would sound or be measured differently
_INSPECTORS: Final = 2  # processes that inspect, at most
_INSPECTION_S: Final = 60.0  # the costliest file takes two seconds
_FILES_PER_INSPECTOR: Final = 5000  # then it is replaced
_INSPECTION_REASONS: Final = Reasons(
    "file", "INSPECTION_CRASHED", "INSPECTION_KILLED", "INSPECTION_TOO_SLOW", "INSPECTION_WORKER_NOT_STARTED"
)
_REASONS: Final = Reasons("song", "RENDERER_CRASHED", "RENDERER_KILLED", "RENDER_TOO_SLOW", "RENDER_WORKER_NOT_STARTED")
_FLAC: Final = "audio/flac"
_PACKAGED_LICENCE: Final = "TimGM6mb SoundFont: GPL-2.0-only"
_LEVELS: Final = ("stem_loudness_lufs", "stem_jitter_db", "mix_loudness_lufs")  # fields of Levels and of the request


class Rendering(rendering_pb2_grpc.RenderingServiceServicer):
    """Inspects and renders. Safe for calls from many threads."""

    def __init__(
        self,
        store: Store,
        inspectors: Workers,
        workers: Workers,
        config: BackendConfig,
        *,
        limits: MidiLimits,
        scratch: Path,
        default_backend: str,
    ) -> None:
        self._store, self._inspectors, self._workers, self._config = store, inspectors, workers, config
        self._limits, self._scratch, self._default_backend = limits, scratch, default_backend

    def InspectMidi(self, request: pb.InspectMidiRequest, _: grpc.ServicerContext) -> pb.InspectMidiResponse:
        """Facts, faults and fingerprint. InvalidRequest MIDI_* for a file that cannot be rendered."""
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)

        def compute() -> pb.InspectMidiResponse:
            with self._on_scratch("inspect-", data) as midi:
                # to its end also when the caller left: it takes less than to replace the process, and is stored
                found = self._inspectors.run(None, midi.parent, inspect_file, midi, self._limits)
            return pb.InspectMidiResponse(
                fingerprint=found.fingerprint,
                duration_s=found.duration_s,
                tracks=found.tracks,
                notes=found.notes,
                timeline=found.timeline,
                faults=[
                    pb.MidiFault(reason=reason, message=FAULTS[reason], count=count)
                    for reason, count in sorted(found.faults.items())
                    if count
                ],
                format=found.format,
                ticks_per_beat=found.ticks_per_beat,
            )

        action = Action("inspect", [request.midi.sha256], {"limits": self._limits.changed()}, version=INSPECT_VERSION)
        return self._store.actions.run(action, pb.InspectMidiResponse, compute)[0]

    def RenderSong(self, request: pb.RenderSongRequest, context: Call) -> pb.RenderSongResponse:
        """Stems, mix and timeline, or the record of having made them before."""
        levels = Levels(**{name: getattr(request, name) for name in _LEVELS if request.HasField(name)})
        backend = request.backend or self._default_backend
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.one_of("backend", backend, BACKENDS)
        checks.within("mix_loudness_lufs", levels.mix_loudness_lufs, -40, -6)
        checks.within("stem_loudness_lufs", levels.stem_loudness_lufs, -50, -10)
        checks.within("stem_jitter_db", levels.stem_jitter_db, 0, 12)
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)
        seed = request.seed if request.HasField("seed") else int(request.midi.sha256[:13], 16)  # 52 bits: exact in JSON
        parameters = RenderParameters(backend, seed, levels, request.mix_only)
        action = Action(
            "render",
            [request.midi.sha256],
            {
                **asdict(levels),
                "backend": backend,
                "mix_only": request.mix_only,
                "limits": self._limits.changed(),
            },
            seed,
            RENDER_VERSION,
            self._tools(backend),
            [] if self._config.soundfont else [_PACKAGED_LICENCE],
        )
        response, _ = self._store.actions.run(
            action, pb.RenderSongResponse, lambda: self._rendered(data, parameters, context)
        )
        response.mix_loudness_target_lufs = levels.mix_loudness_lufs  # not from the record: older ones lack it
        response.mix_only = request.mix_only
        return response

    def _rendered(self, data: bytes, parameters: RenderParameters, call: Call) -> pb.RenderSongResponse:
        """The song rendered by a worker process, its files stored."""
        began = time.thread_time()
        response = pb.RenderSongResponse(
            seed=parameters.seed,
            backend=parameters.backend,
            sample_rate_hz=SAMPLE_RATE_HZ,
            stem_loudness_lufs=parameters.levels.stem_loudness_lufs,
            stem_jitter_db=parameters.levels.stem_jitter_db,
        )
        with self._on_scratch("render-", data) as midi:
            out = midi.parent
            done = self._workers.run(call, out, render_file, midi, self._limits, self._config, parameters, out)
            response.timeline.CopyFrom(done.facts.timeline)
            response.fingerprint, result = done.facts.fingerprint, done.result
            response.mix.CopyFrom(self._store.blobs.put_file("mixes", result.mix, _FLAC))
            response.mix_loudness_lufs, response.mix_peak_dbfs = result.mix_loudness_lufs, result.mix_peak_dbfs
            for stem in result.stems:
                if stem.file:
                    response.stems.add(
                        audio=self._store.blobs.put_file("stems", stem.file, _FLAC),
                        name=done.names[stem.part],
                        activity=done.activities[stem.part],
                        loudness_lufs=stem.loudness_lufs,
                        instrument_source=stem.source,
                    )
        response.cpu_s = done.cpu_s + time.thread_time() - began
        return response

    @contextmanager
    def _on_scratch(self, prefix: str, data: bytes) -> Iterator[Path]:
        """A file in a folder of its own on scratch, gone afterwards. QuotaExceeded SCRATCH_FULL, Unavailable
        SCRATCH_FAILED."""
        with ExitStack() as opened:
            try:
                made = tempfile.TemporaryDirectory(prefix=prefix, dir=self._scratch, ignore_cleanup_errors=True)
                midi = Path(opened.enter_context(made)) / "song.mid"
                midi.write_bytes(data)
            except OSError as error:
                raise scratch_error(error) from error
            yield midi

    def _tools(self, backend: str) -> dict[str, str]:
        """Digests and versions of what decides the sound. Loads a SoundFont at most, never a plugin: workers do."""
        try:
            digests = BACKENDS[backend](self._config).digests()
        except BackendError as error:
            raise FailedPrecondition(str(error), reason="BACKEND_NOT_CONFIGURED") from error
        packages = ("tinysoundfont", "pedalboard") if backend == "vst3" else ("tinysoundfont",)
        return {**digests, **{name: importlib.metadata.version(name) for name in packages}}

    def ListInstruments(
        self, request: pb.ListInstrumentsRequest, _: grpc.ServicerContext
    ) -> pb.ListInstrumentsResponse:
        """What the back ends can play, and why something configured cannot be used."""
        checks = Checks()
        checks.one_of("backend", request.backend or self._default_backend, BACKENDS)
        checks.done()
        response = pb.ListInstrumentsResponse()
        for name in [request.backend] if request.backend else BACKENDS:
            if name == "vst3" and not self._config.vst3_path:
                continue
            try:
                backend = BACKENDS[name](self._config)
            except BackendError as error:
                response.unavailable.append(str(error))
                continue
            for one in backend.playables():
                response.instruments.add(
                    backend=one.backend,
                    instrument=instrument(one.program, is_drum=one.is_drum).name,
                    preset=one.preset,
                    digest=one.digest,
                    program=one.program,
                    is_drum=one.is_drum,
                )
            response.unavailable.extend(backend.faults())
        return response


def build(settings: RenderingSettings) -> Service:
    """The service as its settings say. SettingsError for the back end, LuthierError for the store."""
    config = settings.backends
    try:
        faults = BACKENDS[settings.backend](config).faults()
    except BackendError as error:
        raise SettingsError(f"LUTHIER_BACKEND={settings.backend}: {error}") from error
    for fault in faults:
        logging.getLogger(__name__).warning(fault)
    workers = Workers(
        settings.slots,
        _REASONS,
        max_job_s=settings.render_timeout_s,
        jobs_per_worker=settings.songs_per_worker,
        preload=("luthier_rendering.render",),
    )
    inspectors = Workers(
        min(_INSPECTORS, settings.slots),
        _INSPECTION_REASONS,
        max_job_s=_INSPECTION_S,
        jobs_per_worker=_FILES_PER_INSPECTOR,
        preload=("luthier_rendering.inspection",),
    )

    def start() -> None:
        inspectors.start()
        workers.start()

    def close() -> None:
        inspectors.close()
        workers.close()

    servicer = Rendering(
        open_store(settings),
        inspectors,
        workers,
        config,
        limits=settings.limits,
        scratch=settings.scratch,
        default_backend=settings.backend,
    )
    return Service(
        contract=pb.DESCRIPTOR.services_by_name["RenderingService"],
        servicer=servicer,
        light=[servicer.InspectMidi, servicer.ListInstruments],  # neither waits for a song that plays
        prepare=start,
        close=close,
    )
