"""Clips of a song whose rendering left its record: two stems that sum to the mix, and a tempo map."""

from pathlib import Path

import numpy as np
import soundfile

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier_kit.store import Action, Store

from .builders import clip

RATE = 44_100
START_S, SONG_S = 2.0, 8.0
LOW_HZ, HIGH_HZ = 220.0, 880.0


def tone(frequency_hz: float, seconds: float = SONG_S) -> np.ndarray:
    """A stereo tone at 0.2 of full scale."""
    found = 0.2 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([found, found], axis=1)


def timeline() -> common.Timeline:
    """120 BPM in 4/4 for four seconds, two bars; then 60 BPM in 2/4, two bars of two seconds."""
    return common.Timeline(
        duration_s=SONG_S,
        tempos=[common.TempoChange(start_s=0, tempo_bpm=120), common.TempoChange(start_s=4, tempo_bpm=60)],
        meters=[
            common.MeterChange(start_s=0, numerator=4, denominator=4),
            common.MeterChange(start_s=4, numerator=2, denominator=4),
        ],
        bars=[common.Bar(span=common.Span(start_s=start, end_s=start + 2)) for start in (0, 2, 4, 6)],
    )


def rendered_clip(store: Store, folder: Path, *, length_s: float = 2.0) -> pb.NewClip:
    """A clip from second 2 on of a song of two stems, part 0 a bass and part 3 a flute."""
    stems, sounds = [], {0: ("Acoustic Bass", LOW_HZ), 3: ("Flute", HIGH_HZ)}
    for part, (instrument, frequency_hz) in sounds.items():
        path = folder / f"stem-{part}.flac"
        soundfile.write(path, tone(frequency_hz), RATE, subtype="PCM_16")
        stems.append(
            rendering.Stem(
                audio=store.blobs.put_file("stems", path, media_type="audio/flac"),
                name=f"{instrument} track",
                activity=common.InstrumentActivity(instrument=instrument, family="Bass", notes=1),
                loudness_lufs=-20.0,
                sound=rendering.Sound(part=part),
            )
        )
    song, mix = folder / "song.flac", folder / "mix.flac"
    sound = tone(LOW_HZ) + tone(HIGH_HZ)
    soundfile.write(song, sound, RATE, subtype="PCM_16")
    soundfile.write(mix, sound[round(START_S * RATE) : round((START_S + length_s) * RATE)], RATE, subtype="PCM_16")
    action = Action("render", inputs=["b" * 64], version="1")
    whole = store.blobs.put_file("mixes", song, media_type="audio/flac")
    response = rendering.RenderSongResponse(mix=whole, stems=stems, timeline=timeline(), seed=1)
    store.actions.run(action, rendering.RenderSongResponse, lambda: response)
    new = clip(store, mix, song="rendered", start_s=START_S)
    new.source.span.end_s = START_S + length_s
    new.facts.duration_s = length_s
    new.facts.meter.CopyFrom(common.MeterChange(numerator=4, denominator=4))
    new.lineage.inputs[:] = ["c" * 64, action.key(1)]
    return new
