"""The composers that this server has.

A new composer is a class with `name`, `version`, `styles` and `draft` (`luthier_music.composing.Composer`), a line in
BACKENDS and a test.
"""

from collections.abc import Callable

from luthier_kit.rpc import FailedPrecondition
from luthier_music.composing import Composer, Grammar
from luthier_prompting.settings import PromptingSettings
from luthier_prompting.vllm import Endpoint, Vllm

DEFAULT_COUNT, MAX_COUNT = 3, 16


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
