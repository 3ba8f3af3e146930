"""What is counted of a corpus, against what its files say."""

import pytest

from luthier.common.v1.common_pb2 import (
    MODE_MINOR,
    Bar,
    InstrumentActivity,
    KeyFact,
    MeterChange,
    Span,
    TempoChange,
    Timeline,
)
from luthier.pipeline.v1.pipeline_pb2 import (
    NEAR_DUPLICATES_DROP,
    NEAR_DUPLICATES_KEEP,
    CorpusFile,
    CorpusManifest,
    SongFailure,
)
from luthier.rendering.v1.rendering_pb2 import InspectMidiResponse, MidiFault
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.report.figures import Bin, CorpusMusic, Figures, Group, Member, Music, figures, song_groups

PIANO = InstrumentActivity(instrument="Acoustic Grand Piano", spans=[Span(start_s=1, end_s=31)])
DRUMS = InstrumentActivity(instrument="Drums", spans=[Span(start_s=0, end_s=10), Span(start_s=20, end_s=25)])


def facts(
    *tempi: tuple[float, float],
    onsets_on_grid: int = 90,
    default: bool = False,
    meters: list[MeterChange] | None = None,
    key: KeyFact | None = None,
    instruments: tuple[InstrumentActivity, ...] = (PIANO,),
    duration_s: float = 60.0,
) -> InspectMidiResponse:
    timeline = Timeline(
        tempos=[TempoChange(start_s=start, tempo_bpm=bpm) for start, bpm in tempi or [(0.0, 120.0)]],
        meters=meters or [MeterChange(start_s=0, numerator=4, denominator=4)],
        bars=[Bar(onsets=100, onsets_on_grid=onsets_on_grid)],
        instruments=instruments,
        tempo_is_default=default,
    )
    return InspectMidiResponse(duration_s=duration_s, timeline=timeline, key=key)


def corpus(*files: CorpusFile, keep: bool = False) -> Corpus:
    return Corpus(CorpusManifest(files=files, near_duplicates=NEAR_DUPLICATES_KEEP if keep else NEAR_DUPLICATES_DROP))


def counted(*songs: InspectMidiResponse) -> Figures:
    files = [CorpusFile(path=f"{at}.mid", artist="A", duration_s=one.duration_s) for at, one in enumerate(songs)]
    music = CorpusMusic()
    for file, one in zip(files, songs, strict=True):
        music.add(file, one)
    return figures(corpus(*files), music)


def test_the_tempo_that_holds_longest_counts() -> None:
    music = Music.of(facts((0.0, 90.0), (10.0, 140.0), (70.0, 60.0)))  # the last one only after the end
    assert (music.tempo_bpm, music.tempo_changes) == (140.0, True)


@pytest.mark.parametrize("unknown", [facts(default=True), facts(onsets_on_grid=50)], ids=["not stated", "off the grid"])
def test_a_tempo_that_nothing_proves_is_unknown(unknown: InspectMidiResponse) -> None:
    found = counted(unknown, facts((0.0, 121.0)))
    assert (found.tempi, found.tempo_unknown) == ([Bin("120-130", 1)], 1)


def test_tempi_are_in_steps_of_ten_and_gaps_are_there() -> None:
    found = counted(facts((0.0, 89.99)), facts((0.0, 110.0)), facts((0.0, 119.0)))
    assert found.tempi == [Bin("80-90", 1), Bin("90-100", 0), Bin("100-110", 0), Bin("110-120", 2)]


def test_keys_are_counted_and_unknown_ones_apart() -> None:
    found = counted(facts(key=KeyFact(tonic="F#", mode=MODE_MINOR)), facts(), facts())
    assert [one for one in found.keys if one.songs] == [Bin("F# minor", 1)]
    assert (len(found.keys), found.key_unknown) == (24, 2)


def test_instruments_by_songs_and_by_time() -> None:
    found = counted(facts(instruments=(PIANO, DRUMS)), facts(duration_s=40.0))
    assert [(one.name, one.songs, one.time_share) for one in found.instruments] == [
        ("Acoustic Grand Piano", 2, 0.6),  # 30 + 30 of 100 s
        ("Drums", 1, 0.15),
    ]


def test_meters_and_lengths() -> None:
    waltz = [MeterChange(start_s=0, numerator=4, denominator=4), MeterChange(start_s=5, numerator=3, denominator=4)]
    found = counted(facts(meters=waltz), facts(duration_s=59.0), facts(duration_s=900.0))
    assert (found.meters, found.meter_changes) == ([Bin("4/4", 2), Bin("3/4", 1)], 1)
    assert [one for one in found.lengths if one.songs] == [Bin("under 1", 1), Bin("1-2", 1), Bin("10 and more", 1)]
    assert (found.shortest_s, found.median_s, found.longest_s, found.duration_s) == (59.0, 60.0, 900.0, 1019.0)


def test_faults_are_counted_over_all_files_and_music_over_songs() -> None:
    files = [CorpusFile(path="a", duration_s=60), CorpusFile(path="b", duration_s=60, duplicate_of="a")]
    music = CorpusMusic()
    for file, count in zip(files, (3, 4), strict=True):
        one = facts()
        one.faults.append(MidiFault(reason="UNMATCHED_NOTES", message="left out", count=count))
        music.add(file, one)
    failure = CorpusFile(path="c", failure=SongFailure(reason="MIDI_EMPTY"))
    found = figures(corpus(*files, failure), music)
    [fault] = found.faults
    assert (fault.reason, fault.message, fault.files, fault.count) == ("UNMATCHED_NOTES", "left out", 2, 7)
    assert (found.files, found.songs, found.duplicates, found.failed) == (3, 1, 1, 1)
    assert (found.duration_s, found.files_duration_s) == (60, 120)


def test_groups_say_which_file_is_rendered_and_why() -> None:
    files = [
        CorpusFile(path="a.mid", parts=5),
        CorpusFile(path="b.mid", parts=4, near_duplicate_of="a.mid", similarity=0.97),
        CorpusFile(path="c.mid", parts=4, duplicate_of="b.mid"),
        CorpusFile(path="a.1.mid", other_version_of="a.mid"),
        CorpusFile(path="alone.mid"),
    ]
    [group] = song_groups(corpus(*files))
    assert group == Group(
        "a.mid",
        [
            Member("a.1.mid", "version", 0.0, True, ""),
            Member("b.mid", "near-duplicate", 0.97, False, "has more parts"),
            Member("c.mid", "duplicate", 1.0, False, "has the same notes and the plainer path"),
        ],
    )
    [kept] = song_groups(corpus(*files[:2], keep=True))
    assert kept.members == [Member("b.mid", "near-duplicate", 0.97, True, "")]


def test_a_corpus_without_a_song_has_figures() -> None:
    found = figures(corpus(CorpusFile(path="c", failure=SongFailure(reason="MIDI_EMPTY"))), CorpusMusic())
    assert (found.songs, found.failed, found.tempi, found.groups, found.longest_s) == (0, 1, [], [], 0.0)
