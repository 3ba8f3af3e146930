"""A model becomes the current one of a name because an evaluation shows what the rule wants, or because a person
insists."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Platform, add_model
from loopback import Make, Music, follows_prompt, ignores_prompt

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.inference.v1.inference_pb2 import GenerateRequest
from luthier_evaluation.promotion_rule import read_rule
from luthier_kit.registry import TRANSFORMER, UNFIT, register, resolve, versions
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound
from luthier_music.key_facts import key_fact
from luthier_music.keys import ALL_KEYS

pytestmark = pytest.mark.usefixtures("undrawn")

TEMPI = (75, 83, 91, 99, 108, 118, 129, 141)


def suite(rows: int = 24) -> pb.Suite:
    """Rows with a tempo and a key each."""
    made = pb.Suite(name="asked")
    for row in range(rows):
        tempo, key = TEMPI[row % len(TEMPI)], ALL_KEYS[row % len(ALL_KEYS)]
        prompt = f"A song in {key} at {tempo} BPM"
        made.rows.add(prompt=prompt, seconds_total=4, seed=9000 + row, tempo_bpm=tempo, key=key_fact(key))
    return made


@pytest.fixture
def measured(platform: Platform) -> Callable[..., pb.Evaluation]:
    """Evaluates `tuned` on the suite; beside `base` when it is asked for."""

    def done(request_id: str = "r1", rows: int = 24, **fields: object) -> pb.Evaluation:
        fields = {"suite_name": None, "suite": suite(rows), "seconds_total": None, "baseline_model": "", **fields}
        evaluation: pb.Evaluation = platform.done(request_id, **fields)
        return evaluation

    return done


Measured = Callable[..., pb.Evaluation]


def refused(platform: Platform, **fields: object) -> str:
    with pytest.raises(FailedPrecondition) as error:
        platform.promote(**fields)
    assert error.value.reason == "PROMOTION_REFUSED"
    return str(error.value)


def test_a_model_that_follows_its_prompts_becomes_the_next_version_of_the_name(
    platform: Platform, measured: Measured
) -> None:
    evaluation = measured()

    done = platform.promote(evaluation_id=evaluation.evaluation_id)

    current = resolve(platform.store, "current")
    assert (done.model, done.unchanged, done.promoted) == ("current@1", False, True)
    assert done.model_digest == f"sha256:{current.digest}" == evaluation.candidate_digest
    assert (current.evaluation, current.created_by, current.reason) == (
        evaluation.evaluation_id,
        "ada",
        "it follows the prompt",
    )
    assert current.notes["promoted_from"] == "tuned@1"
    assert current.notes["promotion_rule"]["sha256"] == done.rule_sha256 == read_rule().sha256
    assert all(clause.holds for clause in done.clauses)
    told = {clause.name: clause.figure for clause in done.clauses}
    assert told["rows of tempo_accuracy_2"] == "24, at least 20"
    assert told["silent"] == "0 of 24 rows are silent, at most 2%"
    assert told["follows tempo_accuracy_2"].startswith("prompts dealt out anew score as well with p = 0.0001")
    assert told["baseline"] == "the name has no version yet"
    assert current.notes["promotion_rule"]["clauses"] == [f"{c.name}: {c.figure}" for c in done.clauses]


def noise(request: GenerateRequest, row: int) -> Music:
    """Any tempo and key, whatever was asked for."""
    dice = random.Random(row)
    return Music(dice.uniform(60, 180), dice.choice(ALL_KEYS))


def silence(request: GenerateRequest, row: int) -> Music:
    return Music(None, None)


def clipped(request: GenerateRequest, row: int) -> Music:
    return replace(follows_prompt(request, row), gain=4.0)


@pytest.mark.parametrize(
    ("makes", "clauses"),
    [
        (silence, {"silent", "follows tempo_accuracy_2"}),
        (noise, {"follows tempo_accuracy_2"}),
        (ignores_prompt, {"follows tempo_accuracy_2"}),
        (clipped, {"clipped"}),
    ],
)
def test_what_no_model_is_promoted_for(platform: Platform, measured: Measured, makes: Make, clauses: set[str]) -> None:
    platform.inference.makes["tuned"] = makes
    evaluation = measured()
    told = refused(platform, evaluation_id=evaluation.evaluation_id)
    assert {line.partition(":")[0] for line in told.splitlines()[1:]} == clauses


@pytest.mark.parametrize("rows", [1, 8])
def test_a_handful_of_rows_is_luck(platform: Platform, measured: Measured, rows: int) -> None:
    evaluation = measured(rows=rows)
    told = refused(platform, evaluation_id=evaluation.evaluation_id)
    assert f"rows of tempo_accuracy_2: {rows}, at least 20" in told


def test_a_name_with_a_version_wants_to_be_compared_with_it(platform: Platform, measured: Measured) -> None:
    platform.inference.makes["base"] = follows_prompt
    first = measured("base", candidate_model="base")
    platform.promote(model="base", evaluation_id=first.evaluation_id)

    alone = measured("alone")
    assert "it was compared with none: the current version is current@1" in refused(
        platform, evaluation_id=alone.evaluation_id
    )
    add_model(platform.store, "other")
    platform.inference.makes["other"] = ignores_prompt
    beside_another = measured("beside another", baseline_model="other")
    assert "compared with other@1" in refused(platform, evaluation_id=beside_another.evaluation_id)

    platform.inference.makes["current"] = follows_prompt
    beside = measured("beside", baseline_model="current")
    # as good, and that of too few rows to show that it is not 5 points worse
    assert "tempo_accuracy_2 +0.000 (-0.075 to +0.075, 24 rows)" in refused(
        platform, evaluation_id=beside.evaluation_id
    )
    platform.inference.makes["current"] = ignores_prompt
    better = measured("better", baseline_model="current")
    done = platform.promote(evaluation_id=better.evaluation_id)
    assert done.model == "current@2"
    assert {clause.name for clause in done.clauses} > {"baseline", "beside the baseline"}


def test_a_prompt_deaf_model_does_not_replace_an_obedient_one(platform: Platform, measured: Measured) -> None:
    evaluation = measured()
    platform.promote(evaluation_id=evaluation.evaluation_id)
    add_model(platform.store, "deaf")
    platform.inference.makes |= {"deaf": ignores_prompt, "current": follows_prompt}
    beside = measured("deaf", candidate_model="deaf", baseline_model="current")
    told = refused(platform, model="deaf", evaluation_id=beside.evaluation_id)
    assert "beside the baseline" in told
    assert "follows tempo_accuracy_2" in told


def test_as_good_as_the_current_version_is_enough_where_there_are_rows_to_show_it(
    platform: Platform, measured: Measured
) -> None:
    platform.promote(evaluation_id=measured().evaluation_id)
    add_model(platform.store, "other")
    platform.inference.makes |= {"other": follows_prompt, "current": follows_prompt}
    evaluation = measured("many", rows=60, candidate_model="other", baseline_model="current")
    done = platform.promote(model="other", evaluation_id=evaluation.evaluation_id)
    assert done.model == "current@2"


def test_promoting_what_is_current_changes_nothing(platform: Platform, measured: Measured) -> None:
    evaluation = measured()
    platform.promote(evaluation_id=evaluation.evaluation_id)

    again = platform.promote(evaluation_id=evaluation.evaluation_id, reason="again")

    assert (again.model, again.unchanged, again.promoted) == ("current@1", True, True)


def test_the_rule_can_be_asked_without_promoting(platform: Platform, measured: Measured) -> None:
    good, few = measured(), measured("few", rows=2)
    asked = platform.promote(evaluation_id=good.evaluation_id, check_only=True)
    assert (asked.model, asked.promoted, all(clause.holds for clause in asked.clauses)) == ("tuned@1", False, True)
    asked = platform.promote(evaluation_id=few.evaluation_id, check_only=True)
    assert not all(clause.holds for clause in asked.clauses)
    assert versions(platform.store, "current") == []


def test_a_forced_promotion_records_what_it_overruled_and_is_no_way_back_without_force(
    platform: Platform, measured: Measured
) -> None:
    platform.inference.makes["tuned"] = ignores_prompt
    evaluation = measured()

    done = platform.promote(evaluation_id=evaluation.evaluation_id, force=True, reason="the demo is at noon")

    current = resolve(platform.store, done.model)
    assert [line.partition(":")[0] for line in current.notes["overruled"]] == ["follows tempo_accuracy_2"]
    assert current.reason == "the demo is at noon"

    add_model(platform.store, "other")
    platform.promote(model="other", force=True, reason="later")
    told = refused(platform, model="tuned", evaluation_id=evaluation.evaluation_id)
    assert "rollback: current@1 was promoted by force, against: follows tempo_accuracy_2" in told


def test_an_evaluation_of_another_model_does_not_support_this_one(platform: Platform, measured: Measured) -> None:
    evaluation = measured(baseline_model="base")
    add_model(platform.store, "other")

    with pytest.raises(FailedPrecondition, match="measured tuned@1"):
        platform.promote(model="other", evaluation_id=evaluation.evaluation_id)
    with pytest.raises(FailedPrecondition, match="measured tuned@1"):
        platform.promote(model="base", evaluation_id=evaluation.evaluation_id)


def test_without_an_evaluation_nothing_is_promoted(platform: Platform) -> None:
    assert "evaluation: none is named" in refused(platform)
    with pytest.raises(NotFound):
        platform.promote(evaluation_id="evaluation-0000")


def test_an_evaluation_that_failed_supports_nothing(platform: Platform) -> None:
    platform.inference.refuse = lambda model, row: model == "tuned@1"
    evaluation = platform.done()

    with pytest.raises(FailedPrecondition, match="is FAILED, not SUCCEEDED"):
        platform.promote(evaluation_id=evaluation.evaluation_id)


def test_a_version_that_would_make_noise_is_not_promoted_even_by_force(platform: Platform) -> None:
    unfit = replace(add_model(platform.store, "unfit"), notes={TRANSFORMER: UNFIT})
    label = register(platform.store, unfit).label

    with pytest.raises(FailedPrecondition, match="fine-tune it") as error:
        platform.promote(model=label, force=True, reason="I insist")

    assert error.value.reason == "TRANSFORMER_UNFIT"
    assert versions(platform.store, "current") == []


def test_too_many_failed_rows_are_a_reason_to_refuse(platform: Platform, measured: Measured) -> None:
    platform.inference.refuse = lambda model, row: row in (0, 1, 2)
    evaluation = measured()

    with pytest.raises(FailedPrecondition, match="failed: 3 of 24 rows failed, at most 10%"):
        platform.promote(evaluation_id=evaluation.evaluation_id)


def test_promoting_an_older_digest_is_a_rollback_by_its_old_evaluation(platform: Platform, measured: Measured) -> None:
    first = measured()
    platform.promote(evaluation_id=first.evaluation_id)
    add_model(platform.store, "tuned", "second weights")
    platform.promote(model="tuned@2", force=True)

    back = platform.promote(model=first.candidate_digest, reason="the second one drags")

    assert (back.model, back.model_digest, back.unchanged) == ("current@3", first.candidate_digest, False)
    assert [clause.figure for clause in back.clauses] == [f"it was promoted as current@1 on {first.evaluation_id}"]
    assert resolve(platform.store, "current").evaluation == first.evaluation_id


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": "No Spaces"}, "name"), ({"promoted_by": ""}, "promoted_by"), ({"reason": " "}, "reason")],
)
def test_who_and_why_must_be_said(platform: Platform, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        platform.promote(**fields)
    assert [name for name, _ in error.value.violations] == [field]


def test_a_rule_of_ones_own_is_read_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text(
        "name: keys\nrows: {key_exact: 100}\nfollows: {key_exact: 0.05}\nmargins: {key_mirex: 0.1}\n"
        "failed: 0\nsilent: 0\nclipped: 1\n"
    )
    rule = read_rule(path)
    assert (rule.name, rule.rows, rule.better, rule.shares["clipped"]) == ("keys", {"key_exact": 100}, "", 1)
    assert rule.sha256 != read_rule().sha256


def test_a_rule_with_faults_is_refused_with_every_line(tmp_path: Path) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text(
        "name: x\nrows: {loudness_lufs: 3}\nfollows: {key_exact: 2}\nbetter: best\nmargins: {}\nfailed: 0\n"
    )
    with pytest.raises(InvalidRequest) as error:
        read_rule(path)
    told = str(error.value)
    for fault in (
        "line 2: rows.loudness_lufs: is not known",
        "line 3: follows.key_exact: must be a number between 0.0001 and 1, got '2'",
        "line 4: better: must be one of tempo_accuracy_1",
        "line 1: the file: silent is missing",
    ):
        assert fault in told
    with pytest.raises(InvalidRequest, match="No such file"):
        read_rule(tmp_path / "nowhere.yaml")
