"""Converts the published weights of an embedder: `python -m luthier_evaluation.conversion NAME [SOURCE] --out FOLDER`.

Writes FOLDER/NAME.safetensors. Exit codes and answers are those of every command of `luthier`: the report on standard
output, one line of JSON with `--json`; 1 when nothing was converted, 2 for wrong usage.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from luthier_evaluation.conversion import CONVERTERS
from luthier_evaluation.conversion.base import ConversionError, Published
from luthier_evaluation.embedders.weights import CLASSES, NAME, SOURCE, SOURCE_SHA256, write_weights

_NAMED = 5  # tensors that an error names


@dataclass(frozen=True)
class Report:
    """What was found and written."""

    embedder: str
    source: str
    source_sha256: str
    tensors: int
    numbers: int
    classes: int
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    written: str
    sha256: str
    next: str

    def text(self) -> str:
        """A table of two columns."""
        left = ", ".join(f"{count} {what}" for what, count in self.left_out.items())
        rows = [
            ("embedder", self.embedder),
            ("source", f"{self.source}, sha256 {self.source_sha256[:16]}"),
            ("found", f"{self.tensors} tensors of {self.numbers:,} numbers, {self.classes} classes"),
            *([("left out", left)] if left else []),
            *(("note", note) for note in self.notes),
            ("written", self.written),
            ("sha256", self.sha256),
            ("next", self.next),
        ]
        return "\n".join(f"{what:12} {text}" for what, text in rows)


def convert(embedder: str, source: Path | None, out: Path) -> Report:
    """Writes `<out>/<embedder>.safetensors`, whole or not at all. ConversionError says why not."""
    converter = CONVERTERS[embedder]
    published = converter.read(source)
    _check(embedder, published.tensors, converter.shapes())
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{embedder}.safetensors"
    header = {**published.header, NAME: embedder, SOURCE: published.source, SOURCE_SHA256: published.source_sha256}
    if published.classes:
        header[CLASSES] = json.dumps(published.classes, ensure_ascii=False)
    handle, name = tempfile.mkstemp(dir=out, prefix=f".{embedder}-")
    os.close(handle)
    begun = Path(name)
    try:
        digest = write_weights(begun, published.tensors, header)
        begun.chmod(0o644)
        begun.replace(path)
    finally:
        begun.unlink(missing_ok=True)
    return _report(embedder, published, path, digest)


def _check(embedder: str, tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Whether these are the embedder's tensors, all numbers finite."""
    wrong = [f"{name} is missing" for name in shapes if name not in tensors]
    wrong += [f"{name} is not the embedder's" for name in tensors if name not in shapes]
    wrong += [
        f"{name} is {list(tensor.shape)}, must be {list(shapes[name])}"
        for name, tensor in tensors.items()
        if name in shapes and tuple(tensor.shape) != tuple(shapes[name])
    ]
    wrong += [
        f"{name} holds NaN, infinity or no fractions"
        for name, tensor in tensors.items()
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all()
    ]
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ConversionError("WEIGHTS_DO_NOT_FIT", f"not the weights of {embedder}: {'; '.join(wrong[:_NAMED])}{more}")


def _report(embedder: str, published: Published, path: Path, digest: str) -> Report:
    return Report(
        embedder=embedder,
        source=published.source,
        source_sha256=published.source_sha256,
        tensors=len(published.tensors),
        numbers=sum(math.prod(tensor.shape) for tensor in published.tensors.values()),
        classes=len(published.classes),
        left_out=published.left_out,
        notes=published.notes,
        written=str(path),
        sha256=digest,
        next=f"give evaluation the folder that holds {path.name}",
    )


def main(arguments: list[str] | None = None) -> int:
    """Converts, and says what was found; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        report = convert(options.embedder, options.source, options.out)
    except (ConversionError, OSError) as error:
        reason = error.reason if isinstance(error, ConversionError) else "FILE_UNREADABLE"
        if options.json:
            print(json.dumps({"error": {"reason": reason, "message": str(error)}}))
        print(f"luthier: {reason}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(report)) if options.json else report.text())
    return 0


def _parser() -> argparse.ArgumentParser:
    sources = "; ".join(f"{name}: {converter.source}" for name, converter in CONVERTERS.items())
    parser = argparse.ArgumentParser(
        prog="python -m luthier_evaluation.conversion", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("embedder", choices=sorted(CONVERTERS), help="whose weights")
    parser.add_argument("source", type=Path, nargs="?", help=f"where the published weights are. {sources}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the safetensors file")
    parser.add_argument("--json", action="store_true", help="answer with one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
