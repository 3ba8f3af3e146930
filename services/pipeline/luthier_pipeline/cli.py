"""The command `luthier`.

Exit codes: 0 = done, failures of single songs included in the summary; 1 = the command itself could not be done;
2 = wrong usage; 130 = interrupted, 143 = terminated (run it again, it goes on).

A command's module is imported when the command is called: what the services' clients need takes a second to import,
which nobody should wait for who asks for help or completes a name.
"""

import io
import json
import os
import pkgutil
import signal
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from luthier_pipeline.console import Context, UsageError

BROKEN_PIPE: Final = 141  # as a shell counts what SIGPIPE ended
LAST_SPANS_S: Final = 3.0  # a collector that is away must not hold the command back
SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

Commands = dict[str, tuple[str, str]]
SECTIONS: Final[dict[str, Commands]] = {
    "From MIDI to clips": {
        "demo": ("demo:demo", "Compose songs and take them all the way to a report"),
        "inspect": ("ingest:inspect", "Show what the MIDI files of a folder say, without rendering"),
        "ingest": ("ingest:ingest", "Write the corpus manifest of a folder"),
        "run": ("run:run", "Take a folder or a corpus, or one shard of it, all the way into curation"),
        "add-audio": (
            "add_audio:add_audio",
            "Take a folder of recordings all the way into curation, as the subset external",
        ),
        "status": ("status:status", "Show runs, clips, data sets, trainings, evaluations and models"),
    },
    "From clips to a data set": {
        "review": ("curate:review", "Accept every open clip whose prompts passed the check"),
        "curate": (
            "judgements.command:app",
            "Let several people judge, also in Label Studio and Argilla, and find clips by their sound",
        ),
        "export": ("export.command:export", "Freeze the accepted clips into a data set with leak-free splits"),
    },
    "Models": {
        "register": ("models:register", "Bring weights of your own, e.g. Stable Audio Open"),
        "convert-checkpoint": (
            "convert_checkpoint:convert_checkpoint",
            "Turn a .ckpt into safetensors, without running what is in it",
        ),
        "models": ("models:models", "List registered model versions"),
        "card": ("card:card", "Show what a model was trained on"),
        "verify": ("verify:verify", "Say whether a model made a file, which, and whether it was changed since"),
        "lawpack": (
            "lawpack.command:lawpack",
            "Write what is behind a model: licences, bill of materials, EU summary, Croissant, attribution",
        ),
        "train": ("long_runs:train", "Fine-tune a base model on a data set, or make one that any CPU trains"),
        "logs": ("training_logs:logs", "Fetch a training's TensorBoard log and its audio samples into a folder"),
        "train-autoencoder": (
            "autoencoder_training:train_autoencoder",
            "Train a model's decoder on a data set, or its whole autoencoder",
        ),
        "fidelity": ("fidelity:fidelity", "Measure how true a model's reconstructions of held-out clips are"),
        "generate": ("models:generate", "Generate audio into a file"),
        "evaluate": ("long_runs:evaluate", "Measure a model, beside a baseline"),
        "report": ("evaluation_report:report", "Write an evaluation's report, with what listeners said of its audio"),
        "compare": ("compare:compare", "Show the scores of several evaluations side by side"),
        "score": ("score:score", "Measure a folder of audio against its prompts, as evaluate measures a model"),
        "demo-page": ("demo_page.command:demo_page", "Make a page to listen to from evaluations, as static files"),
        "metric-weights": (
            "metric_weights:metric_weights",
            "Bring the weights of an embedder that metrics are computed with",
        ),
        "sweep": ("sweep.command:sweep", "Measure a model at several steps, samplers and guidance scales"),
        "listening": ("listening:app", "Let people rate models blindly in the browser: create, results, list"),
        "experiment": ("experiment.command:experiment", "Show in small that true captions teach a model tempo"),
        "cancel": ("long_runs:cancel", "Cancel a training or an evaluation"),
        "promote": ("models:promote", "Make a model version the current one of a name, or roll back"),
    },
    "Operations": {
        "submit": ("submit:submit", "Run a corpus as Jobs on Kubernetes"),
        "monitor": ("monitor:monitor", "Serve what live runs publish as Prometheus metrics"),
        "prove-store": (
            "prove_store.command:prove_store",
            "Try to break what Luthier asks of an object store, with many writers at several endpoints",
        ),
        "mcp": ("agents.command:mcp", "Let agents generate, look up models and clips, verify files (MCP)"),
        "usage": ("usage:usage", "Show what callers had of their quotas today"),
        "lineage": ("lineage.command:lineage", "Walk back from a file to everything behind it"),
        "takedown": (
            "retention.takedown:takedown",
            "Refuse a file, or all of an artist, song, plugin, SoundFont or licence, to every reader",
        ),
        "takedowns": ("retention.takedowns:takedowns", "List what was taken down, with the signatures of the records"),
        "audit": ("audit:audit", "List who registered, promoted, took down and deleted what"),
        "gc": ("retention.gc:gc", "Delete blobs that nothing reaches"),
    },
}
"""Function (below this package) and purpose of every command, in the order in which one meets them."""

GUIDE: Final = """\b
Begin with:
  make up                start every service here, or name them by LUTHIER_<SERVICE>_ADDRESS
  luthier demo           see all of it on songs that the project composes
  luthier run FOLDER     take MIDI files of your own, Artist/Title.mid; then
                         review, export, train, generate, evaluate, promote

\b
luthier COMMAND --help has the options of a command; --json answers with one line of JSON.
Exit codes: 0 done; 1 could not be done; 2 wrong usage; 130 interrupted (run it again, it goes on)."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the Pod is evicted. The command ends as after Ctrl-C, so that the Job's next Pod goes on."""


def load(name: str) -> Any:
    """The command of that name, its module imported. A Typer in place of a function is a group of commands."""
    function = next(commands[name][0] for commands in SECTIONS.values() if name in commands)
    found = pkgutil.resolve_name(f"luthier_pipeline.{function}")
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
    single.command(name)(found)
    return typer.main.get_command(single)


class LazyCommands(TyperGroup):
    """Knows every command by name and purpose, and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for commands in SECTIONS.values():
            for name, (_, purpose) in commands.items():
                self.add_command(TyperCommand(name, help=purpose))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and found else None, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(8), purpose) for name, (_, purpose) in commands.items()])

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; what goes wrong becomes a message and an exit code."""
        from luthier_kit.rpc import InvalidRequest, LuthierError, SettingsError

        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os._exit(BROKEN_PIPE)  # click would call it an error
        except KeyboardInterrupt as interrupt:
            print("interrupted; run it again, it goes on where it stands", file=sys.stderr)
            raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from None
        except UsageError as error:
            print(f"luthier: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except SettingsError as error:
            print(f"luthier: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        except LuthierError as error:
            print(f"luthier: {error.reason}: {error}", file=sys.stderr)
            if isinstance(error, InvalidRequest):
                for field, bound in (violation for violation in error.violations if violation[1] not in str(error)):
                    print(f"  {field}: {bound}", file=sys.stderr)
            if ctx.obj.as_json:
                print(json.dumps({"error": {"code": error.code.name, "reason": error.reason, "message": str(error)}}))
            raise typer.Exit(1) from None


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"luthier {version('luthier-pipeline')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyCommands, no_args_is_help=True, epilog=GUIDE, context_settings=SETTINGS,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip


@app.callback()
def luthier(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """From MIDI to captioned audio to a fine-tuned music model."""
    if ctx.obj is None:  # a process of its own, not a test
        from luthier_kit.rpc import configure_logging, flush_traces, start_traces
        from luthier_pipeline.clients import Clients

        configure_logging("WARNING")
        if traces := start_traces("pipeline"):
            ctx.call_on_close(lambda: flush_traces(traces, LAST_SPANS_S))
        ctx.obj = Context(Clients())


def main() -> None:
    """Runs a command and exits with a code that means something."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        try:
            app(prog_name="luthier")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # `luthier status | head`: who reads has read enough
        code = BROKEN_PIPE
    os._exit(code)  # calls left in threads must not hold the command back


def _terminate(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way out
    raise Terminated
