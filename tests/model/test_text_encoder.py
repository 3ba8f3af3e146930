"""A text encoder's folder: files that are not what their names say are refused, each by name."""

import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier_model import text_encoder
from luthier_model.configuration import Configuration
from luthier_model.errors import TextEncoderError

WEIGHTS, CONFIG, TOKENIZER = text_encoder.WEIGHTS, text_encoder.CONFIG, "tokenizer.json"


@pytest.fixture
def folder(files: tuple[Path, Path], tmp_path: Path) -> Path:
    """A text encoder of its own, to be spoiled."""
    return Path(shutil.copytree(files[1], tmp_path / "text_encoder"))


def test_a_whole_encoder_passes(folder: Path, known: Configuration) -> None:
    assert text_encoder.check(folder, known) == folder
    text_encoder.check_weights(folder, known)


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, "tokenizer_config.json"])
@pytest.mark.parametrize("data", [b"[" * 200_000, b" " * (33 << 20)], ids=["deep", "long"])
def test_json_beyond_its_bounds_is_refused(folder: Path, known: Configuration, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(TextEncoderError, match=name):
        text_encoder.check(folder, known)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"7", b"\xff", b"{"])
def test_what_is_no_t5_configuration_is_refused(folder: Path, known: Configuration, data: bytes) -> None:
    (folder / CONFIG).write_bytes(data)
    with pytest.raises(TextEncoderError, match=CONFIG):
        text_encoder.check(folder, known)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 1 << 40), ("num_layers", 1_000_000), ("vocab_size", -1), ("d_ff", "64"), ("num_heads", True),
        ("d_kv", 1e9), ("feed_forward_proj", "nothing"), ("feed_forward_proj", 7),
        ("relative_attention_max_distance", 0), ("layer_norm_epsilon", "x"), ("layer_norm_epsilon", 0),
        ("layer_norm_epsilon", math.nan), ("dtype", "int8"),
        ("torch_dtype", ["float32"]), ("model_type", "bert"), ("model_type", 7), ("auto_map", {"AutoConfig": "a--b.C"}),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_t5s_is_refused(
    folder: Path, known: Configuration, field: str, value: object
) -> None:
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**document, field: value}))
    with pytest.raises(TextEncoderError, match=CONFIG):
        text_encoder.check(folder, known)


def test_weights_of_something_else_are_refused(folder: Path, known: Configuration) -> None:
    save_file({"noise": torch.randn(64)}, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match="lacks "):
        text_encoder.check(folder, known)


def test_weights_of_another_shape_are_refused(folder: Path, known: Configuration) -> None:
    state = load_file(folder / WEIGHTS)
    state["shared.weight"] = torch.zeros(3, 3)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match=r"shared.weight is \[3, 3\]"):
        text_encoder.check(folder, known)


@pytest.mark.parametrize("spoiled", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(folder: Path, known: Configuration, spoiled: float) -> None:
    state = load_file(folder / WEIGHTS)
    state["shared.weight"][0, 0] = spoiled
    save_file(state, folder / WEIGHTS)
    with pytest.raises(TextEncoderError, match=r"shared\.weight holds NaN or infinity"):
        text_encoder.check_weights(folder, known)


@pytest.mark.parametrize(
    "odd",
    [
        {"return_dict": False}, {"is_decoder": True}, {"_attn_implementation": "none"}, {"num_labels": "x"},
        {"output_hidden_states": "yes"}, {"eos_token_id": [[]]}, {"tokenizer_class": 7}, {"dropout_rate": "x"},
    ],
)  # fmt: skip
def test_fields_that_decide_nothing_are_not_read(folder: Path, known: Configuration, odd: dict[str, object]) -> None:
    plain, _ = text_encoder.conditioner(folder, known)(["calm piano"], "cpu")
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**document, **odd}))

    text_encoder.check_tokenizer(folder, known)
    embeddings, _ = text_encoder.conditioner(folder, known)(["calm piano"], "cpu")

    assert torch.equal(embeddings, plain)


def refused(folder: Path, known: Configuration) -> None:
    """When it is registered, and when a version that was registered before is loaded."""
    text_encoder.check(folder, known)
    with pytest.raises(TextEncoderError, match="tokenizer of the text encoder"):
        text_encoder.check_tokenizer(folder, known)
    with pytest.raises(TextEncoderError, match="text encoder"):
        text_encoder.conditioner(folder, known)


@pytest.mark.parametrize("data", [b"{}", b"[]", b"7", b"{", b"", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_none_is_refused(folder: Path, known: Configuration, data: bytes) -> None:
    (folder / TOKENIZER).write_bytes(data)
    refused(folder, known)


def test_a_sentencepiece_model_of_noise_is_refused(folder: Path, known: Configuration) -> None:
    (folder / TOKENIZER).unlink()
    (folder / "spiece.model").write_bytes(random.Random(1).randbytes(5000))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    refused(folder, known)


@pytest.mark.parametrize(
    "changes",
    [
        {"pad_token": None},
        {"model_input_names": ["input_ids"]},
        {"truncation_side": "middle"},
        {"model_max_length": "long"},
        {"auto_map": 7},
    ],
)
def test_a_tokenizer_that_does_not_take_prompts_is_refused(
    folder: Path, known: Configuration, changes: dict[str, object]
) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    refused(folder, known)


def test_tokens_without_an_embedding_are_refused(folder: Path, known: Configuration) -> None:
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 512  # the encoder has 512 embeddings: 0 to 511
    (folder / TOKENIZER).write_text(json.dumps(tokenizer))
    refused(folder, known)


def test_a_template_of_tokens_without_an_embedding_is_refused(folder: Path, known: Configuration) -> None:
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    tokenizer["post_processor"]["special_tokens"]["</s>"]["ids"] = [99_999]
    (folder / TOKENIZER).write_text(json.dumps(tokenizer))
    refused(folder, known)


def test_code_that_a_tokenizer_asks_for_is_not_run(folder: Path, known: Configuration) -> None:
    path = folder / "tokenizer_config.json"
    asked = {"auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, "tokenizer_class": "Mine"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **asked}))
    (folder / "mine.py").write_text("raise SystemExit('run')")

    text_encoder.check_tokenizer(folder, known)
    assert type(text_encoder.conditioner(folder, known).tokenizer).__module__.startswith("transformers.")


def test_a_spoiled_tokenizer_is_refused_or_works(folder: Path, known: Configuration) -> None:
    """Whatever becomes of its bytes: one of two outcomes, and no other error."""
    draw, whole, outcomes = random.Random(2), (folder / TOKENIZER).read_bytes(), set()
    digits = [place for place, char in enumerate(whole) if char in b"0123456789"]
    for _ in range(60):
        spoiled = bytearray(whole)
        for _ in range(draw.choice((1, 2, 5))):
            spoiled[draw.randrange(len(spoiled))] = draw.randrange(256)
        if draw.random() < 0.5:
            spoiled = bytearray(whole)
            spoiled[draw.choice(digits)] = draw.choice(b"0123456789")
        (folder / TOKENIZER).write_bytes(spoiled[: draw.choice((None, None, draw.randrange(len(spoiled))))])
        try:
            text_encoder.check_tokenizer(folder, known)
            outcomes.add("works")
        except TextEncoderError:
            outcomes.add("refused")
    assert outcomes == {"works", "refused"}


def test_what_is_refused_names_no_folder_of_the_server(folder: Path, known: Configuration) -> None:
    (folder / TOKENIZER).unlink()
    (folder / "spiece.model").write_bytes(b"")
    with pytest.raises(TextEncoderError) as refused:
        text_encoder.check_tokenizer(folder, known)
    assert str(folder) not in str(refused.value)
    assert "/tmp" not in str(refused.value)
