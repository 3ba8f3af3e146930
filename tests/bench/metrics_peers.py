r"""Embedding a folder for KL_passt, FD_openl3 and the CLAP score, against the calls that stable-audio-metrics makes.

    services/evaluation/.venv/bin/python -m tests.bench.metrics_peers FOLDER [--rounds 2] [--only passt openl3 clap]
        [--scripts stable-audio-metrics]

Both sides have the same random weights of the true shapes, in one process, in turn. An operation has one thread.
The peers' side is what the scripts do with a file, by the packages that they call: hear21passt window by window,
torchopenl3 by batches of 32 windows (the scripts' own openl3 is the same network in TensorFlow 2.13), laion_clap file
by file and texts by 64. Reading and resampling are left out on both sides: the peers' files are read once for each
metric, ours once for all. Printed: CPU seconds for a minute of audio, their ratio, and how far the outputs are apart.

With `--scripts` (a clone of Stability-AI/stable-audio-metrics) the divergence of the first file from the second is
computed by its own `src/passt_kld.py`, too, which is imported for that.
"""

import argparse
import importlib.util
import os
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import soundfile
import soxr
import torch
from transformers import RobertaConfig, RobertaModel

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

import references

from luthier_evaluation.conversion import clap as laion
from luthier_evaluation.divergence import kl_of
from luthier_evaluation.embedders import Embedder, clap, openl3, passt

METRICS: Final = ("passt", "openl3", "clap")
SUFFIXES: Final = (".wav", ".flac", ".mp3")


@dataclass(frozen=True)
class Pair:
    """Two ways to the same numbers of samples (frames, channels): a published network and our embedder, with the same
    weights.
    """

    rate: int
    channels: int
    theirs: Callable[[np.ndarray], np.ndarray]
    ours: Callable[[np.ndarray], np.ndarray]
    network: Any
    embedder: Embedder


def passt_pair() -> Pair:
    network = references.passt(768, 12)
    state = network.net.state_dict()  # type: ignore[union-attr]
    embedder = passt.Passt("", {name: state[name] for name in passt.weight_shapes()})
    step, length = passt.HOP_SAMPLES, passt.WINDOW_SAMPLES

    def theirs(audio: np.ndarray) -> np.ndarray:
        found = []
        for begin in range(0, max(step, len(audio) - step), step):
            window = audio[begin : begin + length, 0]
            if 0.15 * length < len(window) < length:
                window = np.pad(window, (0, length - len(window)))
            found.append(references.passt_outputs(network, window)[1])
        return np.stack(found)

    return Pair(passt.SAMPLE_RATE_HZ, 1, theirs, lambda audio: embedder.embed(audio).logits, network, embedder)


def openl3_pair() -> Pair:
    network = references.torchopenl3()
    state = network.state_dict()
    tensors = {name: state[name] for name in openl3.weight_shapes("openl3")}
    embedder = openl3.OpenL3("torchopenl3", "", {**tensors, "mel_basis": state["speclayer.mel_basis"]})

    def theirs(audio: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = []
            for channel in openl3.resampled(torch.from_numpy(np.ascontiguousarray(audio.T))):
                windows = openl3.windows_of(channel)[:, None]
                found.append(torch.vstack([network(some) for some in windows.split(32)]).numpy())
        return np.concatenate(found, axis=1)

    return Pair(openl3.SAMPLE_RATE_HZ, 2, theirs, lambda audio: embedder.embed(audio).vectors, network, embedder)


def clap_pair(tokenizer: Any = None) -> Pair:
    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1
    )
    network = references.LaionClap(RobertaModel(config))
    state = network.model.state_dict()
    tensors = {name: laion._part(state[laion.laions_name(name)], name) for name in clap.weight_shapes()}
    embedder = clap.Clap("", tensors, tokenizer or _Silent())

    def theirs(audio: np.ndarray) -> np.ndarray:
        rounded = (audio[:, 0] * np.float32(32767)).astype(np.int16).astype(np.float32) / np.float32(32767)
        return network.audio(rounded, lambda places: places[len(places) // 2])[None]

    return Pair(clap.SAMPLE_RATE_HZ, 1, theirs, lambda audio: embedder.embed(audio).vectors, network, embedder)


class _Silent:
    """Stands for a tokenizer where no text is read."""

    def enable_truncation(self, _length: int) -> None: ...

    def no_padding(self) -> None: ...


PAIRS: Final = {"passt": passt_pair, "openl3": openl3_pair, "clap": clap_pair}


def read(path: Path, rate: int, channels: int) -> np.ndarray:
    """Samples (frames, channels) at a rate, the highest at -1 dBFS."""
    audio, own = soundfile.read(path, dtype="float32", always_2d=True)
    audio = audio.mean(axis=1, keepdims=True) if channels == 1 else audio[:, [0, -1]]
    audio = soxr.resample(audio, own, rate) if own != rate else audio
    levelled: np.ndarray = (audio * np.float32(10 ** (-1 / 20) / np.abs(audio).max())).astype(np.float32)
    return levelled


def timed(of: Callable[[np.ndarray], np.ndarray], files: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """CPU seconds of this process, all its threads."""
    begun = time.process_time()
    found = [of(audio) for audio in files]
    return time.process_time() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=METRICS, default=METRICS)
    parser.add_argument("--scripts", type=Path, help="a clone of stable-audio-metrics")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        parser.error(f"{options.folder} holds no {', '.join(SUFFIXES)}")
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(f"{'':8}{'theirs':>10}{'ours':>10}{'ratio':>8}   CPU s for a minute of audio; apart, of the largest output")
    for name in options.only:
        pair = PAIRS[name]()
        files = [read(path, pair.rate, pair.channels) for path in paths]
        minutes = sum(map(len, files)) / pair.rate / 60
        for of in (pair.theirs, pair.ours):
            of(files[0][: 2 * pair.rate])  # what is made once
        spent = {"theirs": 0.0, "ours": 0.0}
        for turn in range(options.rounds):
            sides = [("theirs", pair.theirs), ("ours", pair.ours)]
            outputs = {}
            for side, of in sides if turn % 2 == 0 else sides[::-1]:
                seconds, outputs[side] = timed(of, files)
                spent[side] += seconds / minutes / options.rounds
        largest = max(np.abs(output).max() for output in outputs["theirs"])
        apart = max(np.abs(a - b).max() for a, b in zip(outputs["theirs"], outputs["ours"], strict=True)) / largest
        ratio = spent["theirs"] / spent["ours"]
        print(f"{name:8}{spent['theirs']:10.1f}{spent['ours']:10.1f}{ratio:8.2f}   {apart:.1e}")
        if name == "passt" and options.scripts and len(files) > 1:
            script = script_kl(outputs["theirs"][:2], options.scripts)
            print(f"        KL of two files: {script:.6f} by the script, {kl_of(*outputs['ours'][:2]):.6f} here")


def script_kl(logits: list[np.ndarray], scripts: Path) -> float:
    """What the script's own `passt_kld` makes of the logits of a generated file and its reference."""
    probabilities = [torch.from_numpy(each).mean(0).softmax(0) for each in logits]
    with references.without("librosa", "pyloudnorm", "hear21passt", "hear21passt.base"):
        spec = importlib.util.spec_from_file_location("passt_kld", scripts / "src" / "passt_kld.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    module.get_basic_model = mock.MagicMock()
    module.return_probabilities = lambda *_given, **_named: probabilities[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.pkl"
        path.write_bytes(pickle.dumps({"file": probabilities[1]}))
        return float(module.passt_kld(["file"], folder, load_ref_probabilities=str(path)))


if __name__ == "__main__":
    main()
