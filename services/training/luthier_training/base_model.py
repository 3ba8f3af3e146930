"""The model version that a run starts from, and what its frozen encoders make of clips and prompts.

Each clip's latents and the text embeddings of its prompts are encoded once: actions keyed by content and encoder. Only
the frozen encoders are cached; the seconds embedders and a text encoder's projection are trained.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from stable_audio_tools.models.autoencoders import AudioAutoencoder
from stable_audio_tools.models.conditioners import Conditioner
from stable_audio_tools.models.diffusion import ConditionedDiffusionModelWrapper

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.registry import ModelVersion
from luthier_kit.store import Action, Store
from luthier_model import checkpoint, loading, text_encoder
from luthier_model.clap_text import ClapText
from luthier_model.conditions import PROMPT
from luthier_model.configuration import Configuration
from luthier_model.registered import fetch_version, statuses
from luthier_model.text_encoder import TextConditioner

MAX_TENSORS_BYTES = 1 << 30
"""Bound of a stored encoding: latents of the longest window that a configuration may have take 256 MiB."""
LATENTS_STAGE, TEXT_STAGE = "latents", "text-states"
SAME_ENCODER = "same_encoder"
"""Note of a version: digests of other autoencoders that have its encoder, so that their latents are its own."""
LATENTS_VERSION, TEXT_VERSION = "2", "2"
"""Stages of the two kinds of actions, and their versions. They are part of the actions' digests."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a clip offered as a clip of its own, in seconds; `length_s` 0 = the whole clip."""

    clip: DatasetRow
    start_s: float = 0.0
    length_s: float = 0.0


@dataclass(frozen=True)
class Latents:
    """The autoencoder's posterior for a clip padded with silence to the window.

    `mean`, `deviation`: (latent channels, window latents), scaled as the transformer takes them; `seconds_total`: the
    clip's length. With the deviation each epoch draws its own sample; the library's pre-encoding freezes one.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    seconds_total: float

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One draw of the posterior, (latent channels, window latents)."""
        return self.mean + self.deviation * torch.randn(self.mean.shape, generator=generator)


@dataclass(frozen=True)
class StoredLatents:
    """Latents in a file of this machine, read when they are drawn: a data set may be larger than the memory."""

    path: Path
    seconds_total: float

    def read(self) -> Latents:
        """All of them."""
        with safe_open(self.path, "pt") as file:
            return Latents(file.get_tensor("mean"), file.get_tensor("deviation"), self.seconds_total)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One draw of the posterior, (latent channels, window latents)."""
        return self.read().sample(generator)


@dataclass(frozen=True)
class TextEmbedding:
    """`tokens`: (tokens, width) float32. `mask`: (tokens,) bool. Padding may be left out behind them: zeros where the
    text encoder is T5; of CLAP it is as the last of them.
    """

    tokens: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class StoredText:
    """A text embedding in a file of this machine, `row` among those of a clip's prompts, read when it is drawn."""

    path: Path
    row: int

    def read(self) -> TextEmbedding:
        """What the text encoder made of the prompt."""
        with safe_open(self.path, "pt") as file:
            return TextEmbedding(file.get_slice("states")[self.row], file.get_slice("mask")[self.row])


def trained_posterior(autoencoder: AudioAutoencoder, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch, channels, samples) -> mean and standard deviation of the latents, each (batch, latent channels, latents),
    unscaled.
    """
    return posterior_of_encoded(autoencoder.encode(audio, skip_bottleneck=True))


def posterior_of_encoded(encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of what the encoder made of audio, (batch, 2 * latent channels, latents)."""
    mean, spread = encoded.chunk(2, dim=1)
    return mean, torch.nn.functional.softplus(spread) + 1e-4  # as the library's vae_sample


@torch.no_grad()
def posterior_of(autoencoder: AudioAutoencoder, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of a frozen autoencoder."""
    return trained_posterior(autoencoder, audio)


def encode_text(
    conditioner: TextConditioner, prompts: Sequence[str], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the frozen text encoder makes of prompts, before the projection: (batch, tokens, width) float32, of T5 zero
    where there is no token, and (batch, tokens) bool. In the encoder's own precision, whatever a training step
    computes in.
    """
    projection, conditioner.proj_out = conditioner.proj_out, torch.nn.Identity()
    try:
        with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            tokens, mask = conditioner(list(prompts), device)
    finally:
        conditioner.proj_out = projection
    return tokens.float(), mask


@dataclass(frozen=True)
class BaseModel:
    """A base model on `device`: its registration, its configuration, and the digests that name what it encodes."""

    store: Store
    version: ModelVersion
    configuration: Configuration
    model: ConditionedDiffusionModelWrapper
    autoencoder_digest: str
    encoder_digest: str
    text_encoder_digest: str
    device: str

    @classmethod
    def open(cls, store: Store, version: ModelVersion, device: str, scratch: Path) -> "BaseModel":
        """Fetches a version and loads it; `statuses` names the errors, which come before anything is allocated."""
        with statuses(version):
            files = fetch_version(store, version, scratch)
            model = loading.load(files.configuration, files.weights, files.text_encoder, device, files.adapters)
            folder = text_encoder.check(files.text_encoder, files.configuration)
            layout = checkpoint.verify(files.weights, files.configuration)
            parts = (files.weights, layout, files.configuration)
            whole, encoder = checkpoint.autoencoder_digest(*parts), checkpoint.encoder_digest(*parts)
        text = text_encoder.digest(folder)
        return cls(store, version, files.configuration, model, whole, encoder, text, device)

    def at_window(self, configuration: Configuration) -> "BaseModel":
        """The same model with a configuration that differs in its window, of which no weight knows."""
        return replace(self, configuration=configuration)

    def latents(
        self,
        excerpt: Excerpt,
        samples: Callable[[], torch.Tensor],
        kept: Path,
        encode: Callable[[torch.Tensor], Latents],
    ) -> StoredLatents:
        """Latents of an excerpt, or of a whole clip, found in the store or encoded now; their file lies in `kept`.

        `samples` gives the whole clip when it is wanted, `encode` the latents of what the excerpt has of it.
        """
        known, clip = self.configuration, excerpt.clip

        def tensors() -> dict[str, torch.Tensor]:
            part = samples()
            if excerpt.length_s:
                first, count = (round(s * known.sample_rate_hz) for s in (excerpt.start_s, excerpt.length_s))
                part = part[:, first : first + count]
            found = encode(part)
            held = -(-min(part.shape[1], known.window_samples) // known.downsampling_ratio)  # latents of the clip
            return {
                "mean": found.mean,
                "deviation": found.deviation,
                "sounding": torch.arange(known.window_latents) < held,  # the stored form: earlier releases read it
                "seconds_total": torch.tensor(found.seconds_total, dtype=torch.float64),
            }

        parameters = {
            "sample_rate_hz": known.sample_rate_hz,
            "window_samples": known.window_samples,
            "start_s": excerpt.start_s,
            "length_s": excerpt.length_s,
        }

        def action(**tools: str) -> Action:
            return Action(LATENTS_STAGE, [clip.audio.sha256], parameters, version=LATENTS_VERSION, tools=tools)

        # earlier releases named latents by the whole autoencoder
        wholes = [self.autoencoder_digest, *self.version.notes.get(SAME_ENCODER, ())]
        earlier = [action(autoencoder=digest) for digest in wholes]
        ref = self._once(action(encoder=self.encoder_digest), tensors, earlier)
        path = self.store.blobs.fetch(ref, kept, max_bytes=MAX_TENSORS_BYTES, read_only=True)
        with safe_open(path, "pt") as file:
            return StoredLatents(path, float(file.get_tensor("seconds_total")))

    def text_embeddings(self, prompts: Sequence[str], kept: Path) -> dict[str, StoredText]:
        """What the frozen text encoder makes of a clip's prompts, before the projection; found in the store or encoded
        now, in one call. Their file lies in `kept`.
        """
        conditioner: TextConditioner = self.model.conditioner.conditioners[PROMPT]

        def encode() -> dict[str, torch.Tensor]:
            tokens, mask = encode_text(conditioner, prompts, self.device)
            longest = int(mask.any(0).nonzero().max()) + 1  # what lies behind is zero
            if isinstance(conditioner, ClapText):  # … or one vector again and again, of which one is kept
                longest = min(longest + 1, conditioner.states)
            return {"states": tokens[:, :longest].cpu().contiguous(), "mask": mask[:, :longest].cpu().contiguous()}

        inputs = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts]
        parameters, tools = {"max_tokens": conditioner.max_length}, {"text_encoder": self.text_encoder_digest}
        if isinstance(conditioner, ClapText):
            tools["taken"] = "one vector" if conditioner.layer is None else f"layer {conditioner.layer}"
        ref = self._once(Action(TEXT_STAGE, inputs, parameters, version=TEXT_VERSION, tools=tools), encode)
        path = self.store.blobs.fetch(ref, kept, max_bytes=MAX_TENSORS_BYTES, read_only=True)
        return {prompt: StoredText(path, row) for row, prompt in enumerate(prompts)}

    def cache_prompts(self, embeddings: Mapping[str, StoredText], *, keep_encoder: bool = False) -> None:
        """Puts the embeddings of all prompts of a data set in the place of the text encoder, which stays behind them
        where other captions are drawn.
        """
        conditioners = self.model.conditioner.conditioners
        conditioners[PROMPT] = CachedPrompts(conditioners[PROMPT], embeddings, keep_encoder=keep_encoder)

    def _once(
        self, action: Action, encode: Callable[[], dict[str, torch.Tensor]], earlier: Sequence[Action] = ()
    ) -> ArtifactRef:
        """The safetensors blob with the tensors of an action; `earlier` are other names under which it may have been
        done.
        """
        actions = self.store.actions

        def compute() -> ArtifactRef:
            for known in earlier:
                if actions.record(known, ArtifactRef):
                    return actions.run(known, ArtifactRef, put)[0]
            return put()

        def put() -> ArtifactRef:
            return self.store.blobs.put_bytes(action.stage, save(encode()), "safetensors")

        ref, _ = actions.run(action, ArtifactRef, compute)
        return ref


class CachedPrompts(Conditioner):  # type: ignore[misc]
    """Stands for the text encoder's conditioner with the embeddings of every prompt of the data set.

    The same numbers, without the encoder in memory and in each step; they are read when they are drawn. With
    `keep_encoder` it takes any caption: what it does not hold is encoded in one call and forgotten, because hardly a
    draw of metadata comes twice. `proj_out` is the model's own and is trained.
    """

    def __init__(
        self, original: TextConditioner, embeddings: Mapping[str, StoredText], *, keep_encoder: bool = False
    ) -> None:
        super().__init__(original.dim, original.output_dim)
        self.proj_out, self.embeddings = original.proj_out, embeddings
        self.hears_padding = isinstance(original, ClapText)
        self.states = original.states if self.hears_padding else original.max_length
        # no submodule: what is frozen is neither trained nor exported
        self.encode = functools.partial(encode_text, original) if keep_encoder else None

    def forward(self, x: list[str], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, tokens, width) and (batch, tokens) of captions."""
        found = {
            caption: self.embeddings[caption].read()
            for caption in dict.fromkeys(x)
            if caption in self.embeddings or not self.encode
        }
        if self.encode and (drawn := [caption for caption in dict.fromkeys(x) if caption not in found]):
            tokens, mask = self.encode(drawn, device)
            found |= {caption: TextEmbedding(tokens[row], mask[row]) for row, caption in enumerate(drawn)}
        some = found[x[0]].tokens
        tokens = torch.zeros((len(x), self.states, some.shape[1]), device=device)
        mask = torch.zeros((len(x), self.states), dtype=torch.bool, device=device)
        for row, caption in enumerate(x):
            count = len(found[caption].mask)
            tokens[row, :count], mask[row, :count] = found[caption].tokens, found[caption].mask
            if self.hears_padding:
                tokens[row, count:] = found[caption].tokens[-1]
        projected = self.proj_out(tokens)  # (batch, states, width)
        return projected if self.hears_padding else projected * mask.unsqueeze(-1), mask
