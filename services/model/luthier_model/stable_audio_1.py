"""What Stable Audio 1 has in the place of later families' parts: a U-Net that denoises (`adp_cfg_1d`), and the
convolutions of the Descript Audio Codec (Kumar 2023) as its autoencoder's encoder and decoder (`dac`).

Their fields, with bounds, and what must agree. The library's own sizes: a U-Net of Schneider 2023, "Moûsai".
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from luthier_model.conditions import CONCAT, GLOBAL, PREPEND, Violation, ids_of
from luthier_model.rules import BOOL, Choice, Integer, Integers, Rule

UNET, DAC = "adp_cfg_1d", "dac"
"""The parts' types in a configuration."""
GUIDANCE_SCALE: Final = 6.0
"""Evans 2024, "Fast Timing-Conditioned Latent Audio Diffusion", section 3."""
GUIDANCE_RESCALE: Final = 0.4
"""The library's own in this U-Net; its transformers have 0."""
ATTENTION_GROUPS: Final = 32
"""Groups of the norm before attention, which the library does not let choose."""
MAX_CHANNELS: Final = 1 << 14
_CONFIG: Final = "model.diffusion.config"

UNET_REQUIRED: Final[Mapping[str, Rule]] = {
    f"{_CONFIG}.in_channels": Integer(1, 1024),
    f"{_CONFIG}.channels": Integer(8, 4096),
    f"{_CONFIG}.context_embedding_features": Integer(8, 8192),
    f"{_CONFIG}.context_embedding_max_length": Integer(1, 1024),
    f"{_CONFIG}.multipliers": Integers(1, 64, 17),
    f"{_CONFIG}.factors": Integers(1, 32, 16),
    f"{_CONFIG}.num_blocks": Integers(1, 16, 16),
    f"{_CONFIG}.attentions": Integers(0, 32, 17),
    f"{_CONFIG}.attention_heads": Integer(1, 128),
    f"{_CONFIG}.attention_multiplier": Integer(1, 16),
}
UNET_OPTIONAL: Final[Mapping[str, Rule]] = {
    f"{_CONFIG}.attention_features": Integer(1, 1024),
    f"{_CONFIG}.context_features": Integer(8, 16384),
    f"{_CONFIG}.context_features_multiplier": Integer(1, 16),
    f"{_CONFIG}.resnet_groups": Integer(1, 256),
    f"{_CONFIG}.kernel_multiplier_downsample": Choice((2, 4, 6, 8)),
    f"{_CONFIG}.patch_size": Choice((1,)),
    f"{_CONFIG}.use_nearest_upsample": BOOL,
    f"{_CONFIG}.use_skip_scale": BOOL,
    f"{_CONFIG}.use_context_time": Choice((True,)),  # else it is not told how much noise there is
    f"{_CONFIG}.use_xattn_time": Choice((False,)),
    f"{_CONFIG}.use_stft": Choice((False,)),
}


def dac_fields(side: str, config: str) -> Mapping[str, Rule]:
    """The fields of one side, "encoder" or "decoder", whose configuration is at the path `config`; all required."""
    rules: dict[str, Rule] = {f"{config}.latent_dim": Integer(1, 2048)}
    if side == "encoder":
        rules |= {f"{config}.in_channels": Integer(1, 2), f"{config}.d_model": Integer(1, 512)}
        return rules | {f"{config}.strides": Integers(2, 32, 8)}
    rules |= {f"{config}.out_channels": Integer(1, 2), f"{config}.channels": Integer(1, MAX_CHANNELS)}
    return rules | {f"{config}.rates": Integers(2, 32, 8)}


def dac_disagreements(side: str, config: str, fields: Mapping[str, Any], ratio: int) -> list[Violation]:
    """Where a side contradicts itself or the autoencoder's `ratio` of samples to latents."""
    name = "strides" if side == "encoder" else "rates"
    factors = fields[name]
    rules = [
        (math.prod(factors) == ratio, f"{config}.{name}", f"must multiply to {ratio}"),
        # of an odd one the codec's convolutions make another number of samples
        (not any(factor % 2 for factor in factors), f"{config}.{name}", "must be even numbers"),
    ]
    if side == "encoder":
        widest = fields["d_model"] << len(factors)
        rules.append((widest <= MAX_CHANNELS, f"{config}.d_model", f"must not grow beyond {MAX_CHANNELS} channels"))
    else:
        whole = fields["channels"] % (1 << len(factors)) == 0
        rules.append((whole, f"{config}.channels", f"must halve {len(factors)} times"))
    return [(field, what) for good, field, what in rules if not good]


def unet_disagreements(
    document: Mapping[str, Any], tokens: int, window_latents: int, *, inpainting: bool
) -> list[Violation]:
    """Where the U-Net's fields contradict each other or the rest of a document; `tokens` is how many its cross
    attention takes.
    """
    model = document["model"]
    unet, cond_dim = model["diffusion"]["config"], model["conditioning"]["cond_dim"]
    levels, groups = len(unet["factors"]), unet.get("resnet_groups", 8)
    widths = [unet["channels"] * each for each in unet["multipliers"]]
    attended = [width for width, depth in zip(widths[1:], unet["attentions"], strict=False) if depth]
    attended += widths[-1:] if unet["attentions"][-1] else []
    whole, halved = ids_of(model, GLOBAL), math.prod(unet["factors"])
    heads = unet["attention_heads"]
    rules = [
        (not inpainting, "model.diffusion.type", "must be 'dit' in a diffusion_cond_inpaint"),
        (not ids_of(model, PREPEND), PREPEND, f"must be empty, or absent: an {UNET} has no tokens before the latents"),
        (not ids_of(model, CONCAT), CONCAT, f"must be empty, or absent, of an {UNET}"),
        (unet["in_channels"] == model["io_channels"], f"{_CONFIG}.in_channels", "must equal model.io_channels"),
        (
            unet["context_embedding_features"] == cond_dim,
            f"{_CONFIG}.context_embedding_features",
            "must equal model.conditioning.cond_dim",
        ),
        (
            unet["context_embedding_max_length"] >= tokens,
            f"{_CONFIG}.context_embedding_max_length",
            f"must be at least {tokens}, the tokens of cross_attention_cond_ids",
        ),
        (
            unet.get("context_features", 0) == len(whole) * cond_dim,
            f"{_CONFIG}.context_features",
            f"must be {len(whole)} times conditioning.cond_dim, once for each id in global_cond_ids"
            if whole
            else "must be absent without global_cond_ids",
        ),
        (len(unet["multipliers"]) == levels + 1, f"{_CONFIG}.multipliers", "must be one more than factors"),
        (len(unet["num_blocks"]) == levels, f"{_CONFIG}.num_blocks", "must be as many as factors"),
        (
            len(unet["attentions"]) in (levels, levels + 1),
            f"{_CONFIG}.attentions",
            "must be as many as factors, or one more",
        ),
        (max(widths) <= MAX_CHANNELS, f"{_CONFIG}.multipliers", f"must leave at most {MAX_CHANNELS} channels"),
        (
            not any(each % groups for each in widths),
            f"{_CONFIG}.resnet_groups",
            "must divide channels times multipliers",
        ),
        (
            not any(each % ATTENTION_GROUPS for each in attended),
            f"{_CONFIG}.attentions",
            f"must be 0 where channels times multipliers is no multiple of {ATTENTION_GROUPS}",
        ),
        (
            "attention_features" in unet or all(each >= heads for each in attended),
            f"{_CONFIG}.attention_heads",
            "must be no more than the channels",
        ),
        (window_latents % halved == 0, "sample_size", f"must hold a multiple of {halved} latents, as factors says"),
    ]
    return [(field, what) for good, field, what in rules if not good]
