"""The composers that this server has, and how a prompt is composed: drafted, held against the facts, returned.

A new composer is a class with `name`, `version`, `styles` and `draft`, a line in BACKENDS and a test.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier_kit.rpc import FailedPrecondition
from luthier_music.captions import CUT_OFF, Disagreement, check
from luthier_music.clip_facts import Facts
from luthier_prompting.grammar import Grammar
from luthier_prompting.settings import PromptingSettings
from luthier_prompting.styles import CutOff, Style
from luthier_prompting.vllm import Endpoint, Vllm

ATTEMPTS = 5  # drafts per prompt
DEFAULT_COUNT, MAX_COUNT = 3, 16


class Composer(Protocol):
    """Writes drafts. `name` is `grammar`, `vllm`, …; `version` changes whenever its drafts may.

    `styles` are those that it writes; the grammar writes the others.
    """

    name: str
    version: str
    styles: frozenset[Style]

    def draft(self, facts: Facts, seed: str, style: Style) -> str:
        """One prompt of the facts; another seed gives another wording. Raises Unavailable when a model is down, CutOff
        when it does not come to an end."""
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

    @property
    def versions(self) -> dict[str, str]:
        """Versions of those that are set up, and which is the default."""
        versions = {name: composer.version for name, composer in self._found.items() if composer}
        return versions | {"default": self.default, "count": str(DEFAULT_COUNT)}

    def get(self, name: str) -> Composer:
        """The composer of this name; empty = the default. FailedPrecondition when this server has none set up."""
        composer = self._found[name or self.default]
        if composer is None:
            raise FailedPrecondition(f"this server has no {name} set up", reason="BACKEND_NOT_CONFIGURED", backend=name)
        return composer


def writer_of(style: Style, asked: Composer) -> Composer:
    """Who writes a prompt of this style: the composer that was asked for, or the grammar where a model adds nothing."""
    return asked if style in asked.styles else Grammar()


@dataclass(frozen=True)
class Checked:
    """A prompt, who wrote it, and all in which it differs from the facts; passed when in nothing."""

    text: str
    composer: str
    composer_version: str
    disagreements: tuple[Disagreement, ...] = ()


@dataclass(frozen=True)
class Composed:
    """The prompts asked for, and how many drafts failed the check and were thrown away."""

    prompts: tuple[Checked, ...]
    rejected_drafts: int


def compose(
    composer: Composer, facts: Facts, *, count: int, seed: int, styles: Sequence[Style] = (Style.SENTENCE,)
) -> Composed:
    """`count` prompts of the styles by turns, distinct where the facts allow it, the same for the same seed.

    Each is drafted up to ATTEMPTS times; when none is true the last draft comes back with its disagreements.
    """
    prompts: list[Checked] = []
    rejected = 0
    for number in range(count):
        style = styles[number % len(styles)]
        writer = writer_of(style, composer)
        prompt, failed = _prompt(writer, facts, style, f"{seed}/{number}", {p.text for p in prompts})
        prompts.append(prompt)
        rejected += failed
    return Composed(tuple(prompts), rejected)


def version_of(composer: Composer, style: Style) -> str:
    """The version that is recorded with a prompt: it names every style but sentences."""
    return composer.version if style is Style.SENTENCE else f"{style}/{composer.version}"


def _prompt(composer: Composer, facts: Facts, style: Style, seed: str, taken: set[str]) -> tuple[Checked, int]:
    """A new true prompt; else a repeated true one; else the last untrue one. And the drafts thrown away."""
    repeated: Checked | None = None
    untrue: list[Checked] = []
    for attempt in range(ATTEMPTS):
        try:
            text = composer.draft(facts, f"{seed}/{attempt}", style)
            found = check(
                text, facts, allow_subset=style.allows_subset, must_name=style.must_name, max_words=style.max_words
            )
        except CutOff as error:
            text, found = error.text, [Disagreement("form", CUT_OFF, error.text[-40:])]
        checked = Checked(text, composer.name, version_of(composer, style), tuple(found))
        if checked.disagreements:
            untrue.append(checked)
        elif text not in taken:
            return checked, len(untrue)
        else:
            repeated = checked
    return (repeated, len(untrue)) if repeated else (untrue[-1], len(untrue) - 1)
