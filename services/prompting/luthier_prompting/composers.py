"""The composers that this server has, and how a prompt is composed: drafted, held against the facts, returned.

A new composer is a class with `name`, `version` and `draft`, a line in BACKENDS and a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from luthier_kit.rpc import FailedPrecondition
from luthier_prompting.checker import Disagreement, check
from luthier_prompting.facts import Facts
from luthier_prompting.grammar import Grammar
from luthier_prompting.settings import PromptingSettings
from luthier_prompting.vllm import Endpoint, Vllm

ATTEMPTS = 5  # drafts per prompt
DEFAULT_COUNT, MAX_COUNT = 3, 16


class Composer(Protocol):
    """Writes drafts. `name` is `grammar`, `vllm`, …; `version` changes whenever its drafts may."""

    name: str
    version: str

    def draft(self, facts: Facts, seed: str) -> str:
        """One prompt of the facts; another seed gives another wording. Raises Unavailable when a model is down."""
        ...


def _vllm(settings: PromptingSettings) -> Composer | None:
    if not settings.vllm_url:
        return None
    return Vllm(
        Endpoint(
            settings.vllm_url, settings.vllm_model, settings.vllm_api_key, settings.vllm_timeout_s,
            settings.vllm_retries, settings.vllm_structure,
        )
    )  # fmt: skip


BACKENDS: dict[str, Callable[[PromptingSettings], Composer | None]] = {"grammar": lambda _: Grammar(), "vllm": _vllm}


class Composers:
    """The composers by name; those that are not set up are known and refuse."""

    def __init__(self, settings: PromptingSettings) -> None:
        self._found = {name: build(settings) for name, build in BACKENDS.items()}
        self.default = settings.backend

    def get(self, name: str) -> Composer:
        """The composer of this name; empty = the default. FailedPrecondition when this server has none set up."""
        composer = self._found[name or self.default]
        if composer is None:
            raise FailedPrecondition(f"this server has no {name} set up", reason="BACKEND_NOT_CONFIGURED", backend=name)
        return composer


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
