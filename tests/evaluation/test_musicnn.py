"""musicnn in torch, held against its own graph in TensorFlow, against that graph written out in NumPy, and librosa.

`musicnn_reference.npz` is what `tests/bench/musicnn_reference.py` got of TensorFlow 2.21 and librosa 0.11.
"""

import ast
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import load_file

from luthier_evaluation.conversion import CONVERTERS
from luthier_evaluation.conversion.__main__ import main as convert
from luthier_evaluation.embedders import EMBEDDERS, Embedder, musicnn
from luthier_evaluation.embedders.weights import write_weights
from luthier_kit.rpc import InvalidRequest
from tests.evaluation.musicnn_sound import reference_sound

REFERENCE = np.load(Path(__file__).parent / "musicnn_reference.npz")
MEL_EVERY = 8
NAMES = {"musicnn_msd": "MSD_musicnn", "musicnn_mtt": "MTT_musicnn"}
RATE = musicnn.SAMPLE_RATE_HZ

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both taggers' weights, converted from the installed package."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        assert convert([name, "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """More gain nothing on sounds this short, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def taggers(weights: Path) -> Mapping[str, Embedder]:
    return {name: EMBEDDERS[name].open(weights / f"{name}.safetensors") for name in NAMES}


def published(folder: str) -> Path:
    return Path(str(metadata.distribution("musicnn").locate_file(f"musicnn/{folder}")))


# The network and its front end


@pytest.mark.parametrize("name", NAMES)
def test_the_network_gives_what_its_own_graph_gives_in_tensorflow(name: str, taggers: Mapping[str, Embedder]) -> None:
    tagger = taggers[name]
    assert isinstance(tagger, musicnn.Musicnn)

    with torch.inference_mode():
        vectors, logits = tagger._network.overlapping(musicnn.spectrogram(reference_sound()))

    np.testing.assert_allclose(vectors.numpy(), REFERENCE[f"{NAMES[name]}/vectors"], atol=2e-4)
    np.testing.assert_allclose(logits.numpy(), REFERENCE[f"{NAMES[name]}/logits"], atol=2e-4)


def test_the_network_gives_what_the_published_graph_written_out_in_numpy_gives() -> None:
    torch.manual_seed(0)
    network = musicnn.Network(classes=5).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.1, 2.0)
            elif value.is_floating_point():
                value.normal_(0.0, 0.1) if value.ndim > 1 else value.normal_()  # factors of norms: half are negative
    windows = 3 * np.random.default_rng(0).random((2, 187, 96))

    vectors, logits = network(torch.from_numpy(windows.astype(np.float32)))

    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    for window, found in zip(windows, zip(vectors, logits, strict=True), strict=True):
        for ours, expected in zip(found, graph(state, window), strict=True):
            np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def graph(w: Mapping[str, NDArray[np.float64]], window: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """`models.build_musicnn` of the package, for one window [187, 96]; channels last, as there."""

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + 1e-3)
        return (x - w[f"{name}.running_mean"]) * scale + w[f"{name}.bias"]

    def block(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """Of an image [frames, mels]: filters, rectified, normalised; then the highest over the mels [frames, n]."""
        kernel = w[f"{name}.convolution.weight"][:, 0]  # [n, frames, mels]
        seen = sliding_window_view(x, kernel.shape[1:])
        image = np.einsum("tmij,nij->tmn", seen, kernel, optimize=True) + w[f"{name}.convolution.bias"]
        return norm(np.maximum(image, 0), f"{name}.norm").max(axis=1)

    def dense_block(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """Of features [frames, channels], padded by three frames at each end."""
        seen = sliding_window_view(np.pad(x, ((3, 3), (0, 0))), 7, axis=0)  # [frames, channels, 7]
        filtered = np.einsum("tci,nci->tn", seen, w[f"{name}.convolution.weight"]) + w[f"{name}.convolution.bias"]
        return norm(np.maximum(filtered, 0), f"{name}.norm")

    x = norm(window[..., None], "input_norm")[..., 0]
    same = {128: (63, 64), 64: (31, 32), 32: (15, 16)}  # zeros before and after, as TensorFlow's SAME pads
    front = [block(np.pad(x, ((3, 3), (0, 0))), f"timbral.{n}") for n in range(2)]
    front += [block(np.pad(x, (same[size], (0, 0))), f"temporal.{n}") for n, size in enumerate(same)]
    features = [np.concatenate(front, axis=1)]
    features.append(dense_block(features[0], "middle.0"))
    features.append(dense_block(features[1], "middle.1") + features[1])
    features.append(dense_block(features[2], "middle.2") + features[2])
    all_of_them = np.concatenate(features, axis=1)  # [187, 753]
    pooled = np.stack([all_of_them.max(axis=0), all_of_them.mean(axis=0)], axis=1).reshape(-1)
    dense = np.maximum(norm(pooled, "pool_norm") @ w["dense.weight"].T + w["dense.bias"], 0)
    vector = norm(dense, "dense_norm")
    return vector, vector @ w["output.weight"].T + w["output.bias"]


def test_windows_that_share_their_work_give_what_each_alone_gives(taggers: Mapping[str, Embedder]) -> None:
    tagger = taggers["musicnn_msd"]
    assert isinstance(tagger, musicnn.Musicnn)
    frames = musicnn.spectrogram(reference_sound())
    alone = [frames[at : at + 187] for at in (0, 61, 122)]

    with torch.inference_mode():
        shared, _ = tagger._network.overlapping(frames)
        expected, _ = tagger._network(torch.stack(alone))

    np.testing.assert_allclose(shared, expected, atol=1e-4)


def test_mel_filters_are_librosas() -> None:
    np.testing.assert_allclose(musicnn.mel_filters(), REFERENCE["filters"], atol=1e-7)


def test_the_front_end_is_librosas() -> None:
    found = musicnn.spectrogram(reference_sound())[::MEL_EVERY]

    np.testing.assert_allclose(found, REFERENCE["mel"], atol=5e-4)


@pytest.mark.parametrize(
    ("constant", "classes"), [("MSD_LABELS", musicnn.MSD_CLASSES), ("MTT_LABELS", musicnn.MTT_CLASSES)]
)
def test_class_names_are_the_packages(constant: str, classes: tuple[str, ...]) -> None:
    tree = ast.parse((published("") / "configuration.py").read_text())
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]

    assert ast.literal_eval(assigned[constant]) == list(classes)


# Listening


def piece(number: int, seconds: float) -> Sound:
    """One of seven kinds of synthesised music, which goes on without an end and never repeats itself exactly."""
    dice, t = np.random.default_rng(number), np.arange(round(seconds * RATE)) / RATE
    chord = [220 * 2 ** (n / 12) for n in ((0, 4, 7), (0, 3, 7), (0, 5, 9))[number % 3]]
    beat = t % 0.5
    noise = dice.standard_normal(t.size)
    tones = sum(np.sin(2 * np.pi * f * t) for f in chord)
    saw = sum((f * t) % 1.0 - 0.5 for f in chord)
    kinds: dict[int, Callable[[], NDArray[np.float64]]] = {
        0: lambda: noise * np.exp(-30 * (t % 0.125)) + 3 * np.sin(2 * np.pi * 55 * t) * np.exp(-12 * beat),  # drums
        1: lambda: tones * (0.6 + 0.4 * np.sin(2 * np.pi * 0.3 * t)),  # a pad
        2: lambda: np.tanh(8 * saw) * (beat < 0.4),  # distortion
        3: lambda: np.sin(2 * np.pi * 880 * t + 4 * np.sin(2 * np.pi * 1232 * t)) * np.exp(-5 * beat),  # bells
        4: lambda: saw * np.exp(-4 * (t % 0.25)),  # plucked
        5: lambda: noise,
        6: lambda: np.sign(np.sin(2 * np.pi * 110 * 2 ** (np.floor(t * 4) % 5 / 12) * t)),  # a square bass line
    }
    made = kinds[number]()
    return (0.2 * made / np.abs(made).max()).astype(np.float32)[:, None]


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_neighbour_of_an_excerpt_is_the_other_of_its_piece(
    name: str, taggers: Mapping[str, Embedder]
) -> None:
    excerpts = [part for number in range(7) for part in np.split(piece(number, 8.0), 2)]

    means = np.stack([taggers[name].embed(excerpt).vectors.mean(axis=0) for excerpt in excerpts])

    far = np.square(means[:, None] - means).sum(axis=2) + np.diag(np.full(len(means), np.inf))
    assert far.argmin(axis=1).tolist() == [at ^ 1 for at in range(len(means))]


def test_the_network_knows_a_hit_rhythm_from_a_pad(taggers: Mapping[str, Embedder]) -> None:
    drums, pad = (taggers["musicnn_mtt"].embed(piece(number, 6.0)).logits.mean(axis=0) for number in (0, 1))
    at = musicnn.MTT_CLASSES.index

    assert drums[at("drums")] - drums[at("ambient")] > pad[at("drums")] - pad[at("ambient")] + 1


@pytest.mark.parametrize("gain_db", [-40.0, -12.0, 12.0])
def test_level_does_not_change_what_is_heard(gain_db: float, taggers: Mapping[str, Embedder]) -> None:
    sound = piece(4, 5.0)

    softer = (sound * 10 ** (gain_db / 20)).astype(np.float32)

    expected = taggers["musicnn_msd"].embed(sound).vectors
    np.testing.assert_allclose(taggers["musicnn_msd"].embed(softer).vectors, expected, atol=1e-3)


def test_windows_begin_a_hop_apart(taggers: Mapping[str, Embedder]) -> None:
    tagger = taggers["musicnn_msd"]

    found = tagger.embed(piece(1, 30.0))

    assert found.vectors.shape == (1 + int((30.0 - tagger.window_s) / tagger.hop_s), 200)
    assert found.logits.shape == (len(found.vectors), 50)


def test_how_many_windows_are_worked_on_at_once_changes_nothing(
    taggers: Mapping[str, Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = piece(2, 9.0)
    expected = taggers["musicnn_msd"].embed(sound).vectors

    monkeypatch.setattr(musicnn, "WINDOWS_AT_ONCE", 2)

    np.testing.assert_allclose(taggers["musicnn_msd"].embed(sound).vectors, expected, atol=1e-4)


def test_a_short_sound_is_repeated_until_it_fills_a_window() -> None:
    frames = torch.arange(50.0)[:, None].expand(50, 96)

    filled = musicnn.filled(frames)

    assert filled[:, 0].tolist() == [float(at % 50) for at in range(187)]


def test_half_a_second_has_one_window(taggers: Mapping[str, Embedder]) -> None:
    assert len(taggers["musicnn_msd"].embed(piece(0, 0.5)).vectors) == 1


def test_a_tone_at_full_scale_is_finite_where_half_precision_is_not(taggers: Mapping[str, Embedder]) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE).astype(np.float32)
    with np.errstate(over="ignore"):
        half = np.log10(10_000 * ((10 ** musicnn.spectrogram(tone).numpy() - 1) / 10_000).astype(np.float16) + 1)

    found = taggers["musicnn_msd"].embed(tone[:, None])

    assert not np.isfinite(half).all()  # what the published line makes of it
    assert np.isfinite(found.vectors).all()


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros((RATE, 1), np.float32), "AUDIO_SILENT"),
        (np.full((RATE, 1), 1e-4, np.float32), "AUDIO_SILENT"),
        (np.full((RATE, 1), np.nan, np.float32), "AUDIO_NOT_FINITE"),
        (np.ones((RATE, 2), np.float32), "INVALID_REQUEST"),
        (np.ones((RATE // 2 - 1, 1), np.float32), "INVALID_REQUEST"),
        (np.ones(RATE, np.float32), "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_heard_is_refused(sound: Sound, reason: str, taggers: Mapping[str, Embedder]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        taggers["musicnn_msd"].embed(sound)

    assert refused.value.reason == reason


# Conversion, and opening what was converted


def test_conversion_says_what_it_found_and_the_digest_of_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(["musicnn_msd", "--out", str(tmp_path), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    data = (published("MSD_musicnn") / ".data-00000-of-00001").read_bytes()
    assert said["source"] == "musicnn 0.1.0, MSD_musicnn"
    assert said["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert said["sha256"] == hashlib.sha256((tmp_path / "musicnn_msd.safetensors").read_bytes()).hexdigest()
    assert (said["classes"], said["tensors"], said["left_out"]) == (50, 64, {"of the optimizer": 86})


def test_safetensors_own_reader_reads_what_was_written(weights: Path) -> None:
    tensors = load_file(weights / "musicnn_msd.safetensors")

    assert sum(int(np.prod(tensor.shape)) for tensor in tensors.values()) == 792_079


@pytest.mark.parametrize("kind", ["wheel", "folder"])
def test_a_wheel_and_a_folder_give_the_same_weights_as_the_package(
    kind: str, tmp_path: Path, weights: Path, taggers: Mapping[str, Embedder]
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(published("MTT_musicnn"), folder)
    source = folder
    if kind == "wheel":
        source = tmp_path / "musicnn-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as wheel:
            for path in folder.iterdir():
                wheel.write(path, f"musicnn/MTT_musicnn/{path.name}")

    assert convert(["musicnn_mtt", str(source), "--out", str(tmp_path)]) == 0

    found, expected = (load_file(where / "musicnn_mtt.safetensors") for where in (tmp_path, weights))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def cut_short(folder: Path) -> Path:
    path = folder / ".data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-4])
    return folder


def without_data(folder: Path) -> Path:
    (folder / ".data-00000-of-00001").unlink()
    return folder


def other_network(folder: Path) -> Path:
    shutil.rmtree(folder)
    shutil.copytree(published("MSD_vgg"), folder)
    return folder


def no_wheel(folder: Path) -> Path:
    path = folder / "file.whl"
    path.write_bytes(b"PK no wheel")
    return path


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (cut_short, "CHECKPOINT_UNREADABLE"),
        (without_data, "FILE_UNREADABLE"),
        (other_network, "WEIGHTS_DO_NOT_FIT"),
        (no_wheel, "FILE_UNREADABLE"),
        (lambda folder: folder / "absent", "FILE_UNREADABLE"),
    ],
)
def test_what_is_not_the_checkpoint_is_refused(
    changed: Callable[[Path], Path], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(published("MSD_musicnn"), folder)

    assert convert(["musicnn_msd", str(changed(folder)), "--out", str(tmp_path / "out"), "--json"]) == 1

    assert json.loads(capsys.readouterr().out)["error"]["reason"] == reason
    assert not list(tmp_path.glob("out/*"))


def test_every_converter_is_of_an_embedder_and_gives_its_tensors() -> None:
    assert set(CONVERTERS) <= set(EMBEDDERS)
    assert CONVERTERS["musicnn_msd"].shapes() == musicnn.weight_shapes(50)


Tensors = dict[str, torch.Tensor]
HEADER = {"luthier.embedder": "musicnn_msd", "classes": json.dumps(musicnn.MSD_CLASSES)}


@pytest.mark.parametrize(
    ("changed", "header", "says"),
    [
        (lambda t: t, {**HEADER, "luthier.embedder": "musicnn_mtt"}, "holds the weights of 'musicnn_mtt'"),
        (lambda t: t, {**HEADER, "classes": '["rock"]'}, "names other classes"),
        (lambda t: t, {**HEADER, "classes": "[[[1]]]"}, "states its classes wrongly"),
        (lambda t: {k: v for k, v in t.items() if k != "dense.bias"}, HEADER, r"1 missing \(dense.bias\)"),
        (lambda t: {**t, "more": torch.ones(1)}, HEADER, r"1 unexpected \(more\)"),
        (lambda t: {**t, "dense.bias": torch.ones(7)}, HEADER, r"dense.bias is F32 \[7\], must be"),
        (lambda t: {**t, "dense.bias": torch.full((200,), torch.nan)}, HEADER, "NaN or infinity in dense.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    changed: Callable[[Tensors], Tensors], header: dict[str, str], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(path, changed({name: torch.ones(s) for name, s in musicnn.weight_shapes(50).items()}), header)

    with pytest.raises(InvalidRequest, match=says) as refused:
        EMBEDDERS["musicnn_msd"].open(path)

    assert refused.value.reason == "WEIGHTS_INVALID"


@pytest.mark.parametrize("content", [b"", b"no safetensors", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)

    with pytest.raises(InvalidRequest) as refused:
        EMBEDDERS["musicnn_msd"].open(path)

    assert refused.value.reason == "WEIGHTS_INVALID"
