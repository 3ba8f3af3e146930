"""The shipped suites are frozen: their digests are their names."""

import re

import pytest

from luthier_evaluation import plan
from luthier_music.keys import ALL_KEYS

FROZEN = {
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
        assert not row.HasField("key") or f"in {plan.key_of(row.key)}" in row.prompt


def test_the_tempo_suite_asks_for_every_tempo_from_75_to_160_twice() -> None:
    tempi = [row.tempo_bpm for row in plan.shipped_suite("paper-tempo").rows]
    assert sorted(tempi) == sorted(list(range(75, 161)) * 2)


def test_the_key_suite_asks_for_every_key_eight_times_in_four_genres() -> None:
    rows = plan.shipped_suite("paper-key").rows
    for key in ALL_KEYS:
        prompts = [row.prompt for row in rows if plan.key_of(row.key) == key]
        assert len(prompts) == 8
        assert all(sum(genre in prompt for prompt in prompts) == 2 for genre in ("rock", "jazz", "hip hop", "pop"))


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
