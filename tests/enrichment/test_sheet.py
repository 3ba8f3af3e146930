"""Sheets of tags: read, matched, refused with line and reason."""

import json

import pytest

from luthier_enrichment.findings import Finding, State
from luthier_enrichment.names import Name
from luthier_enrichment.providers.file import FileProvider
from luthier_enrichment.sheet import SheetCache, read
from luthier_kit.rpc import InvalidRequest

CSV = """artist,title,tag,kind,weight,source,licence
The Copper Keys,Switchyard,funk,genre,100,songbook,Apache-2.0
The Copper Keys,Switchyard,groovy,mood,80,songbook,Apache-2.0
"Beatles, The",Help!,pop,,,,
"""


def find(artist: str, title: str, data: bytes | None = None) -> Finding:
    return FileProvider(read(data or CSV.encode()), "d", 0.85).find(Name(artist, title), "")


def test_a_song_is_found_with_its_tags_source_and_licence() -> None:
    found = find("copper keys", "SWITCHYARD")
    assert (found.state, found.score, found.matched) == (State.MATCHED, 1.0, Name("The Copper Keys", "Switchyard"))
    assert [(t.text, t.weight, t.source, t.licence) for t in found.tags] == [
        ("funk", 1.0, "songbook", "Apache-2.0"), ("groovy", 0.8, "songbook", "Apache-2.0"),
    ]  # fmt: skip


def test_a_near_name_is_accepted_with_its_score() -> None:
    found = find("The Coper Keys", "Switchyards")
    assert found.state is State.MATCHED
    assert 0.85 <= found.score < 1


def test_a_bad_match_is_not_accepted_but_its_score_is_kept() -> None:
    found = find("The Copper Pots", "Backyard")
    assert (found.state, found.tags) == (State.NO_MATCH, ())
    assert 0 < found.score < 0.85


def test_a_title_without_artist_is_not_accepted() -> None:
    assert find("", "Switchyard").state is State.NO_MATCH


def test_json_says_the_same() -> None:
    rows = [{"artist": "A", "title": "B", "tag": "rock", "weight": 50}]
    for document in (rows, {"rows": rows}):
        (tag,) = find("A", "B", json.dumps(document).encode()).tags
        assert (tag.text, tag.weight) == ("rock", 0.5)


def test_without_a_sheet_it_is_off_and_says_why() -> None:
    provider = FileProvider(None, "", 0.85)
    assert "LUTHIER_ENRICHMENT_SHEET" in provider.off_because()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "columns artist, title, tag"),
        (b"artist,title\nA,B\n", "tag missing"),
        (b"artist,title,tag\nA,,rock\n", "line 2: title must not be empty"),
        (b"artist,title,tag,weight\nA,B,rock,101\n", "line 2: weight must be between 0 and 100"),
        (b"artist,title,tag,weight\nA,B,rock,nan\n", "line 2: weight"),
        (b"artist,title,tag\nA,B," + b"x" * 1001 + b"\n", "line 2: tag must be a text of at most 1000"),
        (b"artist,title,tag\nA,B,\xff\n", "UTF-8"),
        (b'artist,title,tag\nA,B,"rock\n', "not CSV"),
        (b"[", "must be CSV or JSON; it begins as JSON, but not JSON"),
        (b"[" * 100_000, "must nest at most 8 deep"),
        (b"[" + b"{}," * 2_000_001 + b"{}]", "must hold at most 2000000 values"),
        (b'[{"artist": "A", "title": "B", "tag": "c", "weight": NaN}]', "NaN is no number"),
        (b'{"rows": [], "rows": []}', "the name 'rows' stands twice"),
        (b'[{"artist":"a","title":"t","tag":"x","weight":1' + b"0" * 400 + b"}]", "between 0 and 100"),
        (b'{"rows": 3}', "list of rows"),
        (b"[3]", "row 1 must be an object"),
        (b'[{"artist": 3, "title": "B", "tag": "c"}]', "artist must be a text"),
        (b"x" * ((16 << 20) + 1), "at most"),
    ],
)
def test_a_bad_sheet_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        read(data)
    assert caught.value.reason == "BAD_SHEET"


def test_a_sheet_is_read_once_for_many_songs() -> None:
    cache, reads = SheetCache(size=2), list[int]()

    def load() -> bytes:
        reads.append(1)
        return CSV.encode()

    assert cache.get("a", load) is cache.get("a", load)
    cache.get("b", load)
    cache.get("c", load)
    cache.get("a", load)
    assert len(reads) == 4
