"""Clips as the pipeline would send them."""

import hashlib
from pathlib import Path

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_kit.store import Store

PROMPT = "A calm rock song with piano and drums in C major at 120 BPM"


def fingerprint(song: object) -> str:
    """A song's fingerprint."""
    return hashlib.sha256(f"song {song}".encode()).hexdigest()


def clip(
    store: Store,
    audio: Path | bytes = b"fLaC 1",
    *,
    song: object = 1,
    start_s: float = 0.0,
    prompts: tuple[str, ...] = (PROMPT,),
    passed: bool = True,
    instruments: tuple[str, ...] = ("Acoustic Grand Piano", "Drums"),
    tempo_bpm: float = 120.0,
    tempo: common.TempoFact | None = None,
    artist: str = "The Band",
    title: str = "",
    genre: str = "rock",
) -> pb.NewClip:
    """A two-second clip with facts, a tag and checked prompts."""
    if isinstance(audio, bytes):
        ref = store.blobs.put_bytes("clips", audio, "flac", "audio/flac")
    else:
        ref = store.blobs.put_file("clips", audio, media_type="audio/flac")
    families = {"Drums": "Drums", "Acoustic Grand Piano": "Piano", "Distortion Guitar": "Guitar"}
    return pb.NewClip(
        source=common.ClipSource(
            song_fingerprint=fingerprint(song),
            span=common.Span(start_s=start_s, end_s=start_s + 2),
            song=common.SongName(artist=artist, title=title or f"Song {song}"),
        ),
        audio=ref,
        facts=common.ClipFacts(
            duration_s=2.0,
            tempo=tempo or common.TempoFact(tempo_bpm=tempo_bpm, source=common.FACT_SOURCE_TEMPO_MAP),
            key=common.KeyFact(tonic="C", mode=common.MODE_MAJOR, source=common.FACT_SOURCE_NOTES),
            instruments=[
                common.InstrumentFact(instrument=name, family=families.get(name, "Bass"), share=0.5)
                for name in instruments
            ],
            loudness_lufs=-18.5,
        ),
        tags=[common.Tag(text=genre, kind="genre", weight=1.0, source="file", licence="CC0-1.0")],
        prompts=[
            common.Prompt(text=text, composer="grammar", check=common.PromptCheck(passed=passed)) for text in prompts
        ],
        lineage=common.Lineage(inputs=["a" * 64], versions={"rendering": "1"}, seed=2**63, licences=["MIT"]),
    )
