"""Which item each place of a run draws: from which source, so that shares hold, and in each source's own order."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Generic, TypeVar

import torch

from luthier_training.seeds import seed_of

T = TypeVar("T")
ORDERS = 2
"""Epochs' orders in memory: a batch may lie across two."""


class Mixture(Generic[T]):
    """Sources with shares. Place 0, 1, 2, … draws an item that follows from the seed and the place alone.

    Of any places one after the other, from the first on, each source gets its share of them, but for at most one place
    for each source: the sources are cut off one by one, each taking the places where its share of those that are left
    passes a half (a Sturmian word), counted in whole numbers. Within a source each epoch has an order of its own.
    """

    def __init__(self, sources: Sequence[Sequence[T]], shares: Sequence[Fraction], seed: int) -> None:
        seeds = [seed] if len(sources) == 1 else [seed_of(seed, "source", number) for number in range(len(sources))]
        self._pools = [_Pool(items, own) for items, own in zip(sources, seeds, strict=True)]
        left, self._parts = Fraction(sum(shares)), list[Fraction]()
        for share in shares:
            self._parts.append(share / left)
            left -= share

    def at(self, place: int) -> T:
        """The item that a place draws."""
        number, before = self.source_at(place)
        return self._pools[number].at(before)

    def source_at(self, place: int) -> tuple[int, int]:
        """The source that a place draws from, and how many places before did."""
        for number, part in enumerate(self._parts[:-1]):
            before, after = (math.floor(count * part + Fraction(1, 2)) for count in (place, place + 1))
            if after > before:
                return number, before
            place -= before
        return len(self._parts) - 1, place


class _Pool(Generic[T]):
    """The items of a source, each once an epoch."""

    def __init__(self, items: Sequence[T], seed: int) -> None:
        self._items, self._seed = items, seed
        self._orders: dict[int, torch.Tensor] = {}

    def at(self, place: int) -> T:
        epoch, within = divmod(place, len(self._items))
        if epoch not in self._orders:
            if len(self._orders) == ORDERS:
                del self._orders[next(iter(self._orders))]  # the one that was drawn first
            generator = torch.Generator().manual_seed(seed_of(self._seed, "epoch", epoch))
            self._orders[epoch] = torch.randperm(len(self._items), generator=generator)
        return self._items[int(self._orders[epoch][within])]
