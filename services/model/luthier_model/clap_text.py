"""CLAP's text encoder (Wu 2023): a RoBERTa, as Stable Audio 1 and 2 are conditioned by it.

The numbers are those of stable-audio-tools' `clap_text`, which takes the encoder from laion_clap: that package fetches
RoBERTa when it is built and unpickles CLAP's checkpoint. Here the same weights come as safetensors in a folder, by any
of the names in `NAMINGS`; of CLAP's encoder of audio nothing is read.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaModel

from luthier_model.configuration import TextCondition
from luthier_model.library import Conditioner

WIDTH, JOINT_WIDTH = 768, 512
"""Of RoBERTa-base's states, and of the space that CLAP shares between text and audio (Wu 2023)."""
MODEL_TYPES: Final = ("roberta", "clap_text_model", "clap")
NESTED: Final = "text_config"
"""Where the configuration of a whole CLAP has that of its text encoder."""
BOUNDS: Final = {
    "vocab_size": 1 << 20,
    "hidden_size": WIDTH,
    "num_hidden_layers": 96,
    "num_attention_heads": 256,
    "intermediate_size": 1 << 16,
    "max_position_embeddings": 1 << 16,
    "type_vocab_size": 16,
}
"""Fields that are whole numbers, from 1 to this."""
DEFAULTS: Final = {
    "vocab_size": 50265,
    "hidden_size": WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
"""transformers' own of CLAP's text encoder: what a configuration leaves out. RoBERTa-base's says its epsilon, 1e-5."""
_POSITIONS: Final = "position_embedding_type"


@dataclass(frozen=True)
class Naming:
    """How a file names the tensors: what stands before RoBERTa's own names, and the two layers of the projection."""

    encoder: str
    projection: tuple[str, str]


NAMINGS: Final = (
    Naming("text_model.", ("text_projection.linear1", "text_projection.linear2")),  # transformers' CLAP
    Naming("text_branch.", ("text_projection.0", "text_projection.2")),  # laion_clap
    Naming("module.text_branch.", ("module.text_projection.0", "module.text_projection.2")),  # its checkpoints
    Naming("roberta.", ("text_projection.0", "text_projection.2")),
    Naming("", ("text_projection.0", "text_projection.2")),
)
_FIRST: Final = "embeddings.word_embeddings.weight"


def fields_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What of a folder's `config.json` decides what the encoder computes; ValueError names a field that is not
    RoBERTa's.
    """
    nested = document.get(NESTED, {}) if document.get("model_type") == "clap" else document
    given = nested if isinstance(nested, dict) else {}
    found = {name: given.get(name, default) for name, default in DEFAULTS.items()}
    for name, most in BOUNDS.items():
        value = found[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
    pad, epsilon = found["pad_token_id"], found["layer_norm_eps"]
    if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < found["vocab_size"]:
        raise ValueError(f"pad_token_id must be a token below vocab_size, got {pad!r}")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(f"layer_norm_eps must be a number between 0 and 1, got {epsilon!r}")
    if found["hidden_act"] != "gelu":
        raise ValueError(f"hidden_act must be 'gelu', got {found['hidden_act']!r}")
    if given.get(_POSITIONS, "absolute") != "absolute":
        raise ValueError(f"{_POSITIONS} must be 'absolute', got {given[_POSITIONS]!r}")
    if found["hidden_size"] != WIDTH:
        raise ValueError(f"hidden_size must be {WIDTH}, got {found['hidden_size']}")
    if WIDTH % found["num_attention_heads"]:
        raise ValueError(f"num_attention_heads must divide {WIDTH}, got {found['num_attention_heads']}")
    return found


def check_condition(fields: Mapping[str, Any], text: TextCondition) -> None:
    """ValueError when the encoder is too small for what the model's configuration takes from it."""
    layers, positions = fields["num_hidden_layers"], fields["max_position_embeddings"]
    if text.layer is not None and not -layers - 1 <= text.layer <= layers:
        raise ValueError(f"num_hidden_layers is {layers}, of which feature_layer_ix takes {text.layer}")
    if positions < (needed := text.max_tokens + fields["pad_token_id"] + 1):
        raise ValueError(f"max_position_embeddings must be at least {needed}, got {positions}")


def stored_names(found: Container[str], fields: Mapping[str, Any], text: TextCondition) -> dict[str, str]:
    """RoBERTa's own name of each tensor that is needed -> the file's; the projection's are `0.weight`, …, `2.bias`."""
    naming = next((each for each in NAMINGS if each.encoder + _FIRST in found), NAMINGS[-1])
    names = {name: naming.encoder + name for name in shapes(fields, text) if not name[0].isdigit()}
    if text.layer is None:
        for number, stored in zip(("0", "2"), naming.projection, strict=True):
            names |= {f"{number}.{kind}": f"{stored}.{kind}" for kind in ("weight", "bias")}
    return names


def shapes(fields: Mapping[str, Any], text: TextCondition) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors that are needed: the encoder's, and of one vector for a prompt the projection's."""
    with torch.device("meta"):
        state = RobertaModel(RobertaConfig(**fields), add_pooling_layer=text.layer is None).state_dict()
        if text.layer is None:
            state |= _projection().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _projection() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, JOINT_WIDTH), nn.ReLU(), nn.Linear(JOINT_WIDTH, JOINT_WIDTH))


class ClapText(Conditioner):  # type: ignore[misc]
    """The library's CLAP conditioner for prompts. The encoder is frozen and no submodule: no checkpoint holds it.

    `max_length`: tokens that are read of a prompt; `states`: how many are given of it: those of one hidden layer, the
    padding's too (they are one vector, and a transformer that ignores masks hears them), or one of length 1.
    """

    def __init__(
        self,
        output_dim: int,
        text: TextCondition,
        encoder: RobertaModel,
        projection: nn.Sequential | None,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        super().__init__(WIDTH if projection is None else JOINT_WIDTH, output_dim, text.project_out)
        self.tokenizer, self.max_length, self.states, self.layer = tokenizer, text.max_tokens, text.states, text.layer
        self.__dict__.update(model=encoder, projection=projection)

    def forward(self, x: list[str], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """(batch, states, output_dim), and (batch, states) bool: True where there is a token."""
        for module in (self.model, self.projection, self.proj_out):
            if module is not None:
                module.to(device)
        encoded = self.tokenizer(
            x, padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        tokens, mask = encoded["input_ids"].to(device), encoded["attention_mask"].to(device)  # (batch, max_length) each
        with torch.no_grad():
            made = self.model(input_ids=tokens, attention_mask=mask, output_hidden_states=self.projection is None)
            if self.projection is None:
                states = made["hidden_states"][self.layer]  # (batch, max_length, 768)
            else:
                joint = self.projection(made["pooler_output"])  # (batch, 512)
                states = nn.functional.normalize(joint, dim=-1)[:, None]  # (batch, 1, 512)
                mask = mask[:, :1]
        if not isinstance(self.proj_out, nn.Identity):
            states = states.to(self.proj_out.weight.dtype)
        return self.proj_out(states), mask.bool()


def conditioner(
    weights: Path, fields: Mapping[str, Any], names: Mapping[str, str], text: TextCondition, output_dim: int,
    tokenizer: PreTrainedTokenizerBase,
) -> ClapText:  # fmt: skip
    """The conditioner of a checked folder; `names` as of `stored_names`."""
    with safe_open(weights, "pt") as file:
        state = {name: file.get_tensor(stored).float() for name, stored in names.items()}
    projection = None
    if text.layer is None:
        projection = _projection()
        projection.load_state_dict({name: state.pop(name) for name in projection.state_dict()})
        projection.eval().requires_grad_(False)
    encoder = RobertaModel.from_pretrained(
        None, config=RobertaConfig(**fields), state_dict=state, add_pooling_layer=projection is not None
    )
    encoder.train(False).requires_grad_(False)
    return ClapText(output_dim, text, encoder, projection, tokenizer)
