"""The page over real HTTP: audio with ranges, waveforms, downloads, and what is refused."""

import http.client as http_client
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import ClipFilter
from luthier_curation.curation import Curation
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED
from luthier_curation.verdicts import Decision
from luthier_kit.store import Store

from .builders import clip

HEADER = {"x-luthier-page": "1"}
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def http(page_url: str) -> Iterator[httpx.Client]:
    """A client of the running page."""
    with httpx.Client(base_url=page_url, timeout=20) as client:
        yield client


@pytest.fixture
def name(paged: Curation, tones: list[Path]) -> str:
    """A clip with real audio."""
    return paged.upsert("demo", [clip(paged.store, tones[0])])[0][0]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


def test_the_list_shows_what_there_is(http: httpx.Client, name: str) -> None:
    html = http.get("/").text
    for text in (name, "Song 1", "The Band", "120 BPM", "C major", "-18.5 LUFS", "Acoustic Grand Piano", "rock"):
        assert text in html


def test_a_choice_of_subset_is_there_where_there_is_more_than_one(
    http: httpx.Client, paged: Curation, tones: list[Path]
) -> None:
    mix, solo = clip(paged.store, tones[0], title="Everybody"), clip(paged.store, tones[0], title="Cello only")
    solo.source.subset, solo.source.part, solo.facts.solo = "monophonic", 3, True
    paged.upsert("demo", [mix])
    assert 'name="subset"' not in http.get("/").text

    paged.upsert("demo", [solo])
    paged.upsert("other", [clip(paged.store, tones[0], title="Elsewhere")])
    page = http.get("/?collection=demo").text
    assert "<option>monophonic</option><option>polyphonic</option>" in page
    assert 'name="subset"' not in http.get("/?collection=other").text
    chosen = http.get("/?collection=demo&subset=monophonic").text
    assert ("Cello only" in chosen, "Everybody" in chosen, ">alone</li>" in chosen) == (True, False, True)
    assert "<option selected>monophonic</option>" in chosen


def test_a_verdict_about_all_that_match_keeps_to_the_subset(
    http: httpx.Client, paged: Curation, tones: list[Path]
) -> None:
    mix, solo = clip(paged.store, tones[0]), clip(paged.store, tones[0])
    solo.source.subset, solo.source.part = "monophonic", 3
    [mix_id, solo_id], *_ = paged.upsert("demo", [mix, solo])
    body = {"verdict": "accepted", "reviewer": "Ada", "filter": {"collection": "demo", "subset": "monophonic"}}
    http.post("/api/review", headers=HEADER, json=body).raise_for_status()
    assert (paged.clip(solo_id).verdict, paged.clip(mix_id).verdict) == (ACCEPTED, "open")


def test_other_peoples_text_is_text(http: httpx.Client, paged: Curation, tones: list[Path]) -> None:
    [name], *_ = paged.upsert("demo", [clip(paged.store, tones[0], artist=HOSTILE, title='" onload="', genre=HOSTILE)])
    paged.edit(name, 1, HOSTILE, Edit(prompts=[HOSTILE], remark=HOSTILE))
    for path in ("/", f"/clips/{name}", f"/clips/{name}/history", f"/?text={HOSTILE}"):
        html = http.get(path).text
        assert "<script>alert" not in html
        assert '" onload="' not in html


def test_tags_that_nobody_understood_stand_apart(http: httpx.Client, paged: Curation, tones: list[Path]) -> None:
    song = clip(paged.store, tones[0])
    texts = ("british", "<b>oldies</b>", "acoustic")
    song.tags.extend(common.Tag(text=text, kind="other", weight=0.5, source="lastfm") for text in texts)
    paged.upsert("demo", [song])
    page = http.get("/").text
    assert "3 unknown tags" in page
    assert "british, &lt;b&gt;oldies&lt;/b&gt;, acoustic" in page
    assert ">british</li>" not in page


def test_every_answer_forbids_foreign_code(http: httpx.Client) -> None:
    for path in ("/", "/static/app.js", "/nothing"):
        headers = http.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"


def test_nothing_is_loaded_from_elsewhere(http: httpx.Client) -> None:
    package = Path(__file__).parents[2] / "services/curation/luthier_curation/web"
    for file in [*package.glob("templates/*"), *package.glob("static/*.*")]:
        assert "//" not in file.read_text().replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_audio_comes_with_ranges(http: httpx.Client, name: str, tones: list[Path]) -> None:
    whole = tones[0].read_bytes()
    path = f"/clips/{name}/audio"
    full, part = http.get(path), http.get(path, headers={"range": "bytes=1000-1999"})
    assert (full.status_code, full.content, full.headers["content-type"]) == (200, whole, "audio/flac")
    assert (part.status_code, part.content) == (206, whole[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(whole)}"
    again = http.get(path, headers={"range": "bytes=0-9", "if-range": full.headers["etag"]})
    assert again.status_code == 206
    assert http.get(path, headers={"range": f"bytes={len(whole)}-"}).status_code == 416


def test_audio_may_be_kept_only_under_its_digest(http: httpx.Client, paged: Curation, name: str) -> None:
    digest = paged.clip(name).audio.sha256
    assert "immutable" in http.get(f"/clips/{name}/audio?v={digest[:16]}").headers["cache-control"]
    assert http.get(f"/clips/{name}/audio?v=other").headers["cache-control"] == "no-store"


def test_peaks_are_computed_once(http: httpx.Client, store: Store, name: str) -> None:
    first = http.get(f"/clips/{name}/peaks.json").json()
    assert len(first["data"]) == 2 * first["length"]
    assert 700 < first["length"] <= 800
    assert first["samples_per_pixel"] * first["length"] == pytest.approx(2 * 44_100, abs=first["samples_per_pixel"])
    assert first["data"][1] == pytest.approx(102, abs=2), "0.8 of full scale"
    assert first["data"][-3] == pytest.approx(51, abs=2), "half as loud at the end"
    [record] = list(store.objects.keys("actions/peaks/"))
    assert http.get(f"/clips/{name}/peaks.dat").content[24:] == bytes(value % 256 for value in first["data"])
    assert list(store.objects.keys("actions/peaks/")) == [record]


def test_audio_that_the_store_lost_is_said_clearly(http: httpx.Client, paged: Curation, name: str) -> None:
    paged.store.objects.delete(paged.clip(name).audio.key)
    assert refusal(http.get(f"/clips/{name}/audio")) == (404, "ARTIFACT_NOT_FOUND")
    assert refusal(http.get(f"/clips/{name}/peaks.dat")) == (404, "ARTIFACT_NOT_FOUND")


def test_audio_that_is_none_is_said_clearly(http: httpx.Client, paged: Curation) -> None:
    [name], *_ = paged.upsert("demo", [clip(paged.store, b"not audio at all")])
    assert refusal(http.get(f"/clips/{name}/peaks.dat")) == (500, "AUDIO_UNREADABLE")


def verdict(http: httpx.Client, name: str, headers: dict[str, str], **changes: object) -> httpx.Response:
    body = {"verdict": "accepted", "reviewer": "Ada", "expected_revision": 1, **changes}
    return http.post(f"/api/clips/{name}/verdict", json=body, headers=headers)


def test_a_verdict_comes_back_as_the_new_card(http: httpx.Client, paged: Curation, name: str) -> None:
    answer = verdict(http, name, HEADER).json()
    assert 'data-verdict="accepted"' in answer["html"]
    assert paged.history(name)[0].batch_id == answer["batch_id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-luthier-page": "1", "origin": "https://evil.example"},
        {"x-luthier-page": "1", "origin": "null"},
    ],
)
def test_a_strangers_page_changes_nothing(
    http: httpx.Client, paged: Curation, name: str, headers: dict[str, str]
) -> None:
    assert refusal(verdict(http, name, headers)) == (403, "CROSS_SITE")
    assert paged.clip(name).revision == 1


def test_the_page_itself_may_change_things_also_behind_its_proxy(http: httpx.Client, name: str) -> None:
    assert verdict(http, name, {**HEADER, "origin": str(http.base_url).rstrip("/")}).status_code == 200
    proxied = {**HEADER, "origin": "https://luthier.example.org", "host": "luthier.example.org"}
    assert verdict(http, name, proxied, expected_revision=2, verdict="rejected").status_code == 200


def test_a_name_that_we_were_not_given_is_refused(http: httpx.Client) -> None:
    assert refusal(http.get("/", headers={"host": "rebound.example:7300"})) == (400, "HOST_NOT_KNOWN")


def test_a_stale_verdict_is_a_conflict(http: httpx.Client, paged: Curation, name: str) -> None:
    paged.edit(name, 1, "Bob", Edit(remark="mine"))
    assert refusal(verdict(http, name, HEADER)) == (409, "REVISION_MISMATCH")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/clips/{name}", {"expected_revision": 1, "prompts": [""], "reviewer": "Ada"}, 400),
        ("/api/clips/{name}", {"expected_revision": "1", "reviewer": "Ada"}, 400),
        ("/api/clips/{name}", {"expected_revision": 1, "reviewer": "Ada", "prompts": ["\ud800"]}, 400),
        ("/api/clips/{name}", {"expected_revision": 1, "reviewer": "Ada", "surprise": 1}, 400),
        ("/api/clips/{name}", {"expected_revision": 1, "reviewer": "", "prompts": ["x"]}, 400),
        ("/api/clips/{name}", {"expected_revision": 1, "reviewer": "Ada", "tempo_bpm": 1e99}, 400),
        ("/api/clips/clip-none", {"expected_revision": 1, "reviewer": "Ada", "prompts": ["x"]}, 404),
        ("/api/review", {"verdict": "accepted", "reviewer": "Ada", "filter": {}}, 400),
        ("/api/review", {"verdict": "maybe", "reviewer": "Ada", "filter": {"collection": "demo"}}, 400),
        ("/api/undo", {"batch_id": "none", "reviewer": "Ada"}, 404),
        ("/api/export", {"collection": "demo", "reviewer": "Ada"}, 422),
        ("/api/export", {"collection": "demo", "reviewer": "Ada", "validation_share": 2}, 400),
        ("/api/nothing", {}, 404),
    ],
)
def test_a_bad_call_is_told_why(http: httpx.Client, name: str, path: str, body: dict[str, Any], expected: int) -> None:
    data = json.dumps(body)
    answer = http.post(path.format(name=name), content=data, headers={**HEADER, "content-type": "application/json"})
    assert answer.status_code == expected
    assert set(answer.json()) >= {"reason", "message"}
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/?page=zzz", 400), ("/?surprise=1", 400), ("/?min_tempo_bpm=fast", 400), ("/nothing", 404), ("/clips/x", 404)],
)
def test_a_person_gets_a_page_that_says_what_is_wrong(http: httpx.Client, path: str, status: int) -> None:
    answer = http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == status
    assert "Back to the clips" in answer.text


def test_a_body_too_large_is_not_read(http: httpx.Client, name: str) -> None:
    answer = http.post(f"/api/clips/{name}", content=b"x" * (1 << 20) + b"x", headers=HEADER)
    assert refusal(answer) == (413, "BODY_TOO_LARGE")
    assert refusal(http.post(f"/api/clips/{name}", content=iter([b"{}"]), headers=HEADER)) == (413, "BODY_TOO_LARGE")


def test_a_data_set_downloads_as_an_audio_folder(http: httpx.Client, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tone, song=song) for song, tone in enumerate(tones)])
    paged.review_all(ClipFilter(collection="demo"), Decision(ACCEPTED, "Ada"))
    done = paged.export("demo", "", Fractions(), "Ada")
    answer = http.get(done.download_path)
    assert answer.headers["content-disposition"] == 'attachment; filename="demo-1.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    listed: dict[str, Any] = {}
    for split in ("train", "validation"):
        lines = archive.read(f"{split}/metadata.jsonl").decode().splitlines()
        listed |= {f"{split}/{json.loads(line)['file_name']}": json.loads(line) for line in lines}
    audio = {name for name in archive.namelist() if name.endswith(".flac")}
    assert set(listed) == audio
    assert len(audio) == len(tones)
    digests = {archive.read(name) for name in audio}
    assert digests == {tone.read_bytes() for tone in tones}
    assert soundfile.info(io.BytesIO(archive.read(audio.pop()))).duration == 2.0
    assert archive.read("manifest.json") == http.get("/datasets/demo/1.json").content
    assert http.get(done.download_path).content == answer.content


def test_a_download_with_a_hole_is_cut_not_completed(http: httpx.Client, paged: Curation, tones: list[Path]) -> None:
    paged.upsert("demo", [clip(paged.store, tone, song=song) for song, tone in enumerate(tones)])
    paged.review_all(ClipFilter(collection="demo"), Decision(ACCEPTED, "Ada"))
    done = paged.export("demo", "", Fractions(), "Ada")
    paged.store.objects.delete(clip(paged.store, tones[5]).audio.key)
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(done.download_path)


@pytest.mark.parametrize("path", ["/datasets/none/1.zip", "/datasets/none/1.json", "/datasets/none/0.zip"])
def test_an_unknown_data_set_is_not_found(http: httpx.Client, path: str) -> None:
    assert refusal(http.get(path)) == (404, "DATASET_NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/..", "/datasets/../1.json", "/datasets/..%2f..%2fetc/1.json", "/datasets/%00/1.json", "/%00",
        "/datasets/" + "n" * 600 + "/1.json", "/datasets/" + "n" * 600 + "/1.zip", "/datasets/n/" + "9" * 600 + ".json",
        "/datasets/n/99999999999999999999.zip", "/datasets/n/-1.json", "/datasets/n/nan.json", "/clips/%00",
        "/clips/a%00b/audio", "/clips/" + "n" * 600, "/clips/" + "n" * 600 + "/peaks.dat", "/clips/%ff/history",
        "/clips/%ed%a0%80/audio", "/static/%00", "/static/..%2f..%2fserver.py", "/static/" + "n" * 600,
        "/static/app.js/x",
        "/?text=%00", "/?text=" + "x" * 600, "/?collection=%00", "/?page=%00", "/?page=zzz", "/?min_tempo_bpm=nan",
        "/?min_tempo_bpm=inf", "/?min_tempo_bpm=1e999", "/?nothing=1", "/?collection=" + "c" * 600, "/api/undo",
    ],
)  # fmt: skip
def test_strange_addresses_are_the_callers_fault(page_url: str, path: str) -> None:
    connection = http_client.HTTPConnection(page_url.removeprefix("http://"), timeout=20)  # sends paths as they are
    connection.request("GET", path)
    answer = connection.getresponse()
    assert 400 <= answer.status < 500, answer.read()


@pytest.mark.parametrize(
    "changes",
    [
        {"tempo_bpm": "NaN"}, {"tempo_bpm": "Infinity"}, {"tempo_bpm": "1e400"}, {"expected_revision": "NaN"},
        {"expected_revision": "9223372036854775808"}, {"expected_revision": "1e300"},
        {"instruments": '[{"name": "Drums", "share": NaN}]'}, {"instruments": '[{"name": "\\ud800", "share": 0.5}]'},
        {"tonic": '"\\ud800"'}, {"remark": '"\\ud800"'}, {"remark": '"\\u0000"'}, {"prompts": '["\\ud800"]'},
        {"reviewer": '"\\u0000"'}, {"reviewer": '"\\udfff"'}, {"prompts": "[" * 20_000 + "]" * 20_000},
    ],
)  # fmt: skip
def test_strange_edits_are_the_callers_fault(
    http: httpx.Client, paged: Curation, name: str, changes: dict[str, str]
) -> None:
    body = {"reviewer": '"Ada"', "expected_revision": "1", **changes}
    text = "{" + ", ".join(f'"{field}": {value}' for field, value in body.items()) + "}"
    answer = http.post(f"/api/clips/{name}", content=text, headers={**HEADER, "content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert paged.clip(name).revision == 1
