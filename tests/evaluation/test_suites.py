"""The shipped suites are frozen: their digests are their names."""

import re
from itertools import pairwise
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation import plan
from luthier_music.key_facts import key_of
from luthier_music.keys import ALL_KEYS

FROZEN = {
    "paper-length": (64, "8ff9c44995b806892d13dc5efe368df646d1e15b960220b6572d5db3dc329898"),
    "paper-key": (192, "28605458c5140dc0b0b1dd2680adc9df18d05ca846103a75ee877e0dbde399fc"),
    "paper-tempo": (172, "807544107e7a5629559228e75f1ccfe455c691d6ed3d0e4e777eaefa891077d3"),
    "quick": (8, "e6dc6c8e1b39c19e88d787b3d4d2cf09edc1245ce5cc238f22754946e9b5ed2a"),
}


def test_the_shipped_suites_are_these() -> None:
    assert plan.shipped_names() == sorted(FROZEN)


@pytest.mark.parametrize("name", FROZEN)
def test_a_shipped_suite_never_changes(name: str) -> None:
    suite = plan.shipped_suite(name)

    assert (len(suite.rows), plan.suite_sha256(suite)) == FROZEN[name]


@pytest.mark.parametrize("name", FROZEN)
def test_each_prompt_states_its_own_reference(name: str) -> None:
    for row in plan.shipped_suite(name).rows:
        tempo = re.search(r"at (\d+) BPM\.", row.prompt)
        assert (float(tempo[1]) if tempo else None) == (row.tempo_bpm if row.HasField("tempo_bpm") else None)
        assert not row.HasField("key") or f"in {key_of(row.key)}" in row.prompt


def test_the_tempo_suite_asks_for_every_tempo_from_75_to_160_twice() -> None:
    tempi = [row.tempo_bpm for row in plan.shipped_suite("paper-tempo").rows]
    assert sorted(tempi) == sorted(list(range(75, 161)) * 2)


def test_the_key_suite_asks_for_every_key_eight_times_in_four_genres() -> None:
    rows = plan.shipped_suite("paper-key").rows
    for key in ALL_KEYS:
        prompts = [row.prompt for row in rows if key_of(row.key) == key]
        assert len(prompts) == 8
        assert all(sum(genre in prompt for prompt in prompts) == 2 for genre in ("rock", "jazz", "hip hop", "pop"))


def test_each_prompt_names_its_genre_and_instruments() -> None:
    for name in FROZEN:
        for row in plan.shipped_suite(name).rows:
            assert len(row.genres) == 1
            assert len(row.instruments) == 3
            assert plan.unstated(row.prompt, [*row.genres, *row.instruments]) == []


def test_the_length_suite_spreads_lengths_evenly_over_a_window() -> None:
    lengths = sorted({row.seconds_total for row in plan.shipped_suite("paper-length").rows})
    assert len(lengths) == 16
    assert lengths[0] == pytest.approx(95 / 32, abs=0.5)
    assert lengths[-1] == pytest.approx(95 * 31 / 32, abs=0.5)
    assert {round(after - before) for before, after in pairwise(lengths)} == {5, 6}  # 95 / 16 in whole seconds


@pytest.mark.parametrize(
    ("window_s", "asked_s", "scaled_s"),
    [
        (47.554, 92.0, 46.0),  # 46.05: whole seconds, as Stable Audio 1 is told
        (47.554, 3.0, 1.0),
        (190.0, 9.0, 18.0),
        (5.944, 92.0, 5.7),  # tenths below 20 s
        (1.9, 3.0, 0.5),  # 0.06 would be shorter than any row may be
    ],
)
def test_lengths_are_scaled_to_the_window(window_s: float, asked_s: float, scaled_s: float) -> None:
    suite = pb.Suite(rows=[pb.SuiteRow(prompt="a song", seconds_total=asked_s)])
    assert plan.scaled_to_window(suite, 95.0, window_s).rows[0].seconds_total == scaled_s
    assert suite.rows[0].seconds_total == asked_s


def test_what_a_prompt_does_not_say_is_in_the_digest() -> None:
    row = pb.SuiteRow(prompt="A rocket song with bass drum at 90 BPM.", seconds_total=5)
    bare = plan.suite_sha256(pb.Suite(rows=[row]))

    def digest(**fields: Any) -> str:
        changed = pb.SuiteRow(prompt=row.prompt, seconds_total=5, **fields)
        return plan.suite_sha256(pb.Suite(rows=[changed]))

    assert digest(instruments=["bass"]) == bare  # the prompt names it
    assert digest(genres=["rock"]) != bare  # a rocket is no rock
    assert digest(instruments=["violin"]) != bare
    assert digest(reference=ArtifactRef(sha256="a" * 64)) != bare


def test_every_row_of_a_suite_has_its_own_seed() -> None:
    for name in FROZEN:
        seeds = [row.seed for row in plan.shipped_suite(name).rows]
        assert len(set(seeds)) == len(seeds)


def test_the_digest_is_of_the_rows_that_take_effect() -> None:
    quick = plan.shipped_suite("quick")
    digest = plan.suite_sha256(quick)

    assert plan.suite_sha256(plan.effective_suite(quick, max_rows=8)) == digest
    assert plan.suite_sha256(plan.effective_suite(quick, max_rows=4)) != digest
    assert plan.suite_sha256(plan.effective_suite(quick, seconds_total=5.0)) != digest
