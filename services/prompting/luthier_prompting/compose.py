"""Composes prompts with any composer and holds each against the facts before it is returned."""

from dataclasses import dataclass
from typing import Protocol

from luthier_prompting.checker import Disagreement, check
from luthier_prompting.facts import Facts

ATTEMPTS = 5  # drafts per prompt
DEFAULT_COUNT, MAX_COUNT = 3, 16


class Composer(Protocol):
    """Writes drafts. `name` is `grammar`, `vllm`, …; `version` changes whenever its drafts may."""

    name: str
    version: str

    def draft(self, facts: Facts, seed: str) -> str:
        """One prompt of the facts; another seed gives another wording. Raises Unavailable when a model is down."""
        ...


@dataclass(frozen=True)
class Checked:
    """A prompt and all in which it differs from the facts; passed when in nothing."""

    text: str
    disagreements: tuple[Disagreement, ...] = ()


@dataclass(frozen=True)
class Composed:
    """The prompts asked for, and how many drafts failed the check and were thrown away."""

    prompts: tuple[Checked, ...]
    rejected_drafts: int


def compose(composer: Composer, facts: Facts, *, count: int, seed: int, allow_subset: bool = False) -> Composed:
    """`count` prompts, distinct where the facts allow it, the same for the same seed.

    `allow_subset`: required facts may stay unstated. Each is drafted up to ATTEMPTS times; when none is true the last
    draft comes back with its disagreements.
    """
    prompts: list[Checked] = []
    rejected = 0
    for number in range(count):
        prompt, failed = _prompt(composer, facts, allow_subset, f"{seed}/{number}", {p.text for p in prompts})
        prompts.append(prompt)
        rejected += failed
    return Composed(tuple(prompts), rejected)


def _prompt(composer: Composer, facts: Facts, allow_subset: bool, seed: str, taken: set[str]) -> tuple[Checked, int]:
    """A new true prompt; else a repeated true one; else the last untrue one. And the drafts thrown away."""
    repeated: Checked | None = None
    untrue: list[Checked] = []
    for attempt in range(ATTEMPTS):
        text = composer.draft(facts, f"{seed}/{attempt}")
        checked = Checked(text, tuple(check(text, facts, allow_subset=allow_subset)))
        if checked.disagreements:
            untrue.append(checked)
        elif text not in taken:
            return checked, len(untrue)
        else:
            repeated = checked
    return (repeated, len(untrue)) if repeated else (untrue[-1], len(untrue) - 1)
