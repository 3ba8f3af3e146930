"""Captions, tags and names that lie beside a recording: untrusted files."""

import json
from pathlib import Path

import pytest

from luthier_pipeline.beside import MAX_FILE_BYTES, beside


def said(folder: Path, **files: str | bytes) -> Path:
    """A recording with files of these endings beside it."""
    for ending, data in files.items():
        (folder / f"song.{ending}").write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder / "song.mp3"


def test_nothing_beside_is_nothing(tmp_path: Path) -> None:
    found = beside(said(tmp_path))
    assert (found.captions, found.tags, found.notes) == ((), (), ())


def test_each_line_of_a_text_is_a_caption(tmp_path: Path) -> None:
    assert beside(said(tmp_path, txt="\ufeffA calm\tpiece \n\n a loud one\n")).captions == (
        "A calm piece",
        "a loud one",
    )


@pytest.mark.parametrize(
    ("document", "captions"),
    [
        ({"caption": "MusicCaps writes one"}, ("MusicCaps writes one",)),
        ({"prompt": "stable-audio-tools", "seconds_total": 30}, ("stable-audio-tools",)),
        ({"description": "AudioCraft", "keywords": "a, b", "bpm": 120, "key": "C"}, ("AudioCraft",)),
        ({"prompts": ["one", "two", 3, None, "one"]}, ("one", "two")),
        ({"caption": {"nested": "no"}}, ()),
    ],
)
def test_captions_are_read_under_the_names_that_tools_write(
    tmp_path: Path, document: object, captions: tuple[str, ...]
) -> None:
    assert beside(said(tmp_path, json=json.dumps(document))).captions == captions


def test_tags_have_the_kind_that_their_name_states(tmp_path: Path) -> None:
    document = {"genre": "Jazz, Soul", "moods": ["sad"], "keywords": "vinyl", "instrument": "piano"}
    tags = beside(said(tmp_path, json=json.dumps(document))).tags
    assert [(tag.text, tag.kind) for tag in tags] == [
        ("Jazz", "genre"),
        ("Soul", "genre"),
        ("sad", "mood"),
        ("vinyl", ""),
    ]


def test_both_files_are_read_and_texts_are_bounded(tmp_path: Path) -> None:
    document = {"captions": [f"caption {n}" for n in range(20)], "artist": "x" * 500, "tags": ["t" * 100] * 300}
    found = beside(said(tmp_path, txt="y" * 5000, json=json.dumps(document)))
    assert [len(caption) for caption in found.captions] == [2000] + 7 * [9]
    assert found.notes == ("13 of 21 captions left out: at most 8 are read",)
    assert (len(found.artist), len(found.tags), len(found.tags[0].text)) == (200, 100, 64)


@pytest.mark.parametrize(
    ("ending", "data", "why"),
    [
        ("json", b"{", "not JSON"),
        ("json", b"[" * 5000, "nest at most"),
        ("json", b'["a list"]', "must hold one object"),
        ("json", b"[" + b"1," * 20_000 + b"1]", "at most 10000 values"),
        ("json", b" " * (MAX_FILE_BYTES + 1), "at most 262144 bytes"),
        ("json", b'{"caption": "\\ud800"}', "half of a surrogate pair"),
        ("txt", b"\xff\xfe\x00", "codec can't decode"),
        ("txt", b"x" * (MAX_FILE_BYTES + 1), "at most 262144 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_recording_goes_on(
    tmp_path: Path, ending: str, data: bytes, why: str
) -> None:
    found = beside(said(tmp_path, **{ending: data}))
    assert found.captions == ()
    [note] = found.notes
    assert note.startswith(f"song.{ending} was not read: ")
    assert why in note


def test_nothing_that_does_not_print_comes_through(tmp_path: Path) -> None:
    found = beside(said(tmp_path, json=json.dumps({"caption": "a\x00b\u202ec", "title": "\x1b[31mred"})))
    assert (found.captions, found.title) == (("a b c",), "[31mred")
