"""Files of prompts in the layouts that data sets have, with columns and rows as their publishers write them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luthier_kit.rpc import InvalidRequest
from luthier_music.keys import Key
from luthier_pipeline.prompt_files import MAX_PROMPTS, PromptFile, read_prompts

SONG_DESCRIBER = """caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration
990,1007274,"acoustic guitar solo, suitable for tea",True,1,429137,118548,74/1007274.mp3,140.2
622,1009671,A classic chord progression,True,1,7063,118858,71/1009671.mp3,160.1
438,1009671,"This is a slow, but
deliberate jazz song",,1,3901,12064,71/1009671.mp3,156.7
"""
MUSICCAPS = """\
ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval
-0xzrMun0Rs,30,40,"/m/01g90h,/m/04rlf","['jazzy', 'piano']",This song contains digital drums.,6,False,True
-7wUQP6G5EQ,30,40,"/m/02cjck,/m/02w4v","['low quality']","The low quality recording, noisy.",4,False,False
"""
AUDIOCAPS = """audiocap_id,youtube_id,start_time,caption
103549,7fmOlUlwoNg,20,Constant rattling noise and sharp vibrations
103938,Lbken4JCr94,10,Thunder and a gentle rain
"""


def read(tmp_path: Path, text: str, name: str = "prompts.csv", layout: str = "") -> PromptFile:
    (tmp_path / name).write_text(text)
    return read_prompts(tmp_path / name, layout)


def test_song_describer_names_audio_by_caption_track_or_path(tmp_path: Path) -> None:
    found = read(tmp_path, SONG_DESCRIBER)

    assert found.layout == "song-describer"
    assert [row.name for row in found.rows] == ["990", "622", "438"]
    first, _, third = found.rows
    assert first.ids == {"caption_id": ("990",), "track_id": ("1007274",), "path": ("74/1007274.mp3",)}
    assert first.prompt == "acoustic guitar solo, suitable for tea"
    assert third.prompt == "This is a slow, but\ndeliberate jazz song"
    assert third.where == "line 5"
    assert first.seconds_total is None  # `duration` is the whole track's, of which two minutes are published


def test_musiccaps_names_audio_by_the_video_with_and_without_a_y(tmp_path: Path) -> None:
    found = read(tmp_path, MUSICCAPS)

    assert found.layout == "musiccaps"
    assert found.rows[0].ids == {"ytid": ("-0xzrMun0Rs", "Y-0xzrMun0Rs")}
    assert found.rows[1].prompt == "The low quality recording, noisy."


def test_audiocaps_names_audio_by_caption_or_video(tmp_path: Path) -> None:
    found = read(tmp_path, AUDIOCAPS)

    assert found.layout == "audiocaps"
    assert found.rows[0].ids == {"audiocap_id": ("103549",), "youtube_id": ("7fmOlUlwoNg", "Y7fmOlUlwoNg")}


OWN = {
    "csv": "file,prompt,tempo_bpm,key,genres,instruments,seconds_total,reference\n"
           'a.wav,A rock song,125,C# minor,"rock, Hard Rock",drums,4.5,ref/a.wav\nb.wav,A waltz,,,,,,\n',
    "json": json.dumps({"rows": [
        {"file": "a.wav", "prompt": "A rock song", "tempo_bpm": 125, "key": "C# minor", "genres": ["rock", "hard rock"],
         "instruments": ["drums"], "seconds_total": 4.5, "reference": "ref/a.wav"},
        {"file": "b.wav", "prompt": "A waltz", "tempo_bpm": None, "key": None, "genres": [], "instruments": [],
         "seconds_total": None, "reference": None}]}),
    "jsonl": '{"file": "a.wav", "prompt": "A rock song", "tempo_bpm": 125, "key": "C# minor", '
             '"genres": "rock, hard rock", "instruments": ["drums"], "seconds_total": 4.5, '
             '"reference": "ref/a.wav"}\n\n'
             '{"file": "b.wav", "prompt": "A waltz", "tempo_bpm": null, "key": null, "genres": [], "instruments": [], '
             '"reference": ""}\n',
    "yaml": "rows:\n- {file: a.wav, prompt: A rock song, tempo_bpm: 125, key: C# minor, genres: [rock, hard rock],"
            " instruments: [drums], seconds_total: 4.5, reference: ref/a.wav}\n"
            "- {file: b.wav, prompt: A waltz, tempo_bpm: null, key: ~, genres: [], instruments: [], reference: ~}\n",
}  # fmt: skip


@pytest.mark.parametrize("suffix", OWN)
def test_a_file_of_ones_own_says_the_same_in_every_form(tmp_path: Path, suffix: str) -> None:
    found = read(tmp_path, OWN[suffix], f"mine.{suffix}")

    assert found.layout == "own"
    first, second = found.rows
    assert (first.name, first.prompt, first.tempo_bpm, first.key) == ("a.wav", "A rock song", 125, Key(1, "minor"))
    assert (first.genres, first.instruments, first.seconds_total) == (("rock", "hard rock"), ("drums",), 4.5)
    assert first.references == {"reference": ("ref/a.wav",)}
    assert (second.tempo_bpm, second.key, second.genres, second.references) == (None, None, (), {})
    assert (second.says_tempo, second.says_key) == (True, True)


def test_what_a_file_has_no_column_for_is_left_to_the_prompt(tmp_path: Path) -> None:
    [row] = read(tmp_path, "file,prompt\na.wav,A waltz\n").rows

    assert (row.says_tempo, row.says_key, row.genres, row.instruments) == (False, False, None, None)
    assert row.references == {"file": ("a.wav",)}  # of a folder of references, by the same name


def test_an_audiofolder_is_read_split_by_split(tmp_path: Path) -> None:
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        row = {"file_name": "clip-1.flac", "text": f"A {split} song", "prompts": [f"A {split} song", "Other"],
               "tempo_bpm": 100.5, "key": "A minor", "genres": ["rock"], "instruments": ["Drums"], "duration_s": 8.0,
               "details": "{}"}  # fmt: skip
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / split / "metadata.parquet")

    found = read_prompts(tmp_path)

    assert found.layout == "audiofolder"
    assert [(row.name, row.prompt) for row in found.rows] == [
        ("test/clip-1.flac", "A test song"), ("train/clip-1.flac", "A train song"),
    ]  # fmt: skip
    assert (found.rows[0].tempo_bpm, found.rows[0].seconds_total, found.rows[0].facts) == (100.5, 8.0, True)


def test_metadata_jsonl_of_others_is_read_by_the_name_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.mp3", "caption": "A waltz", "tags": {"x": 1}}\n')

    [row] = read_prompts(tmp_path).rows

    assert (row.name, row.prompt) == ("a.mp3", "A waltz")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,prompt\na.wav,\n", "line 2: prompt must be 1 to 2000 characters, got 0"),
        (f"file,prompt\na.wav,{'x' * 2001}\n", "line 2: prompt must be 1 to 2000 characters, got 2001"),
        ("file,prompt\n,A waltz\n", "line 2: names no audio: file is empty"),
        ("file,prompt\n../a.wav,A waltz\n", "line 2: '../a.wav' must be the name of a file below its folder"),
        ("file,prompt\n/etc/a.wav,A waltz\n", "line 2: '/etc/a.wav' must be the name of a file below its folder"),
        ("file,prompt,tempo_bpm\na.wav,A,fast\n", "line 2: tempo_bpm must be a number between 20 and 400, got 'fast'"),
        ("file,prompt,tempo_bpm\na.wav,A,nan\n", "line 2: tempo_bpm must be a number between 20 and 400, got 'nan'"),
        ("file,prompt,key\na.wav,A,H dur\n", "line 2: key must be a tonic and a mode, such as F# minor, got 'H dur'"),
        ("file,prompt,seconds_total\na.wav,A,700\n", "line 2: seconds_total must be a number between 0.5 and 600"),
        (f"file,prompt,genres\na.wav,A,\"{','.join(map(str, range(17)))}\"\n", "line 2: genres must be at most 16"),
        ("file,prompt\n", "has no prompts"),
        ("file,prompt\na.wav,A,b,c\n", "line 2: at most 50000 prompts of 2 columns, got 4 columns"),
        ('file,prompt\na.wav,"A\n', "unexpected end of data"),
        ("file,file\na.wav,A\n", "a column stands twice in the first line"),
        ("name,words\na.wav,A\n", "prompts.csv has the columns name, words; it needs song-describer: caption_id"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read(tmp_path, text)

    assert error.value.reason == "PROMPTS_INVALID"
    assert told in str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as error:
        read(tmp_path, "file,prompt\n" + "a.wav,\n" * 25)

    assert str(error.value).count("line ") == 20
    assert "and 5 more" in str(error.value)


def test_a_layout_that_is_named_must_fit(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="it needs musiccaps: ytid, start_s, caption"):
        read(tmp_path, AUDIOCAPS, layout="musiccaps")


def test_more_prompts_than_are_looked_at_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="at most 50000 prompts"):
        read(tmp_path, "file,prompt\n" + "a.wav,A\n" * (MAX_PROMPTS + 1))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.txt", b"", "must end in one of .csv"),
        ("a.csv", b"file,prompt\na.wav,\xff\n", "must be UTF-8"),
        ("a.json", b"[1, 2]", "row 0 must be an object"),
        ("a.json", b'{"a": 1}', "must be a list of prompts"),
        ("a.jsonl", b"{", "not JSON"),
        ("a.yaml", b"- &a [*a]", "aliases"),
        ("a.parquet", b"PAR1", "Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(InvalidRequest) as error:
        read_prompts(tmp_path / name)

    assert error.value.reason == "PROMPTS_INVALID"
    assert told in str(error.value)


def test_a_folder_without_metadata_asks_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"is a folder without metadata\.jsonl, metadata\.csv, metadata\.parquet"):
        read_prompts(tmp_path)
