"""What `luthier convert-checkpoint` runs: `python -m luthier_model.conversion FILE --config FILE.json --out FOLDER`.

Exit codes and answers are those of every command of `luthier`: the report on standard output, one line of JSON with
`--json`; 1 when the file was not converted, 2 for wrong usage.
"""

import argparse
import io
import json
import signal
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

# libraries say what they lack, even where answers go
warnings.simplefilter("ignore")
with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
    from luthier_model.conversion.convert import Sources, convert
    from luthier_model.conversion.report import ConversionError


def main(arguments: list[str] | None = None) -> int:
    """Converts, and says what was found; the exit code."""
    options = _parser().parse_args(arguments)
    sources = Sources(options.checkpoint, options.config, options.autoencoder, options.weights, options.timeout)
    try:
        report = convert(sources, options.out)
    except ConversionError as error:
        found = error.report.document() if error.report else {}
        if options.json:
            document = {"error": {"reason": error.reason, "message": str(error)}, **found}
            print(json.dumps(document))
        elif error.report:
            print(error.report.text())
        print(f"luthier: {error.reason}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.document()) if options.json else report.text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m luthier_model.conversion", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt, or safetensors that are wrapped or split")
    parser.add_argument("--config", type=Path, required=True, help="stable-audio-tools model configuration")
    parser.add_argument("--autoencoder", type=Path, help="file of the autoencoder, where the checkpoint has none")
    parser.add_argument("--out", type=Path, required=True, help="folder that is made")
    parser.add_argument("--weights", choices=("ema", "online"), help="default: the moving average, if it was updated")
    parser.add_argument("--timeout", type=float, help="seconds; default: 300 and one for each 5 MB")
    parser.add_argument("--json", action="store_true", help="answer with one line of JSON")
    return parser


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))  # on the way out what was begun is removed
    sys.exit(main())
