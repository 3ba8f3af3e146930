r"""Evaluating a folder for KL_passt, FD_openl3 and the CLAP score by stable-audio-metrics' own scripts, and by ours;
and what all our metrics in one pass cost beside the dearest of them.

    .tools/bin/uv run --project services/evaluation --frozen --with librosa --with pyloudnorm --with resampy \
        --with tqdm --with requests python -m tests.bench.metrics_scripts FOLDER SCRIPTS [--rounds 2]

FOLDER holds audio files of one suffix, SCRIPTS is a clone of Stability-AI/stable-audio-metrics. Its three functions run
as they are, from the files to their outcome, on the CPU, with random weights of the true shapes. Of what they import,
hear21passt and laion_clap are the published networks (tests/evaluation/references.py); openl3 0.4.2, which wants
TensorFlow 2.13, is torchopenl3's `get_audio_embedding`, which is the same network and resampler in torch.

Ours are the calls of an evaluation: from stored audio to stored embeddings and the row's values. The Fréchet distance
from the embeddings is left out on both sides. Both take turns, and an operation has one thread. Printed: CPU seconds of
the process for a minute of audio.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

import librosa
import numpy as np
import references
import resampy  # noqa: F401  # before torchopenl3, which else finds the tests' stand-in
import soundfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.distances import Moments
from luthier_evaluation.divergence import clap_score, kl_of
from luthier_evaluation.embedders import EMBEDDERS, Embedder, TextEmbedder
from luthier_evaluation.embedding import embed_audio, read_embedding
from luthier_evaluation.plan import shipped_suite
from luthier_kit.store import Store
from tests.bench.metrics_peers import SUFFIXES, Pair, clap_pair, openl3_pair, passt_pair
from tests.support.services import temp_store

TAGGERS: Final = ("musicnn_msd", "musicnn_mtt")
Script = Callable[[Sequence[Path]], object]


def tokenizer(texts: Sequence[str]) -> Tokenizer:
    """One of RoBERTa's kind that has seen these texts, so that a word is about a token, as in its own."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return made


def script(folder: Path, name: str, imports: Mapping[str, Any]) -> Any:
    """A script of stable-audio-metrics, which finds `imports` where it imports them."""
    spec = importlib.util.spec_from_file_location(name, folder / "src" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, dict(imports)):
        spec.loader.exec_module(module)
    return module


def passt_script(folder: Path, pair: Pair) -> Script:
    pair.network.mode = "logits"
    base = types.SimpleNamespace(get_basic_model=lambda **_: pair.network)
    module = script(folder, "passt_kld", {"hear21passt": types.ModuleType("hear21passt"), "hear21passt.base": base})

    def run(paths: Sequence[Path]) -> object:
        return [module.return_probabilities(pair.network, str(path)) for path in paths]

    return run


def openl3_script(folder: Path, pair: Pair) -> Script:
    with references.without("six", "julius"):
        from torchopenl3 import core

    def embedding(
        audio: list[np.ndarray], rates: list[int], model: Any, verbose: bool, hop_size: float, batch_size: int
    ) -> Any:
        return core.get_audio_embedding(audio, rates, model=model, hop_size=hop_size, batch_size=batch_size)

    def loaded(**_named: object) -> Any:
        return pair.network

    openl3 = types.SimpleNamespace(
        get_audio_embedding=embedding, models=types.SimpleNamespace(load_audio_embedding_model=loaded)
    )
    module = script(folder, "openl3_fd", {"openl3": openl3})

    def run(paths: Sequence[Path]) -> object:
        with mock.patch.object(module.glob, "glob", return_value=[str(path) for path in paths]):
            return module.extract_embeddings("", 2, 44_100, "music", 0.5, batch_size=4)  # as its published statistics

    return run


def clap_script(folder: Path, pair: Pair, words: Tokenizer, prompts: Mapping[str, str]) -> Script:
    reference = pair.network
    padded = Tokenizer.from_str(words.to_str())
    padded.enable_truncation(77)
    padded.enable_padding(length=77, pad_id=1, pad_token="<pad>")

    class Module:
        """laion_clap's `CLAP_Module` with the weights in place."""

        model = types.SimpleNamespace(load_state_dict=lambda _state: None)

        def eval(self) -> None: ...

        def get_text_embedding(self, texts: list[str], use_tensor: bool) -> torch.Tensor:
            found = padded.encode_batch(texts)
            ids, mask = (torch.tensor([getattr(one, part) for one in found]) for part in ("ids", "attention_mask"))
            return torch.from_numpy(reference.text({"input_ids": ids, "attention_mask": mask}))

        def get_audio_embedding_from_data(self, x: torch.Tensor, use_tensor: bool) -> torch.Tensor:
            return torch.from_numpy(np.stack([reference.audio(one.numpy(), np.random.choice) for one in x]))

    laion = types.SimpleNamespace(CLAP_Module=lambda **_: Module())
    factory = types.SimpleNamespace(load_state_dict=lambda _path: {})
    imports = {"laion_clap": laion, "clap_module": types.ModuleType("clap_module"), "clap_module.factory": factory}
    module = script(folder, "clap_score", imports)

    def run(paths: Sequence[Path]) -> object:
        texts = {path.stem: prompts[path.stem] for path in paths}
        with mock.patch.object(module.os.path, "exists", return_value=True):
            return module.clap_score(texts, str(paths[0].parent), paths[0].suffix)

    return run


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """The scripts ask for a GPU by name."""
    same = lambda self, *_args: self  # noqa: E731
    with (
        mock.patch.object(torch.Tensor, "cuda", same),
        warnings.catch_warnings(),
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stderr(nothing),
        contextlib.redirect_stdout(nothing),
    ):
        warnings.simplefilter("ignore")
        yield


def ours(
    store: Store, refs: Sequence[ArtifactRef], prompts: Sequence[str], embedders: Mapping[str, Embedder], other: Any
) -> None:
    """The values of rows by these embedders: KL from `other`'s logits, scores of prompts, moments for distances."""
    moments = {name: Moments(embedder.dimensions) for name, embedder in embedders.items()}
    texts = {name: each.embed_text(list(prompts)) for name, each in embedders.items() if isinstance(each, TextEmbedder)}
    for row, ref in enumerate(refs):
        for found in embed_audio(store, ref, embedders):
            heard = read_embedding(store, found)
            assert heard
            moments[found.embedder].add(heard.vectors)
            if heard.logits.size:
                kl_of(heard.logits, other(heard.logits.shape))
            if found.embedder in texts:
                clap_score(heard.vectors, texts[found.embedder][row : row + 1])


def spent(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("scripts", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths or len({path.suffix for path in paths}) > 1:
        parser.error(f"{options.folder} must hold files of one suffix of {', '.join(SUFFIXES)}")
    torch.set_num_threads(1)
    minutes = sum(soundfile.info(path).duration for path in paths) / 60
    suite = shipped_suite("paper-tempo")
    prompts = {path.stem: suite.rows[row % len(suite.rows)].prompt for row, path in enumerate(paths)}
    words = tokenizer([row.prompt for row in suite.rows])
    pairs = {"passt": passt_pair(), "torchopenl3": openl3_pair(), "clap": clap_pair(words)}
    theirs = {
        "passt": passt_script(options.scripts, pairs["passt"]),
        "torchopenl3": openl3_script(options.scripts, pairs["torchopenl3"]),
        "clap": clap_script(options.scripts, pairs["clap"], words, prompts),
    }
    draw = np.random.default_rng(0)
    costs: dict[tuple[str, str], float] = {}

    def add(name: str, side: str, seconds: float) -> None:
        costs[name, side] = costs.get((name, side), 0.0) + seconds / minutes / options.rounds

    with tempfile.TemporaryDirectory() as folder:
        embedders: dict[str, Embedder] = {name: pair.embedder for name, pair in pairs.items()}
        for name in TAGGERS:
            convert(name, None, Path(folder))
            embedders[name] = EMBEDDERS[name].open(Path(folder) / f"{name}.safetensors")

        def evaluate(chosen: Mapping[str, Embedder]) -> float:
            with tempfile.TemporaryDirectory() as fresh, temp_store(Path(fresh)) as store:
                refs = [store.blobs.put_file("generated", path) for path in paths]
                return spent(
                    lambda: ours(store, refs, list(prompts.values()), chosen, lambda shape: draw.normal(size=shape))
                )

        short = Path(folder) / f"short{paths[0].suffix}"  # what is made once
        soundfile.write(short, librosa.load(paths[0], sr=44_100, mono=False, duration=2)[0].T, 44_100)
        prompts_of_short = {"short": "a song"}
        for turn in range(-1, options.rounds):
            given = [short] if turn < 0 else paths
            prompts.update(prompts_of_short)
            for name in sorted(theirs, reverse=turn % 2 == 1):
                with on_the_cpu():
                    seconds = spent(lambda: theirs[name](given))  # noqa: B023
                if turn >= 0:
                    add(name, "script", seconds)
            prompts.pop("short")
            if turn >= 0:
                for name in sorted(embedders, reverse=turn % 2 == 1):
                    add(name, "ours", evaluate({name: embedders[name]}))
                add("the three", "ours", evaluate({name: embedders[name] for name in theirs}))
                add("all", "ours", evaluate(embedders))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {minutes:.1f} min of audio")
    print(f"{'':14}{'script':>8}{'ours':>8}{'ratio':>8}   CPU s for a minute of audio")
    costs["the three", "script"] = sum(costs[name, "script"] for name in theirs)
    for name in (*theirs, "the three", *TAGGERS, "all"):
        own, other = costs[name, "ours"], costs.get((name, "script"))
        print(f"{name:14}" + (f"{other:8.2f}{own:8.2f}{other / own:8.2f}" if other else f"{'':8}{own:8.2f}"))
    dearest = max(costs[name, "ours"] for name in embedders)
    print(f"all metrics in one pass: {costs['all', 'ours'] / dearest:.2f} times the dearest alone")


if __name__ == "__main__":
    main()
