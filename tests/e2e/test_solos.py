"""Solo clips beside the mixes, through real processes; their instruments are those that the songbook composed."""

import json
from pathlib import Path

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.conftest import Answer
from tests.system import SONGS, System

RUN = ("--collection", "solos", "--subsets", "polyphonic,monophonic", "--solo-minutes", "0.5", "--prompts", "1")


@pytest.fixture(scope="module")
def made(system: System, folder: Path, ran: Answer) -> Answer:
    """A run into a collection of its own; the songs are rendered already."""
    return system.luthier("run", str(folder), *RUN)


@pytest.fixture(scope="module")
def solos(system: System, made: Answer) -> list[curation.CuratedClip]:
    stub = CurationServiceStub(system.channel("curation"))
    which = curation.ClipFilter(collection="solos", subset="monophonic")
    return list(stub.ListClips(curation.ListClipsRequest(filter=which, page_size=500)).clips)


def test_solos_are_one_true_instrument_alone(folder: Path, solos: list[curation.CuratedClip]) -> None:
    by_title = {song["title"].lower(): song for song in json.loads((folder / "truth.json").read_text())}
    assert solos
    for clip in solos:
        played = {instrument["name"] for instrument in by_title[clip.source.song.title.lower()]["instruments"]}
        assert {fact.instrument for fact in clip.facts.instruments} <= played
        assert (len(clip.facts.instruments), clip.facts.solo, clip.source.HasField("part")) == (1, True, True)
        assert all(prompt.check.passed for prompt in clip.prompts)


def test_the_same_run_again_chooses_the_same(system: System, folder: Path, made: Answer) -> None:
    again = system.luthier("run", str(folder), *RUN)
    assert (again["computed"], again["clips"], again["solo_s"]) == (0, made["clips"], made["solo_s"])
    assert made["rendered"] == SONGS


def test_both_subsets_go_into_one_data_set_and_its_card(
    system: System, solos: list[curation.CuratedClip], tmp_path: Path
) -> None:
    system.luthier("review", "--collection", "solos", "--accept", "checked")
    system.luthier("export", "--collection", "solos", "--out", str(tmp_path / "solos"))
    rows = [line.split(" | ")[:2] for line in (tmp_path / "solos/README.md").read_text().splitlines()]
    assert ["| monophonic", str(len(solos))] in rows
    assert any(row[0] == "| polyphonic" for row in rows)
