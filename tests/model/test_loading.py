"""A loaded model is stable-audio-tools' own, holds the file's weights and reads text from a local folder."""

import json
import shutil

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest
from luthier_model import text_encoder, tiny
from luthier_model.errors import (
    CheckpointError,
    CheckpointMismatch,
    ConfigurationError,
    ModelError,
    OutputNotFinite,
    TextEncoderError,
    TextEncoderMismatch,
)
from luthier_model.loading import fetch_version, load, statuses
from tests.support.services import temp_store

from .conftest import PROMPTS


def test_loaded_weights_are_the_files(known, files):
    model = load(known, *files)
    state = load_file(files[0])

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not model.training


def test_it_denoises_and_decodes(known, files):
    model = load(known, *files)
    condition = model.conditioner([{"prompt": PROMPTS[0], "seconds_start": 0, "seconds_total": 1.5}], "cpu")
    noise = torch.randn(1, known.latent_channels, known.window_latents)

    with torch.no_grad():
        audio = model.pretransform.decode(model(noise, torch.ones(1), cond=condition))

    assert audio.shape == (1, known.channels, known.window_samples)


def test_prompts_have_different_embeddings(known, files):
    model = load(known, *files)
    embeddings, _ = model.conditioner.conditioners["prompt"](PROMPTS, "cpu")

    assert (embeddings[0] - embeddings[1]).abs().max() > 0.1


def test_the_same_prompts_make_the_same_encoder(known, files, tmp_path):
    tiny.write_random(known, PROMPTS, tmp_path, seed=3)

    assert text_encoder.digest(tmp_path / "text_encoder") == text_encoder.digest(files[1])


def test_weights_of_another_shape_are_refused(files):
    with pytest.raises(CheckpointMismatch):
        load(tiny.configuration(), *files)


def test_absent_text_encoder_is_named(known, files):
    with pytest.raises(TextEncoderMismatch, match="needs the text encoder"):
        load(known, files[0], None)


@pytest.fixture
def encoder(files, tmp_path):
    """A copy of the text encoder's folder, to be changed."""
    return shutil.copytree(files[1], tmp_path / "t5")


def test_pickled_text_encoder_is_not_accepted(known, files, encoder):
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")

    with pytest.raises(TextEncoderMismatch, match=r"lacks model\.safetensors"):
        load(known, files[0], encoder)


def test_text_encoder_of_another_width_is_refused(known, files, tmp_path):
    tiny.write_text_encoder(PROMPTS, 32, tmp_path, 0)

    with pytest.raises(TextEncoderMismatch, match="32 wide"):
        load(known, files[0], tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_text_encoder_whose_files_are_broken_is_unreadable(known, files, encoder, name):
    (encoder / name).write_bytes((encoder / name).read_bytes()[:-9])

    with pytest.raises(TextEncoderError, match="text encoder"):
        load(known, files[0], encoder)


def test_a_sentencepiece_tokenizer_alone_is_read(known, files, encoder):
    """As the published T5 folders have it beside tokenizer.json."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS * 50), model_prefix=str(encoder / "spiece"), minloglevel=2,
        vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    (encoder / "tokenizer.json").unlink()
    (encoder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))

    tokenizer = load(known, files[0], encoder).conditioner.conditioners["prompt"].tokenizer

    assert tokenizer(PROMPTS[0])["input_ids"] != tokenizer(PROMPTS[1])["input_ids"]


def version_of(store, known, files) -> ModelVersion:
    paths = text_encoder.files(files[1])
    return ModelVersion(
        name="tiny",
        checkpoint=store.blobs.put_file("checkpoints", files[0]),
        configuration=store.blobs.put_bytes("configurations", json.dumps(dict(known.document)).encode(), "json"),
        text_encoder=[(path.name, store.blobs.put_file("text-encoders", path)) for path in paths],
    )


def test_a_registered_version_comes_back_as_its_files(known, files, tmp_path):
    with temp_store(tmp_path / "store") as store:
        fetched = fetch_version(store, version_of(store, known, files), tmp_path / "fetched")

    assert fetched.configuration == known
    assert fetched.weights.read_bytes() == files[0].read_bytes()
    assert text_encoder.digest(fetched.text_encoder) == text_encoder.digest(files[1])


def test_a_version_without_a_text_encoder_has_none(known, files, tmp_path):
    with temp_store(tmp_path / "store") as store:
        version = ModelVersion(**{**version_of(store, known, files).__dict__, "text_encoder": ()})

        assert fetch_version(store, version, tmp_path / "fetched").text_encoder is None


@pytest.mark.parametrize("name", ["../evil", "a/b", "x" * 101])
def test_a_text_encoder_file_with_a_bad_name_is_not_written(known, files, tmp_path, name):
    with temp_store(tmp_path / "store") as store:
        version = version_of(store, known, files)
        version = ModelVersion(**{**version.__dict__, "text_encoder": [(name, version.text_encoder[0][1])]})
        with pytest.raises(TextEncoderError, match="bad name"):
            fetch_version(store, version, tmp_path / "fetched")


MISMATCH = CheckpointMismatch(["a"], [], [])
CONFIGURATION = ConfigurationError([("sample_rate", "is missing")])


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (CONFIGURATION, InvalidRequest, "CONFIGURATION_INVALID"),
        (CheckpointError("x"), InvalidRequest, "CHECKPOINT_NOT_SAFETENSORS"),
        (MISMATCH, FailedPrecondition, "CHECKPOINT_MISMATCH"),
        (TextEncoderError("x"), InvalidRequest, "TEXT_ENCODER_UNREADABLE"),
        (TextEncoderMismatch("x"), FailedPrecondition, "TEXT_ENCODER_MISMATCH"),
    ],
)
def test_what_a_caller_brings_is_the_callers_to_mend(error, kind, reason):
    with pytest.raises(kind) as refused, statuses():
        raise error

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (CONFIGURATION, DataLoss, "CONFIGURATION_INVALID"),
        (CheckpointError("x"), DataLoss, "CHECKPOINT_CORRUPT"),
        (MISMATCH, FailedPrecondition, "CHECKPOINT_MISMATCH"),
        (TextEncoderError("x"), DataLoss, "TEXT_ENCODER_CORRUPT"),
        (TextEncoderMismatch("x"), FailedPrecondition, "TEXT_ENCODER_UNUSABLE"),
    ],
)
def test_corrupt_bytes_of_a_registered_version_are_data_loss_and_name_it(error, kind, reason):
    ref = ArtifactRef()
    with pytest.raises(kind, match=r"^model mine@3: ") as refused, statuses(ModelVersion("mine", ref, ref, n=3)):
        raise error

    assert refused.value.reason == reason
    assert not refused.value.permanent  # another server, or the mended store, may serve it


def test_output_that_is_not_finite_is_refused_for_good():
    ref = ArtifactRef()
    with pytest.raises(FailedPrecondition) as refused, statuses(ModelVersion("mine", ref, ref, n=3)):
        raise OutputNotFinite("x")

    assert (refused.value.reason, refused.value.permanent) == ("OUTPUT_NOT_FINITE", True)


def test_every_model_error_has_a_status():
    ref = ArtifactRef()
    arguments = {ConfigurationError: ([],), CheckpointMismatch: ([], [], [])}
    for kind in ModelError.__subclasses__():
        with pytest.raises((DataLoss, FailedPrecondition)), statuses(ModelVersion("mine", ref, ref, n=3)):
            raise kind(*arguments.get(kind, ("x",)))
