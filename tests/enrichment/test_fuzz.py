"""Hostile requests to every RPC: the status of the table, a stable reason, and a field for what is invalid."""

from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import SongName
from luthier.enrichment.v1 import enrichment_pb2 as pb
from luthier_enrichment.__main__ import build
from tests.support.fuzz import attack
from tests.support.own_process import in_own_process

from .test_service import settings, sheet_ref


@pytest.mark.parametrize("per_class", [None, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(tmp_path: Path, per_class: int | None) -> None:
    own = settings(tmp_path)
    song = SongName(artist="Korp", title="Indigo")
    examples = {
        "EnrichSong": pb.EnrichSongRequest(
            song=song, path="Korp/Indigo.mid", providers=["path", "file"], sheet=sheet_ref(tmp_path)
        ),
        "ListProviders": pb.ListProvidersRequest(),
    }
    with in_own_process(build, own) as service:
        attack(service, pb.DESCRIPTOR.services_by_name["EnrichmentService"], examples, per_class)
