"""The card and the Croissant description: counted from the manifest, and untrusted text stays text."""

import hashlib
import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from luthier.curation.v1.curation_pb2 import Agreement, PairAgreement
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.hub_licences import hub_licence
from luthier_kit.markdown import escaped, plain
from luthier_kit.store import Store
from luthier_pipeline.export.columns import COLUMNS
from luthier_pipeline.export.command import write_folder
from luthier_pipeline.export.dataset import Format
from luthier_pipeline.export.figures import figures, most_common
from tests.pipeline.export.hostile import BOLD, DOTTED, FENCE, hostile

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(params=["audiofolder", "parquet", "webdataset"])
def form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


@pytest.fixture
def folder(store: Store, tmp_path: Path, form: Format) -> Path:
    write_folder(store, hostile(store).answer, tmp_path / "out", form)
    return tmp_path / "out"


def parts(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of the card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def rendered(text: str) -> str:
    """As a page that shows HTML and links would."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the first table below a title."""
    block = next(part for part in text.partition(f"## {title}\n")[2].split("\n\n") if part.lstrip().startswith("|"))
    rows = block.strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def test_the_front_matter_names_the_files_of_each_split(folder: Path) -> None:
    front, _ = parts(folder)
    [config] = front["configs"]
    for entry in config["data_files"]:
        assert list(folder.glob(entry["path"].replace("/**", "/*")))
    assert [entry["split"] for entry in config["data_files"]] == ["train", "validation", "test"]
    assert front["license"] == "other"  # two clips state none


def test_the_front_matter_states_the_types_that_its_reader_heeds(folder: Path, form: Format) -> None:
    front, _ = parts(folder)
    features = front.get("dataset_info", {"features": []})["features"]
    names = [] if form == "webdataset" else ["audio", *(column.name for column in COLUMNS)]
    assert [feature["name"] for feature in features] == names


def test_every_subset_has_its_row(folder: Path) -> None:
    _, text = parts(folder)
    assert table(text, "Subsets") == [
        ["external", "2", "1", "0.1 s", "00:00", "none known", "none known"],
        ["polyphonic", "3", "2", "0.1 s", "00:00", "Drums (3), Fiddle (3)", "jazz (3)"],
    ]
    assert table(text, "Splits") == [
        ["train", "3", "2", "00:00"], ["validation", "1", "1", "00:00"], ["test", "1", "1", "00:00"],
    ]  # fmt: skip


def test_licences_sources_and_versions_are_told(folder: Path) -> None:
    _, text = parts(folder)
    assert table(text, "Licences") == [
        [r"CC0\-1\.0", "3"],
        ["MIT", "3"],
        ["*not stated*: ask whoever gave you this data set", "2"],
    ]
    assert table(text, "Sources") == [[r"Mr\. Big\.take\.2", "2", "3"], ["*unknown*", "1", "2"]]
    assert table(text, "How it was made") == [["rendering", "3"], ["soundfont", "1" * 64]]


def test_limits_are_counted(folder: Path) -> None:
    _, text = parts(folder)
    limits = text.partition("## Known limits")[2]
    assert "The tempo of 2 clips and the key of 3 are unknown" in limits
    assert "the tempo of 1 and the key of 0 are estimates" in limits
    assert "2 clips were accepted by a rule" in limits


def test_the_pictures_that_it_shows_are_there_and_say_what_they_show(folder: Path) -> None:
    shown = re.findall(r"!\[(.*)\]\((.*)\)", parts(folder)[1])
    assert [path for _, path in shown] == ["pictures/tempo.png", "pictures/key.png"]
    assert shown[0][0] == "Tempo of 3 of 5 clips, from 120 to 180 BPM"
    assert shown[1][0] == "Key of 2 of 5 clips, most often Eb minor 2"
    assert all((folder / path).read_bytes().startswith(PNG) for _, path in shown)


@pytest.mark.parametrize(
    "text",
    [
        BOLD, FENCE, DOTTED, "<script>alert(1)</script>", "a | b", "![x](http://x.example/p.png)", "`code` ~~x~~ _y_",
        "# title", "- item", "1. item", "www.example.org me@example.org http://example.org", "&lt;b&gt; & \\", "$x$",
        "\u2028## two\r\n\x00lines",
    ],
)  # fmt: skip
def test_untrusted_text_is_shown_as_it_is(text: str) -> None:
    assert rendered(escaped(text)) == f"<p>{html.escape(plain(text))}</p>\n"
    row = rendered(f"| a | b |\n| --- | --- |\n| {escaped(text)} | end |\n")
    assert html.unescape(re.findall("<td>(.*)</td>", row)[0]) == plain(text)
    assert row.count("<td>") == 2
    assert not re.search(r"https?:|www\.|@", escaped(text).replace("\\:", "").replace("\\.", "").replace("\\@", ""))


def test_no_text_turns_or_hides_the_rest_of_a_line() -> None:
    assert plain("a\u202eb\u2066c\ud800\x07\n\nd") == "a b c d"
    assert plain("x" * 500) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("licences", "of_the_hub"),
    [
        ([], "unknown"),
        (["Apache-2.0"], "apache-2.0"),
        (["GPL-3.0-or-later"], "gpl-3.0"),
        (["CC0-1.0", "MIT"], ["cc0-1.0", "mit"]),
        (["MIT", "ask my label"], "other"),
    ],
)
def test_the_hub_is_told_only_licences_that_it_knows(licences: list[str], of_the_hub: str | list[str]) -> None:
    assert hub_licence(licences) == of_the_hub


def test_licences_that_do_not_bind_every_clip_are_not_the_data_sets() -> None:
    assert (hub_licence(["MIT"], unlicensed=1), hub_licence([], unlicensed=1)) == ("other", "unknown")
    rows = [DatasetRow(licences=licences) for licences in (["MIT"], ["unknown"], [], ["MIT", "unknown"])]
    found = figures(rows)
    assert (found.licences, found.unlicensed) == ({"MIT": 2}, 3)


def test_a_key_and_a_tempo_that_are_none_neither_mark_up_nor_grow(store: Store, tmp_path: Path, form: Format) -> None:
    exported = hostile(store)
    row = exported.manifest.rows[0]
    row.facts.key.tonic, row.facts.tempo.tempo_bpm = BOLD, 1e12
    exported.answer.manifest.CopyFrom(store.put("manifests", exported.manifest))
    write_folder(store, exported.answer, tmp_path / "out", form)
    assert "<img src=x" not in rendered(parts(tmp_path / "out")[1])


def test_the_agreement_of_the_reviewers_is_told(store: Store, tmp_path: Path, form: Format) -> None:
    exported = hostile(store)
    pair = PairAgreement(
        reviewer=BOLD, other="Bob", both_accepted=20, both_rejected=15, only_reviewer_accepted=5,
        only_other_accepted=10, kappa=0.4,
    )  # fmt: skip
    exported.manifest.agreement.CopyFrom(Agreement(clips=50, pairs=[pair], kappa=0.4))
    exported.answer.manifest.CopyFrom(store.put("manifests", exported.manifest))
    write_folder(store, exported.answer, tmp_path / "out", form)
    text = parts(tmp_path / "out")[1]
    assert table(text, "Reviewers")[0][1:] == ["Bob", "20", "15", "5", "10", "0.40"]
    assert "<img src=x" not in rendered(text)


def test_audio_of_another_kind_is_described_as_it_is(store: Store, tmp_path: Path, form: Format) -> None:
    exported = hostile(store)
    row = exported.manifest.rows[0]
    row.audio.CopyFrom(store.blobs.put_bytes("clips", b"RIFF", "wav", "audio/wav"))
    exported.answer.manifest.CopyFrom(store.put("manifests", exported.manifest))
    write_folder(store, exported.answer, tmp_path / "out", form)
    described = json.loads((tmp_path / "out" / "croissant.json").read_text())
    sets = {entry["@id"]: entry["encodingFormat"] for entry in described["distribution"]}
    expected = {} if form == "parquet" else {"flac-files": "audio/flac", "wav-files": "audio/wav"}
    assert {name: sets[name] for name in sets if name.endswith("c-files") or name.endswith("v-files")} == expected


def test_equally_frequent_names_come_in_one_order() -> None:
    assert most_common(Counter({"b": 2, "c": 3, "a": 2}), 2) == [("c", 3), ("a", 2)]


def test_croissant_has_the_digest_of_every_file_with_records(folder: Path) -> None:
    described = json.loads((folder / "croissant.json").read_text())
    files = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    assert {entry["contentUrl"] for entry in files} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".parquet", ".tar")
    }
    for entry in files:
        data = (folder / entry["contentUrl"]).read_bytes()
        assert (entry["sha256"], entry["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")


def test_croissant_says_version_time_licences_and_what_is_known_of_the_making(folder: Path) -> None:
    described = json.loads((folder / "croissant.json").read_text())
    assert (described["name"], described["version"], described["datePublished"]) == ("book", "1.0.0", "2026-11-29")
    assert described["license"] == ["CC0-1.0", "MIT"]
    assert described["rai:dataCollection"].startswith("3 of 5 clips were rendered from MIDI files")
    assert "No licence is stated for 2 clips." in described["rai:dataCollection"]
    assert described["rai:machineAnnotationTools"] == ["rendering 3", f"soundfont {'1' * 64}"]
    assert "3 clips were accepted by people, 2 by a rule" in described["rai:dataAnnotationProtocol"]
