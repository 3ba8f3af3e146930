"""Which tensors of a file make the model, by their names.

What people call a checkpoint of stable-audio-tools 0.0.19 is one of these, and each is wanted as the last:

| file | names of its tensors |
|---|---|
| of a training wrapper (wrapped) | `diffusion.` + the model's; `diffusion_ema.ema_model.` + the transformer's; losses |
| the same of an autoencoder alone | `autoencoder.`, `autoencoder_ema.ema_model.`; `discriminator.`, losses |
| an autoencoder alone, by `unwrap_model.py` | the autoencoder's own: `encoder.`, `decoder.` |
| a transformer alone | `transformer.`, …, without what stands before it in the model |
| the model (`unwrapped`) | `model.`, `conditioner.`, `pretransform.` |

Anywhere in them may stand what torch.compile and training on several GPUs put there (`INSERTED`).
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
INSERTED: Final = ("_orig_mod", "module", "_forward_module")
"""Components of names by torch.compile, DistributedDataParallel, and DeepSpeed below Lightning; no module of a model is
called so.
"""


@dataclass(frozen=True)
class Layout:
    """A file's tensors as the model calls them: model's name → the file's. `rest` belongs to neither.

    `wrapper`: prefix of the training wrapper, empty where there is none. `added`: what stands before the file's names
    in the model. `inserted`: which of `INSERTED` were taken out of them.
    """

    wrapper: str
    added: str
    online: Mapping[str, str]
    averaged: Mapping[str, str]
    rest: tuple[str, ...]
    inserted: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """What of the model is in the file, right or wrong in shape."""
        return {*self.online, *self.averaged}

    def chosen(self, weights: Weights) -> dict[str, str]:
        """Model's name → the file's, of the moving average where there is one and it is wanted."""
        return {**self.online, **self.averaged} if weights == "ema" else dict(self.online)


def layout_of(names: Iterable[str], wanted: Iterable[str]) -> Layout:
    """The layout of a file with tensors of these names, for a model whose tensors are named `wanted`."""
    given, wanted = sorted(names), set(wanted)
    stored = {".".join(part for part in name.split(".") if part not in INSERTED): name for name in given}
    if len(stored) < len(given):  # two of them would be one
        stored = {name: name for name in given}
    changed = [name.split(".") for plain, name in stored.items() if plain != name]
    taken = tuple(each for each in INSERTED if any(each in parts for parts in changed))
    for wrapper, target, average, averaged_target in WRAPPERS:
        if any(name.startswith(wrapper) for name in stored):
            online = {target + n.removeprefix(wrapper): stored[n] for n in stored if n.startswith(wrapper)}
            averaged = {averaged_target + n.removeprefix(average): stored[n] for n in stored if n.startswith(average)}
            used = {*online.values(), *averaged.values()}
            return Layout(wrapper, target, online, averaged, tuple(name for name in given if name not in used), taken)
    added = max(BARE, key=lambda prefix: sum(prefix + name in wanted for name in stored))
    return Layout("", added, {added + name: stored[name] for name in stored}, {}, (), taken)


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
