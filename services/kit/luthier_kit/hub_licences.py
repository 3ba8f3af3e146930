"""What the Hugging Face hub calls a licence, for the cards of data sets and models."""

from collections.abc import Sequence
from typing import Final

_OF_THE_HUB: Final = frozenset(
    {
        "apache-2.0", "mit", "unlicense", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
        "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gpl-2.0",
        "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0",
    }
)  # fmt: skip
"""Licences that the hub's cards know by name; every other is `other` there."""


def hub_licence(licences: Sequence[str], unlicensed: int = 0) -> str | list[str]:
    """What the hub calls these licences: its names where it knows all of them and they bind every clip, else `other`,
    or `unknown`."""
    names = sorted({name.lower().removesuffix("-only").removesuffix("-or-later") for name in licences})
    if not names:
        return "unknown"
    if unlicensed or not _OF_THE_HUB.issuperset(names):
        return "other"
    return names[0] if len(names) == 1 else names
