"""CLAP against laion_clap's model and front end with the same random weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import references
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from luthier_evaluation.conversion import ConversionError
from luthier_evaluation.conversion import clap as conversion
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.divergence import clap_score
from luthier_evaluation.embedders import EMBEDDERS, TextEmbedder, clap
from luthier_evaluation.embedders.clap import Clap, Size
from luthier_kit.rpc import InvalidRequest

RATE = clap.SAMPLE_RATE_HZ
SMALL = Size(vocabulary=300, layers=2, intermediate=64, positions=90)
TEXTS = ["fast metal with two guitars, 180 BPM", "slow jazz", "", "a choir sings in D minor " * 30]


def tokenizer() -> Tokenizer:
    """A small one of RoBERTa's kind."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SMALL.vocabulary,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return made


def laion(size: Size) -> references.LaionClap:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=size.vocabulary, num_hidden_layers=size.layers, intermediate_size=size.intermediate,
        max_position_embeddings=size.positions, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )  # fmt: skip
    return references.LaionClap(RobertaModel(config))


def publish(reference: references.LaionClap, folder: Path) -> Path:
    """The checkpoint as laion_clap's training writes it, and the tokenizer beside it."""
    path = folder / "630k-audioset-fusion-best.pt"
    state = {f"module.{name}": value for name, value in reference.model.state_dict().items()}
    optimizer = {"param_groups": [{"lr": np.float64(1e-4), "betas": (0.9, 0.99)}], "state": {}}
    torch.save({"epoch": 9, "name": "best", "state_dict": state, "optimizer": optimizer}, path)
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    return path


@pytest.fixture(scope="module")
def reference() -> references.LaionClap:
    return laion(SMALL)


@pytest.fixture
def published(reference: references.LaionClap, tmp_path: Path, unsandboxed: None) -> Path:
    return publish(reference, tmp_path)


@pytest.fixture(scope="module")
def embedder(reference: references.LaionClap) -> Clap:
    state = reference.model.state_dict()
    tensors = {name: conversion._part(state[conversion.laions_name(name)], name) for name in clap.weight_shapes(SMALL)}
    return Clap("digest", tensors, tokenizer(), SMALL)


def music(seconds: float, seed: int) -> np.ndarray:
    """Mono (frames, 1) that changes, the highest sample at -1 dBFS."""
    draw, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * t * (1 + 0.03 * t)) for hz in draw.uniform(60, 6000, 5))
    audio = (tones * (1.1 + np.sin(3 * t)) + 0.1 * draw.standard_normal(t.size))[:, None]
    return (audio * 10 ** (-1 / 20) / np.abs(audio).max()).astype(np.float32)


def as_published(reference: references.LaionClap, audio: np.ndarray) -> np.ndarray:
    """laion_clap's vector after stable-audio-metrics' round trip, its draws those of the middle."""
    rounded = (audio[:, 0] * np.float32(32767)).astype(np.int16).astype(np.float32) / np.float32(32767)
    return reference.audio(rounded, lambda places: places[len(places) // 2])


@dataclass(frozen=True)
class Heard:
    """A piece of audio, and both vectors (512,) of it."""

    audio: np.ndarray
    published: np.ndarray
    ours: np.ndarray


@pytest.fixture(scope="module")
def heard(reference: references.LaionClap, embedder: Clap) -> dict[float, Heard]:
    """By its seconds: one that is repeated to fill a window, one that is cut into three pieces."""
    pieces = {seconds: music(seconds, seed) for seed, seconds in enumerate((3.3, 14.0))}
    return {
        seconds: Heard(audio, as_published(reference, audio), embedder.embed(audio).vectors[0])
        for seconds, audio in pieces.items()
    }


@pytest.mark.parametrize("seconds", [3.3, 14.0])
def test_vectors_of_audio_are_laion_claps(heard: dict[float, Heard], seconds: float) -> None:
    assert np.abs(heard[seconds].ours - heard[seconds].published).max() < 1e-5


def test_the_network_tells_audio_apart(heard: dict[float, Heard]) -> None:
    assert np.abs(heard[3.3].published - heard[14.0].published).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 10.0, 10.005, 10.02, 10.03, 31.0])  # around where fusion begins
def test_vectors_of_audio_of_any_length_are_laion_claps(
    reference: references.LaionClap, embedder: Clap, seconds: float
) -> None:
    audio = music(seconds, 1)

    assert np.abs(embedder.embed(audio).vectors[0] - as_published(reference, audio)).max() < 1e-5


def test_vectors_of_texts_are_laion_claps(reference: references.LaionClap, embedder: Clap) -> None:
    words = tokenizer()
    words.enable_truncation(77)
    words.enable_padding(pad_id=1, pad_token="<pad>", length=77)
    encoded = words.encode_batch(TEXTS)
    expected = reference.text(
        {
            "input_ids": torch.tensor([each.ids for each in encoded]),
            "attention_mask": torch.tensor([each.attention_mask for each in encoded]),
        }
    )

    found = embedder.embed_text(TEXTS)

    assert isinstance(embedder, TextEmbedder)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_the_score_of_pairs_is_laion_claps(heard: dict[float, Heard], embedder: Clap) -> None:
    words = torch.from_numpy(embedder.embed_text(TEXTS[:2]))
    sound = torch.from_numpy(np.stack([each.published for each in heard.values()]))
    expected = torch.nn.functional.cosine_similarity(sound, words).mean()

    found = clap_score(np.stack([each.ours for each in heard.values()]), words.numpy())

    assert found == pytest.approx(float(expected), abs=1e-4)


def test_level_batch_and_order_change_nothing(
    heard: dict[float, Heard], embedder: Clap, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = embedder.embed_text(TEXTS)

    monkeypatch.setattr(clap, "TEXTS_AT_ONCE", 1)

    assert np.allclose(embedder.embed_text(TEXTS[::-1])[::-1], texts, atol=1e-5)
    softer = embedder.embed(heard[3.3].audio * np.float32(0.25)).vectors[0]
    assert np.allclose(softer, heard[3.3].ours, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "begins"), [(1002, (0, 1, 0)), (1003, (0, 1, 2)), (1004, (1, 2, 3)), (1301, (50, 151, 251))]
)
def test_each_piece_is_in_the_middle_of_its_range(frames: int, begins: tuple[int, int, int]) -> None:
    assert clap.pieces_of(frames) == begins


def test_laion_claps_checkpoint_is_converted(published: Path, embedder: Clap) -> None:
    found = conversion.read(published, SMALL)

    assert found.left_out["optimizer"] == 1
    assert found.left_out["epoch"] == 1
    stored = embedder._model.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in found.tensors.items())
    opened = Clap("", found.tensors, clap.tokenizer_of(found.header[clap.TOKENIZER], SMALL), SMALL)
    assert np.allclose(opened.embed_text(TEXTS), embedder.embed_text(TEXTS), atol=1e-6)


def test_transformers_folder_is_converted_to_the_same(published: Path, embedder: Clap) -> None:
    expected = conversion.read(published, SMALL).tensors
    folder = published.parent / "clap-htsat-fused"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    save_file(
        {name: value.contiguous() for name, value in embedder._model.state_dict().items()}, folder / "model.safetensors"
    )

    found = conversion.read(folder, SMALL)

    assert set(found.tensors) == set(expected)
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)


def test_robertas_two_files_make_its_tokenizer(published: Path) -> None:
    folder = published.parent
    (folder / "tokenizer.json").unlink()
    tokenizer().model.save(str(folder))
    expected = RobertaTokenizer.from_pretrained(str(folder))

    made = clap.tokenizer_of(conversion.read(published, SMALL).header[clap.TOKENIZER], SMALL)

    assert [made.encode(text).ids for text in TEXTS] == [expected(text)["input_ids"] for text in TEXTS]


def test_without_a_tokenizer_nothing_is_converted(published: Path) -> None:
    (published.parent / "tokenizer.json").unlink()

    with pytest.raises(ConversionError, match=r"must hold RoBERTa's tokenizer\.json") as refused:
        conversion.read(published, SMALL)

    assert refused.value.reason == "NO_TOKENIZER"


def test_a_tokenizer_beyond_the_networks_vocabulary_is_refused() -> None:
    document = json.loads(tokenizer().to_str())
    document["added_tokens"].append({**document["added_tokens"][-1], "id": 300, "content": "<extra>"})

    with pytest.raises(ValueError, match="token 300"):
        clap.tokenizer_of(json.dumps(document), SMALL)


def test_texts_beyond_the_bound_are_refused(embedder: Clap) -> None:
    with pytest.raises(InvalidRequest, match="10000 characters"):
        embedder.embed_text(["a" * 10_001])


@pytest.mark.slow
def test_at_its_true_size_a_converted_checkpoint_gives_laion_claps_vectors(tmp_path: Path) -> None:
    network = laion(Size())
    publish(network, tmp_path)
    convert("clap", tmp_path, tmp_path)
    audio = music(14, 5)

    found = EMBEDDERS["clap"].open(tmp_path / "clap.safetensors").embed(audio).vectors

    assert np.abs(found[0] - as_published(network, audio)).max() < 1e-5
