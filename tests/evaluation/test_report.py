"""The report is one file that needs nothing else, and shows foreign text as text."""

import base64
import io
import re

import pytest
import soundfile
from conftest import Platform

from luthier.common.v1.common_pb2 import MODE_MAJOR
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.report import listening


@pytest.fixture
def page(platform: Platform) -> str:
    row = pb.SuiteRow(prompt="<script>alert(1)</script> at 100 BPM", seconds_total=3, seed=9000, tempo_bpm=100)
    row.key.tonic, row.key.mode = "A", MODE_MAJOR
    other = pb.SuiteRow(prompt="A song in C minor at 90 BPM.", seconds_total=3, seed=9001, tempo_bpm=90)
    platform.inference.refuse = lambda model, index: model == "base@1" and index == 1
    suite = pb.Suite(name="mine", rows=[row, other])
    evaluation = platform.done(suite_name=None, suite=suite, seconds_total=None, created_by="<b>ada</b>")
    return str(platform.store.blobs.read(evaluation.report).decode())


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    for attribute in re.findall(r'(?:src|href|action|data)="([^"]*)"', page):
        assert attribute.startswith(("data:audio/", "#"))  # a sound, or another element of the page
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page


def test_foreign_text_is_shown_as_text(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>ada</b>" not in page


def test_the_audio_in_it_plays_as_long_as_the_row(page: str) -> None:
    sounds = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert len(sounds) == 3  # two rows, two models, one row failed
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert len(samples) / rate == pytest.approx(3.0, abs=0.2)


def test_every_plot_says_its_name_and_every_row_its_values(page: str) -> None:
    svgs = re.findall(r"<svg[^>]*>.*?</svg>", page, re.S)

    assert len(svgs) >= 8  # seven metrics, the scatter
    assert all('role="img"' in svg and re.search(r'aria-label="[^"]+"', svg) for svg in svgs)
    assert 'aria-label="base@1: 0.0' in page  # a score plot reads out its marks
    scatter = next(svg for svg in svgs if "Tempo asked for against" in svg)
    titles = re.findall(r"<use [^>]*><title>([^<]*)</title></use>", scatter)
    assert titles == [
        "base@1, row 0: 100 -&gt; 120.0",
        "tuned@1, row 0: 100 -&gt; 100.0",
        "tuned@1, row 1: 90 -&gt; 90.0",
    ]


def test_plots_leave_the_rest_of_the_page_alone(page: str) -> None:
    svgs = "".join(re.findall(r"<svg[^>]*>.*?</svg>", page, re.S))

    assert "<style" not in svgs
    assert "<metadata" not in svgs
    assert set(re.findall(r'href="#([^"]*)"', svgs)) <= set(re.findall(r'id="([^"]*)"', svgs))


def test_it_shows_scores_plots_failures_and_where_all_comes_from(page: str) -> None:
    for expected in (
        "Tempo accuracy 1",
        "KL PaSST",
        "not computed",
        'aria-label="Tempo asked for against tempo measured"',
        "Rows that failed",
        "must be between 0.1 and 5.9, got 10",
        "clicks/1",
        "peaks/1",
        "sha256:",
        "tuned@1",
        "base@1",
    ):
        assert expected in page


def test_rows_to_play_are_spread_over_the_suite() -> None:
    assert listening.rows_to_play(3) == [0, 1, 2]
    assert listening.rows_to_play(192, most=4) == [0, 64, 127, 191]


def test_a_sampling_rate_that_mp3_lacks_becomes_flac() -> None:
    import numpy as np

    _, media_type = listening.encode(np.zeros((1000, 2), dtype=np.float32), 10_000)
    assert media_type == "audio/flac"
