"""Plans are settled before anything is fetched, and their data sets refused by name before any work."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    ContinueFrom,
    CreateTrainingRunRequest,
    FineTune,
    StageData,
    SubsetShare,
    TrainingStage,
)
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_training.plan import Plan, Source, plan_of, read_data
from luthier_training.requests import settle

from .data_sets import LARGE, SMALL, Song, put


def ref(digit: str) -> ArtifactRef:
    return ArtifactRef(key=f"manifests/{digit * 64}.json", sha256=digit * 64)


def settled(*stages: TrainingStage, dataset: ArtifactRef | None = None, **recipe: Any) -> CreateTrainingRunRequest:
    tune = FineTune(base_model="b", stages=stages, **recipe)
    return settle(CreateTrainingRunRequest(request_id="r", dataset=dataset, model_name="m", fine_tune=tune, seed=1))


def stage(name: str = "main", steps: int = 10, data: Sequence[StageData] = (), **fields: Any) -> TrainingStage:
    return TrainingStage(name=name, steps=steps, data=data, **fields)


def violations(*stages: TrainingStage, **recipe: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        settled(*stages, dataset=ref("0"), **recipe)
    return dict(refused.value.violations)


MANY = [StageData(dataset=ArtifactRef(key=f"manifests/{n:064}.json", sha256=f"{n:064}")) for n in range(21)]
TEST = stage("test", 20, [StageData(dataset=ref("1"))], batch_size=2)
MAIN = stage("main", 100, [StageData(dataset=ref("2"), share=3), StageData(dataset=ref("3"))], learning_rate=1e-4)


def test_a_run_without_stages_is_one_stage_of_its_own_fields() -> None:
    plan = plan_of(settled(dataset=ref("0"), steps=30, batch_size=4, warmup_steps=5))
    [only] = plan.stages
    assert (only.name, only.first, only.steps, only.batch_size, only.warmup_steps) == ("", 0, 30, 4, 5)
    assert only.seed(7) == 7
    assert only.sources == (Source(0, "", Fraction(1)),)
    assert plan.datasets == (ref("0"),)


def test_stages_follow_each_other_with_the_runs_fields_as_defaults() -> None:
    request = settled(TEST, MAIN, batch_size=8, learning_rate=1e-3, warmup_steps=50)
    plan = plan_of(request)
    assert [(each.name, each.first, each.end, each.batch_size) for each in plan.stages] == [
        ("test", 0, 20, 2),
        ("main", 20, 120, 8),
    ]
    assert [(each.learning_rate, each.warmup_steps) for each in plan.stages] == [(1e-3, 20), (1e-4, 50)]
    assert request.fine_tune.steps == plan.steps == 120
    assert [plan.at(step).name for step in (0, 19, 20, 119, 120)] == ["test", "test", "main", "main", "main"]
    assert plan.stages[0].seed(7) == 7 != plan.stages[1].seed(7)


def test_shares_are_of_the_whole_stage() -> None:
    subsets = [SubsetShare(subset="polyphonic", share=2), SubsetShare(subset="monophonic", share=1)]
    data = [StageData(dataset=ref("1"), share=3, subsets=subsets), StageData(dataset=ref("2"))]
    [only] = plan_of(settled(stage(data=data))).stages
    assert only.sources == (
        Source(0, "polyphonic", Fraction(1, 2)),
        Source(0, "monophonic", Fraction(1, 4)),
        Source(1, "", Fraction(1, 4)),
    )


def test_a_data_set_named_twice_is_drawn_with_both_shares() -> None:
    data = [StageData(dataset=ref("1"), share=1), StageData(dataset=ref("2"), share=2), StageData(dataset=ref("1"))]
    [only] = plan_of(settled(stage(data=data))).stages
    assert {each.dataset: each.share for each in only.sources} == {0: Fraction(1, 2), 1: Fraction(1, 2)}


def test_a_request_without_a_data_set_is_about_the_one_that_the_last_stage_draws_most() -> None:
    assert settled(TEST, MAIN).dataset == ref("2")


def test_a_stage_without_data_draws_the_requests() -> None:
    plan = plan_of(settled(TEST, stage(), dataset=ref("0")))
    assert plan.datasets == (ref("1"), ref("0"))
    assert plan.fields == ("fine_tune.stages[0].data[0].dataset", "dataset")


def test_a_settled_request_is_settled() -> None:
    once = settled(TEST, MAIN, keep_every=10, export=EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
    assert settle(once) == once


@pytest.mark.parametrize(
    ("field", "stages", "recipe"),
    [
        ("fine_tune.stages[0].steps", [stage(steps=0)], {}),
        ("fine_tune.stages[1].steps", [stage("a"), stage("b", steps=2**31 - 1)], {}),
        ("fine_tune.stages", [stage("a", 600_000), stage("b", 600_000)], {}),
        ("fine_tune.stages", [stage(f"s{number}") for number in range(21)], {}),
        ("fine_tune.stages", [stage("a", data=MANY[:11]), stage("b", data=MANY[11:])], {}),
        ("fine_tune.stages[1].name", [stage(), stage()], {}),
        ("fine_tune.stages[0].name", [stage("No Name")], {}),
        ("fine_tune.stages[0].batch_size", [stage(batch_size=257)], {}),
        ("fine_tune.stages[0].learning_rate", [stage(learning_rate=1)], {}),
        ("fine_tune.stages[0].warmup_steps", [stage(warmup_steps=11)], {}),
        ("fine_tune.stages[0].data[0].share", [stage(data=[StageData(share=0)])], {}),
        ("fine_tune.stages[0].data[0].share", [stage(data=[StageData(share=float("nan"))])], {}),
        ("fine_tune.stages[0].data[0].dataset", [stage(data=[StageData(dataset=ArtifactRef())])], {}),
        ("fine_tune.stages[0].data", [stage(data=[StageData()] * 21)], {}),
        (
            "fine_tune.stages[0].data[0].subsets[1].subset",
            [stage(data=[StageData(subsets=[SubsetShare(subset="x"), SubsetShare(subset="x")])])],
            {},
        ),
        ("fine_tune.steps", [stage()], {"steps": 11}),
        ("fine_tune.keep_every", [stage()], {"keep_every": 11}),
        ("fine_tune.export", [stage()], {"export": 7}),
        ("fine_tune.keep_best", [stage()], {"export": EXPORTED_WEIGHTS_BEST_BY_VALIDATION, "keep_best": False}),
        ("fine_tune.continue_from.run_id", [stage()], {"continue_from": ContinueFrom()}),
        ("fine_tune.continue_from.step", [stage()], {"continue_from": ContinueFrom(run_id="training-1", step=0)}),
    ],
)
def test_bounds_name_their_field(field: str, stages: list[TrainingStage], recipe: dict[str, Any]) -> None:
    assert any(found.startswith(field) for found in violations(*stages, **recipe))


def test_a_data_set_that_no_stage_draws_from_is_refused() -> None:
    assert "dataset" in violations(TEST, MAIN)


def plan(*data: StageData) -> Plan:
    return plan_of(settled(stage(data=data)))


def test_a_subset_without_clips_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    small = put(store, tmp_path, "small", SMALL)
    with pytest.raises(InvalidRequest) as refused:
        read_data(store, plan(StageData(dataset=small, subsets=[SubsetShare(subset="monophonic")])))
    said = "small has no clip of the subset 'monophonic' to train on; it has polyphonic"
    assert dict(refused.value.violations) == {"fine_tune.stages[0].data[0].dataset": said}


def test_clips_that_no_stage_draws_are_left_out_and_validation_is_not(store: Store, tmp_path: Path) -> None:
    large = put(store, tmp_path, "large", LARGE)
    [found] = read_data(store, plan(StageData(dataset=large, subsets=[SubsetShare(subset="monophonic")])))
    assert [(row.split, row.source.subset) for row in found.rows] == [
        ("train", "monophonic"),
        ("train", "monophonic"),
        ("validation", ""),
        ("validation", "monophonic"),
    ]


@pytest.mark.parametrize(
    ("songs", "of_rows"),
    [
        ([("c", "train", ""), ("x", "validation", "")], {}),  # c is small's validation song
        ([("x", "train", ""), ("a", "validation", "")], {}),  # a is small's training song
        ([("x", "train", ""), ("y", "validation", "")], {"source": {"related_fingerprints": ["a"]}}),
    ],
)
def test_a_song_that_one_data_set_trains_on_and_another_validates_with_is_refused(
    store: Store, tmp_path: Path, songs: list[Song], of_rows: dict[str, Any]
) -> None:
    small, other = put(store, tmp_path, "small", SMALL), put(store, tmp_path, "other", songs, **of_rows)
    with pytest.raises(InvalidRequest, match=r"song [ac] is trained on by (small|other)") as refused:
        read_data(store, plan(StageData(dataset=small), StageData(dataset=other)))
    assert refused.value.reason == "DATASET_INVALID"


def test_data_sets_that_share_training_songs_are_taken(store: Store, tmp_path: Path) -> None:
    small, large = put(store, tmp_path, "small", SMALL), put(store, tmp_path, "large", LARGE)
    assert [found.name for found in read_data(store, plan(StageData(dataset=small), StageData(dataset=large)))] == [
        "small",
        "large",
    ]
