"""The command `luthier-baselines`: published models on the same prompts and audio, into folders that `luthier score`
measures.

    luthier-baselines generate musicgen --weights FOLDER --prompts suite.json --out musicgen
    luthier-baselines reconstruct dac --weights FOLDER --audio originals --out dac

Exit codes are those of `luthier`: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted (run it again, it goes
on).
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from luthier_baselines.prompts import MAX_SECONDS, MAX_SEED, MIN_SECONDS, read_prompts, suite_file
from luthier_baselines.weights import check_weights, digest_of
from luthier_baselines.work import PROMPTS, Row, Settings, Summary, fill
from luthier_kit.rpc import InvalidRequest, LuthierError

if TYPE_CHECKING:
    import torch

SECONDS: Final = 10.0  # of a row that names no length
UNSTATED: Final = {"tempo_bpm": None, "key": None, "genres": (), "instruments": ()}
"""Of a reconstruction: its name is no prompt, and states nothing."""
PACKAGES: Final = ("torch", "transformers", "diffusers")
LIBRARIES: Final = {
    "HF_HUB_OFFLINE": "1",  # nothing is looked up anywhere
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}
AUDIO_SUFFIXES: Final = (".flac", ".wav", ".mp3", ".ogg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; answers with its exit code."""
    os.environ |= LIBRARIES  # before they are imported
    given = _parser().parse_args(arguments)
    try:
        summary = _generate(given) if given.command == "generate" else _reconstruct(given)
    except KeyboardInterrupt:
        print("interrupted; run it again, it goes on where it stands", file=sys.stderr)
        return 130
    except LuthierError as error:
        print(f"luthier-baselines: {error.reason}: {error}", file=sys.stderr)
        if isinstance(error, InvalidRequest):
            for name, bound in error.violations:
                if bound not in str(error):
                    print(f"  {name}: {bound}", file=sys.stderr)
        return 1
    clipped = f", {summary.clipped} samples beyond full scale were clipped" if summary.clipped else ""
    more = " --reference " + str(given.audio) + " --aligned" if given.command == "reconstruct" else ""
    print(
        f"{given.out}: {summary.done} rows done, {summary.before} were done before{clipped}\n"
        f"next: luthier score {given.out} --prompts {given.out / PROMPTS}{more}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="luthier-baselines", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="prompts become audio")
    generate.add_argument("model", choices=("musicgen", "audioldm2"))
    source = generate.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", type=Path, metavar="FILE", help="a suite as JSON, or CSV with the same columns")
    source.add_argument("--suite", metavar="NAME", help="a suite that evaluation ships, e.g. quick, paper-tempo")
    generate.add_argument(
        "--seconds", type=float, help=f"length of each row, {MIN_SECONDS:g} to {MAX_SECONDS:g}; default: the row's"
    )
    generate.add_argument("--seed", type=int, default=0, help="of rows without one: this plus their number; default 0")
    generate.add_argument("--guidance-scale", type=float, help="default: 3 (musicgen), 3.5 (audioldm2)")
    generate.add_argument("--steps", type=int, help="denoising steps of audioldm2; default 200")
    generate.add_argument("--max-rows", type=int, metavar="N", help="only the first rows")
    reconstruct = commands.add_parser("reconstruct", help="audio goes through a codec")
    reconstruct.add_argument("model", choices=("encodec", "dac"))
    reconstruct.add_argument("--audio", type=Path, required=True, metavar="FOLDER", help="FLAC, WAV, MP3 or Ogg files")
    reconstruct.add_argument("--kbps", type=float, help="bandwidth of encodec; default 6, else the weights' highest")
    reconstruct.add_argument("--quantizers", type=int, metavar="N", help="of dac; default: all")
    for command in (generate, reconstruct):
        command.add_argument("--weights", type=Path, required=True, metavar="FOLDER", help="weights, safetensors")
        command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the audio goes")
        command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default cpu")
    return parser


def _generate(given: argparse.Namespace) -> Summary:
    _within("--seed", given.seed, 0, MAX_SEED)
    _within("--seconds", given.seconds, MIN_SECONDS, MAX_SECONDS)
    _within("--guidance-scale", given.guidance_scale, 0, 50)
    _within("--steps", given.steps, 1, 1000)
    _within("--max-rows", given.max_rows, 1, 5000)
    if given.steps is not None and given.model == "musicgen":
        raise InvalidRequest(reason="OPTION_OF_ANOTHER", violations=[("--steps", "is of audioldm2, got musicgen")])
    listed = read_prompts(given.prompts or suite_file(given.suite))[: given.max_rows]
    check_weights(given.model, given.weights)
    from luthier_baselines.generators import (  # torch takes seconds to import
        AUDIOLDM2_GUIDANCE,
        AUDIOLDM2_STEPS,
        MUSICGEN_GUIDANCE,
        AudioLDM2,
        Generator,
        MusicGen,
    )

    rows = [
        Row(
            row.name,
            row.prompt,
            {
                "seconds": given.seconds or row.seconds or SECONDS,
                "seed": (given.seed + number) % (MAX_SEED + 1) if row.seed is None else row.seed,
            },
            row.facts,
        )
        for number, row in enumerate(listed)
    ]
    own = MUSICGEN_GUIDANCE if given.model == "musicgen" else AUDIOLDM2_GUIDANCE
    scale = own if given.guidance_scale is None else float(given.guidance_scale)
    options: dict[str, float | str] = {"guidance_scale": scale}
    device = _device(given.device)
    model: Generator
    if given.model == "musicgen":
        model = MusicGen(given.weights, device, guidance_scale=scale)
    else:
        options["steps"] = given.steps or AUDIOLDM2_STEPS
        model = AudioLDM2(given.weights, device, guidance_scale=scale, steps=int(options["steps"]))
    for seconds in {float(row.inputs["seconds"]) for row in rows}:
        model.check(seconds)
    return fill(
        given.out,
        _settings(given, options),
        rows,
        lambda row: model.generate(row.prompt, float(row.inputs["seconds"]), int(row.inputs["seed"])),
    )


def _reconstruct(given: argparse.Namespace) -> Summary:
    wrong = ("--quantizers", given.quantizers) if given.model == "encodec" else ("--kbps", given.kbps)
    if wrong[1] is not None:
        raise InvalidRequest(reason="OPTION_OF_ANOTHER", violations=[(wrong[0], f"is not of {given.model}")])
    if not given.audio.is_dir():
        raise InvalidRequest(reason="AUDIO_MISSING", violations=[("--audio", f"must be a folder, got {given.audio}")])
    files = sorted(path for path in given.audio.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        bound = f"has no {', '.join(AUDIO_SUFFIXES)} below it: {given.audio}"
        raise InvalidRequest(reason="AUDIO_MISSING", violations=[("--audio", bound)])
    check_weights(given.model, given.weights)
    from luthier_baselines.codecs import DAC, EnCodec, reconstruct  # torch takes seconds to import

    paths = {f"{number:04}-{path.stem}"[:120]: path for number, path in enumerate(files)}
    rows = [
        Row(
            name,
            path.stem,
            {"original_sha256": _sha256(path)},
            {"reference": path.relative_to(given.audio).as_posix(), **UNSTATED},
        )
        for name, path in paths.items()
    ]
    device = _device(given.device)
    if given.model == "encodec":
        encodec = EnCodec(given.weights, device, kbps=given.kbps)
        settings = _settings(given, {"kbps": encodec.kbps})
        return fill(given.out, settings, rows, lambda row: reconstruct(encodec, paths[row.name]))
    dac = DAC(given.weights, device, quantizers=given.quantizers)
    settings = _settings(given, {"quantizers": dac.quantizers})
    return fill(given.out, settings, rows, lambda row: reconstruct(dac, paths[row.name]))


def _settings(given: argparse.Namespace, options: Mapping[str, float | str]) -> Settings:
    packages = {name: version(name) for name in PACKAGES}
    return Settings(given.model, digest_of(given.weights), options, packages)


def _device(name: str) -> "torch.device":
    """Raises InvalidRequest DEVICE_MISSING for one that is not there: there is no silent fallback to the CPU."""
    import torch

    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"is none of cpu, cuda, cuda:N: {name}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        bound = str(error).splitlines()[0][:200]
        raise InvalidRequest(reason="DEVICE_MISSING", violations=[("--device", bound)]) from None
    return device


def _within(option: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        bound = f"must be between {low:g} and {high:g}, got {value:g}"
        raise InvalidRequest(reason="OPTION_OUT_OF_RANGE", violations=[(option, bound)])


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        bound = f"{path} cannot be read: {error.strerror}"
        raise InvalidRequest(reason="AUDIO_UNREADABLE", violations=[("--audio", bound)]) from None


if __name__ == "__main__":
    sys.exit(main())
