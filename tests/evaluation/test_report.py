"""The report is one file that needs nothing else, and shows foreign text as text."""

import base64
import io
import re

import pytest
import soundfile
from conftest import Platform, platform_of, store_in

from luthier.common.v1.common_pb2 import MODE_MAJOR, TempoFact
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation.report import listening, tempo
from luthier_evaluation.report.key import FIFTHS, confusion, key_section, short
from luthier_evaluation.report.length import length_section
from luthier_evaluation.report.page import render
from luthier_evaluation.report.tempo import octave_error, tempo_section
from luthier_evaluation.scores import genre_scores
from luthier_music.key_facts import key_fact
from luthier_music.keys import parse_key


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of two rows and two models, of which one row failed."""
    row = pb.SuiteRow(prompt="<script>alert(1)</script> at 100 BPM", seconds_total=3, seed=9000, tempo_bpm=100)
    row.key.tonic, row.key.mode = "A", MODE_MAJOR
    other = pb.SuiteRow(prompt="A song in C minor at 90 BPM.", seconds_total=3, seed=9001, tempo_bpm=90)
    suite = pb.Suite(name="mine", rows=[row, other])
    folder = tmp_path_factory.mktemp("page")
    with store_in(folder) as store, platform_of(store, folder) as platform:
        platform.inference.refuse = lambda model, index: model == "base@1" and index == 1
        evaluation = platform.done(suite_name=None, suite=suite, seconds_total=None, created_by="<b>ada</b>")
        return str(store.blobs.read(evaluation.report).decode())


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    for attribute in re.findall(r'(?:src|href|action|data)="([^"]*)"', page):
        # a sound, a matrix, or another element of the page
        assert attribute.startswith(("data:audio/", "data:image/png;base64,", "#"))
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page


def test_its_audio_has_one_heading_which_luthier_report_puts_listening_tests_before(page: str) -> None:
    assert page.count("<section>\n<h2>Listen</h2>") == 1
    assert page.count("</main>") == 1


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

    assert len(svgs) >= 12  # eight metrics, the scatter, the histogram, a confusion matrix of each model
    assert all('role="img"' in svg and re.search(r'aria-label="[^"]+"', svg) for svg in svgs)
    assert 'aria-label="base@1: 0.0' in page  # a score plot reads out its marks
    scatter = next(svg for svg in svgs if "Tempo asked for against" in svg)
    titles = re.findall(r"<use [^>]*><title>([^<]*)</title></use>", scatter)
    assert titles == [
        "base@1, row 0: 100 -&gt; 120.0",
        "tuned@1, row 0: 100 -&gt; 100.0",
        "tuned@1, row 1: 90 -&gt; 90.0",
    ]


def test_what_is_not_computed_says_why(page: str) -> None:
    reason = "not computed: no row has a second tempo: none was asked for"

    (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page, re.S) if reason in row)

    assert "Second tempo estimator agrees" in row


def test_rows_show_how_far_each_is_from_the_reference(platform: Platform) -> None:
    evaluation = platform.done(max_rows=2)
    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    results.rows[0].values["song_fd_passt"] = 123.44

    page = render(results, platform.store)

    assert page.count("<th>FD passt</th>") == 2  # a column of each model
    assert page.count('<td class="n">123.4</td>') == 1
    assert page.count('<td class="n">–</td>') == 3
    assert "FD passt" not in str(platform.store.blobs.read(evaluation.report))


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


def pair_results(pairs: list[tuple[str, str]]) -> pb.EvaluationResults:
    """Results of one model for (key asked for, key measured), empty = none found."""
    results = pb.EvaluationResults(plan=pb.EvaluationPlan(models=[pb.EvaluatedModel(model="m@1")]))
    for row, (asked, measured) in enumerate(pairs):
        results.plan.suite.rows.add(prompt="a song", key=key_fact(parse_key(asked)))
        results.rows.add(row=row, model="m@1", key=key_fact(parse_key(measured)) if measured else None)
    return results


def test_keys_are_counted_by_what_was_asked_for_and_what_was_measured() -> None:
    section = key_section(
        pair_results([("C major", "C major")] * 3 + [("C major", "G major"), ("A minor", "C major"), ("F minor", "")]),
        ["#000000"],
    )

    (matrix,) = section.confusions
    assert re.findall(r"<title>([^<]*)</title>", matrix) == [
        "m@1: C asked for, C measured: 3 rows",
        "m@1: C asked for, G measured: 1 row",
        "m@1: Am asked for, C measured: 1 row",
        "m@1: Fm asked for, none measured: 1 row",
    ]
    assert 'aria-label="m@1: keys asked for against keys measured; 3 of 6 rows on the diagonal"' in matrix
    assert dict(section.relations) == {
        "exact": [(3, 0.5)],
        "a fifth above": [(1, 1 / 6)],
        "relative": [(1, 1 / 6)],
        "parallel": [(0, 0)],
        "other": [(0, 0)],
        "no key found": [(1, 1 / 6)],
    }


def test_keys_stand_in_the_order_of_the_circle_of_fifths() -> None:
    names = [short(key) for key in FIFTHS]

    assert names[:12] == ["C", "G", "D", "A", "E", "B", "F#", "C#", "Ab", "Eb", "Bb", "F"]
    assert names[12:15] == ["Cm", "Gm", "Dm"]
    counts = confusion([(parse_key("D major"), parse_key("A minor")), (parse_key("D major"), None)])
    assert counts.sum() == 2
    assert (counts[2, 15], counts[2, 24]) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "measured", "share"), [(120, 120, 1), (120, 240, 1), (120, 40, 4 / 3), (120, 90, 3 / 4), (90, 99, 1.1)]
)
def test_errors_of_tempo_are_folded_into_an_octave(asked: float, measured: float, share: float) -> None:
    assert 2 ** octave_error(asked, measured) == pytest.approx(share)


def test_the_middle_bar_of_tempo_errors_holds_what_is_within_two_per_cent() -> None:
    edges = tempo.error_edges()
    middle = max(edge for edge in edges if edge < 0), min(edge for edge in edges if edge > 0)

    assert 2 ** middle[1] == pytest.approx(1.02)
    assert 2 ** middle[0] == pytest.approx(1 / 1.02)
    assert (edges[0], edges[-1]) == (-0.5, 0.5)
    assert edges == sorted(edges)


def test_tempo_errors_are_counted_by_their_size() -> None:
    results = pb.EvaluationResults(plan=pb.EvaluationPlan(models=[pb.EvaluatedModel(model="m@1")]))
    for row, measured in enumerate((100.0, 201.0, 49.8, 110.0, None)):
        results.plan.suite.rows.add(prompt="a song", tempo_bpm=100)
        results.rows.add(row=row, model="m@1", tempo=TempoFact(tempo_bpm=measured) if measured else None)

    section = tempo_section(results, ["#000000"])

    assert section.unmeasured == [1]
    assert re.findall(r"<title>([^<]*)</title>", str(section.errors)) == [
        "m@1, −2.0 % to +2.0 %: 3 rows",
        "m@1, +6.1 % to +10.4 %: 1 row",  # 1.02 to the 3rd and 5th power
    ]


def test_ends_are_counted_by_their_distance_from_the_length_asked_for() -> None:
    results = pb.EvaluationResults(plan=pb.EvaluationPlan(models=[pb.EvaluatedModel(model="m@1")]))
    for row, (asked_s, end_s) in enumerate(((5, 5.0), (10, 10.04), (10, 12.0), (20, 46.97), (47, 47.0), (5, None))):
        results.plan.suite.rows.add(prompt="a song", seconds_total=asked_s)
        results.rows.add(row=row, model="m@1", sounding_s=end_s, untrimmed_s=47.0)

    section = length_section(results, ["#000000"])

    assert section is not None
    assert (section.silent, section.run_on) == ([1], [1])  # the whole window was asked for in row 4
    titles = re.findall(r"<title>([^<]*)</title>", str(section.errors))
    assert titles == ["m@1, −1 to +1 s: 3 rows", "m@1, +1 to +3 s: 1 row", "m@1, +25 to +27 s: 1 row"]
    assert "m@1, row 3: 20 s -&gt; 47.0 s, to the end" in str(section.scatter)


def test_without_untrimmed_audio_there_is_no_section_of_length() -> None:
    assert length_section(pair_results([("C major", "C major")]), ["#000000"]) is None


def test_scores_by_genre_have_a_mark_of_each_model_and_genre() -> None:
    results = pair_results([("C major", "C major"), ("C major", "G major"), ("D major", "D major")])
    for row, genre in zip(results.plan.suite.rows, ("rock", "rock", "hip hop"), strict=True):
        row.genres.append(genre)
    results.genre_scores.extend(genre_scores(results.plan, results.rows))

    found = key_section(results, ["#000000"]).genres

    assert found is not None
    assert [(row.genre, row.n) for row in found.rows] == [("rock", 2), ("hip hop", 1)]
    assert [score.value for score in found.rows[0].cells[0] if score] == [0.5, 0.5, 0.75]  # exact, tonic, MIREX
    titles = re.findall(r"<title>([^<]*)</title>", found.plot)
    assert titles[0].startswith("rock, m@1: 50.0")
    assert titles[1].startswith("hip hop, m@1: 100.0")


def test_rows_to_play_are_spread_over_the_suite() -> None:
    assert listening.rows_to_play(3) == [0, 1, 2]
    assert listening.rows_to_play(192, most=4) == [0, 64, 127, 191]


def test_a_sampling_rate_that_mp3_lacks_becomes_flac() -> None:
    import numpy as np

    _, media_type = listening.encode(np.zeros((1000, 2), dtype=np.float32), 10_000)
    assert media_type == "audio/flac"
