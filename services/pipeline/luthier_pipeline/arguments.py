"""The arguments of `luthier`; each says its unit and default."""

import argparse
import getpass

from luthier_pipeline.songbook.compose import MAX_SONGS

GUIDE = """\
the way:   run FOLDER -> review -> export -> train -> generate -> evaluate -> promote
start the services first (make up), or name them by LUTHIER_<SERVICE>_ADDRESS
exit codes: 0 done; 1 could not be done; 2 wrong usage; 130 interrupted (run it again, it goes on)
"""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="luthier",
        description="From MIDI to captioned audio to a fine-tuned music model.",
        epilog=GUIDE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="answer with one line of JSON at the end")
    who = argparse.ArgumentParser(add_help=False)
    who.add_argument("--as", dest="reviewer", default=_user(), metavar="NAME", help="who asks (default: %(default)s)")

    def add(name: str, text: str, *more: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common, *more], help=text, description=text)

    _corpus(add)
    _cluster(add)
    _curation(add, who)
    _models(add, who)
    _judgement(add, who)
    _custody(add, who)
    demo = add("demo", "compose the songbook and take it all the way to a report", who)
    demo.add_argument("--out", default="demo", metavar="FOLDER", help="where the results go (default: %(default)s)")
    return top


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "luthier"


def _corpus(add) -> None:  # type: ignore[no-untyped-def]
    inspect = add("inspect", "show what the MIDI files of a folder say, without rendering")
    inspect.add_argument("folder", metavar="FOLDER")
    ingest = add("ingest", "write the corpus manifest of a folder: digests, fingerprints, duplicates")
    ingest.add_argument("folder", metavar="FOLDER", nargs="?", default="")
    _songbook(ingest)
    ingest.add_argument("--collection", default="", metavar="NAME", help="announce the manifest as corpora/NAME")
    run = add("run", "take a folder or a corpus, or one shard of it, all the way into curation; resumable")
    run.add_argument("source", metavar="FOLDER|corpora/NAME|MANIFEST")
    run.add_argument("--collection", default="", help="collection in curation (default: the source's name)")
    _song_options(run)
    run.add_argument("--shard", default="", metavar="I/N", help="only the songs of shard I of N, counted from 0")
    run.add_argument("--shards", type=_positive, default=0, metavar="N", help="shard JOB_COMPLETION_INDEX of N")
    run.add_argument(
        "--wait", type=float, default=6 * 3600.0, metavar="SECONDS", help="how long to wait for the manifest (6 h)"
    )
    for command in (ingest, run):
        command.add_argument("--tags", default="", metavar="FILE", help="sheet of tags, CSV or JSON (FOLDER/tags.csv)")
        command.add_argument("--licence", default="unknown", help="licence of the songs, recorded in every lineage")
        command.add_argument("--submission", default="", metavar="ID", help="name of the run (set by luthier submit)")
    status = add("status", "show runs, clips, data sets, trainings, evaluations and models")
    status.add_argument("--collection", default="", metavar="NAME", help="only this collection's run, shard by shard")


def _cluster(add) -> None:  # type: ignore[no-untyped-def]
    submit = add("submit", "run a corpus as Jobs on Kubernetes: one that ingests, one with a Pod for each shard")
    submit.add_argument("--collection", required=True, metavar="NAME")
    submit.add_argument("--claim", default="", metavar="PVC[:SUBPATH]", help="volume and folder of the MIDI files")
    _songbook(submit)
    submit.add_argument("--shards", type=_positive, required=True, metavar="N", help="into how many the songs go")
    submit.add_argument("--parallelism", type=_positive, metavar="P", help="shards at a time (default: all)")
    _song_options(submit)
    submit.add_argument("--licence", default="unknown", help="licence of the songs, recorded in every lineage")
    submit.add_argument("--release", default="luthier", help="Helm release (default: %(default)s)")
    submit.add_argument("--namespace", default="", metavar="NS", help="default: the context's")
    submit.add_argument("--again", action="store_true", help="also when the same was submitted before")
    submit.add_argument("--wait", action="store_true", help="until all shards are done")
    add("monitor", "serve what live runs publish as Prometheus metrics (LUTHIER_METRICS_ADDRESS)")


def _songbook(command: argparse.ArgumentParser) -> None:
    command.add_argument("--songbook", action="store_true", help="take the songs that the project composes itself")
    command.add_argument("--songs", type=_songs, default=12, metavar="N", help="songs of the songbook, 1 to 1000 (12)")


def _song_options(command: argparse.ArgumentParser) -> None:
    """How songs are made into clips."""
    command.add_argument("--in-flight", type=_positive, metavar="N", help="songs at a time (2 x cores; of a shard 16)")
    command.add_argument("--backend", default="", help="soundfont or vst3 (default: the renderer's)")
    command.add_argument("--clip-seconds", type=_seconds, default=0.0, help="length of clips aimed for, 3 to 560 (30)")
    command.add_argument("--prompts", type=_positive, default=0, metavar="N", help="prompts of a clip, 1 to 16 (3)")
    command.add_argument("--mix-only", action="store_true", help="keep no stems")


def _curation(add, who) -> None:  # type: ignore[no-untyped-def]
    review = add("review", "accept every open clip whose prompts passed the check, recorded as automatic", who)
    review.add_argument("--collection", default="", help="default: every collection")
    review.add_argument("--accept", choices=["checked"], required=True, help="the rule")
    export = add("export", "freeze the accepted clips into a data set with leak-free splits", who)
    export.add_argument("--collection", default="", help="default: the only one that has accepted clips")
    export.add_argument("--name", default="", help="data set name (default: the collection's)")
    export.add_argument("--out", default="", metavar="FOLDER", help="also write a Hugging Face AudioFolder")
    export.add_argument("--validation-share", type=float, default=0.1, help="share of songs (default: %(default)s)")
    export.add_argument("--test-share", type=float, default=0.1, help="share of songs (default: %(default)s)")


def _models(add, who) -> None:  # type: ignore[no-untyped-def]
    register = add("register", "bring weights of your own, e.g. Stable Audio Open", who)
    register.add_argument("name", metavar="NAME")
    register.add_argument("--weights", required=True, metavar="FILE.safetensors")
    register.add_argument("--config", required=True, metavar="FILE.json", help="stable-audio-tools model configuration")
    register.add_argument("--text-encoder", default="", metavar="FOLDER", help="folder of the T5 text encoder")
    register.add_argument("--reason", default="registered by an operator", metavar="TEXT")
    add("models", "list registered model versions")
    train = add("train", "fine-tune a base model on a data set, or make the tiny base", who)
    train.add_argument("--dataset", required=True, metavar="NAME[@N]")
    train.add_argument("--name", required=True, help="name under which the result is registered")
    recipe = train.add_mutually_exclusive_group(required=True)
    recipe.add_argument("--base", default="", metavar="MODEL", help="name, name@n or sha256:…")
    recipe.add_argument("--tiny-base", action="store_true", help="make the tiny base: proves the way, not the music")
    train.add_argument("--steps", type=_positive)
    train.add_argument("--batch-size", type=_positive, metavar="CLIPS")
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--min-excerpt", type=float, metavar="SECONDS", help="offer random excerpts this long or longer")
    train.add_argument("--warmup", type=int, metavar="STEPS", help="linear warm-up of the learning rate (0)")
    train.add_argument("--ema-decay", type=float, help="decay of the moving average of the weights, 0 = off (0)")
    train.add_argument("--validate-every", type=_positive, metavar="STEPS")
    train.add_argument("--checkpoint-every", type=_positive, metavar="STEPS")
    train.add_argument("--seed", type=int)
    train.add_argument("--request-id", default="", help="default: a digest of the arguments")
    generate = add("generate", "generate audio into a file")
    generate.add_argument("prompt", metavar="PROMPT")
    generate.add_argument("--out", required=True, metavar="FILE.wav|FILE.flac")
    generate.add_argument("--seconds", type=float, help="length (default: the model's window)")
    generate.add_argument("--steps", type=int, default=100, help="denoising steps (default: %(default)s)")
    generate.add_argument("--seed", type=int, help="default: drawn from the request id")
    generate.add_argument(
        "--model",
        default="",
        help="name, name@n or sha256:… (default: the server's, else what was promoted last, else the newest)",
    )
    generate.add_argument("--negative-prompt", default="", metavar="TEXT")
    generate.add_argument("--guidance-scale", type=float)
    generate.add_argument("--sampler", default="")
    generate.add_argument("--untrimmed", action="store_true", help="keep the whole window, to see how it stops")


def _judgement(add, who) -> None:  # type: ignore[no-untyped-def]
    evaluate = add("evaluate", "measure a model, beside a baseline", who)
    evaluate.add_argument("--model", required=True, help="the candidate")
    evaluate.add_argument("--baseline", default="", metavar="MODEL")
    evaluate.add_argument("--suite", default="quick", help="frozen suite (default: %(default)s)")
    evaluate.add_argument("--steps", type=_positive)
    evaluate.add_argument("--guidance-scale", type=float)
    evaluate.add_argument("--seconds", type=float, help="length of each row (default: the suite's)")
    evaluate.add_argument("--max-rows", type=_positive, metavar="N", help="only the first rows")
    evaluate.add_argument("--report", default="", metavar="FILE.html")
    evaluate.add_argument("--request-id", default="", help="default: a digest of the arguments")
    promote = add("promote", "make a model version the current one of a name, or roll back", who)
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("--model", required=True, metavar="NAME@N|sha256:…")
    promote.add_argument("--evaluation", default="", metavar="ID")
    promote.add_argument("--reason", required=True)
    promote.add_argument("--force", action="store_true", help="without an evaluation or against its scores")


def _custody(add, who) -> None:  # type: ignore[no-untyped-def]
    gc = add(
        "gc",
        "sweep blobs that no manifest, model, run, record or curation clip reaches; safe beside work, but not for a "
        "bucket whose blobs the documents of another one name (LUTHIER_BUCKETS_ALLOWED): only its own are read",
    )
    gc.add_argument("--dry-run", action="store_true", help="only tell what would go")
    gc.add_argument(
        "--older-than", type=_hours, default=24.0, metavar="HOURS", help="grace of unreached blobs, 1 or more (24)"
    )
    gc.add_argument(
        "--generated-older-than",
        type=_hours,
        default=168.0,
        metavar="HOURS",
        help="life of generated audio, 1 or more (168)",
    )
    takedown = add("takedown", "refuse a MIDI file or blob, and the audio made from it, to every reader", who)
    takedown.add_argument("ref", metavar="REF", help="key, sha256, file, or path in a corpus; no name@n")
    takedown.add_argument("--reason", required=True, metavar="TEXT", help="kept in the tombstones")
    takedown.add_argument("--dry-run", action="store_true", help="only tell what comes from it")
    lineage = add("lineage", "walk back from a file to every MIDI file, plugin, prompt, data set and model behind it")
    lineage.add_argument("ref", metavar="REF|FILE", help="key, sha256, name@n, or a file that Luthier made")


def _hours(text: str) -> float:
    """Ages at which gc may take a blob: within an hour of its writing, work in flight has recorded it."""
    value = float(text)
    if not 1 <= value <= 10 * 8766:
        raise argparse.ArgumentTypeError(f"must be between 1 and 87660 hours, got {text}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def _songs(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_SONGS:
        raise argparse.ArgumentTypeError(f"must be between 1 and {MAX_SONGS}, got {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 3 <= value <= 560:
        raise argparse.ArgumentTypeError(f"must be between 3 and 560, got {value:g}")
    return value
