"""Generation against stable-audio-tools' `generate_diffusion_cond` and diffusers' `StableAudioPipeline`, on one CPU.

    services/model/.venv/bin/python tests/bench/inference/peers.py [--diffusers services/baselines/.venv/bin/python]
        [--cases a b c d] [--rounds 5] [--window 1024] [--threads 1] [--levers] [--batches] [--chosen]

All have the same random weights, prompts, noise, solver (`dpmpp-2m-sde`) and threads, each in a process of its own that
loads its model once, and take turns: a round is one generation by each, with a prompt and a seed of its own, so that
nothing is kept from the round before. The first round warms up and is not counted. Printed: medians of the CPU seconds
(user and system) of a generation from prompt to audio, their ratio, the most memory that the process held, and the
largest difference from stable-audio-tools' audio, in standard deviations of it; ours above AGREE fails the run.

| case | transformer | steps | seconds | guidance |
|---|---|---|---|---|
| a | 5 million parameters | 100 | the window | 7 |
| b | the same | 8 | 10 | 7 |
| c | 79 million parameters | 6 | the window | 7 |
| d | the same | 6 | the window | 1 |

`--levers`: each part of ours that saves work on a line of its own, against ours without it (of the library's
recomputation: the library without it). `--chosen`: beside ours what a caller may choose, in bfloat16, with int8
weights, and denoising only what is asked for. `--batches`: an evaluation of the network for 1, 2 and 4 requests at
once.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final
from unittest import mock

import numpy as np

AGREE: Final = 1e-4
OURS, LIBRARY, DIFFUSERS = "ours", "stable-audio-tools", "diffusers"
SIGMA_MIN, SIGMA_MAX = 0.3, 500.0
RATE_HZ, LATENT_SAMPLES = 44100, 2048
PROMPT: Final = "calm piano in D minor at {} BPM"
BATCHES: Final = (1, 2, 4)
EVALUATIONS: Final = 6


@dataclass(frozen=True)
class Case:
    """`width`, `depth`: of the transformer, with heads 64 wide. `seconds` None: the whole window."""

    width: int
    depth: int
    steps: int
    seconds: float | None
    guidance: float


CASES: Final[Mapping[str, Case]] = {
    "a": Case(256, 4, 100, None, 7.0),
    "b": Case(256, 4, 8, 10.0, 7.0),
    "c": Case(512, 15, 6, None, 7.0),
    "d": Case(512, 15, 6, None, 1.0),
}
LEVERS: Final[Mapping[str, str]] = {
    "keys and values": "conditions, keys and values once",
    "unconditional": "no cross attention without text",
    "text": "text states kept (the same prompt again)",
    "weight norm": "weight norm folded",
    "decoding": "only what is asked for decoded",
    "checkpointing": "nothing recomputed",
}


@dataclass(frozen=True)
class Job:
    """`without`: a lever to go without, "" = none. `together`: requests in evaluations alone; 0 = a generation."""

    prompt: str
    seed: int
    steps: int
    seconds: float
    guidance: float
    without: str = ""
    together: int = 0


@dataclass(frozen=True)
class Answer:
    """CPU and wall seconds, memory in MiB; the audio lies in the file."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def without_images() -> None:
    """k_diffusion without its `__init__`, which imports what training on images needs."""
    if spec := find_spec("k_diffusion"):
        sys.modules["k_diffusion"] = module_from_spec(spec)
        from k_diffusion import external, sampling  # noqa: F401 - the library asks for them by attribute


def document_of(case: Case, window: int) -> dict[str, Any]:
    """The tiny configuration with a transformer of that size and what diffusers can be told, too: it has no positions
    beside the rotary ones, and always projects the conditions."""
    from luthier_model import tiny

    document = copy.deepcopy(dict(tiny.configuration().document))
    document |= {"sample_rate": RATE_HZ, "sample_size": window * LATENT_SAMPLES}
    model = document["model"]
    for condition in model["conditioning"]["configs"][1:]:
        condition["config"]["max_val"] = 512
    model["diffusion"]["config"] |= {
        "embed_dim": case.width,
        "depth": case.depth,
        "num_heads": case.width // 64,
        "project_cond_tokens": True,
        "use_sinusoidal_emb": False,
    }
    return document


def write_model(case: Case, window: int, folder: Path) -> None:
    """Configuration, text encoder and weights; no branch is left at the zeros that it begins with."""
    import torch
    from safetensors.torch import load_file, save_file

    from luthier_model import configuration, tiny

    document = document_of(case, window)
    (folder / "model_config.json").write_text(json.dumps(document))
    weights, _ = tiny.write_random(configuration.check(document), [PROMPT.format(90)], folder, seed=1)
    generator, state = torch.Generator().manual_seed(2), load_file(weights)
    for name, tensor in state.items():
        if name.startswith("model.") and tensor.dim() > 1 and not tensor.any():
            state[name] = torch.randn(tensor.shape, generator=generator) / tensor.shape[1] ** 0.5
    save_file(state, weights, metadata={"format": "pt"})


# --- the systems, each in its own process ---


class Ours:
    """luthier_model as the service has it."""

    precision, fit_window = "float32", False

    def __init__(self, folder: Path) -> None:
        import torch

        from luthier_model import configuration, generation, loading

        self._folder, self._device = folder, torch.device("cpu")
        self._configuration = configuration.read((folder / "model_config.json").read_bytes())
        self._network = loading.load(
            self._configuration, folder / "weights.safetensors", folder / "text_encoder", "cpu"
        )
        self._plain: Any = None
        generation.for_serving(self._network, self.precision)
        self._model = generation.prepare(self._network, self._configuration, self._device, self.precision)

    def generate(self, job: Job) -> np.ndarray:
        """(samples, channels)."""
        from luthier_model import generation

        wanted = self._parameters(job)
        last = list(generation.denoise(self._model, wanted))[-1]
        return np.asarray(generation.decode(self._model.fitted(wanted), wanted, last.latents))[
            : round(job.seconds * RATE_HZ)
        ]

    def _parameters(self, job: Job) -> Any:
        from luthier_model import generation

        return generation.GenerationParameters(
            job.prompt, job.seed, job.seconds, steps=job.steps, sampler="dpmpp-2m-sde", sigma_min=SIGMA_MIN,
            sigma_max=SIGMA_MAX, guidance_scale=job.guidance, untrimmed=job.without == "decoding",
            fit_window=self.fit_window,
        )  # fmt: skip

    @contextmanager
    def without(self, lever: str) -> Iterator[None]:
        """Ours but for one lever."""
        from luthier_model import loading
        from luthier_model.transformer import Branch, Row, Transformer

        branch = Transformer.branch
        if lever != "text":
            self._model._texts.clear()
        with ExitStack() as patches:
            if lever == "keys and values":
                told_of: dict[int, tuple[Branch, Any]] = {}
                call = Transformer.__call__

                def remembered(transformer: Any, told: Any) -> Branch:
                    made = branch(transformer, told)
                    told_of[id(made)] = (made, told)
                    return made

                def anew(transformer: Any, rows: Sequence[Any]) -> Any:
                    told = [Row(row.x, row.t, branch(transformer, told_of[id(row.branch)][1])) for row in rows]
                    return call(transformer, told)

                patches.enter_context(mock.patch.object(Transformer, "branch", remembered))
                patches.enter_context(mock.patch.object(Transformer, "__call__", anew))
            if lever == "unconditional":

                def zeros(transformer: Any, told: Any, negative: Any) -> Branch:
                    del negative
                    return branch(transformer, {**told, "cross_attn_cond": 0 * told["cross_attn_cond"]})

                patches.enter_context(mock.patch.object(Transformer, "other_branch", zeros))
            if lever == "weight norm":
                if self._plain is None:
                    files = (self._folder / "weights.safetensors", self._folder / "text_encoder")
                    self._plain = loading.load(self._configuration, *files, "cpu").pretransform
                patches.enter_context(mock.patch.object(self._network, "pretransform", self._plain))
            yield

    def evaluate(self, job: Job) -> np.ndarray:
        """Evaluations alone; the answer is empty."""
        from luthier_model import generation

        requests = [
            generation.Denoising(self._model, self._parameters(Job(**{**asdict(job), "seed": job.seed + number})))
            for number in range(job.together)
        ]
        for _ in range(EVALUATIONS):
            generation.evaluate(requests)
        return np.zeros(0, np.float32)


class Library:
    """stable-audio-tools' own function on its own module."""

    def __init__(self, folder: Path) -> None:
        import k_diffusion
        import torch

        from luthier_model import configuration, loading

        k_diffusion.sampling.BrownianTreeNoiseSampler = lambda x, *_: lambda *__: torch.randn_like(x)
        self._configuration = configuration.read((folder / "model_config.json").read_bytes())
        self._network = loading.load(
            self._configuration, folder / "weights.safetensors", folder / "text_encoder", "cpu"
        )

    def generate(self, job: Job) -> np.ndarray:
        """(samples, channels)."""
        import torch
        from stable_audio_tools.inference.generation import generate_diffusion_cond

        with torch.inference_mode():
            audio = generate_diffusion_cond(
                self._network,
                steps=job.steps,
                cfg_scale=job.guidance,
                conditioning=[{"prompt": job.prompt, "seconds_start": 0.0, "seconds_total": job.seconds}],
                sample_size=self._configuration.window_samples,
                seed=job.seed,
                device="cpu",
                sampler_type="dpmpp-2m-sde",
                sigma_min=SIGMA_MIN,
                sigma_max=SIGMA_MAX,
            )
        return np.asarray(audio[0].T[: round(job.seconds * RATE_HZ)])

    @contextmanager
    def without(self, lever: str) -> Iterator[None]:
        """The library but for its recomputation, which is all that can be left out here."""
        from stable_audio_tools.models import transformer

        patches = ExitStack()
        if lever == "checkpointing":
            patches.enter_context(
                mock.patch.object(transformer, "checkpoint", lambda f, *given, **named: f(*given, **named))
            )
        with patches:
            yield


class Diffusers:
    """diffusers' pipeline with the same weights under its names."""

    def __init__(self, folder: Path) -> None:
        import torch
        from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline
        from diffusers.pipelines.stable_audio import StableAudioProjectionModel
        from safetensors.torch import load_file
        from transformers import PreTrainedTokenizerFast, T5EncoderModel

        # The scheduler's module imports torchsde, which this environment may lack, for the Brownian tree alone; that
        # is replaced by plain draws, as on the other sides.
        sys.modules.setdefault("torchsde", ModuleType("torchsde"))
        from diffusers.schedulers import scheduling_cosine_dpmsolver_multistep as scheduling

        scheduling.BrownianTreeNoiseSampler = lambda *_given, **_named: lambda *__: self._draw()
        document = json.loads((folder / "model_config.json").read_text())
        model, state = document["model"], load_file(folder / "weights.safetensors")
        dit, decoder = model["diffusion"]["config"], model["pretransform"]["config"]["decoder"]["config"]
        text, _, total = (condition["config"] for condition in model["conditioning"]["configs"])
        self._window, self._channels = document["sample_size"] // LATENT_SAMPLES, model["io_channels"]
        width, heads = dit["embed_dim"], dit["num_heads"]
        transformer = StableAudioDiTModel(
            sample_size=self._window, in_channels=self._channels, out_channels=self._channels,
            num_layers=dit["depth"], attention_head_dim=width // heads, num_attention_heads=heads,
            num_key_value_attention_heads=heads, cross_attention_dim=width, time_proj_dim=256,
            global_states_input_dim=dit["global_cond_dim"], cross_attention_input_dim=dit["cond_token_dim"],
        )  # fmt: skip
        transformer.load_state_dict(transformer_names(state, dit["depth"]))
        autoencoder = AutoencoderOobleck(
            encoder_hidden_size=decoder["channels"], downsampling_ratios=decoder["strides"],
            channel_multiples=decoder["c_mults"], decoder_channels=decoder["channels"],
            decoder_input_channels=decoder["latent_dim"], audio_channels=decoder["out_channels"],
            sampling_rate=document["sample_rate"],
        )  # fmt: skip
        autoencoder.decoder.load_state_dict(decoder_names(state, len(decoder["strides"])))
        projection = StableAudioProjectionModel(
            dit["cond_token_dim"], dit["cond_token_dim"], total["min_val"], total["max_val"]
        )
        projection.load_state_dict(projection_names(state))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "text_encoder")
        tokenizer.model_max_length = text["max_length"]
        self._pipeline = StableAudioPipeline(
            vae=autoencoder.eval(),
            text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True),
            projection_model=projection.eval(),
            tokenizer=tokenizer,
            transformer=transformer.eval(),
            scheduler=scheduling.CosineDPMSolverMultistepScheduler(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX),
        )
        self._pipeline.set_progress_bar_config(disable=True)
        self._generator = torch.Generator()

    def _draw(self) -> Any:
        import torch

        return torch.randn((1, self._channels, self._window), generator=self._generator)

    def generate(self, job: Job) -> np.ndarray:
        """(samples, channels)."""
        self._generator.manual_seed(job.seed)
        # the pipeline begins with the signal's variance added to that of the noise, the others with the noise alone
        start = self._draw() * (SIGMA_MAX / self._pipeline.scheduler.init_noise_sigma)
        audio = self._pipeline(
            job.prompt,
            audio_end_in_s=job.seconds,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            latents=start,
        ).audios
        return np.asarray(audio[0].T[: round(job.seconds * RATE_HZ)])

    @contextmanager
    def without(self, lever: str) -> Iterator[None]:
        """Nothing can be left out here."""
        del lever
        yield


def transformer_names(state: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The transformer's tensors under the names of diffusers' `StableAudioDiTModel`."""
    ours = {name.removeprefix("model.model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    found = {"time_proj.weight": ours["timestep_features.weight"][:, 0]}
    outer = {
        "timestep_proj": "to_timestep_embed",
        "global_proj": "to_global_embed",
        "cross_attention_proj": "to_cond_embed",
        "preprocess_conv": "preprocess_conv",
        "postprocess_conv": "postprocess_conv",
        "proj_in": "transformer.project_in",
        "proj_out": "transformer.project_out",
    }
    for theirs, prefix in outer.items():
        found |= {theirs + name.removeprefix(prefix): ours[name] for name in ours if name.startswith(f"{prefix}.")}
    for number in range(depth):
        layer, block = f"transformer.layers.{number}", f"transformer_blocks.{number}"
        for norm, name in (("norm1", "pre_norm"), ("norm2", "cross_attend_norm"), ("norm3", "ff_norm")):
            found[f"{block}.{norm}.weight"] = ours[f"{layer}.{name}.gamma"]
            found[f"{block}.{norm}.bias"] = ours[f"{layer}.{name}.beta"]
        projected = [*ours[f"{layer}.self_attn.to_qkv.weight"].chunk(3), ours[f"{layer}.cross_attn.to_q.weight"]]
        projected += ours[f"{layer}.cross_attn.to_kv.weight"].chunk(2)
        names = [f"attn{attention}.to_{part}.weight" for attention in (1, 2) for part in "qkv"]
        found |= {f"{block}.{name}": tensor for name, tensor in zip(names, projected, strict=True)}
        for attention, name in (("attn1", "self_attn"), ("attn2", "cross_attn")):
            found[f"{block}.{attention}.to_out.0.weight"] = ours[f"{layer}.{name}.to_out.weight"]
        for kind in ("weight", "bias"):
            found[f"{block}.ff.net.0.proj.{kind}"] = ours[f"{layer}.ff.ff.0.proj.{kind}"]
            found[f"{block}.ff.net.2.{kind}"] = ours[f"{layer}.ff.ff.2.{kind}"]
    return found


def decoder_names(state: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """The decoder's tensors under the names of diffusers' `OobleckDecoder`."""
    prefix = "pretransform.model.decoder.layers."
    ours = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    modules = {"conv1": "0", "snake1": f"{blocks + 1}", "conv2": f"{blocks + 2}"}
    for number in range(blocks):
        inside = f"{number + 1}.layers"
        modules |= {f"block.{number}.snake1": f"{inside}.0", f"block.{number}.conv_t1": f"{inside}.1"}
        for unit in (1, 2, 3):
            parts = ("snake1", "conv1", "snake2", "conv2")
            modules |= {
                f"block.{number}.res_unit{unit}.{p}": f"{inside}.{unit + 1}.layers.{i}" for i, p in enumerate(parts)
            }
    found = {}
    for theirs, module in modules.items():
        for name in ("bias", "weight_g", "weight_v", "alpha", "beta"):
            if (tensor := ours.get(f"{module}.{name}")) is not None:
                found[f"{theirs}.{name}"] = tensor[None, :, None] if name in ("alpha", "beta") else tensor
    return found


def projection_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions' tensors under the names of diffusers' `StableAudioProjectionModel`."""
    return {
        f"{side}_number_conditioner.time_positional_embedding.{name}": state[
            f"conditioner.conditioners.{condition}.embedder.embedding.{name}"
        ]
        for side, condition in (("start", "seconds_start"), ("end", "seconds_total"))
        for name in ("0.weights", "1.weight", "1.bias")
    }


class InBfloat16(Ours):
    precision = "bfloat16"


class InInt8(Ours):
    precision = "int8"


class Fitted(Ours):
    fit_window = True


CHOSEN: Final[Mapping[str, Any]] = {"ours, bfloat16": InBfloat16, "ours, int8": InInt8, "ours, fit_window": Fitted}
SYSTEMS: Final[Mapping[str, Any]] = {**CHOSEN, OURS: Ours, LIBRARY: Library, DIFFUSERS: Diffusers}


def serve(system: str, folder: Path, threads: int) -> None:
    """A child: a line on stdin is a job, a line on stdout its answer; the audio lies in the folder."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the libraries print, too
    import torch

    torch.set_num_threads(threads)
    without_images()
    running = SYSTEMS[system](folder)
    answers.write("\n")  # loaded
    answers.flush()
    for line in sys.stdin:
        job = Job(**json.loads(line))
        with running.without(job.without):
            wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            audio = running.evaluate(job) if job.together else running.generate(job)
            after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - wall
        np.save(folder / f"{system}.npy", audio)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        answers.write(json.dumps(asdict(Answer(cpu, wall, after.ru_maxrss / 1024))) + "\n")
        answers.flush()


# --- the parent ---


class Child:
    """A system in its process."""

    def __init__(self, system: str, python: str, folder: Path, threads: int) -> None:
        # threads that spin while they wait would count as work; luthier_inference sets the same
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self.system, self._folder = system, folder
        self._log = (folder / f"{system}.log").open("w")
        self._process = subprocess.Popen(
            [python, __file__, "--serve", system, str(folder), "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> "Child":
        self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def run(self, job: Job) -> tuple[Answer, np.ndarray]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = Answer(**json.loads(self._read()))
        return answer, np.load(self._folder / f"{self.system}.npy")

    def _read(self) -> str:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return line
        raise SystemExit(f"{self.system} ended:\n{(self._folder / f'{self.system}.log').read_text()[-3000:]}")


def job_of(case: Case, window: int, number: int, **more: Any) -> Job:
    """The job of a round; no two have the same prompt or seed."""
    whole = window * LATENT_SAMPLES / RATE_HZ
    seconds = whole if case.seconds is None else min(case.seconds, whole)
    return Job(PROMPT.format(90 + number), 100 + 10 * number, case.steps, seconds, case.guidance, **more)


def compare(name: str, case: Case, window: int, children: Sequence[Child], rounds: int) -> float:
    """Prints a line for each system; returns how far ours is from the library."""
    answers: dict[str, list[Answer]] = {child.system: [] for child in children}
    apart = dict.fromkeys(answers, 0.0)
    for number in range(rounds + 1):
        audio: dict[str, np.ndarray] = {}
        for child in children:
            answer, audio[child.system] = child.run(job_of(case, window, number))
            if number:
                answers[child.system].append(answer)
        for system, found in audio.items():
            gap = np.abs(found - audio[LIBRARY]).max() / audio[LIBRARY].std()
            apart[system] = max(apart[system], float(gap))
    ours = answers[OURS]
    for system, given in answers.items():
        median = statistics.median(answer.cpu_s for answer in given)
        ratios = [mine.cpu_s / theirs.cpu_s for mine, theirs in zip(ours, given, strict=True)]
        ratio = statistics.median(answer.cpu_s for answer in ours) / median
        wall = statistics.median(answer.wall_s for answer in given)
        print(
            f"{name:5}{system:20}{median:9.2f}{wall:9.2f}{ratio:8.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f"{given[-1].peak_mib:9.0f}{apart[system]:10.1e}",
            flush=True,
        )
    return apart[OURS]


def levers(name: str, case: Case, window: int, children: Mapping[str, Child], rounds: int) -> None:
    """Prints a line for each: CPU seconds with and without."""
    for lever, what in LEVERS.items():
        if lever == "unconditional" and case.guidance == 1:
            continue
        child = children[LIBRARY if lever == "checkpointing" else OURS]
        # the text's states are what is kept from the job before, which therefore has the same prompt
        kept, plain = ("text", "") if lever == "text" else ("", lever)
        if lever == "checkpointing":
            kept, plain = plain, kept
        spent: dict[str, list[float]] = {kept: [], plain: []}
        for number in range(rounds + 1):
            for without in (plain, kept):
                answer, _ = child.run(job_of(case, window, number, without=without))
                if number:
                    spent[without].append(answer.cpu_s)
        before, now = statistics.median(spent[plain]), statistics.median(spent[kept])
        print(f"{name:5}{what:45}{now:9.2f}{before:9.2f}{now / before:8.3f}", flush=True)


def batches(name: str, case: Case, window: int, child: Child, rounds: int) -> None:
    """Prints a line for each number of requests: CPU milliseconds of an evaluation for each of them."""
    spent: dict[int, list[float]] = {together: [] for together in BATCHES}
    for number in range(rounds + 1):
        for together in BATCHES:
            answer, _ = child.run(job_of(case, window, number, together=together))
            if number:
                spent[together].append(answer.cpu_s / EVALUATIONS / together * 1000)
    one = statistics.median(spent[1])
    for together, given in spent.items():
        median = statistics.median(given)
        print(f"{name:5}{together:2} at once: {median:9.1f} ms a request{median / one:8.3f}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffusers", metavar="PYTHON", help="an interpreter that has diffusers; default = left out")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=1024, help="latents; 1024 are 47.6 s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--levers", action="store_true", help="these instead of the systems")
    parser.add_argument("--batches", action="store_true", help="these instead of the systems")
    parser.add_argument("--chosen", action="store_true", help="what a caller may choose beside ours")
    parser.add_argument("--serve", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.serve:
        serve(asked.serve[0], Path(asked.serve[1]), asked.threads)
        return
    without_images()
    pythons = {OURS: sys.executable, LIBRARY: sys.executable}
    if asked.chosen:
        pythons |= dict.fromkeys(CHOSEN, sys.executable)
    if asked.diffusers and not (asked.levers or asked.batches):
        pythons[DIFFUSERS] = asked.diffusers
    window_s = asked.window * LATENT_SAMPLES / RATE_HZ
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {asked.threads} threads, "
        f"window of {window_s:.1f} s"
    )
    if asked.batches:
        print(f"{'case':5}requests    CPU of an evaluation      of one")
    elif asked.levers:
        print(f"{'case':5}{'lever':45}{'CPU s':>9}{'without':>9}{'ratio':>8}")
    else:
        print(f"{'case':5}{'system':20}{'CPU s':>9}{'wall s':>9}{'ours of it':>25}{'MiB':>7}{'apart':>10}")
    apart = 0.0
    for name in asked.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
            folder = Path(scratch)
            write_model(case, asked.window, folder)
            children = [running.enter_context(Child(s, python, folder, asked.threads)) for s, python in pythons.items()]
            by_system = {child.system: child for child in children}
            if asked.levers:
                levers(name, case, asked.window, by_system, asked.rounds)
            elif asked.batches:
                batches(name, case, asked.window, by_system[OURS], asked.rounds)
            else:
                apart = max(apart, compare(name, case, asked.window, children, asked.rounds))
    if apart > AGREE:
        raise SystemExit(f"ours is not stable-audio-tools' audio: {apart:.1e} apart")


if __name__ == "__main__":
    main()
