"""`luthier demo`: the whole way on the songbook, by the commands that anyone can type.

It asserts only what the tiny model can learn: the validation loss on held-out songs falls below the base's, and the
sound after `seconds_total` is at least 20 dB quieter. It proves the way, not the music.
"""

import json
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.inference.v1 import inference_pb2 as inference
from luthier_kit.errors import Internal
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands import curate, judge, models, run
from luthier_pipeline.commands.context import PATIENCE_S, Context
from luthier_pipeline.loudness import level_dbfs
from luthier_pipeline.progress import clock
from luthier_pipeline.resources import save
from luthier_pipeline.songbook import compose

COLLECTION = "songbook"
BASE, TUNED, SERVED = "tiny-base", "tiny", "demo"
SEED = "1"  # of both trainings: the same demo on every machine
STEPS = "50"  # denoising steps; enough for the tiny model
STOP_S = 12.0  # seconds_total of the clip that shows how the model stops
GUIDANCE = "1"  # off: what guidance exaggerates is little in a model this small
QUIETER_DB = 20.0
EXAMPLES = {
    "stops": "A calm piano piece in C major at 90 BPM",
    "rock": "An energetic rock track with electric guitar, bass and drums in A minor at 140 BPM",
    "jazz": "A mellow jazz piece with piano, bass and drums in F major at 110 BPM",
}


@dataclass
class Step(Context):
    """A command that keeps its answer for the next one."""

    document: dict[str, Any] = field(default_factory=dict)

    def answer(self, document: dict[str, Any], text: str = "") -> None:
        """Keeps the result and shows the text."""
        self.document = document
        self.say(text)


def demo(context: Context) -> None:
    """Takes the songbook from MIDI to a report."""
    begun, out = time.monotonic(), Path(context.arguments.out)
    compose(out / "songbook")
    ran = _do(context, run.run, f"run {_q(out / 'songbook')} --collection {COLLECTION} --licence Apache-2.0")
    if ran["failures"]:
        raise Internal(f"songs of the songbook failed: {ran['failures']}", reason="DEMO_FAILED")
    _do(context, curate.review, f"review --collection {COLLECTION} --accept checked --as demo")
    exported = _do(
        context, curate.export, f"export --collection {COLLECTION} --as demo {SPLIT} --out {_q(out / 'dataset')}"
    )
    base = _do(
        context,
        models.train,
        f"train --tiny-base --dataset {exported['dataset']} --name {BASE} --seed {SEED} --as demo",
    )
    tuned = _do(
        context,
        models.train,
        f"train --base {base['model']} --dataset {exported['dataset']} --name {TUNED} --as demo {FINE_TUNE}",
    )
    _keep_checkpoint(context, tuned["model"], out / "checkpoint")
    audio = _examples(context, tuned["model"], out / "audio")
    report = out / "report.html"
    judged = _do(
        context,
        judge.evaluate,
        f"evaluate --model {tuned['model']} --baseline {base['model']} --suite quick --max-rows 8 --seconds {STOP_S:g}"
        f" --steps {STEPS} --guidance-scale {GUIDANCE} --as demo --report {_q(report)}",
    )
    promoted = _do(
        context,
        judge.promote,
        f"promote {SERVED} --model {tuned['model']} --evaluation {judged['evaluation']} --as demo"
        " --reason 'the demo proves the way, not the music'",
    )
    learnt = _learnt(tuned, out / "audio/stops.wav")
    result = {
        "dataset": exported["dataset"],
        "manifest": exported["manifest"],
        "base": base["model"],
        "run": tuned["run"],
        "model": promoted["model"],
        "audio": audio,
        "evaluation": judged["evaluation"],
        "report": str(report),
        "computed": ran["computed"],
        "reused": ran["reused"],
        "seconds": round(time.monotonic() - begun, 1),
        **learnt,
    }
    (out / "demo.json").write_text(json.dumps(result, indent=1) + "\n")
    context.answer(result, _told(result, context))


SPLIT = "--validation-share 0.25 --test-share 0"
FINE_TUNE = (
    "--steps 1000 --batch-size 8 --learning-rate 0.001 --warmup 20 --min-excerpt 3"
    f" --validate-every 100 --checkpoint-every 100 --ema-decay 0.99 --seed {SEED}"
)


def _do(context: Context, command: Any, line: str) -> dict[str, Any]:
    context.say(f"\n$ luthier {line}")
    step = Step(parser().parse_args(shlex.split(line)), context.place)
    command(step)
    return step.document


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _keep_checkpoint(context: Context, model: str, folder: Path) -> None:
    name, _, version = model.partition("@")
    answer = context.place["inference"].call(
        "ListModels", inference.ListModelsRequest(name=name), patience_s=PATIENCE_S
    )
    found = next(m for m in answer.models if str(m.version) == version)
    save(context.place.store, found.checkpoint, folder / "model.safetensors")
    save(context.place.store, found.configuration, folder / "model_config.json")


def _examples(context: Context, model: str, folder: Path) -> list[dict[str, Any]]:
    made = []
    for name, prompt in EXAMPLES.items():
        more = "--untrimmed" if name == "stops" else ""
        line = f"generate {shlex.quote(prompt)} --seconds {STOP_S:g} --steps {STEPS} --seed 7 --model {model} {more}"
        line += f" --guidance-scale {GUIDANCE}"
        document = _do(context, models.generate, f"{line} --out {_q(folder / f'{name}.wav')}")
        made.append({"file": document["file"], "prompt": prompt, "audio": document["audio"]})
    return made


def _learnt(tuned: dict[str, Any], stops: Path) -> dict[str, float]:
    """What the tiny model must have learnt. Raises Internal when it has not."""
    losses = [point["loss"] for point in tuned["validation"]]
    drop_db = level_dbfs(stops, 0, STOP_S) - level_dbfs(stops, STOP_S)
    if losses[-1] >= losses[0]:
        text = f"validation loss did not fall: {losses[0]:.4f} -> {losses[-1]:.4f}"
        raise Internal(text, reason="DEMO_NOTHING_LEARNT")
    if drop_db < QUIETER_DB:
        text = f"the sound after {STOP_S:g} s is only {drop_db:.1f} dB quieter, not {QUIETER_DB:g}"
        raise Internal(text, reason="DEMO_DOES_NOT_STOP")
    return {"base_loss": losses[0], "tuned_loss": losses[-1], "quieter_after_end_db": round(drop_db, 1)}


def _told(result: dict[str, Any], context: Context) -> str:
    page = f"\ncuration page   http://{context.place.page}" if context.place.page else ""
    done = "nothing was recomputed" if not result["computed"] else f"{result['computed']} actions computed"
    return (
        f"\ndone in {clock(result['seconds'])}; {done}\n"
        f"validation loss {result['base_loss']:.4f} -> {result['tuned_loss']:.4f}; "
        f"{result['quieter_after_end_db']:.0f} dB quieter after the end\n"
        f"data set        {result['dataset']}\nmodel           {result['model']}\n"
        f"report          {result['report']}{page}"
    )
