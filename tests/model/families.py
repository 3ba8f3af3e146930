"""Configurations of the papers' families, with the fields of the published ones; and small ones of the same fields.

Sources: the model cards and papers (Evans 2024 for Stable Audio Open; Novack 2025 for Stable Audio Open Small) and the
documents of stable-audio-tools; composed by hand.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier_model import tiny
from luthier_model.configuration import Configuration, check, packaged

from .small import PROMPTS, ModelFiles, fill_zero_branches

Document = dict[str, Any]


def stable_audio_open() -> Document:
    return copy.deepcopy(dict(packaged().document))


def stable_audio_open_small() -> Document:
    """As published: post-trained for few steps."""
    document = stable_audio_open()
    document["sample_size"] = 524288
    document["model"]["pretransform"] |= {"iterate_batch": False, "model_half": True}
    document["model"]["pretransform"]["config"]["encoder"]["requires_grad"] = False
    document["model"]["conditioning"]["configs"] = [
        {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": 64}},
        {"id": "seconds_total", "type": "number", "config": {"min_val": 0, "max_val": 256}},
    ]
    document["model"]["diffusion"] = {
        "diffusion_objective": "rf_denoiser",
        "cross_attention_cond_ids": ["prompt", "seconds_total"],
        "global_cond_ids": ["seconds_total"],
        "type": "dit",
        "config": {
            "io_channels": 64,
            "embed_dim": 1024,
            "depth": 16,
            "num_heads": 8,
            "cond_token_dim": 768,
            "global_cond_dim": 768,
            "transformer_type": "continuous_transformer",
            "attn_kwargs": {"qk_norm": "ln"},
        },
    }
    return document


def stable_audio_open_small_base() -> Document:
    """The base that the small model was post-trained from, with timesteps moved towards noise."""
    document = stable_audio_open_small()
    document["model"]["diffusion"]["diffusion_objective"] = "rectified_flow"
    document["model"]["diffusion"]["distribution_shift_options"] = {"min_length": 16, "max_length": 64}
    return document


def inpainting() -> Document:
    """The kind that fills in what a mask leaves out, on Stable Audio Open's own fields."""
    document = stable_audio_open()
    document["model_type"] = "diffusion_cond_inpaint"
    document["model"]["diffusion"]["input_concat_ids"] = ["inpaint_mask", "inpaint_masked_input"]
    document["model"]["diffusion"]["config"]["input_concat_dim"] = 65
    document["training"] = {
        "inpainting": {"mask_kwargs": {"max_mask_segments": 3, "mask_type_probabilities": [0.5, 0.2, 0.3]}}
    }
    return document


def inpainting_flow() -> Document:
    document, small = inpainting(), stable_audio_open_small_base()
    document["model"]["diffusion"] |= {
        name: value for name, value in small["model"]["diffusion"].items() if name.startswith("di")
    }
    return document


def prepended() -> Document:
    """The seconds as tokens before the latents, nothing global."""
    document = stable_audio_open()
    diffusion = document["model"]["diffusion"]
    diffusion |= {"cross_attention_cond_ids": ["prompt"], "prepend_cond_ids": ["seconds_start", "seconds_total"]}
    del diffusion["global_cond_ids"], diffusion["config"]["global_cond_dim"]
    diffusion["config"]["prepend_cond_dim"] = 768
    return document


FAMILIES: dict[str, Callable[[], Document]] = {
    each.__name__: each
    for each in (
        stable_audio_open,
        stable_audio_open_small,
        stable_audio_open_small_base,
        inpainting,
        inpainting_flow,
        prepended,
    )
}


def small_sized(document: Document, window_latents: int = 24) -> Document:
    """The same fields with a few thousand parameters and the tiny model's sample rate."""
    document = copy.deepcopy(document)
    width, latents, model = 64, 4, document["model"]
    document |= {"sample_rate": 16000, "sample_size": window_latents * 128}
    autoencoder, dit, diffusion = model["pretransform"]["config"], model["diffusion"]["config"], model["diffusion"]
    autoencoder |= {"latent_dim": latents, "downsampling_ratio": 128}
    for side in ("encoder", "decoder"):
        autoencoder[side]["config"] |= {"channels": 4, "c_mults": [1, 2], "strides": [8, 16], "latent_dim": latents}
    autoencoder["encoder"]["config"]["latent_dim"] = 2 * latents
    model["io_channels"] = latents
    model["conditioning"]["cond_dim"] = width
    model["conditioning"]["configs"][0]["config"] |= {"t5_model_name": "local", "max_length": 16}
    dit |= {"io_channels": latents, "embed_dim": width, "depth": 2, "num_heads": 1, "cond_token_dim": width}
    for name, each in (("global_cond_dim", len(diffusion.get("global_cond_ids", []))), ("prepend_cond_dim", 1)):
        if name in dit:
            dit[name] = each * width
    if "input_concat_dim" in dit:
        dit["input_concat_dim"] = 1 + latents
    return document


def small_family(name: str, folder: Path, window_latents: int = 24) -> ModelFiles:
    """A small model of a family, its weights random, the same each time."""
    known: Configuration = check(small_sized(FAMILIES[name](), window_latents))
    weights, text_encoder = tiny.write_random(known, PROMPTS, folder, seed=1)
    fill_zero_branches(weights)
    return ModelFiles(known, weights, text_encoder)
