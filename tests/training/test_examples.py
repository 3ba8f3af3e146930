"""Batches follow from seed and number; every clip comes once an epoch."""

import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_training.dataset import Clip
from luthier_training.examples import Example, draw_batch, excerpts
from luthier_training.latents import Latents


def example(number):
    latents = Latents(torch.full((2, 4), float(number)), torch.zeros(2, 4), torch.ones(4, dtype=torch.bool), 1.0)
    return Example(latents, (f"{number}a", f"{number}b"))


EXAMPLES = [example(number) for number in range(6)]


def test_each_clip_comes_once_an_epoch():
    batches = [draw_batch(EXAMPLES, number, 2, seed=1)[0] for number in range(3)]
    assert sorted(float(row[0, 0]) for batch in batches for row in batch) == [0, 1, 2, 3, 4, 5]


def test_a_batch_is_the_same_whenever_it_is_drawn():
    first, rows = draw_batch(EXAMPLES, 7, 4, seed=1)
    again, rows_again = draw_batch(EXAMPLES, 7, 4, seed=1)
    assert torch.equal(first, again)
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in rows_again]


def test_all_prompts_of_a_clip_are_drawn_in_time():
    seen = {row["prompt"] for number in range(40) for row in draw_batch(EXAMPLES[:1], number, 1, seed=1)[1]}
    assert seen == {"0a", "0b"}


def test_latents_are_drawn_anew_with_their_own_deviation():
    spread = Latents(torch.zeros(2, 2000), torch.full((2, 2000), 0.5), torch.ones(2000, dtype=torch.bool), 1.0)
    draws = [draw_batch([Example(spread, ("p",))], number, 1, seed=1)[0] for number in range(2)]
    assert not torch.equal(*draws)
    assert abs(float(draws[0].std()) - 0.5) < 0.03


def test_excerpts_lie_inside_the_clip():
    clip = Clip("c", ArtifactRef(sha256="0" * 64), ("p",), "train", "s")
    for seed in range(50):
        for stretch in excerpts(clip, 30.0, 4.0, seed):
            assert stretch.length_s >= 4.0
            assert 0 <= stretch.start_s <= stretch.start_s + stretch.length_s <= 30.02


def test_a_short_clip_has_no_excerpts():
    clip = Clip("c", ArtifactRef(sha256="0" * 64), ("p",), "train", "s")
    assert excerpts(clip, 3.0, 4.0, 0) == []
