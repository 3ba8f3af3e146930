# mypy: disable-error-code="no-untyped-call, attr-defined, arg-type, call-arg, no-any-return"
# (the libraries' classes have types in part)
"""Models of the published architectures, tiny and with random weights, saved as their libraries save them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path
from typing import TypeVar

import pytest
import torch
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    DacConfig,
    DacModel,
    EncodecConfig,
    EncodecModel,
    GPT2Config,
    GPT2LMHeadModel,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in f"▁{LETTERS}")]
BYTES = {piece: number for number, piece in enumerate(["<pad>", "</s>", "<unk>", "<s>", "<mask>", *f"Ġ{LETTERS}"])}
ENCODEC = EncodecConfig(
    target_bandwidths=[0.4, 0.8, 1.6], sampling_rate=8000, audio_channels=1, num_filters=4, num_residual_layers=1,
    upsampling_ratios=[5, 4, 4], codebook_size=16, codebook_dim=16, hidden_size=16, num_lstm_layers=1,
)  # fmt: skip
"""100 frames a second of up to four codebooks of 4 bits: 1.6 kbit/s."""


def t5_tokenizer() -> T5Tokenizer:
    """Of single letters."""
    return T5Tokenizer(vocab=PIECES, extra_ids=0, model_max_length=64)


def t5() -> T5Config:
    return T5Config(vocab_size=len(PIECES), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)


M = TypeVar("M", bound=torch.nn.Module)


def awake(model: M) -> M:
    """Codebooks are zeros when a codec is made, so that it would be silent."""
    for name, buffer in model.named_buffers():
        if name.endswith("embed"):
            buffer.normal_()
    return model


@pytest.fixture(scope="session")
def musicgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("musicgen")
    torch.manual_seed(1)
    decoder = MusicgenDecoderConfig(
        vocab_size=16, max_position_embeddings=512, num_hidden_layers=1, ffn_dim=32, num_attention_heads=2,
        hidden_size=16, num_codebooks=4, pad_token_id=16, bos_token_id=16, eos_token_id=None,
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(MusicgenConfig(text_encoder=t5(), audio_encoder=ENCODEC, decoder=decoder))
    awake(model)
    for name, parameter in model.named_parameters():
        if not name.startswith("audio_encoder."):
            parameter.data.normal_(std=0.5)  # as they are made, every token would be as likely as any other
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = 16
    model.generation_config.bos_token_id = 16
    model.save_pretrained(folder)
    t5_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encodec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encodec")
    torch.manual_seed(2)
    awake(EncodecModel(ENCODEC)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encodec_stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the one of 48 kHz: two channels, in normalised pieces of a second that overlap."""
    folder = tmp_path_factory.mktemp("encodec-stereo")
    torch.manual_seed(3)
    config = EncodecConfig(
        **{**ENCODEC.to_dict(), "audio_channels": 2, "normalize": True, "chunk_length_s": 1.0, "overlap": 0.01}
    )
    awake(EncodecModel(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an odd stride, as the one of 24 kHz."""
    folder = tmp_path_factory.mktemp("dac")
    torch.manual_seed(4)
    config = DacConfig(
        encoder_hidden_size=8, downsampling_ratios=[2, 5], decoder_hidden_size=16, upsampling_ratios=[5, 2],
        n_codebooks=2, codebook_size=16, codebook_dim=4, sampling_rate=16_000,
    )  # fmt: skip
    awake(DacModel(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def audioldm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        DDIMScheduler,
    )

    folder = tmp_path_factory.mktemp("audioldm2")
    torch.manual_seed(5)
    clap = ClapConfig(
        text_config={"vocab_size": len(BYTES), "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
                     "num_hidden_layers": 1, "pad_token_id": 0, "projection_dim": 8},
        audio_config={"spec_size": 64, "num_mel_bins": 4, "patch_size": 2, "patch_stride": 2, "depths": [1, 1],
                      "num_attention_heads": [1, 1], "num_hidden_layers": 2, "hidden_size": 16, "projection_dim": 8,
                      "window_size": 4, "patch_embeds_hidden_size": 8, "num_classes": 3},
        projection_dim=8,
    )  # fmt: skip
    pipeline = AudioLDM2Pipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), in_channels=1, out_channels=1, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=ClapModel(clap),
        text_encoder_2=T5EncoderModel(t5()),
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=8, text_encoder_1_dim=16, langauge_model_dim=16),
        language_model=GPT2LMHeadModel(
            GPT2Config(
                n_embd=16, n_head=2, n_layer=1, vocab_size=16, n_positions=256, max_new_tokens=4,
                bos_token_id=1, eos_token_id=1,
            )
        ),
        tokenizer=RobertaTokenizer(vocab=BYTES, merges=[], model_max_length=64),
        tokenizer_2=t5_tokenizer(),
        feature_extractor=ClapFeatureExtractor(feature_size=4, sampling_rate=16_000),
        unet=AudioLDM2UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1, cross_attention_dim=((None, 16, 16),) * 2, attention_head_dim=4,
        ),
        scheduler=DDIMScheduler(),
        vocoder=SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=8, sampling_rate=16_000, upsample_initial_channel=64, upsample_rates=[5, 4, 2, 2, 2],
                upsample_kernel_sizes=[11, 8, 4, 4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
                normalize_before=False,
            )
        ),
    )  # fmt: skip
    for parameter in pipeline.vocoder.parameters():
        parameter.data.normal_(std=0.2)  # as it is made, what it gives is below the steps of 16 bit
    pipeline.save_pretrained(folder)
    return folder
