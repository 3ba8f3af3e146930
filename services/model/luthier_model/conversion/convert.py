"""A checkpoint as people have it, and its configuration, become a folder that `luthier register` takes.

Nothing in this process opens the pickle: another one does (`sandbox`, `reader`) and says names and shapes. Here it is
decided what of it makes the model; what comes back is a safetensors file, which is checked as the services check one.
"""

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier_model import checkpoint, configuration
from luthier_model.checkpoint import AUTOENCODER, WRAPPER
from luthier_model.configuration import MAX_CONFIGURATION_BYTES, Configuration
from luthier_model.conversion import sandbox
from luthier_model.conversion.layout import Weights, groups, layout_of
from luthier_model.conversion.report import ConversionError, Found, Report, Reshaped, Stored, register_command, size
from luthier_model.conversion.sandbox import Limits, Process, Refused
from luthier_model.errors import CheckpointError, CheckpointMismatch, ConfigurationError, ModelError, WeightsError
from luthier_model.network import shapes

WEIGHTS, CONFIG, REPORT = "weights.safetensors", "config.json", "conversion.json"
READER: Final = (sys.executable, "-m", "luthier_model.conversion.reader")
MAX_FILE_BYTES: Final = 64 << 30  # a training checkpoint of the full-size model has 15 GB
OBJECTS_BYTES: Final = 1 << 30  # memory for what is not weights: names, optimizer's lists, torch's own
HEADER_BYTES: Final = 16 << 20
CPU_S: Final = 60
WALL_S: Final = 300.0
READ_BYTES_PER_S: Final = 5 << 20  # of a slow disk
FLOAT32_BYTES: Final = 4
FORMATS: Final = ("float64", "float32", "float16", "bfloat16")
"""Number formats that float32 holds; whole numbers of a quantised file mean nothing without their scales."""
INITIALISED, STEP = "_ema.initted", "_ema.step"  # ema-pytorch's counters

Plan = dict[str, tuple[int, str]]
"""The model's name of a tensor → number of the file, the tensor's name there."""


@dataclass(frozen=True)
class Sources:
    """What to convert. `weights`: None = the moving average where there is one that was ever updated. `wall_s`: None =
    by the files' sizes.
    """

    checkpoint: Path
    config: Path
    autoencoder: Path | None = None
    weights: Weights | None = None
    wall_s: float | None = None

    @property
    def files(self) -> list[Path]:
        return [self.checkpoint, *([self.autoencoder] if self.autoencoder else [])]


def convert(sources: Sources, out: Path) -> Report:
    """Writes `weights.safetensors`, `config.json` and `conversion.json` into the new folder `out`.

    The folder is there when it is whole, else not at all. ConversionError says why not, with what was found.
    """
    known, wanted = _wanted(sources.config)
    total = _bytes_of(sources.files)
    float32_bytes = FLOAT32_BYTES * sum(math.prod(shape) for shape in wanted.values())
    if out.exists():
        raise ConversionError("OUT_EXISTS", f"--out must be a folder that is not there yet, got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < float32_bytes + HEADER_BYTES:
        text = f"the weights need {size(float32_bytes)} in {out.parent}, {size(free)} are free"
        raise ConversionError("DISK_FULL", text)
    limits = Limits(
        memory_bytes=2 * total + 2 * float32_bytes + OBJECTS_BYTES,
        cpu_s=CPU_S + total // READ_BYTES_PER_S,
        file_bytes=float32_bytes + HEADER_BYTES,
        wall_s=WALL_S + total / READ_BYTES_PER_S if sources.wall_s is None else sources.wall_s,
    )
    report, folder = Report(), Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:100]}-"))
    try:
        _read(sources, wanted, limits, folder / WEIGHTS, report)
        _check(folder / WEIGHTS, known, report)
        report.written, report.next = str(out / WEIGHTS), [register_command(out, known.text.encoder)]
        (folder / CONFIG).write_text(json.dumps(dict(known.document), indent=1))
        (folder / REPORT).write_text(json.dumps(report.document(), indent=1))
        folder.chmod(0o777 & ~_umask())  # a temporary folder is its owner's alone, and so is what safetensors writes
        (folder / WEIGHTS).chmod(0o666 & ~_umask())
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _wanted(path: Path) -> tuple[Configuration, dict[str, tuple[int, ...]]]:
    """The configuration, and the names and shapes of its model's tensors."""
    try:
        with path.open("rb") as file:
            known = configuration.read(file.read(MAX_CONFIGURATION_BYTES + 1))
        return known, shapes(known)
    except OSError as error:
        raise ConversionError("FILE_UNREADABLE", f"{path}: {error.strerror}") from None
    except ConfigurationError as error:
        raise ConversionError("CONFIGURATION_INVALID", str(error)) from None
    except ModelError as error:
        raise ConversionError("CONFIGURATION_UNUSABLE", str(error)) from None


def _bytes_of(files: list[Path]) -> int:
    """Size of the files together; ConversionError when one is none, or too large."""
    total = 0
    for path in files:
        if path.is_dir():
            text = f"{path} is a folder. DeepSpeed saves one: run the zero_to_fp32.py in it, then convert its result"
            raise ConversionError("FILE_UNREADABLE", text)
        if not path.is_file():
            raise ConversionError("FILE_UNREADABLE", f"{path} is no file")
        length = path.stat().st_size
        if length > MAX_FILE_BYTES:
            raise ConversionError("FILE_TOO_LARGE", f"{path} has {length} bytes, at most {MAX_FILE_BYTES} are read")
        total += length
    return total


def _read(sources: Sources, wanted: Mapping[str, tuple[int, ...]], limits: Limits, path: Path, report: Report) -> None:
    """Has the files opened, decides what makes the model, and has it written to `path`."""
    try:
        with sandbox.started(list(READER), limits, path) as reader:
            network = "no network" if reader.isolated else "network refused to its Python code only (no unshare here)"
            report.isolation = [
                "torch.load(weights_only=True) in a process of its own",
                network,
                f"at most {size(limits.memory_bytes)} of memory, {limits.cpu_s} processor seconds",
            ]
            for file in sources.files:
                report.found.append(_found(reader, file, wanted))
            plan = _plan(report, wanted, sources.weights)
            reader.ask({"write": plan, "to": str(path)})
    except Refused as error:
        raise ConversionError(error.reason, _advice(error), report) from None


def _advice(error: Refused) -> str:
    if error.reason != "PICKLE_REFUSED":
        return str(error)
    return (
        f"the file asks for code to be run, which is never done: {error}. Where it was made, and only there, save its "
        "weights alone: torch.save({'state_dict': torch.load(FILE, weights_only=False)['state_dict']}, NEW)"
    )


def _found(reader: Process, path: Path, wanted: Mapping[str, tuple[int, ...]]) -> Found:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    listed = reader.ask({"open": str(path.absolute())})
    try:
        tensors = {str(name): Stored(*stored) for name, stored in listed["tensors"].items()}
        counters = {str(name): float(value) for name, value in listed["counters"].items()}
        layout = layout_of(tensors, wanted)
        return Found(
            path=str(path),
            bytes=path.stat().st_size,
            sha256=digest,
            container=listed["container"],
            step=listed["step"],
            tensors=tensors,
            entries=tuple(map(str, listed["entries"])),
            layout=layout,
            updates=_updates(counters) if layout.averaged else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError("READER_DIED", f"the process that read {path} answered nonsense: {error!r}") from None


def _updates(counters: Mapping[str, float]) -> int:
    """How often a moving average was updated. 0 while ema-pytorch calls it not initialised: it then is a copy of what
    training began with, or of its first step.
    """
    initialised = all(value for name, value in counters.items() if name.endswith(INITIALISED))
    steps = [int(value) for name, value in counters.items() if name.endswith(STEP) and math.isfinite(value)]
    return max([1, *steps]) if initialised else 0


def _plan(report: Report, wanted: Mapping[str, tuple[int, ...]], weights: Weights | None) -> Plan:
    """Which tensor of which file becomes which of the model; ConversionError when they do not make the whole model."""
    first, *others = report.found
    plan: Plan = {name: (0, stored) for name, stored in first.layout.chosen(_choice(first, weights)).items()}
    report.weights = _weights_text(first, _choice(first, weights), weights)
    report.autoencoder = "the checkpoint's own" if any(name.startswith(AUTOENCODER) for name in plan) else ""
    for other in others:
        chosen = other.layout.chosen(_choice(other, weights)).items()
        encoder = {name: stored for name, stored in chosen if name.startswith(AUTOENCODER)}
        if not encoder:
            text = f"{other.path} holds no autoencoder; its tensors are {_heads(other)}"
            raise ConversionError("NO_AUTOENCODER", text, report)
        replaced = [name for name in plan if name.startswith(AUTOENCODER)]
        if replaced:
            report.notes.append(
                f"the checkpoint's own autoencoder ({len(replaced)} tensors) was left out for that of {other.path}: a "
                "transformer makes sense of the latents of the autoencoder that it was trained with, and of no other"
            )
        plan = {name: source for name, source in plan.items() if name not in set(replaced)}
        plan |= {name: (1, stored) for name, stored in encoder.items()}
        of = _weights_text(other, _choice(other, weights), weights)
        report.autoencoder = f"of {other.path}: {of}"
    _compare(report, plan, wanted)
    taken = [report.found[number].tensors[stored] for number, stored in plan.values()]
    for (name, _), tensor in zip(plan.items(), taken, strict=True):
        if tensor.dtype not in FORMATS:
            text = f"tensor {name} is {tensor.dtype}, must be one of {', '.join(FORMATS)}"
            raise ConversionError("NOT_FLOATING_POINT", text, report)
    report.dtypes = dict(Counter(tensor.dtype for tensor in taken))
    report.parameters = sum(math.prod(tensor.shape) for tensor in taken)
    left: Counter[str] = Counter()
    for number, found in enumerate(report.found):
        used = {stored for index, stored in plan.values() if index == number}
        left.update(groups(name for name in found.tensors if name not in used))
    report.left_out = {**{entry: 0 for found in report.found for entry in found.entries}, **left}
    _say(report)
    _refuse_what_does_not_fit(report, wanted)
    return plan


def _choice(found: Found, weights: Weights | None) -> Weights:
    return weights or ("ema" if found.updates else "online")


def _weights_text(found: Found, choice: Weights, asked: Weights | None) -> str:
    if choice == "ema" and found.layout.averaged:
        rest = "; what it does not cover (the conditioners) as trained" if found.layout.wrapper == WRAPPER else ""
        return f"moving average of {found.updates} updates{rest}" if found.updates else "moving average, as asked for"
    if found.layout.averaged:
        return "online, as asked for" if asked else "online: the moving average was never updated"
    if asked == "ema":
        raise ConversionError("NO_MOVING_AVERAGE", f"{found.path} has no moving average: leave --weights out")
    return "online: there is no moving average" if found.layout.wrapper else "as stored: the file has one set"


def _compare(report: Report, plan: Plan, wanted: Mapping[str, tuple[int, ...]]) -> None:
    report.missing = sorted(set(wanted) - set(plan))
    report.unexpected = sorted(set(plan) - set(wanted))
    for name, (number, stored) in sorted(plan.items()):
        shape = report.found[number].tensors[stored].shape
        if name in wanted and shape != wanted[name]:
            report.reshaped.append(Reshaped(name, shape, wanted[name]))


def _say(report: Report) -> None:
    """Which of the usual confusions were met."""
    first = report.found[0]
    if first.layout.wrapper:
        report.notes.append(
            f"a training wrapper's checkpoint: its names begin with {first.layout.wrapper}; what loads models reports "
            "all of them as missing. They are unwrapped"
        )
    if inserted := dict.fromkeys(each for found in report.found for each in found.layout.inserted):
        report.notes.append(
            f"names hold {' and '.join(inserted)}, put there by torch.compile or by training on several GPUs: taken out"
        )
    if first.updates == 0:
        text = "it holds the weights that training began with"
        report.notes.append(f"the file has a moving average that was never updated: {text}")
    if len(report.found) > 1:
        report.notes.append("transformer and autoencoder came in separate files; one file holds both now")
    if any(kind in ("float16", "bfloat16") for kind in report.dtypes):
        report.notes.append("half precision: float32 holds every value of it exactly; twice the bytes are written")


def _refuse_what_does_not_fit(report: Report, wanted: Mapping[str, tuple[int, ...]]) -> None:
    if not (report.missing or report.unexpected or report.reshaped):
        return
    encoder = {name for name in wanted if name.startswith(AUTOENCODER)}
    missing = set(report.missing)
    why = "the tensors are not those of the configuration: is it the one that the model was trained with?"
    if missing == set(wanted):
        why = f"no tensor of this model is in the file; its tensors are {_heads(report.found[0])}"
    elif missing == set(wanted) - encoder:
        why = (
            "the file holds an autoencoder alone: give the diffusion model's file first, and this one by --autoencoder"
        )
    elif missing == encoder:
        why = "the file holds no autoencoder: give the file of the one that it was trained with by --autoencoder"
    raise ConversionError("CHECKPOINT_MISMATCH", why, report)


def _heads(found: Found) -> str:
    return ", ".join(f"{count} {head}" for head, count in list(groups(found.tensors).items())[:10])


def _check(path: Path, known: Configuration, report: Report) -> None:
    """Holds what was written against the configuration, as every service does with weights from outside."""
    try:
        layout = checkpoint.verify(path, known)
        if any(name != stored for name, stored in layout.items()):
            raise ConversionError(
                "READER_DIED", "the process that read the file wrote other tensors than asked", report
            )
        checkpoint.check_weights(path, layout)
    except WeightsError as error:
        other = ", or ask for --weights online" if report.found[0].updates else ""
        raise ConversionError("WEIGHTS_NOT_FINITE", f"{error}: take an earlier checkpoint{other}", report) from None
    except (CheckpointError, CheckpointMismatch, OSError) as error:
        raise ConversionError("READER_DIED", f"what was written is not what was asked for: {error}", report) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
