"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.store import Store
from luthier_rendering.service import build
from luthier_rendering.settings import RenderingSettings
from tests.support.fuzz import attack
from tests.support.own_process import in_own_process

from .test_service import SONG, settings, store

__all__ = ["settings", "store"]


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(settings: RenderingSettings, store: Store, per_class: int | None) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    examples = {
        "InspectMidi": pb.InspectMidiRequest(midi=midi),
        "RenderSong": pb.RenderSongRequest(midi=midi),
        "ListInstruments": pb.ListInstrumentsRequest(),
    }
    with in_own_process(build, settings) as service:
        attack(service, pb.DESCRIPTOR.services_by_name["RenderingService"], examples, per_class)
