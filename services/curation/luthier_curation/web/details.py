"""What a person looks at when they look closely at a clip: who says what of it, its beats, stems and lineage."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import BadPassage
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse, Stem
from luthier_curation.differences import key_difference, tempo_difference
from luthier_curation.rendered import Beats, beats_of, rendering_of
from luthier_curation.tables import ClipRow
from luthier_curation.web.views import key_label, source_label, tempo_label
from luthier_kit.store import Store

OF_NOTES = (common.FACT_SOURCE_NOTES, common.FACT_SOURCE_TEMPO_MAP)
NOTHING = "–"
"""What stands where nobody says anything."""


@dataclass(frozen=True)
class Comparison:
    """A fact as it holds now, as the notes and the tempo map have it, and as the audio was estimated; `differs` says in
    words what does not agree, empty where all who say something agree."""

    name: str
    used: str
    source: str
    notes: str
    estimated: str
    differs: str


@dataclass(frozen=True)
class StemView:
    """A stem: its part of the song, what plays, and how loud it is in the mix."""

    part: int
    name: str
    instrument: str
    loudness: str
    audio_tag: str


@dataclass(frozen=True)
class DetailsView:
    """All that the template of the details shows; `origins` are lines of lineage: what, and which."""

    clip_id: str
    audio_tag: str
    duration_s: float
    comparisons: list[Comparison]
    beats: Beats
    stems: list[StemView]
    origins: list[tuple[str, str]]
    bad_passages: Sequence[BadPassage]

    @property
    def beats_json(self) -> str:
        """The beats as the page reads them: pairs of seconds and whether a bar begins, 1 or 0."""
        return json.dumps([[beat.time_s, int(beat.downbeat)] for beat in self.beats.beats], separators=(",", ":"))


def details_view(store: Store, row: ClipRow) -> DetailsView:
    """What there is to see of a clip. Unavailable when the store does not answer."""
    rendered = rendering_of(store, row.lineage)
    return DetailsView(
        clip_id=row.clip_id,
        audio_tag=row.audio.sha256[:16],
        duration_s=row.duration_s,
        comparisons=comparisons(row),
        beats=beats_of(row.facts, row.source.span, rendered),
        stems=[_stem_view(stem) for stem in _sounding(row, rendered)],
        origins=_origins(row),
        bad_passages=row.bad_passages,
    )


def stems_of(store: Store, row: ClipRow) -> Sequence[Stem]:
    """The stems of a clip's song that sound; none of a recording, of one part alone, or where rendering kept none."""
    return _sounding(row, rendering_of(store, row.lineage))


def _sounding(row: ClipRow, rendered: RenderSongResponse | None) -> list[Stem]:
    if rendered is None or row.facts.solo:
        return []
    return [stem for stem in rendered.stems if stem.HasField("loudness_lufs")]


def comparisons(row: ClipRow) -> list[Comparison]:
    """Who says what of tempo, key, meter and instruments."""
    facts, sent = row.facts, row.incoming.facts or row.facts
    notes = common.ClipFacts()
    if sent.tempo.source in OF_NOTES:
        notes.tempo.CopyFrom(sent.tempo)
    if sent.key.source in OF_NOTES:
        notes.key.CopyFrom(sent.key)
    found = [
        Comparison(
            "Tempo",
            tempo_label(facts.tempo),
            source_label(facts.tempo),
            tempo_label(notes.tempo) if notes.tempo.tempo_bpm else NOTHING,
            tempo_label(facts.estimated_tempo) if facts.estimated_tempo.tempo_bpm else NOTHING,
            "; ".join(filter(None, (
                tempo_difference(facts.tempo, notes.tempo, "the notes"),
                tempo_difference(facts.tempo, facts.estimated_tempo, "the estimate"),
            ))),
        ),
        Comparison(
            "Key",
            key_label(facts.key),
            source_label(facts.key),
            key_label(notes.key) if notes.key.tonic else NOTHING,
            key_label(facts.estimated_key) if facts.estimated_key.tonic else NOTHING,
            "; ".join(filter(None, (
                key_difference(facts.key, notes.key, "the notes"),
                key_difference(facts.key, facts.estimated_key, "the estimate"),
            ))),
        ),
    ]  # fmt: skip
    if facts.HasField("meter"):
        meter = f"{facts.meter.numerator}/{facts.meter.denominator}{', changes' if facts.meter_changes else ''}"
        found.append(Comparison("Meter", meter, "", meter, NOTHING, ""))
    played = {one.instrument for one in sent.instruments}
    named = {one.instrument for one in facts.instruments}
    if played or named:
        different = [f"{name} was added" for name in sorted(named - played)]
        different += [f"{name} was taken out" for name in sorted(played - named)]
        by_person = "stated by a person" if "facts.instruments" in row.edited_fields else ""
        found.append(Comparison("Instruments", _names(facts), by_person, _names(sent), NOTHING, "; ".join(different)))
    return found


def _names(facts: common.ClipFacts) -> str:
    return ", ".join(one.instrument for one in facts.instruments) or NOTHING


def _stem_view(stem: Stem) -> StemView:
    return StemView(
        part=stem.sound.part,
        name=stem.name or stem.activity.instrument,
        instrument=stem.activity.instrument,
        loudness=f"{stem.loudness_lufs:.1f} LUFS",
        audio_tag=stem.audio.sha256[:16],
    )


def _origins(row: ClipRow) -> list[tuple[str, str]]:
    """Lines of a clip's lineage, from the song to the stages; what is unknown is left out."""
    source, lineage = row.source, row.lineage
    varied = source.variation
    lines = [
        ("Song", source.song_fingerprint),
        ("MIDI file, SHA-256", source.midi_sha256),
        ("Span in the song", f"{source.span.start_s:.3f} – {source.span.end_s:.3f} s"),
        ("Part", str(source.part) if source.HasField("part") else ""),
        (
            "Variation",
            f"no. {varied.number}: {varied.transpose_semitones:+d} semitones, tempo × {varied.tempo_factor or 1:g}"
            if source.HasField("variation")
            else "",
        ),
        *(("Record" if "/" in name else "Made from, SHA-256", name) for name in lineage.inputs),
        *((f"Version of {name}", version) for name, version in sorted(lineage.versions.items())),
        ("Seed", str(lineage.seed) if lineage.seed else ""),
        ("Licences", ", ".join(lineage.licences)),
        ("Audio, SHA-256", row.audio.sha256),
    ]
    return [(name, value) for name, value in lines if value]
