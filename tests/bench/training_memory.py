"""Memory of a training run with few and with many clips, each in a process of its own.

    services/training/.venv/bin/python tests/bench/training_memory.py [--clips 1000 20000] [--size small] [--steps 60]

Synthetic latents and text states in files, as a run keeps them; every clip has a prompt of its own. Memory is what the
process holds at the end of training (resident, without files that are only mapped), and the most it held.
"""

import argparse
import multiprocessing
import resource
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, FineTune, TrainingProgress
from luthier_kit.store import StoreSettings, open_store
from luthier_model import tiny
from luthier_model.loading import load
from luthier_training.base_model import CachedPrompts, StoredLatents, StoredText, encode_text
from luthier_training.examples import Example
from luthier_training.job import Job
from luthier_training.observations import Observer
from luthier_training.recipes.fine_tune import fit
from luthier_training.reporting import Reporter

FILES = 500
"""Different files; clips beyond share them by hard links, so that the disk is not what is measured."""
MIB = 1 << 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--size", default="small", help="tiny or small")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    return parser.parse_args()


def trained(clips: int, asked: argparse.Namespace, told: "multiprocessing.Queue[tuple[int, int]]") -> None:
    """Tells the resident bytes at the end of a run on so many clips, and the most."""
    known = tiny.configuration(size=asked.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = [f"rock with drums at {number} BPM" for number in range(8)]
        weights, text = tiny.write_random(known, prompts, folder, seed=1)
        model = load(known, weights, text, "cpu")
        conditioner = model.conditioner.conditioners["prompt"]
        tokens, mask = encode_text(conditioner, prompts[:1], "cpu")
        save_file({"states": tokens, "mask": mask}, folder / "text.safetensors")
        shape = (known.latent_channels, known.window_latents)
        said, examples = {}, []
        for number in range(clips):
            path, words = folder / f"clip-{number}.safetensors", folder / f"text-{number}.safetensors"
            if number < FILES:
                save_file({"mean": torch.randn(shape), "deviation": torch.rand(shape)}, path)
            else:
                path.hardlink_to(folder / f"clip-{number % FILES}.safetensors")
            words.hardlink_to(folder / "text.safetensors")
            prompt = f"clip {number}, a rock song with electric guitar, bass and drums at {60 + number % 100} BPM"
            said[prompt] = StoredText(words, 0)
            examples.append(Example(StoredLatents(path, known.window_s), (prompt,)))
        model.conditioner.conditioners["prompt"] = CachedPrompts(conditioner, said)
        recipe = FineTune(
            steps=asked.steps, batch_size=asked.batch_size, learning_rate=1e-4, conditioning_dropout=0.1,
            validate_every=asked.steps, checkpoint_every=asked.steps, ema_decay=0.999, accumulate=1,
        )  # fmt: skip
        request = CreateTrainingRunRequest(fine_tune=recipe, seed=1)
        store = open_store(StoreSettings(store="folder", store_folder=folder / "store"))
        job = Job("training-bench", request, store, Reporter(TrainingProgress()), "cpu", folder)
        fit(job, model, examples, examples[:1], known, Observer(job, model, known, []))
        held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        told.put((int(held.split()[1]) << 10, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))


def main() -> None:
    asked, found = arguments(), []
    context = multiprocessing.get_context("spawn")
    for clips in asked.clips:
        told = context.Queue()
        process = context.Process(target=trained, args=(clips, asked, told))
        process.start()
        found.append(told.get())
        process.join()
        held, most = found[-1]
        print(f"{clips} clips: {held / MIB:.0f} MiB held at the end, {most / MIB:.0f} MiB at most", flush=True)
    (few, _), (many, _) = found[0], found[-1]
    added = asked.clips[-1] - asked.clips[0]
    print(f"growth {many / few - 1:.1%}; {(many - few) / max(added, 1):.0f} bytes a clip")


if __name__ == "__main__":
    main()
