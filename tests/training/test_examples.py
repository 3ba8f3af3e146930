"""Batches follow from seed and number; every clip comes once an epoch."""

from collections.abc import Sequence

import pytest
import torch

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_training.base_model import Latents
from luthier_training.examples import Batch, Example, LogitNormal, draw_batch, excerpts, windows


def example(number: int) -> Example:
    latents = Latents(torch.full((2, 4), float(number)), torch.zeros(2, 4), 1.0)
    return Example(latents, (f"{number}a", f"{number}b"))


EXAMPLES = [example(number) for number in range(6)]
MANY = [example(number) for number in range(40)]
CLIP = DatasetRow(audio=ArtifactRef(sha256="0" * 64))


def draw(number: int, batch_size: int = 4, examples: Sequence[Example] = EXAMPLES, dropout: float = 0.5) -> Batch:
    return draw_batch(examples, number, batch_size, dropout, seed=1)


def test_each_clip_comes_once_an_epoch() -> None:
    batches = [draw(number, 2) for number in range(3)]
    assert sorted(float(row[0, 0]) for batch in batches for row in batch.latents) == [0, 1, 2, 3, 4, 5]


def test_a_batch_is_the_same_whenever_it_is_drawn() -> None:
    first, again = draw(7), draw(7)
    assert first.conditions == again.conditions
    for name in ("latents", "noise", "timesteps", "dropped"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def test_no_two_batches_have_the_same_noise() -> None:
    assert not torch.equal(draw(7).noise, draw(8).noise)
    assert not torch.equal(draw(7).timesteps, draw(8).timesteps)


def test_parts_of_a_batch_are_its_rows() -> None:
    whole = draw(7, 6)
    parts = [whole.part(slice(first, first + 2)) for first in (0, 2, 4)]
    assert [row for part in parts for row in part.conditions] == whole.conditions
    for name in ("latents", "noise", "timesteps", "dropped"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_conditions_are_dropped_as_often_as_asked_for() -> None:
    dropped = torch.cat([draw(number, 100, dropout=0.1).dropped for number in range(20)])
    assert abs(float(dropped.float().mean()) - 0.1) < 3 * (0.1 * 0.9 / 2000) ** 0.5
    assert not draw(0, 100, dropout=0.0).dropped.any()


def test_timesteps_cover_a_batch_evenly() -> None:
    timesteps = sorted(draw(0, 16).timesteps.tolist())
    assert all(place / 16 <= timestep < (place + 1) / 16 for place, timestep in enumerate(timesteps))


def test_all_prompts_of_a_clip_are_drawn_in_time() -> None:
    seen = {draw(number, 1, EXAMPLES[:1]).conditions[0]["prompt"] for number in range(40)}
    assert seen == {"0a", "0b"}


def test_latents_are_drawn_anew_with_their_own_deviation() -> None:
    spread = Latents(torch.zeros(2, 2000), torch.full((2, 2000), 0.5), 1.0)
    draws = [draw(number, 1, [Example(spread, ("p",))]).latents for number in range(2)]
    assert not torch.equal(*draws)
    assert abs(float(draws[0].std()) - 0.5) < 0.03


def test_excerpts_lie_inside_the_clip() -> None:
    for seed in range(50):
        for excerpt in excerpts(CLIP, 30.0, 4.0, seed):
            assert excerpt.length_s >= 4.0
            assert 0 <= excerpt.start_s <= excerpt.start_s + excerpt.length_s <= 30.02


@pytest.mark.parametrize("count", [1, 4, 64])
def test_windows_lie_inside_a_song_one_in_each_part_of_it(count: int) -> None:
    room_s = 200.0 - 47.0
    for seed in range(20):
        found = windows(CLIP, 200.0, 47.0, count, seed)
        parts = [part.start_s / room_s * count for part in found]
        assert all(number - 0.01 <= place <= number + 1 for number, place in enumerate(parts))
        assert len(found) == count
        assert all(0 <= part.start_s <= room_s and part.length_s == 47.0 for part in found)
        assert found == windows(CLIP, 200.0, 47.0, count, seed)
    assert windows(CLIP, 200.0, 47.0, count, 1) != windows(CLIP, 200.0, 47.0, count, 2)


def test_a_clip_no_longer_than_the_window_has_no_windows() -> None:
    assert windows(CLIP, 47.0, 47.0, 4, 0) == []


def test_a_part_of_a_song_is_told_its_place_and_the_songs_length() -> None:
    latents = Latents(torch.zeros(2, 4), torch.zeros(2, 4), 47.0)
    own, part = Example(latents, ("p",)), Example(latents, ("p",), start_s=60.0, whole_s=200.0)
    assert (own.conditions("p")["seconds_start"], own.conditions("p")["seconds_total"]) == (0.0, 47.0)
    assert (part.conditions("p")["seconds_start"], part.conditions("p")["seconds_total"]) == (60.0, 200.0)


def test_a_short_clip_has_no_excerpts() -> None:
    assert excerpts(CLIP, 3.0, 4.0, 0) == []


@pytest.mark.parametrize("other", [2**32 + 1, 2**63 + 1, 2**64 - 1])
def test_seeds_that_share_their_lower_32_bits_are_other_runs(other: int) -> None:
    one, two = (draw_batch(EXAMPLES, 0, 6, 0.5, seed) for seed in (1, other))
    assert not torch.equal(one.noise, two.noise)
    assert not torch.equal(one.timesteps, two.timesteps)
    assert excerpts(CLIP, 30.0, 4.0, 1) != excerpts(CLIP, 30.0, 4.0, other)
    orders = [[float(row[0, 0]) for row in draw_batch(MANY, 0, 40, 0.5, seed).latents] for seed in (1, other)]
    assert orders[0] != orders[1]
    dropped = [draw_batch(MANY, 0, 40, 0.5, seed).dropped for seed in (1, other)]
    assert not torch.equal(*dropped)


def test_logit_normal_timesteps_lie_where_the_distribution_says() -> None:
    """Shares below a point: the normal distribution's own table, 15.87 % below one deviation under the mean."""
    drawn = torch.cat(
        [draw_batch(MANY, number, 40, 0.0, seed=1, logit=LogitNormal(1.5, 0.5)).timesteps for number in range(25)]
    )
    for logit, share in ((1.0, 0.1587), (1.5, 0.5), (2.0, 0.8413), (2.5, 0.9772)):
        assert float((drawn < torch.sigmoid(torch.tensor(logit))).float().mean()) == pytest.approx(share, abs=0.01)
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1


def test_the_ends_of_a_logit_normal_stay_inside() -> None:
    ends = LogitNormal(0, 1).quantile(torch.tensor([0.0, 1.0]))
    assert 0 < float(ends[0]) < float(ends[1]) < 1
