"""PaSST against hear21passt with the same random weights."""

from pathlib import Path

import numpy as np
import pytest
import references
import torch

from luthier_evaluation.conversion import passt as conversion
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.divergence import kl_of
from luthier_evaluation.embedders import EMBEDDERS, passt
from luthier_evaluation.embedders.passt import Passt, Size
from luthier_kit.rpc import InvalidRequest

RATE = passt.SAMPLE_RATE_HZ
SMALL = Size(width=128, blocks=2)


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return references.passt(SMALL.width, SMALL.blocks)


@pytest.fixture(scope="module")
def embedder(reference: torch.nn.Module) -> Passt:
    state = reference.get_submodule("net").state_dict()
    return Passt("digest", {name: state[name] for name in passt.weight_shapes(SMALL)}, SMALL)


def music(seconds: float, seed: int) -> np.ndarray:
    """Mono (frames, 1) that changes, the highest sample at -1 dBFS."""
    draw, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * t * (1 + 0.02 * t)) for hz in draw.uniform(60, 9000, 5))
    audio = (tones * (1 + np.sin(3 * t)) + 0.1 * draw.standard_normal(t.size))[:, None]
    return (audio * 10 ** (-1 / 20) / np.abs(audio).max()).astype(np.float32)


def as_published(network: torch.nn.Module, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and logits of the windows that stable-audio-metrics' loop listens to."""
    step, length, found = 5 * RATE, 10 * RATE, []
    for begin in range(0, max(step, len(audio) - step), step):
        window = audio[begin : begin + length, 0]
        if 0.15 * length < len(window) < length:
            window = np.pad(window, (0, length - len(window)))
        found.append(references.passt_outputs(network, window))
    return np.stack([vector for vector, _ in found]), np.stack([logits for _, logits in found])


@pytest.mark.parametrize("seconds", [0.5, 1.6, 15.1])
def test_vectors_and_logits_are_hear21passts(reference: torch.nn.Module, embedder: Passt, seconds: float) -> None:
    audio = music(seconds, 1)
    vectors, logits = as_published(reference, audio)

    found = embedder.embed(audio)

    assert found.vectors.shape == vectors.shape
    assert np.abs(found.vectors - vectors).max() < 1e-4
    assert np.abs(found.logits - logits).max() < 1e-4


def test_the_divergence_of_two_pieces_is_the_references(reference: torch.nn.Module, embedder: Passt) -> None:
    generated, original = music(10.1, 2), music(6, 3)
    mean = [torch.from_numpy(as_published(reference, audio)[1]).mean(0) for audio in (generated, original)]
    p, q = (each.softmax(0) for each in mean)
    expected = torch.nn.functional.kl_div((q + 1e-6).log(), p, reduction="sum")

    found = kl_of(embedder.embed(generated).logits, embedder.embed(original).logits)

    assert expected > 0.01
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_level_batch_and_what_came_before_change_nothing(embedder: Passt, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = music(10.1, 4)
    before = embedder.embed(audio)

    monkeypatch.setattr(passt, "WINDOWS_AT_ONCE", 3)
    embedder.embed(music(2, 5))
    after = embedder.embed(audio * np.float32(0.1))

    assert np.allclose(before.logits, after.logits, atol=1e-4)
    assert np.allclose(before.vectors, after.vectors, atol=1e-4)


def test_classes_are_audiosets() -> None:
    classes = passt.classes()

    assert len(classes) == len(set(classes)) == passt.CLASSES
    assert (classes[0], classes[137], classes[526]) == ("Speech", "Music", "Field recording")  # AudioSet's own table


@pytest.mark.parametrize("prefix", ["", "net.", "module."])
def test_a_checkpoint_is_read_under_any_of_its_prefixes(
    reference: torch.nn.Module, embedder: Passt, prefix: str, tmp_path: Path, unsandboxed: None
) -> None:
    path = tmp_path / "passt.pt"
    torch.save({prefix + name: value for name, value in reference.get_submodule("net").state_dict().items()}, path)

    published = conversion.read(path, SMALL)

    audio = music(1, 6)
    found = Passt("", published.tensors, SMALL).embed(audio)
    assert np.array_equal(found.logits, embedder.embed(audio).logits)
    assert published.left_out == {(prefix + "head_dist").split(".")[0]: 2}


def test_averaged_weights_come_before_those_of_the_last_step(
    reference: torch.nn.Module, tmp_path: Path, unsandboxed: None
) -> None:
    state = reference.get_submodule("net").state_dict()
    both = {f"net.{name}": torch.zeros_like(value) for name, value in state.items()}
    both |= {f"net_swa.{name}": value for name, value in state.items()}
    torch.save({"state_dict": both, "epoch": 3}, tmp_path / "training.ckpt")

    published = conversion.read(tmp_path / "training.ckpt", SMALL)

    assert torch.equal(published.tensors["cls_token"], state["cls_token"])


@pytest.mark.parametrize(
    ("seconds", "begins"), [(0.5, [0]), (1.6, [0]), (10, [0]), (10.1, [0, 5]), (15, [0, 5]), (15.1, [0, 5, 10])]
)
def test_windows_begin_where_stable_audio_metrics_begins_them(seconds: float, begins: list[int]) -> None:
    samples = torch.arange(int(seconds * RATE), dtype=torch.float32)

    windows = passt.windows_of(samples)

    assert windows[:, 0].tolist() == [begin * RATE for begin in begins]
    assert windows.shape[1] == (len(samples) if seconds <= 1.5 else 10 * RATE)
    assert samples[-1] in windows[-1]


def test_the_sandboxed_reader_opens_a_checkpoint(reference: torch.nn.Module, tmp_path: Path) -> None:
    state = reference.get_submodule("net").state_dict()
    torch.save(state, tmp_path / "passt.pt")

    published = conversion.read(tmp_path / "passt.pt", SMALL)

    assert set(published.tensors) == set(passt.weight_shapes(SMALL))
    assert torch.equal(published.tensors["head.1.weight"], state["head.1.weight"])


def test_silence_has_no_embedding(embedder: Passt) -> None:
    with pytest.raises(InvalidRequest) as refused:
        embedder.embed(np.full((RATE, 1), 1e-4, np.float32))

    assert refused.value.reason == "AUDIO_SILENT"


@pytest.mark.slow
def test_at_its_true_size_a_converted_checkpoint_gives_hear21passts_logits(tmp_path: Path) -> None:
    network = references.passt(768, 12)
    torch.save(network.get_submodule("net").state_dict(), tmp_path / "passt.pt")
    convert("passt", tmp_path / "passt.pt", tmp_path)
    audio = music(11, 7)
    vectors, logits = as_published(network, audio)

    found = EMBEDDERS["passt"].open(tmp_path / "passt.safetensors").embed(audio)

    assert np.abs(found.vectors - vectors).max() < 1e-4
    assert np.abs(found.logits - logits).max() < 1e-4
