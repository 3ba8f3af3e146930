"""Hostile requests to every RPC, and hostile MIDI files: a status of the table, a stable reason, and a field."""

from dataclasses import replace

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef, Variation
from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.store import Store
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.backends.soundfont import open_backend
from luthier_rendering.service import build
from luthier_rendering.settings import RenderingSettings
from tests.support.fuzz import attack, attacking
from tests.support.own_process import in_own_process

from .hostile_midi import CLASSES
from .test_service import SONG, settings, store

__all__ = ["settings", "store"]
CONTRACT = pb.DESCRIPTOR.services_by_name["RenderingService"]
INSPECT, RENDER = CONTRACT.methods_by_name["InspectMidi"], CONTRACT.methods_by_name["RenderSong"]
SOLOS = CONTRACT.methods_by_name["FindSolos"]
SOUND = pb.Sound(
    backend="soundfont",
    source="TimGM6mb.sf2",
    digest=open_backend(BackendConfig()).font.digest,
    program=73,
    effects_gain=1.0,
    effects=[pb.Effect(name="distortion", values={"drive_db": 6.0})],
    room=pb.Effect(name="bitcrush", values={"bit_depth": 12.0}),
    stem_gain=0.1,
    mix_gain=0.5,
    seed=1,
    humanise_timing_ms=5.0,
    redraws=[pb.Redraw(source="mda Piano", reason="silent", count=1)],
)
VARIATION = Variation(
    number=1, transpose_semitones=2, tempo_factor=1.1, programs={73: 74}, kits={0: 8}, octaves={73: 1}
)
MAX_SONG_S = 20.0
CPU_S_OF_RENDERING = 40.0
"""Work takes its time: at most so much for MAX_SONG_S of up to 96 parts."""


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(settings: RenderingSettings, store: Store, per_class: int) -> None:
    midi = put(store, SONG)
    examples = {
        "InspectMidi": pb.InspectMidiRequest(midi=midi),
        "RenderSong": pb.RenderSongRequest(midi=midi, variation=VARIATION, other_instruments=True),
        "RenderStem": pb.RenderStemRequest(midi=midi, sound=SOUND, variation=VARIATION),
        "FindSolos": pb.FindSolosRequest(midi=midi, target_s=2.0, min_s=1.0),
        "ListInstruments": pb.ListInstrumentsRequest(),
    }
    with in_own_process(build, settings) as service:
        attack(service, CONTRACT, examples, per_class)


@pytest.mark.parametrize("per_class", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_files_are_inspected_or_refused(settings: RenderingSettings, store: Store, per_class: int) -> None:
    with in_own_process(build, settings) as service, attacking(service, "InspectMidi of hostile files") as own:
        own.warm_up([(INSPECT, pb.InspectMidiRequest(midi=put(store, SONG)))])
        for title, make in CLASSES.items():
            count = per_class // 10 if title == "large" else per_class  # two megabytes each
            own.files(INSPECT, title, make, count, lambda data: pb.InspectMidiRequest(midi=put(store, data)))


@pytest.mark.parametrize("per_class", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_files_are_searched_for_solos_or_refused(
    settings: RenderingSettings, store: Store, per_class: int
) -> None:
    def ask(data: bytes) -> pb.FindSolosRequest:
        return pb.FindSolosRequest(midi=put(store, data), target_s=2.0, min_s=1.0)  # the more passages, the more work

    with in_own_process(build, settings) as service, attacking(service, "FindSolos in hostile files") as own:
        own.warm_up([(SOLOS, ask(SONG))])
        for title, make in CLASSES.items():
            own.files(SOLOS, title, make, per_class // 10 if title == "large" else per_class, ask)


@pytest.mark.parametrize("per_class", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_hostile_files_are_rendered_or_refused(settings: RenderingSettings, store: Store, per_class: int) -> None:
    short = replace(settings, max_song_s=MAX_SONG_S, songs_per_worker=100_000)
    with in_own_process(build, short) as service, attacking(service, "RenderSong of hostile files") as own:
        own.warm_up([(RENDER, pb.RenderSongRequest(midi=put(store, SONG)))])
        for title in ("damaged", "shifted", "any events"):  # of which many are songs
            make, cpu_s = CLASSES[title], CPU_S_OF_RENDERING
            own.files(RENDER, title, make, per_class, lambda data: pb.RenderSongRequest(midi=put(store, data)), cpu_s)


def put(store: Store, data: bytes) -> ArtifactRef:
    return store.blobs.put_bytes("midi", data, "mid", "audio/midi")
