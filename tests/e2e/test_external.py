"""Recordings in several formats to an exported data set: four real services, the real command."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier.curation.v1 import curation_pb2 as curation
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from tests.conftest import Answer
from tests.system import System, started

SECONDS, TEMPO_BPM = 12.0, 120
TRIADS = {"C": (60, 64, 67), "A": (57, 61, 64), "E": (64, 68, 71)}
SHEET = """artist,title,tag,kind,audio_licence
Ada,Waltz,jazz,genre,CC0-1.0
Bob,March,rock,genre,
"""


def music(triad: str, rate_hz: int) -> np.ndarray:
    """(frames, 2): a struck chord on each beat, its third left and its fifth right."""
    time = np.arange(round(60 / TEMPO_BPM * rate_hz)) / rate_hz
    decay = np.exp(-6 * time) * np.minimum(1, time / 0.003)
    tones = [
        sum(np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * n * time) / n for n in (1, 2, 3)) for p in TRIADS[triad]
    ]
    beat = 0.15 * decay * np.stack([tones[0] + tones[1], tones[0] + tones[2]])
    return (np.tile(beat, round(SECONDS * TEMPO_BPM / 60)).T * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("external")
    with started(folder, "analysis", "enrichment", "prompting", "curation") as system:
        yield system


@pytest.fixture(scope="module")
def folder(own: System) -> Path:
    """Five songs in seven files: one song twice, one file that is no audio."""
    folder = own.folder / "tapes"
    for name, triad, rate_hz, subtype in (
        ("Ada/Waltz.wav", "C", 44_100, "PCM_16"), ("Ada/copy.flac", "C", 44_100, "PCM_16"),
        ("Bob/March.mp3", "A", 44_100, "MPEG_LAYER_III"), ("Cy/High.aiff", "E", 96_000, "PCM_24"),
        ("Cy/Low.ogg", "A", 22_050, "VORBIS"),
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = music(triad, rate_hz)  # as floats to MP3: findings/libsndfile-mp3-of-int16-is-noise.sh
        lossy = subtype.startswith(("MPEG", "VORBIS"))
        soundfile.write(folder / name, samples / 32768 if lossy else samples, rate_hz, subtype=subtype)
    soundfile.write(folder / "Cy/Mono.flac", music("E", 8000)[:, 0], 8000)
    (folder / "broken.m4a").write_bytes(b"no music")
    (folder / "Bob/March.txt").write_text("A rock song\nA rock song with a tuba at 60 BPM\n")
    (folder / "tags.csv").write_text(SHEET)
    return folder


@pytest.fixture(scope="module")
def added(own: System, folder: Path) -> Answer:
    return own.luthier("add-audio", str(folder), "--collection", "tapes", "--licence", "CC-BY-4.0")


@pytest.fixture(scope="module")
def clips(own: System, added: Answer) -> dict[tuple[str, str], curation.CuratedClip]:
    """The clips by artist and title."""
    stub = CurationServiceStub(own.channel("curation"))
    listed = stub.ListClips(
        curation.ListClipsRequest(filter=curation.ClipFilter(collection="tapes", subset="external"))
    )
    assert listed.total == len(listed.clips)
    return {(clip.source.song.artist, clip.source.song.title): clip for clip in listed.clips}


def test_every_file_is_accounted_for(added: Answer) -> None:
    assert (added["files"], added["songs"], added["duplicates"], added["clips"]) == (7, 5, 1, 5)
    assert [(failure["path"], failure["reason"]) for failure in added["failures"]] == [("broken.m4a", "INVALID_AUDIO")]
    assert added["audio_s"] == pytest.approx(5 * SECONDS, abs=0.5)
    assert set(added["cpu_s"]) == {"decode", "cut"}


def test_a_second_run_finds_everything_done(own: System, folder: Path, added: Answer) -> None:
    again = own.luthier("add-audio", str(folder), "--collection", "tapes", "--licence", "CC-BY-4.0")
    assert (again["computed"], again["clips"]) == (0, 5)


def test_facts_are_of_the_audio_and_nothing_is_said_of_voices(
    clips: dict[tuple[str, str], curation.CuratedClip],
) -> None:
    assert set(clips) == {("Ada", "Waltz"), ("Bob", "March"), ("Cy", "High"), ("Cy", "Low"), ("Cy", "Mono")}
    for (_, title), clip in clips.items():
        assert clip.facts.key.tonic == {"Waltz": "C", "March": "A", "High": "E", "Low": "A", "Mono": "E"}[title]
        assert clip.facts.tempo.tempo_bpm in (0, pytest.approx(TEMPO_BPM, rel=0.02))  # unsure is unknown
        assert clip.facts.HasField("voice")
        assert clip.facts.voice.presence == 0
        assert not clip.facts.instruments
        assert not [prompt.text for prompt in clip.prompts if "instrumental" in prompt.text.lower()]


def test_a_caption_is_checked_against_the_clip(clips: dict[tuple[str, str], curation.CuratedClip]) -> None:
    prompts = {prompt.text: prompt for prompt in clips["Bob", "March"].prompts if prompt.composer == "file"}
    assert prompts["A rock song"].check.passed
    assert {one.subject for one in prompts["A rock song with a tuba at 60 BPM"].check.disagreements} >= {"instrument"}


def test_the_data_set_has_the_subset_and_the_licence_of_each_recording(
    own: System, clips: dict[tuple[str, str], curation.CuratedClip]
) -> None:
    own.luthier("review", "--collection", "tapes", "--accept", "checked", "--as", "test")
    own.luthier("export", "--collection", "tapes", "--out", str(own.folder / "dataset"))
    rows = json.loads((own.folder / "dataset/manifest.json").read_text())["rows"]
    assert {row["source"]["subset"] for row in rows} == {"external"}
    licences = {row["source"]["song"]["title"]: row["lineage"]["licences"][0] for row in rows}  # then those of tags
    assert licences == {  # March is missing: its caption names a tuba, so that a person has to look
        "Waltz": "CC0-1.0", "High": "CC-BY-4.0", "Low": "CC-BY-4.0", "Mono": "CC-BY-4.0",
    }  # fmt: skip
    card = (own.folder / "dataset/README.md").read_text()
    assert re.search(r"^\| `?external`? \| 4 \|", card, re.MULTILINE), card


def test_a_clip_is_traced_to_its_recording_and_taken_down_with_it(
    own: System, folder: Path, clips: dict[tuple[str, str], curation.CuratedClip]
) -> None:
    low = clips["Cy", "Low"]
    behind = own.luthier("lineage", low.audio.key)
    assert [(node["path"], node["key"].split("/")[0]) for node in behind["nodes"] if node.get("path")] == [
        ("Cy/Low.ogg", "audio")
    ]
    found = own.luthier("takedown", str(folder / "Cy/Low.ogg"), "--reason", "asked", "--dry-run")
    assert found["clips"] == [low.clip_id]
