"""Hostile requests to every RPC, and hostile sheets: a status of the table, a stable reason, and a field."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import SongName
from luthier.enrichment.v1 import enrichment_pb2 as pb
from luthier_enrichment.__main__ import build
from luthier_kit.store import open_store
from tests.support.fuzz import attack, attacking
from tests.support.hostile_bytes import absurd_json, damaged
from tests.support.own_process import in_own_process

from .test_service import SHEET, settings, sheet_ref

CONTRACT = pb.DESCRIPTOR.services_by_name["EnrichmentService"]
ROWS = [
    {"artist": "Korp", "title": "Indigo", "tag": "Hip-Hop", "kind": "genre", "weight": 100, "source": "book"},
    {"artist": "Korp", "title": "Indigo", "tag": "chill", "licence": "CC0-1.0"},
]
SHEETS: dict[str, Callable[[random.Random], bytes]] = {
    "damaged CSV": lambda chance: damaged(SHEET.encode(), chance),
    "damaged JSON": lambda chance: damaged(json.dumps(ROWS).encode(), chance),
    "absurd JSON": lambda chance: absurd_json(chance.choice((ROWS, {"rows": ROWS})), chance),
}


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(tmp_path: Path, per_class: int) -> None:
    own = settings(tmp_path)
    song = SongName(artist="Korp", title="Indigo")
    examples = {
        "EnrichSong": pb.EnrichSongRequest(
            song=song, path="Korp/Indigo.mid", providers=["path", "file"], sheet=sheet_ref(tmp_path)
        ),
        "ListProviders": pb.ListProvidersRequest(),
    }
    with in_own_process(build, own) as service:
        attack(service, CONTRACT, examples, per_class)


@pytest.mark.parametrize("per_class", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_sheets_are_read_or_refused(tmp_path: Path, per_class: int) -> None:
    store = open_store(settings(tmp_path))

    def request(sheet: bytes) -> pb.EnrichSongRequest:
        ref = store.blobs.put_bytes("sheets", sheet, "csv", "text/csv")
        return pb.EnrichSongRequest(path="Korp/Indigo.mid", sheet=ref)

    with in_own_process(build, settings(tmp_path)) as service, attacking(service, "hostile sheets") as own:
        method = CONTRACT.methods_by_name["EnrichSong"]
        own.warm_up([(method, request(SHEET.encode()))])
        for title, make in SHEETS.items():
            own.files(method, title, make, per_class, request)
