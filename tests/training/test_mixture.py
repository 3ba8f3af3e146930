"""Shares hold at every length of a run, and each source goes through all its items before one comes again."""

from collections import Counter
from fractions import Fraction

import pytest

from luthier_training.mixture import Mixture

SHARES = [
    [1.0],
    [0.5, 0.5],
    [0.1, 0.9],
    [0.7, 0.2, 0.1],
    [1 / 3, 1 / 3, 1 / 3],
    [0.001, 0.333, 0.25, 0.416],
    [5.0, 1.0, 1.0, 1.0],
]


def mixture(shares: list[float], items: int = 7, seed: int = 3) -> Mixture[tuple[int, int]]:
    sources = [[(source, item) for item in range(items)] for source in range(len(shares))]
    return Mixture(sources, [Fraction(share) for share in shares], seed)


@pytest.mark.parametrize("shares", SHARES)
def test_each_source_has_its_share_of_any_first_places(shares: list[float]) -> None:
    """Half a place off for each source, however long the run: a drawn share would be off by the square root."""
    found, counts = mixture(shares), Counter[int]()
    for place in range(3000):
        counts[found.source_at(place)[0]] += 1
        for source, share in enumerate(shares):
            assert abs(counts[source] - share / sum(shares) * (place + 1)) <= len(shares) / 2


def test_shares_hold_exactly_far_into_a_run() -> None:
    """At the last of a million steps of 256 clips."""
    found, far = mixture([0.7, 0.2, 0.1]), 256_000_000
    before = dict.fromkeys(range(3), 0)
    for place in range(far, far + 40):
        source, count = found.source_at(place)
        before[source] = count
    assert [before[0] / far, before[1] / far, before[2] / far] == pytest.approx([0.7, 0.2, 0.1], rel=1e-6)


def test_the_places_of_a_source_are_counted_without_a_gap() -> None:
    found, wanted = mixture([0.3, 0.3, 0.4]), Counter[int]()
    for place in range(1000):
        source, before = found.source_at(place)
        assert before == wanted[source]
        wanted[source] += 1


def test_each_item_of_a_source_comes_once_an_epoch_of_its_own() -> None:
    found = mixture([0.25, 0.75])
    drawn: dict[int, list[int]] = {0: [], 1: []}
    for place in range(7 * 4 * 3):
        source, item = found.at(place)
        drawn[source].append(item)
    for items in drawn.values():
        epochs = [items[first : first + 7] for first in range(0, len(items), 7)]
        assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_sources_have_orders_of_their_own() -> None:
    found = mixture([0.5, 0.5], items=40)
    drawn: dict[int, list[int]] = {0: [], 1: []}
    for place in range(80):
        source, item = found.at(place)
        drawn[source].append(item)
    assert drawn[0] != drawn[1]


def test_a_place_is_the_same_in_whichever_order_places_are_asked_for() -> None:
    forward, backward = mixture([0.4, 0.6]), mixture([0.4, 0.6])
    places = range(100)
    assert [forward.at(place) for place in places] == [backward.at(place) for place in reversed(places)][::-1]
