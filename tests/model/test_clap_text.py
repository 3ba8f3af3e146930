"""CLAP's text encoder: the numbers of stable-audio-tools' conditioner and of transformers, by each naming."""

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_audio_tools.models.conditioners import CLAPTextConditioner
from transformers import AutoTokenizer, ClapTextModelWithProjection, RobertaConfig, RobertaModel

from luthier_model import text_encoder
from luthier_model.configuration import Configuration, check
from luthier_model.errors import TextEncoderError, TextEncoderMismatch

from .clap import write_clap
from .families import small_sized, stable_audio_2
from .small import PROMPTS

SAID = [*PROMPTS, "", "piano " * 100]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClapTextModelWithProjection]:
    folder = tmp_path_factory.mktemp("clap")
    return folder, write_clap(PROMPTS, folder)


@pytest.fixture
def folder(written: tuple[Path, ClapTextModelWithProjection], tmp_path: Path) -> Path:
    """One of its own, to be spoiled."""
    return Path(shutil.copytree(written[0], tmp_path / "clap"))


def configured(**fields: Any) -> Configuration:
    document = small_sized(stable_audio_2())
    document["model"]["conditioning"]["configs"][0]["config"] |= fields
    return check(document)


class LaionClap(torch.nn.Module):
    """What the library takes of laion_clap 1.1.7's `CLAP_Module` (`hook.py`, `clap_module/model.py`), but small."""

    folder: Path

    def __init__(self, **_: object) -> None:
        super().__init__()
        given = json.loads((self.folder / "config.json").read_text())
        fields = {name: given[name] for name in given if name not in ("model_type", "architectures", "dtype")}
        self.model: Any = torch.nn.Module()
        self.model.text_branch = RobertaModel(RobertaConfig(**fields))
        self.model.text_projection = torch.nn.Sequential(
            torch.nn.Linear(768, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)
        )
        self.model.audio_branch = torch.nn.Identity()
        self.tokenize = AutoTokenizer.from_pretrained(self.folder)

    def tokenizer(self, text: list[str]) -> Any:
        return self.tokenize(text, padding="max_length", truncation=True, max_length=77, return_tensors="pt")

    def get_text_embedding(self, x: list[str], use_tensor: bool) -> torch.Tensor:
        assert use_tensor
        self.model.eval()
        pooled: torch.Tensor = self.model.text_branch(**self.tokenizer(x))["pooler_output"]
        return torch.nn.functional.normalize(self.model.text_projection(pooled), dim=-1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"feature_layer_ix": -1},
        {"feature_layer_ix": 0, "project_out": True},
        {"use_text_features": False},
    ],
    ids=["second to last", "last", "embeddings", "one vector"],
)
def test_states_are_the_librarys(
    written: tuple[Path, ClapTextModelWithProjection],
    fields: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own conditioner, over the checkpoint that it unpickles."""
    folder, model = written
    known = configured(**fields)
    LaionClap.folder = folder
    stand_in = ModuleType("laion_clap")
    stand_in.CLAP_Module = LaionClap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "laion_clap", stand_in)
    torch.save({"state_dict": as_laions(model.state_dict())}, tmp_path / "clap.pt")
    options = known.document["model"]["conditioning"]["configs"][0]["config"]
    theirs = CLAPTextConditioner(known.cond_dim, **{**options, "clap_ckpt_path": tmp_path / "clap.pt"})
    ours = text_encoder.conditioner(folder, known)
    ours.proj_out = theirs.proj_out

    for prompts in (SAID, SAID[:1]):
        with torch.no_grad():
            expected, expected_mask = theirs(prompts, "cpu")
            states, mask = ours(prompts, "cpu")

        torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(mask, expected_mask.bool())
        assert states.shape == (len(prompts), known.text.states, known.cond_dim)


def as_laions(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A checkpoint's names: wrapped for several GPUs, with the positions that transformers no longer keeps."""
    names = {"text_model.": "text_branch.", "text_projection.linear1": "text_projection.0",
             "text_projection.linear2": "text_projection.2"}  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        old = next(each for each in names if name.startswith(each))
        renamed["module." + names[old] + name.removeprefix(old)] = tensor.clone()
    return renamed | {"module.text_branch.embeddings.position_ids": torch.arange(80)[None]}


def bare(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("module.text_branch."): tensor for name, tensor in as_laions(state).items()}


def without_module(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("module."): tensor for name, tensor in as_laions(state).items()}


@pytest.mark.parametrize("renamed", [as_laions, without_module, bare, dict])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "of a whole CLAP"])
def test_weights_come_by_any_of_their_names(
    folder: Path, renamed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], nested: bool
) -> None:
    def states(folder: Path) -> torch.Tensor:
        made = text_encoder.conditioner(folder, configured())
        made.proj_out = torch.nn.Identity()  # drawn anew each time
        embedded: torch.Tensor = made(SAID, "cpu")[0]
        return embedded

    expected = states(folder)
    save_file(renamed(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    if nested:
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({"model_type": "clap", "text_config": fields}))

    text_encoder.check_weights(folder, configured())
    text_encoder.check_tokenizer(folder, configured())

    assert torch.equal(states(folder), expected)


def test_states_are_transformers(written: tuple[Path, ClapTextModelWithProjection]) -> None:
    folder, model = written
    tokens = AutoTokenizer.from_pretrained(folder)(
        SAID, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**tokens, output_hidden_states=True)
        joint = torch.nn.functional.normalize(expected.text_embeds, dim=-1)

    for fields, wanted in (({}, expected.hidden_states[-2]), ({"use_text_features": False}, joint[:, None])):
        ours = text_encoder.conditioner(folder, configured(**fields))
        ours.proj_out = torch.nn.Identity()
        torch.testing.assert_close(ours(SAID, "cpu")[0], wanted, rtol=1e-5, atol=1e-6)


def test_padding_is_one_vector(written: tuple[Path, ClapTextModelWithProjection]) -> None:
    """What training keeps of it, and a transformer that ignores masks hears."""
    ours = text_encoder.conditioner(written[0], configured())

    states, mask = ours(PROMPTS, "cpu")

    for row, own in zip(states, mask, strict=True):
        padding = row[~own]
        assert len(padding) > 1
        torch.testing.assert_close(padding, padding[-1:].expand_as(padding))
        assert padding.any()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hidden_size", 512, "hidden_size must be 768"),
        ("num_hidden_layers", 0, "num_hidden_layers"),
        ("num_hidden_layers", 1_000_000, "num_hidden_layers"),
        ("num_attention_heads", 7, "must divide 768"),
        ("vocab_size", True, "vocab_size"),
        ("max_position_embeddings", 78, "at least 79"),
        ("pad_token_id", 300, "pad_token_id"),
        ("layer_norm_eps", "x", "layer_norm_eps"),
        ("hidden_act", "relu", "hidden_act"),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("model_type", "t5", "model_type"),
        ("model_type", ["clap"], "model_type"),
        ("auto_map", {"AutoModel": "a--b.C"}, "auto_map"),
        ("intermediate_size", 64, r"is \[32, 768\], config.json says \[64, 768\]"),
    ],
)
def test_a_configuration_that_is_not_claps_is_refused(folder: Path, field: str, value: object, said: str) -> None:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**document, field: value}))

    with pytest.raises(TextEncoderError, match=said):
        text_encoder.check(folder, configured())


def test_a_layer_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(TextEncoderError, match="feature_layer_ix takes -4"):
        text_encoder.check(folder, configured(feature_layer_ix=-4))


def test_what_is_absent_is_named(folder: Path) -> None:
    with pytest.raises(TextEncoderMismatch, match="needs the text encoder 'clap_text' as a folder"):
        text_encoder.check(None, configured())
    state = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in state.items() if "projection" not in n}, folder / "model.safetensors")
    text_encoder.check(folder, configured())
    with pytest.raises(TextEncoderError, match=r"lacks text_projection\.linear1\.weight"):
        text_encoder.check(folder, configured(use_text_features=False))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TextEncoderMismatch, match=r"lacks tokenizer\.json"):
        text_encoder.check(folder, configured())


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.word_embeddings.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors")

    with pytest.raises(TextEncoderError, match="holds NaN or infinity"):
        text_encoder.check_weights(folder, configured())


def test_a_t5_in_its_place_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(TextEncoderError, match="is not CLAP's: model_type must be one of"):
        text_encoder.check(files[1], configured())


def test_the_document_is_kept_as_it_came() -> None:
    document = small_sized(stable_audio_2())
    assert check(copy.deepcopy(document)).document == document
