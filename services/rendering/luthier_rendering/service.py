"""luthier.rendering.v1.RenderingService: each call is an action, so what was answered before is found, not computed.

A song's bytes go from the store to a worker process, as a hostile file costs it a second and a hundred megabytes, and
come back as facts and files. Inspection has processes of its own: it answers in milliseconds, while the others play.
"""

import hashlib
import importlib.metadata
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict

from luthier.common.v1.common_pb2 import FACT_SOURCE_NOTES, MODE_MAJOR, MODE_MINOR, ArtifactRef, Span, Variation
from luthier.rendering.v1 import rendering_pb2 as pb
from luthier.rendering.v1 import rendering_pb2_grpc
from luthier_kit.rpc import Checks, Configuration, FailedPrecondition, NotFound, Service, SettingsError
from luthier_kit.store import Action, Store, digest_of, open_store
from luthier_kit.workers import Call, Reasons, Workers
from luthier_music.audio import SAMPLE_RATE_HZ
from luthier_music.instruments import instrument
from luthier_music.keys import NOTE_KEY_ESTIMATOR
from luthier_rendering.backends import BACKENDS, OLDER_NAMES, effects
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.backends.instrument_map import MAX_EFFECTS, read_map
from luthier_rendering.backends.mapped import MAP
from luthier_rendering.backends.soundfont import SOUNDFONT
from luthier_rendering.backends.vst3 import MAX_EXPONENT, VST3
from luthier_rendering.humanise import MAX_TIMING_MS, MAX_VELOCITY, Humanise
from luthier_rendering.inspection import inspect_file
from luthier_rendering.midi import FAULTS
from luthier_rendering.render import (
    Levels,
    RenderParameters,
    render_file,
    render_stem_file,
    scratch_error,
)
from luthier_rendering.settings import RenderingSettings
from luthier_rendering.smf import MidiLimits
from luthier_rendering.solos import Passage, PassageLengths, find_solos_file
from luthier_rendering.variation import MAX_FACTOR, MAX_TRANSPOSE, MIN_FACTOR

INSPECT_VERSION: Final = "5"  # raise it whenever the same file would be described differently
RENDER_VERSION: Final = "5"  # raise it whenever the same song would sound or be measured differently
SOLOS_VERSION: Final = "1"  # raise it whenever other passages of the same song would be found
_INSPECTORS: Final = 2  # processes that inspect, at most
_INSPECTION_S: Final = 60.0  # the costliest file takes two seconds
_FILES_PER_INSPECTOR: Final = 5000  # then it is replaced
_INSPECTION_REASONS: Final = Reasons(
    "file", "INSPECTION_CRASHED", "INSPECTION_KILLED", "INSPECTION_TOO_SLOW", "INSPECTION_WORKER_NOT_STARTED"
)
_REASONS: Final = Reasons("song", "RENDERER_CRASHED", "RENDERER_KILLED", "RENDER_TOO_SLOW", "RENDER_WORKER_NOT_STARTED")
_MODES: Final = {"major": MODE_MAJOR, "minor": MODE_MINOR}
_FLAC: Final = "audio/flac"
_MAX_GAIN: Final = 1e12  # linear, of a record: more than 180 dB, the most that a level is raised by
_MAX_VALUES: Final = 4096  # parameters of a plugin in a record
_MAX_REDRAWS: Final = 64
_MAX_NAME: Final = 400  # characters: a file name and what is said of it
_MAX_VARIATION: Final = 1000  # of its number
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

    @cached_property
    def configuration(self) -> Configuration:
        """What decides the answers beside the files. SoundFonts, plugins and maps are read once a process."""
        sounds: dict[str, object] = {}
        for name in BACKENDS:
            try:
                sounds[name] = self._sounds(name)._asdict() | {"humanise": asdict(self._sounds(name).humanise)}
            except FailedPrecondition as error:
                sounds[name] = str(error)
        return Configuration(
            digest_of(
                {
                    "versions": [INSPECT_VERSION, RENDER_VERSION, SOLOS_VERSION],
                    "levels": asdict(Levels()),
                    "lengths": asdict(PassageLengths()),
                    "limits": self._limits.changed(),
                    "backend": self._default_backend,
                    "sounds": sounds,
                }
            )
        )

    def InspectMidi(self, request: pb.InspectMidiRequest, _: grpc.ServicerContext) -> pb.InspectMidiResponse:
        """Facts, faults and fingerprint. InvalidRequest MIDI_* for a file that cannot be rendered."""
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)

        def compute() -> pb.InspectMidiResponse:
            with self._on_scratch("inspect-", data) as midi:
                # to its end also when the caller left: it takes less than to replace the process, and is stored
                inspected = self._inspectors.run(None, midi.parent, inspect_file, midi, self._limits)
            found = inspected.facts
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
                parts=inspected.parts,
                key=inspected.key,
                signature=inspected.signature,
            )

        action = Action("inspect", [request.midi.sha256], {"limits": self._limits.changed()}, version=INSPECT_VERSION)
        return self._store.actions.run(action, pb.InspectMidiResponse, compute)[0]

    def RenderSong(self, request: pb.RenderSongRequest, context: Call) -> pb.RenderSongResponse:
        """Stems, mix and timeline, or the record of having made them before."""
        levels = Levels(**{name: getattr(request, name) for name in _LEVELS if request.HasField(name)})
        backend = OLDER_NAMES.get(request.backend, request.backend) or self._default_backend
        checks = Checks()
        checks.artifact("midi", request.midi)
        checks.one_of("backend", backend, BACKENDS)
        checks.within("mix_loudness_lufs", levels.mix_loudness_lufs, -40, -6)
        checks.within("stem_loudness_lufs", levels.stem_loudness_lufs, -50, -10)
        checks.within("stem_jitter_db", levels.stem_jitter_db, 0, 12)
        checks.within("humanise_timing_ms", request.humanise_timing_ms, 0, MAX_TIMING_MS)
        checks.within("humanise_velocity", request.humanise_velocity, 0, MAX_VELOCITY)
        variation = _variation(checks, request)
        checks.that(bool(variation) or not request.other_instruments, "other_instruments", "must come with a variation")
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)
        seed = request.seed if request.HasField("seed") else _seed(request.midi.sha256, variation)
        tools, licences, humanise = self._sounds(backend)
        if request.HasField("humanise_timing_ms"):
            humanise = replace(humanise, timing_ms=request.humanise_timing_ms)
        if request.HasField("humanise_velocity"):
            humanise = replace(humanise, velocity=request.humanise_velocity)
        parameters = RenderParameters(
            backend, seed, levels, request.mix_only, humanise, variation, request.other_instruments
        )
        varied: dict[str, object] = {}  # songs as written keep the records that they had before there were variations
        if variation:
            varied = {"variation": MessageToDict(variation), "other_instruments": request.other_instruments}
        action = Action(
            "render",
            [request.midi.sha256],
            {
                **asdict(levels),
                "backend": backend,
                "mix_only": request.mix_only,
                "limits": self._limits.changed(),
                "humanise": asdict(humanise),
                **varied,
            },
            seed,
            RENDER_VERSION,
            tools,
            licences,
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
            humanise_timing_ms=parameters.humanise.timing_ms,
            humanise_velocity=parameters.humanise.velocity,
        )
        with self._on_scratch("render-", data) as midi:
            out = midi.parent
            done = self._workers.run(call, out, render_file, midi, self._limits, self._config, parameters, out)
            response.timeline.CopyFrom(done.facts.timeline)
            response.fingerprint, result = done.facts.fingerprint, done.result
            if done.variation:
                response.variation.CopyFrom(done.variation)
            response.mix.CopyFrom(self._store.blobs.move_file("mixes", result.mix, _FLAC))
            response.mix_loudness_lufs, response.mix_peak_dbfs = result.mix_loudness_lufs, result.mix_peak_dbfs
            files = [stem.file for stem in result.stems if stem.file]
            stored = iter(self._store.blobs.move_files("stems", files, _FLAC))
            for stem in result.stems:
                if stem.file:
                    response.stems.add(
                        audio=next(stored),
                        name=done.names[stem.part],
                        activity=done.activities[stem.part],
                        loudness_lufs=stem.loudness_lufs,
                        instrument_source=stem.source,
                        sound=stem.sound,
                    )
                else:
                    response.sounds.append(stem.sound)
        response.cpu_s = done.cpu_s + time.thread_time() - began
        return response

    def RenderStem(self, request: pb.RenderStemRequest, context: Call) -> pb.RenderStemResponse:
        """One stem again from its record, or the record of having made it before."""
        checks = Checks()
        checks.artifact("midi", request.midi)
        _check_sound(checks, request.sound)
        variation = _variation(checks, request)
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)
        sound = pb.Sound()
        sound.CopyFrom(request.sound)
        sound.ClearField("redraws")  # what does not change how it sounds is no part of the question
        sound.ClearField("repeatable")
        sound.ClearField("not_repeatable")
        backends = [name for name in BACKENDS if name == SOUNDFONT or self._config.maps]
        sounds = [self._sounds(name) for name in backends]
        action = Action(
            "render-stem",
            [request.midi.sha256],
            {
                "sound": MessageToDict(sound),
                "limits": self._limits.changed(),
                **({"variation": MessageToDict(variation)} if variation else {}),
            },
            version=RENDER_VERSION,
            tools={name: digest for one in sounds for name, digest in one.tools.items()},
            licences=sorted({licence for one in sounds for licence in one.licences}),
        )

        def compute() -> pb.RenderStemResponse:
            began = time.thread_time()
            with self._on_scratch("render-", data) as midi:
                out = midi.parent
                stem, cpu_s = self._workers.run(
                    context, out, render_stem_file, midi, self._limits, self._config, backends, sound, variation, out
                )
                audio = self._store.blobs.move_file("stems", stem, _FLAC)
            return pb.RenderStemResponse(audio=audio, cpu_s=cpu_s + time.thread_time() - began)

        return self._store.actions.run(action, pb.RenderStemResponse, compute)[0]

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

    def _sounds(self, backend: str) -> "_Sounds":
        """What decides the sound of a back end. Reads the index of a SoundFont at most, never loads a plugin: workers
        do."""
        try:
            opened = BACKENDS[backend](self._config)
        except BackendError as error:
            raise FailedPrecondition(str(error), reason="BACKEND_NOT_CONFIGURED") from error
        packages = ("tinysoundfont", "pedalboard") if backend == MAP else ("tinysoundfont",)
        versions = {name: importlib.metadata.version(name) for name in packages}
        return _Sounds({**opened.digests(), **versions}, opened.licences(), opened.humanise)

    def FindSolos(self, request: pb.FindSolosRequest, _: grpc.ServicerContext) -> pb.FindSolosResponse:
        """Passages of single parts by the notes. InvalidRequest MIDI_* for a file that cannot be rendered."""
        checks = Checks()
        checks.artifact("midi", request.midi)
        lengths = _lengths(request, checks)
        checks.done()
        data = self._store.blobs.read(request.midi, self._limits.size_bytes)

        def compute() -> pb.FindSolosResponse:
            with self._on_scratch("inspect-", data) as midi:
                found = self._inspectors.run(None, midi.parent, find_solos_file, midi, self._limits, lengths)
            return pb.FindSolosResponse(
                parts=[
                    pb.SoloPart(part=one.part, activity=one.activity, passages=map(_passage_message, one.passages))
                    for one in found
                ],
                **asdict(lengths),
            )

        parameters = {**asdict(lengths), "limits": self._limits.changed()}
        action = Action("solos", [request.midi.sha256], parameters, version=SOLOS_VERSION)
        return self._store.actions.run(action, pb.FindSolosResponse, compute)[0]

    def ListInstruments(
        self, request: pb.ListInstrumentsRequest, _: grpc.ServicerContext
    ) -> pb.ListInstrumentsResponse:
        """What the back ends can play, and why something configured cannot be used."""
        checks = Checks()
        wanted = OLDER_NAMES.get(request.backend, request.backend)
        checks.one_of("backend", wanted or self._default_backend, BACKENDS)
        checks.done()
        response = pb.ListInstrumentsResponse()
        for name in [wanted] if wanted else BACKENDS:
            if name == MAP and not self._config.maps:
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


def _lengths(request: pb.FindSolosRequest, checks: Checks) -> PassageLengths:
    """Absent lengths are the defaults, or the wanted length where that lies beyond them."""
    default = PassageLengths()
    target_s = request.target_s if request.HasField("target_s") else default.target_s
    min_s = request.min_s if request.HasField("min_s") else min(default.min_s, target_s)
    max_s = request.max_s if request.HasField("max_s") else max(default.max_s, target_s)
    if checks.within("target_s", target_s, 2, 600):
        checks.within("min_s", min_s, 1, target_s)
        checks.within("max_s", max_s, target_s, 600)
    return PassageLengths(target_s, min_s, max_s)


def _passage_message(found: Passage) -> pb.SoloPassage:
    message = pb.SoloPassage(
        span=Span(start_s=found.start_s, end_s=found.end_s),
        sounding_share=found.sounding_share,
        longest_rest_s=found.longest_rest_s,
        onsets=found.onsets,
        tempo_bpm=found.tempo_bpm,
        first_bar=found.first_bar,
        pitch_class_weights=np.round(found.weights, 4).ravel().tolist(),  # half of the record's bytes
    )
    if found.key:
        message.key.tonic, message.key.mode = found.key.key.tonic_name, _MODES[found.key.key.mode]
        message.key.strength = min(1.0, found.key.margin)
        message.key.source, message.key.estimator = FACT_SOURCE_NOTES, NOTE_KEY_ESTIMATOR
    return message


class _Sounds(NamedTuple):
    """Digests and versions of what decides a back end's sound, licences, and how it humanises by itself."""

    tools: dict[str, str]
    licences: list[str]
    humanise: Humanise


def _seed(midi_sha256: str, variation: Variation | None) -> int:
    """What a request that names no seed draws by: 52 bits, which are exact in JSON."""
    digest = hashlib.sha256(f"{midi_sha256}/{variation.number}".encode()).hexdigest() if variation else midi_sha256
    return int(digest[:13], 16)


def _variation(checks: Checks, request: pb.RenderSongRequest | pb.RenderStemRequest) -> Variation | None:
    """The variation of a request, checked; None for a song as written."""
    if not request.HasField("variation"):
        return None
    variation = request.variation
    checks.within("variation.number", variation.number, 1, _MAX_VARIATION)
    checks.within("variation.transpose_semitones", variation.transpose_semitones, -MAX_TRANSPOSE, MAX_TRANSPOSE)
    checks.within("variation.tempo_factor", variation.tempo_factor or 1.0, MIN_FACTOR, MAX_FACTOR)
    for field, others in (("variation.programs", variation.programs), ("variation.kits", variation.kits)):
        fits = checks.count(field, others, 0, 128)
        for was, now in others.items() if fits else ():
            checks.within(field, was, 0, 127)
            checks.within(f"{field}[{was}]", now, 0, 127)
    asked = Variation()
    asked.CopyFrom(variation)
    asked.tempo_factor = asked.tempo_factor or 1.0
    asked.ClearField("octaves")  # follows from the rest
    return asked


def _check_sound(checks: Checks, sound: pb.Sound) -> None:
    """Whether a record is one that RenderSong could have written, by its bounds."""
    checks.within("sound.part", sound.part, 0, 1 << 20)
    checks.one_of("sound.backend", sound.backend, (SOUNDFONT, VST3))
    checks.within("sound.bank", sound.bank, 0, 128)
    checks.within("sound.program", sound.program, 0, 127)
    for field in ("source", "digest", "preset", "preset_digest", "not_repeatable"):
        checks.text(f"sound.{field}", getattr(sound, field), max_chars=_MAX_NAME)
    for field, redraw in checks.items("sound.redraws", sound.redraws, 0, _MAX_REDRAWS):
        checks.text(f"{field}.source", redraw.source, max_chars=_MAX_NAME)
        checks.text(f"{field}.reason", redraw.reason, max_chars=_MAX_NAME)
    parameters = sound.parameters if checks.count("sound.parameters", sound.parameters, 0, _MAX_VALUES) else {}
    for name, value in parameters.items():
        checks.text("sound.parameters", name, max_chars=_MAX_NAME)
        checks.within(f"sound.parameters[{name[:80]}]", value, 0, 1)
    checks.within("sound.velocity_exponent", sound.velocity_exponent, 0, MAX_EXPONENT)
    checks.within("sound.stem_gain", sound.stem_gain, 0, _MAX_GAIN)
    checks.within("sound.mix_gain", sound.mix_gain, 0, _MAX_GAIN)
    checks.within("sound.effects_gain", sound.effects_gain, 0, _MAX_GAIN)
    checks.within("sound.humanise_timing_ms", sound.humanise_timing_ms, 0, MAX_TIMING_MS)
    checks.within("sound.humanise_velocity", sound.humanise_velocity, 0, MAX_VELOCITY)
    rooms = [("sound.room", sound.room)] if sound.HasField("room") else []
    for field, effect in [*rooms, *checks.items("sound.effects", sound.effects, 0, MAX_EFFECTS)]:
        for fault in effects.faults(effect):
            checks.that(False, field, fault)


def _fetch_soundfonts(store: Store, config: BackendConfig) -> None:
    """SoundFonts of the map that lie in the store, copied to scratch. BackendError for a map that makes no sense,
    LuthierError when one is not there."""
    if not config.instrument_map:
        return
    for font in read_map(config.instrument_map).fonts.values():
        if font.artifact:
            sha256 = Path(font.artifact).stem
            store.blobs.fetch(ArtifactRef(key=font.artifact, sha256=sha256), Path(config.fetched), read_only=True)


def build(settings: RenderingSettings) -> Service:
    """The service as its settings say. SettingsError for the back end, LuthierError for the store."""
    config, store = settings.backends, open_store(settings)
    default = OLDER_NAMES.get(settings.backend, settings.backend)
    try:
        _fetch_soundfonts(store, config)
        faults = [
            fault
            for name in ({default, MAP} if config.maps else {default})
            for fault in BACKENDS[name](config).faults()
        ]
    except (BackendError, NotFound) as error:
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
        preload=("luthier_rendering.inspection", "luthier_rendering.solos"),
    )

    def start() -> None:
        inspectors.start()
        workers.start()

    def close() -> None:
        inspectors.close()
        workers.close()

    servicer = Rendering(
        store,
        inspectors,
        workers,
        config,
        limits=settings.limits,
        scratch=settings.scratch,
        default_backend=default,
    )
    store.actions.configuration = servicer.configuration.digest
    return Service(
        contract=pb.DESCRIPTOR.services_by_name["RenderingService"],
        servicer=servicer,
        light=[servicer.InspectMidi, servicer.FindSolos, servicer.ListInstruments],  # none waits for a song that plays
        prepare=start,
        close=close,
        configuration=servicer.configuration,
    )
