"""A model becomes the current one of a name because an evaluation supports it, or because a person insists."""

from dataclasses import replace

import pytest
from conftest import Platform, add_model
from loopback import follows_prompt, ignores_prompt

from luthier_kit.registry import TRANSFORMER, UNFIT, register, resolve, versions
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound


def test_a_model_with_a_good_evaluation_becomes_the_next_version_of_the_name(platform: Platform) -> None:
    evaluation = platform.done()

    done = platform.promote(evaluation_id=evaluation.evaluation_id)

    current = resolve(platform.store, "current")
    assert (done.model, done.unchanged) == ("current@1", False)
    assert done.model_digest == f"sha256:{current.digest}" == evaluation.candidate_digest
    assert (current.evaluation, current.created_by, current.reason) == (
        evaluation.evaluation_id,
        "ada",
        "it follows the prompt",
    )
    assert current.notes["promoted_from"] == "tuned@1"


def test_promoting_what_is_current_changes_nothing(platform: Platform) -> None:
    evaluation = platform.done()
    platform.promote(evaluation_id=evaluation.evaluation_id)

    again = platform.promote(evaluation_id=evaluation.evaluation_id, reason="again")

    assert (again.model, again.unchanged) == ("current@1", True)


def test_a_candidate_worse_than_its_baseline_is_refused_with_numbers(platform: Platform) -> None:
    platform.inference.makes |= {"base": follows_prompt, "tuned": ignores_prompt}
    evaluation = platform.done()

    with pytest.raises(FailedPrecondition, match=r"tempo_accuracy_1 is worse than the baseline's by 0\.875") as error:
        platform.promote(evaluation_id=evaluation.evaluation_id)

    assert error.value.reason == "PROMOTION_REFUSED"
    assert versions(platform.store, "current") == []


def test_a_forced_promotion_records_what_it_overruled(platform: Platform) -> None:
    platform.inference.makes |= {"base": follows_prompt, "tuned": ignores_prompt}
    evaluation = platform.done()

    done = platform.promote(evaluation_id=evaluation.evaluation_id, force=True, reason="the demo is at noon")

    current = resolve(platform.store, done.model)
    assert any("tempo_accuracy_1 is worse" in line for line in current.notes["overruled"])
    assert current.reason == "the demo is at noon"


def test_an_evaluation_of_another_model_does_not_support_this_one(platform: Platform) -> None:
    evaluation = platform.done()
    add_model(platform.store, "other")

    with pytest.raises(FailedPrecondition, match="measured tuned@1"):
        platform.promote(model="other", evaluation_id=evaluation.evaluation_id)
    with pytest.raises(FailedPrecondition, match="measured tuned@1"):
        platform.promote(model="base", evaluation_id=evaluation.evaluation_id)


def test_without_an_evaluation_nothing_is_promoted(platform: Platform) -> None:
    with pytest.raises(FailedPrecondition, match="no evaluation is named"):
        platform.promote()
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


def test_too_many_failed_rows_are_a_reason_to_refuse(platform: Platform) -> None:
    platform.inference.refuse = lambda model, row: row in (0, 1)
    evaluation = platform.done()

    with pytest.raises(FailedPrecondition, match="4 of 16 rows failed, more than 10%"):
        platform.promote(evaluation_id=evaluation.evaluation_id)


def test_promoting_an_older_digest_is_a_rollback_by_its_old_evaluation(platform: Platform) -> None:
    first = platform.done("r1")
    platform.promote(evaluation_id=first.evaluation_id)
    add_model(platform.store, "tuned", "second weights")
    second = platform.done("r2", candidate_model="tuned@2")
    platform.promote(model="tuned@2", evaluation_id=second.evaluation_id)

    back = platform.promote(model=first.candidate_digest, reason="the second one drags")

    assert (back.model, back.model_digest, back.unchanged) == ("current@3", first.candidate_digest, False)
    assert resolve(platform.store, "current").evaluation == first.evaluation_id


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": "No Spaces"}, "name"), ({"promoted_by": ""}, "promoted_by"), ({"reason": " "}, "reason")],
)
def test_who_and_why_must_be_said(platform: Platform, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        platform.promote(**fields)
    assert [name for name, _ in error.value.violations] == [field]


def test_a_few_rows_are_no_proof_that_a_model_is_worse(platform: Platform) -> None:
    platform.inference.makes |= {"base": follows_prompt, "tuned": ignores_prompt}
    evaluation = platform.done(max_rows=2)

    assert platform.promote(evaluation_id=evaluation.evaluation_id).model == "current@1"
