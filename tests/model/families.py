"""Configurations of the papers' families, with the fields of the published ones; and small ones of the same fields.

Sources: the model cards and papers (Evans 2024 for Stable Audio Open; Novack 2025 for Stable Audio Open Small) and the
documents of stable-audio-tools (`configs/model_configs/txt2audio` in its repository for Stable Audio 1 and 2); composed
by hand.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier_model import checkpoint, tiny
from luthier_model.configuration import Configuration, check, packaged
from luthier_model.network import random_model

from .clap import write_clap
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


def stable_audio_2() -> Document:
    """Of `stable_audio_2_0.json`: 4 min 45 s at once, prompts by CLAP."""
    document = stable_audio_open()
    document["sample_size"] = 12582912
    document["model"]["conditioning"]["configs"][0] = clap_prompt()
    return document


def one_vector() -> Document:
    """Stable Audio 2 with CLAP's vector for the whole prompt, in the space that it shares with audio."""
    document = stable_audio_2()
    document["model"]["conditioning"]["configs"][0]["config"] |= {"use_text_features": False}
    del document["model"]["conditioning"]["configs"][0]["config"]["feature_layer_ix"]
    return document


def stable_audio_1() -> Document:
    """Of `stable_audio_1_0.json`: a U-Net over latents of the Descript codec's convolutions, seconds in whole ones."""
    document = stable_audio_open()
    document["sample_size"] = 4194304
    model = document["model"]
    encoder = {"in_channels": 2, "latent_dim": 128, "d_model": 128, "strides": [4, 4, 8, 8]}
    decoder = {"out_channels": 2, "latent_dim": 64, "channels": 1536, "rates": [8, 8, 4, 4]}
    model["pretransform"]["config"] |= {
        "encoder": {"type": "dac", "config": encoder},
        "decoder": {"type": "dac", "config": decoder},
        "downsampling_ratio": 1024,
    }
    seconds = {"type": "int", "config": {"min_val": 0, "max_val": 512}}
    model["conditioning"]["configs"] = [clap_prompt()]
    model["conditioning"]["configs"] += [{"id": id, **seconds} for id in ("seconds_start", "seconds_total")]
    model["diffusion"] = {
        "type": "adp_cfg_1d",
        "cross_attention_cond_ids": ["prompt", "seconds_start", "seconds_total"],
        "config": {
            "in_channels": 64,
            "context_embedding_features": 768,
            "context_embedding_max_length": 79,
            "channels": 256,
            "resnet_groups": 16,
            "kernel_multiplier_downsample": 2,
            "multipliers": [4, 4, 4, 5, 5],
            "factors": [1, 2, 2, 4],
            "num_blocks": [2, 2, 2, 2],
            "attentions": [1, 3, 3, 3, 3],
            "attention_heads": 16,
            "attention_multiplier": 4,
            "use_nearest_upsample": False,
            "use_skip_scale": True,
            "use_context_time": True,
        },
    }
    return document


def clap_prompt() -> Document:
    return {
        "id": "prompt",
        "type": "clap_text",
        "config": {
            "audio_model_type": "HTSAT-base",
            "enable_fusion": True,
            "clap_ckpt_path": "/path/to/clap.ckpt",
            "use_text_features": True,
            "feature_layer_ix": -2,
        },
    }


FAMILIES: dict[str, Callable[[], Document]] = {
    each.__name__: each
    for each in (
        stable_audio_open,
        stable_audio_open_small,
        stable_audio_open_small_base,
        inpainting,
        inpainting_flow,
        prepended,
        stable_audio_2,
        one_vector,
        stable_audio_1,
    )
}


def small_sized(document: Document, window_latents: int = 24) -> Document:
    """The same fields with a few thousand parameters and the tiny model's sample rate."""
    document = copy.deepcopy(document)
    width, latents, model = 64, 4, document["model"]
    document |= {"sample_rate": 16000, "sample_size": window_latents * 128}
    autoencoder, diffusion = model["pretransform"]["config"], model["diffusion"]
    autoencoder |= {"latent_dim": latents, "downsampling_ratio": 128}
    for side in ("encoder", "decoder"):
        is_dac = autoencoder[side]["type"] == "dac"
        autoencoder[side]["config"] |= DAC_SMALL[side] if is_dac else OOBLECK_SMALL
        autoencoder[side]["config"]["latent_dim"] = latents
    autoencoder["encoder"]["config"]["latent_dim"] = 2 * latents
    model["io_channels"] = latents
    model["conditioning"]["cond_dim"] = width
    prompt = model["conditioning"]["configs"][0]
    if prompt["type"] == "t5":
        prompt["config"] |= {"t5_model_name": "local", "max_length": 16}
    network = diffusion["config"]
    if diffusion["type"] == "adp_cfg_1d":
        network |= {"in_channels": latents, "context_embedding_features": width, "channels": 8, "resnet_groups": 8}
        network |= {"multipliers": [4, 4, 8], "factors": [1, 2], "num_blocks": [1, 2], "attentions": [1, 1, 2]}
        network |= {"attention_heads": 4, "attention_multiplier": 2}
        return document
    network |= {"io_channels": latents, "embed_dim": width, "depth": 2, "num_heads": 1, "cond_token_dim": width}
    for name, each in (("global_cond_dim", len(diffusion.get("global_cond_ids", []))), ("prepend_cond_dim", 1)):
        if name in network:
            network[name] = each * width
    if "input_concat_dim" in network:
        network["input_concat_dim"] = 1 + latents
    return document


OOBLECK_SMALL = {"channels": 4, "c_mults": [1, 2], "strides": [8, 16]}
DAC_SMALL = {"encoder": {"d_model": 2, "strides": [8, 16]}, "decoder": {"channels": 16, "rates": [16, 8]}}


def small_family(name: str, folder: Path, window_latents: int = 24) -> ModelFiles:
    """A small model of a family, its weights random, the same each time."""
    known: Configuration = check(small_sized(FAMILIES[name](), window_latents))
    if known.text.type == "clap_text":
        weights, text_encoder = folder / "weights.safetensors", folder / "text_encoder"
        write_clap(PROMPTS, text_encoder)
        checkpoint.write(weights, random_model(known, seed=1).state_dict(), {"format": "pt"})
    else:
        weights, text_encoder = tiny.write_random(known, PROMPTS, folder, seed=1)
    fill_zero_branches(weights)
    return ModelFiles(known, weights, text_encoder)
