"""Which tensors of a file make the model, by their names.

What people call a checkpoint of stable-audio-tools 0.0.19 is one of these, and each is wanted as the last:

| file | names of its tensors |
|---|---|
| of a training wrapper (wrapped) | `diffusion.` + the model's; `diffusion_ema.ema_model.` + the transformer's; losses |
| the same of an autoencoder alone | `autoencoder.`, `autoencoder_ema.ema_model.`; `discriminator.`, losses |
| an autoencoder alone, by `unwrap_model.py` | the autoencoder's own: `encoder.`, `decoder.` |
| a transformer alone | `transformer.`, …, without what stands before it in the model |
| the model (`unwrapped`) | `model.`, `conditioner.`, `pretransform.` |
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from luthier_model.checkpoint import AUTOENCODER, MOVING_AVERAGE, TRANSFORMER, WRAPPER

Weights = Literal["ema", "online"]

AUTOENCODER_MODEL: Final = f"{AUTOENCODER}model."
WRAPPERS: Final = ((WRAPPER, "", MOVING_AVERAGE, TRANSFORMER),
                   ("autoencoder.", AUTOENCODER_MODEL, "autoencoder_ema.ema_model.", AUTOENCODER_MODEL))  # fmt: skip
"""Of each training wrapper: prefix of the trained tensors and what of the model that is; the same of their average."""
BARE: Final = ("", TRANSFORMER, f"{TRANSFORMER}model.", AUTOENCODER, AUTOENCODER_MODEL)
"""What may stand before the names of a file that is not wrapped: nothing, or its part of the model."""


@dataclass(frozen=True)
class Layout:
    """A file's tensors as the model calls them: model's name → the file's. `rest` belongs to neither.

    `wrapper`: prefix of the training wrapper, empty where there is none. `added`: what stands before the file's names
    in the model.
    """

    wrapper: str
    added: str
    online: Mapping[str, str]
    averaged: Mapping[str, str]
    rest: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """What of the model is in the file, right or wrong in shape."""
        return {*self.online, *self.averaged}

    def chosen(self, weights: Weights) -> dict[str, str]:
        """Model's name → the file's, of the moving average where there is one and it is wanted."""
        return {**self.online, **self.averaged} if weights == "ema" else dict(self.online)


def layout_of(names: Iterable[str], wanted: Iterable[str]) -> Layout:
    """The layout of a file with tensors of these names, for a model whose tensors are named `wanted`."""
    found, wanted = sorted(names), set(wanted)
    for wrapper, target, average, averaged_target in WRAPPERS:
        if any(name.startswith(wrapper) for name in found):
            online = {target + name.removeprefix(wrapper): name for name in found if name.startswith(wrapper)}
            averaged = {averaged_target + n.removeprefix(average): n for n in found if n.startswith(average)}
            used = {*online.values(), *averaged.values()}
            return Layout(wrapper, target, online, averaged, tuple(name for name in found if name not in used))
    added = max(BARE, key=lambda prefix: sum(prefix + name in wanted for name in found))
    return Layout("", added, {added + name: name for name in found}, {}, ())


def part_of(name: str) -> str:
    """The part of the model that a tensor belongs to."""
    return {"model": "transformer", "pretransform": "autoencoder"}.get(name.partition(".")[0], "conditioner")


def groups(names: Iterable[str], deep: int = 2) -> dict[str, int]:
    """How many names begin alike, by their first components: for people, who cannot read a thousand."""
    counted: dict[str, int] = {}
    for name in names:
        head = ".".join(name.split(".")[:deep])
        counted[head] = counted.get(head, 0) + 1
    return counted
