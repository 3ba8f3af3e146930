"""Domain objects as messages."""

from luthier.common.v1 import common_pb2
from luthier.rendering.v1 import rendering_pb2
from luthier_music.instruments import instrument
from luthier_rendering.backends.base import Playable
from luthier_rendering.fingerprint import fingerprint
from luthier_rendering.midi import Song
from luthier_rendering.timeline import Activity, Span, Timeline, timeline

_FAULTS = {
    "UNMATCHED_NOTES": "notes that do not start or do not end were left out",
    "ZERO_LENGTH_NOTES": "notes of no length were left out",
    "TEMPO_IS_DEFAULT": "no tempo is stated: 120 BPM is only the format's default",
    "KEY_SIGNATURE_IS_A_CLAIM": "a key signature is stated: a claim, mostly a default, that the notes may contradict",
    "KEY_SIGNATURE_INVALID": "a key signature has no meaning and was ignored",
    "METER_INVALID": "a time signature is outside 1..64 beats of 1..1/64 and was ignored",
    "NO_END_OF_TRACK": "tracks end without an end-of-track event",
    "TRAILING_BYTES": "bytes follow the last track and were ignored",
}


def span(value: Span) -> common_pb2.Span:
    return common_pb2.Span(start_s=value[0], end_s=value[1])


def activity(value: Activity) -> common_pb2.InstrumentActivity:
    who = value.instrument
    return common_pb2.InstrumentActivity(
        instrument=who.name,
        family=who.family,
        program=0 if who.is_drum else who.program,
        is_drum=who.is_drum,
        spans=[span(s) for s in value.spans_s],
        notes=value.notes,
    )


def timeline_message(value: Timeline) -> common_pb2.Timeline:
    return common_pb2.Timeline(
        duration_s=value.duration_s,
        tempos=[common_pb2.TempoChange(start_s=start, tempo_bpm=bpm) for start, bpm in value.tempos],
        meters=[
            common_pb2.MeterChange(start_s=start, numerator=beats, denominator=unit)
            for start, beats, unit in value.meters
        ],
        bars=[
            common_pb2.Bar(
                span=span(bar.span_s),
                pitch_class_weights=bar.pitch_class_weights,
                onsets=bar.onsets,
                onsets_on_grid=bar.onsets_on_grid,
            )
            for bar in value.bars
        ],
        instruments=[activity(one) for one in value.instruments],
        tempo_is_default=value.tempo_is_default,
        claimed_key=value.claimed_key,
    )


def inspection(song: Song) -> rendering_pb2.InspectMidiResponse:
    return rendering_pb2.InspectMidiResponse(
        fingerprint=fingerprint(song),
        duration_s=song.music_end_s,
        tracks=song.tracks,
        notes=len(song.notes),
        timeline=timeline_message(timeline(song)),
        faults=[
            rendering_pb2.MidiFault(reason=reason, message=_FAULTS[reason], count=count)
            for reason, count in sorted(song.faults.items())
            if count
        ],
        format=song.format,
        ticks_per_beat=song.tempo.ticks_per_beat,
    )


def playable(value: Playable) -> rendering_pb2.PlayableInstrument:
    return rendering_pb2.PlayableInstrument(
        backend=value.backend,
        instrument=instrument(value.program, is_drum=value.is_drum).name,
        preset=value.preset,
        digest=value.digest,
        program=value.program,
        is_drum=value.is_drum,
    )
