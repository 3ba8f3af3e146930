"""Metadata are drawn anew at every step, the same after a resume, and state nothing that the clip lacks."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import FineTune
from luthier_kit.registry import ModelVersion
from luthier_kit.store import Store
from luthier_music.clip_facts import facts_of
from luthier_training.base_model import BaseModel, CachedPrompts, Latents
from luthier_training.dataset import read_manifest
from luthier_training.examples import Batch, Example, draw_batch
from luthier_training.recipes import RECIPES
from luthier_training.reporting import Stopped

from .conftest import PROMPTS
from .test_fine_tune import TUNE, StopsAtFive, job

# What each clip of the data set may be said to be: read by hand off conftest's FACTS and TAGS.
TRUE = [
    {
        "genre": {"jazz"},
        "moods": {"sad"},
        "era": {"1950s"},
        "instruments": {"piano", "drums"},
        "tempo": {"120 bpm"},
        "key": {"a minor"},
        "energy": {"high energy"},
    },
    {"instruments": {"flute"}, "format": {"solo"}},
    {},
]
LATENTS = Latents(torch.zeros(2, 4), torch.ones(2, 4), 1.0)


@pytest.fixture
def examples(store: Store, dataset_ref: ArtifactRef) -> list[Example]:
    rows = read_manifest(store, dataset_ref).rows
    return [Example(LATENTS, tuple(row.prompts), facts_of(row.facts, row.tags)) for row in rows]


def draw(examples: list[Example], number: int, share: float = 1.0, seed: int = 4) -> Batch:
    return draw_batch(examples, number, 4, 0.1, seed, share)


def captions(example: Example, count: int = 200, share: float = 1.0, seed: int = 4) -> list[str]:
    """What is said of a clip in `count` batches of four."""
    return [said["prompt"] for number in range(count) for said in draw([example], number, share, seed).conditions]


def stated(caption: str) -> list[tuple[str, set[str]]]:
    """A reader of its own: (type, values) of a caption with names, each value by itself of one without."""
    caption = caption.lower()
    if ":" not in caption:
        return [("", {value}) for value in caption.split(", ")]
    fields = [field.strip().partition(": ") for field in caption.split("|")]
    return [
        (name, {f"{each} energy" if name == "energy" else each for each in text.split(", ")})
        for name, _, text in fields
    ]


@pytest.mark.parametrize("clip", [0, 1])
def test_only_what_is_known_of_the_clip_is_stated_and_all_of_it_in_time(examples: list[Example], clip: int) -> None:
    true = TRUE[clip]
    known = set().union(*true.values())
    seen: Counter[str] = Counter()
    for seed in range(5):
        for caption in captions(examples[clip], seed=seed):
            for name, values in stated(caption):
                assert values <= (true[name] if name else known), caption
                seen.update(values)
    assert set(seen) == known


def test_titles_artists_voices_and_unknown_words_are_never_said(examples: list[Example]) -> None:
    said = " ".join(captions(examples[0]) + captions(examples[1])).lower()
    for word in (
        "blue",
        "kind of",
        "miles",
        "davis",
        "so what",
        "female",
        "vocal",
        "live",
        "violin",
        "97",
        "98",
        "c major",
    ):
        assert word not in said


def test_draws_differ_between_steps(examples: list[Example]) -> None:
    by_step = [[said["prompt"] for said in draw(examples[:1], number).conditions] for number in range(50)]
    assert all(one != other for one, other in pairwise(by_step))
    drawn = [caption for step in by_step for caption in step]
    assert len(set(drawn)) > 0.9 * len(drawn)


def test_subset_order_and_case_are_drawn(examples: list[Example]) -> None:
    drawn = captions(examples[0])
    assert len({frozenset(name for name, _ in stated(each)) for each in drawn if ":" in each}) > 20
    assert len({next(name for name, _ in stated(each)) for each in drawn if ":" in each}) == len(TRUE[0])
    assert all(any(test(each) for each in drawn) for test in (str.isupper, str.islower))
    assert 0.4 < sum(":" in each for each in drawn) / len(drawn) < 0.6


def test_a_batch_says_the_same_whenever_it_is_drawn(examples: list[Example]) -> None:
    later = [draw(examples, number).conditions for number in (7, 3, 5)]
    again = [draw(examples, number).conditions for number in (3, 5, 7)]
    assert later == [again[2], again[0], again[1]]


def test_another_seed_says_something_else(examples: list[Example]) -> None:
    assert captions(examples[0], 2) != captions(examples[0], 2, seed=2**32 + 4)


def test_a_clip_of_which_nothing_is_known_keeps_its_prompts(examples: list[Example]) -> None:
    assert set(captions(examples[2])) == {PROMPTS[2], PROMPTS[2].upper()}


def test_the_share_of_draws_is_the_one_asked_for(examples: list[Example]) -> None:
    drawn = sum(caption not in examples[0].prompts for caption in captions(examples[0], 500, share=0.25))
    assert abs(drawn / 2000 - 0.25) < 3 * (0.25 * 0.75 / 2000) ** 0.5


def test_nothing_else_of_a_batch_depends_on_it(examples: list[Example]) -> None:
    without, beside = draw(examples, 3, share=0.0), draw(examples, 3)
    for name in ("latents", "noise", "timesteps", "dropped"):
        assert torch.equal(getattr(without, name), getattr(beside, name))
    assert [set(c) for c in without.conditions] == [set(c) for c in beside.conditions]
    assert all(c["prompt"] in set().union(*(e.prompts for e in examples)) for c in without.conditions)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The captions of every training step, as the text conditioner is given them."""
    found: list[list[str]] = []
    forward: Callable[..., Any] = CachedPrompts.forward

    def noted(self: CachedPrompts, x: list[str], device: Any) -> Any:
        if torch.is_grad_enabled():  # validation is without
            found.append(x)
        return forward(self, x, device)

    monkeypatch.setattr(CachedPrompts, "forward", noted)
    return found


def test_a_run_that_was_stopped_says_the_same_from_there_on(
    store: Store, base: ModelVersion, dataset_ref: ArtifactRef, tmp_path: Path, said: list[list[str]]
) -> None:
    tune = FineTune(steps=8, metadata_share=1, **TUNE)
    whole, _ = job(store, dataset_ref, tmp_path / "whole", "whole", fine_tune=tune)
    RECIPES["fine_tune"](whole)
    wanted, said[:] = list(said), []
    first, own = job(store, dataset_ref, tmp_path / "first", "parts", StopsAtFive, fine_tune=tune)
    with pytest.raises(Stopped):
        RECIPES["fine_tune"](first)
    own.heartbeat.stop()
    second, _ = job(store, dataset_ref, tmp_path / "second", "parts", fine_tune=tune)
    RECIPES["fine_tune"](second)
    assert len(wanted) == 8
    assert said == wanted
    assert not {caption for step in wanted for caption in step} & {*PROMPTS, *map(str.upper, PROMPTS)}


def test_drawn_captions_are_what_the_text_encoder_says_of_them(
    store: Store, base: ModelVersion, tmp_path: Path
) -> None:
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    conditioner = opened.model.conditioner.conditioners["prompt"]
    names = set(opened.model.state_dict())
    opened.cache_prompts(opened.text_embeddings(PROMPTS[:1], tmp_path), keep_encoder=True)
    said = ["Genre: jazz | Key: A minor", PROMPTS[0], "JAZZ, 120 BPM", "Genre: jazz | Key: A minor"]
    tokens, mask = opened.model.conditioner.conditioners["prompt"](said, "cpu")
    wanted, wanted_mask = conditioner(said, "cpu")
    assert torch.equal(mask, wanted_mask)
    torch.testing.assert_close(tokens, wanted.float(), atol=2e-3, rtol=0)
    opened.model.requires_grad_(True)
    assert set(opened.model.state_dict()) == names, "the encoder is not exported"
    assert not any(parameter.requires_grad for parameter in conditioner.model.parameters()), "nor trained"


def test_without_metadata_the_encoder_is_not_kept(store: Store, base: ModelVersion, tmp_path: Path) -> None:
    opened = BaseModel.open(store, base, "cpu", tmp_path / "base")
    opened.cache_prompts(opened.text_embeddings(PROMPTS[:1], tmp_path))
    with pytest.raises(KeyError):
        opened.model.conditioner.conditioners["prompt"](["JAZZ, 120 BPM"], "cpu")
