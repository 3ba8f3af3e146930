"""score: measures audio that is there as a model's output is measured: ground truth, other models, published samples.

A file of prompts names the audio of each; what is missing on either side, stands twice or cannot be read is told at
once. Audio and suite are stored by content, so the same arguments are the same evaluation.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import CreateEvaluationRequest, Evaluation, Suite, SuiteRow
from luthier_kit.rpc import InvalidRequest
from luthier_music.key_facts import key_fact
from luthier_pipeline.console import Context, UsageError
from luthier_pipeline.long_runs import run_evaluation
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, TempoEstimator, begin
from luthier_pipeline.prompt_files import LAYOUTS, Ids, PromptFile, PromptRow, read_prompts
from luthier_pipeline.score_audio import AudioFolder, Sound, put_set, reference_set, set_name, store_sounds, unreadable
from luthier_pipeline.suites import MAX_ROWS, MAX_SECONDS, MIN_SECONDS, state

SHOWN: Final = 10  # of each kind of problem
CLIP_S: Final = 10.5
"""Of MusicCaps and AudioCaps, whose clips are the 10 s from start_s on; a little more is an encoder's."""


@dataclass
class Problems:
    """What is in the way, by kind, in the order in which the kinds were met."""

    found: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, kind: str, what: str) -> None:
        known = self.found.setdefault(kind, {})
        known[what] = None

    def text(self) -> str:
        """A line for each kind: how many, and the first SHOWN."""
        lines = []
        for kind, once in self.found.items():
            items = list(once)
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            lines.append(f"{len(items)} {kind}: {'; '.join(items[:SHOWN])}{more}")
        return "\n".join(lines)

    def settle(self, context: Context, skip: bool) -> None:
        """Raises InvalidRequest SCORE_INPUT with all of them, or says them (`skip`) and forgets them."""
        if not self.found:
            return
        if not skip:
            raise InvalidRequest(f"{self.text()}\n--skip-missing goes on without them", reason="SCORE_INPUT")
        context.say(f"left out: {self.text()}")
        self.found.clear()


@dataclass(frozen=True)
class Matched:
    """A prompt with its audio: the candidate's, the baseline's, the reference's; None = there is none."""

    row: PromptRow
    audio: Path
    beside: Path | None
    reference: Path | None


def score(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Audio, a file for each prompt.")],
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, CSV, JSON, YAML or Parquet; default: FOLDER's metadata files."),
    ] = None,
    layout: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(LAYOUTS)}; default: as the file's columns say.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it; default: the folder's name.")] = "",
    baseline: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Audio of another system for the same prompts.")
    ] = None,
    baseline_model: Annotated[str, typer.Option(metavar="MODEL", help="Model to compare with, which generates.")] = "",
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Audio that the prompts describe, found by the same names.")
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The audio reconstructs the references: STFT, mel, SI-SDR, too.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Go on without what is missing or unreadable.")
    ] = False,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first prompts.")] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Denoising steps of --baseline-model; default: its own.")
    ] = None,
    tempo_estimator: TempoEstimator = "",
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Where the report goes.")] = None,
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> Evaluation:
    """Measure a folder of audio against its prompts, as evaluate measures a model, beside another folder or a model.

    The same arguments are the same evaluation: the command called again follows it.
    """
    context = begin(ctx, json)
    if baseline and baseline_model:
        raise UsageError("score compares with --baseline FOLDER or --baseline-model MODEL, one of them")
    if layout and layout not in LAYOUTS:
        raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, got {layout[:80]!r}")
    system, other = (name or set_name(folder))[:100], set_name(baseline) if baseline else ""
    if baseline and system == other:
        raise UsageError(f"both folders are called {system}: name this one (--name)")
    listed = read_prompts(prompts or folder, layout)
    beside_prompts = prompts.parent if prompts and prompts.parent.is_dir() else folder
    problems = Problems()
    audio, beside = AudioFolder(folder, "FOLDER"), AudioFolder(baseline, "--baseline") if baseline else None
    rows = matched(
        listed.rows[:max_rows],
        audio,
        beside,
        _references(listed, reference, beside_prompts),
        problems,
        aligned=aligned,
        passed_over=listed.rows[max_rows:] if max_rows else (),
    )
    if len(rows) > MAX_ROWS:
        problems.settle(context, skip_missing)
        text = f"{len(rows)} prompts have audio, an evaluation has at most {MAX_ROWS}"
        raise InvalidRequest(f"{text}: --max-rows {MAX_ROWS} takes the first", reason="SCORE_INPUT")
    files = dict.fromkeys(file for row in rows for file in (row.audio, row.beside, row.reference) if file)
    rows = without(rows, {file: unreadable(file) for file in files}, problems, aligned=aligned)
    problems.settle(context, skip_missing)
    sounds, faults = store_sounds(
        context.clients, (file for row in rows for file in (row.audio, row.beside, row.reference) if file)
    )
    rows = without(rows, faults, problems, aligned=aligned)
    for row in rows:
        if not MIN_SECONDS <= _seconds(row, sounds) <= MAX_SECONDS:
            why = f"{row.row.name}: {_seconds(row, sounds):.1f} s, a row lasts {MIN_SECONDS:g} to {MAX_SECONDS:g} s"
            problems.add("prompts whose audio is too long, and whose seconds_total is not said", why)
    rows = [row for row in rows if MIN_SECONDS <= _seconds(row, sounds) <= MAX_SECONDS]
    problems.settle(context, skip_missing)
    if not rows:
        raise InvalidRequest(f"no prompt of {prompts or folder} has audio that can be measured", reason="SCORE_INPUT")

    suite = suite_of(rows, sounds, (prompts or folder).resolve().stem, listed.layout)
    _say_lengths(context, listed.layout, rows, sounds)
    clients = context.clients
    items = [(audio.name_of(row.audio), sounds[row.audio]) for row in rows]
    besides = [(beside.name_of(row.beside), sounds[row.beside]) for row in rows if beside and row.beside]
    request = CreateEvaluationRequest(
        request_id=request_id,
        candidate_audio=put_set(clients, system, items),
        baseline_audio=put_set(clients, other, besides) if baseline else None,
        baseline_model=baseline_model,
        reference_audio=_reference_audio(context, reference, rows, sounds),
        suite=suite,
        steps=steps,
        created_by=reviewer,
        tempo_estimator=tempo_estimator,
        aligned=aligned,
    )
    return run_evaluation(context, request, report)


def matched(
    listed: Sequence[PromptRow],
    audio: AudioFolder,
    beside: AudioFolder | None,
    references: AudioFolder | None,
    problems: Problems,
    *,
    aligned: bool = False,
    passed_over: Sequence[PromptRow] = (),
) -> list[Matched]:
    """The prompts whose audio is there. `passed_over`: prompts that are not taken, whose audio may lie there."""
    twice = [name for name, count in Counter(row.name for row in listed).items() if count > 1]
    for name in twice:
        problems.add("names that stand twice among the prompts", name)
    rows = {row.name: row for row in reversed(listed)}  # the first counts
    ordered = [row for row in listed if rows[row.name] is row]
    own = _found(ordered, audio, [row.ids for row in ordered], "prompts without audio", problems)
    beside_own = _found(ordered, beside, [row.ids for row in ordered], "prompts without audio of --baseline", problems)
    of_reference = _found(ordered, references, [row.references for row in ordered], "", problems)
    if of_reference or aligned:
        for row in ordered:
            if row.name in own and row.name not in of_reference:
                problems.add("prompts without a reference", f"{row.name} ({row.where})")
    found = [
        Matched(row, own[row.name], beside_own.get(row.name), of_reference.get(row.name))
        for row in ordered
        if row.name in own and (not beside or row.name in beside_own) and (not aligned or row.name in of_reference)
    ]
    others = _found(passed_over, audio, [row.ids for row in passed_over], "", Problems())
    used = {*own.values(), *others.values()}
    for file in audio.files:
        if file not in used:
            problems.add("files without a prompt", audio.name_of(file))
    return found


def _found(
    rows: Sequence[PromptRow], folder: AudioFolder | None, names: Sequence[Ids], missing: str, problems: Problems
) -> dict[str, Path]:
    """The file of each prompt, by its name: all by the column of names by which most are there. `missing`: the kind of
    problem of one without; empty = none."""
    if folder is None:
        return {}
    columns = dict.fromkeys(column for ids in names for column in ids)
    by_column = {column: [folder.find(ids.get(column, ())) for ids in names] for column in columns}
    best = max(columns, key=lambda column: sum(map(bool, by_column[column])), default="")
    found = dict[str, Path]()
    for row, files in zip(rows, by_column.get(best, ()), strict=bool(best)):
        if len(files) == 1:
            found[row.name] = files[0]
        elif files:
            several = " and ".join(folder.name_of(file) for file in files[:3])
            problems.add("prompts whose audio is there twice", f"{row.name}: {several}")
        elif missing:
            problems.add(missing, f"{row.name} ({row.where})")
    return found


def _references(listed: PromptFile, reference: Path | None, beside_prompts: Path) -> AudioFolder | None:
    """Where the references of the prompts are: the folder, or beside the file where it names some."""
    if reference:
        return AudioFolder(reference, "--reference")
    named = any("reference" in row.references for row in listed.rows)
    return AudioFolder(beside_prompts, "--prompts") if named else None


def without(rows: Iterable[Matched], faults: Mapping[Path, str], problems: Problems, *, aligned: bool) -> list[Matched]:
    """The prompts whose files have no faults. One whose reference alone has stays without it, unless `aligned`."""
    kept = []
    for row in rows:
        for file in (row.audio, row.beside, row.reference):
            if file and faults.get(file):
                problems.add("files that cannot be read", f"{file}: {faults[file]}")
        usable = not faults.get(row.audio) and not (row.beside and faults.get(row.beside))
        heard = not (row.reference and faults.get(row.reference))
        if usable and (heard or not aligned):
            kept.append(row if heard else replace(row, reference=None))
    return kept


def suite_of(rows: Sequence[Matched], sounds: Mapping[Path, Sound], name: str, layout: str) -> Suite:
    """A row for each prompt: as long as the file of prompts says, else as its audio is."""
    suite = Suite(name=name[:100] or "prompts", description=f"{len(rows)} prompts of a file in the layout {layout}")
    for index, row in enumerate(rows):
        listed = row.row
        made = SuiteRow(prompt=listed.prompt, seconds_total=_seconds(row, sounds), seed=index)
        if row.reference:
            made.reference.CopyFrom(sounds[row.reference].audio)
        state(made, listed.tempo_bpm if listed.facts else None)
        if listed.says_tempo and not listed.facts:
            made.ClearField("tempo_bpm")
            if listed.tempo_bpm is not None:
                made.tempo_bpm = listed.tempo_bpm
        if listed.says_key and not listed.facts:
            made.ClearField("key")
            if listed.key:
                made.key.CopyFrom(key_fact(listed.key))
        if listed.genres is not None and not listed.facts:
            made.genres[:] = listed.genres
        if listed.instruments is not None and not listed.facts:
            made.instruments[:] = listed.instruments
        suite.rows.append(made)
    return suite


def _seconds(row: Matched, sounds: Mapping[Path, Sound]) -> float:
    """Length that counts as asked for."""
    return row.row.seconds_total or sounds[row.audio].duration_s


def _say_lengths(context: Context, layout: str, rows: Iterable[Matched], sounds: Mapping[Path, Sound]) -> None:
    """Says where references are longer than the clips that the papers compare with; nothing is cut."""
    if layout not in ("musiccaps", "audiocaps"):
        return
    longer = sum(row.reference is not None and sounds[row.reference].duration_s > CLIP_S for row in rows)
    if longer:
        context.say(
            f"{longer} references last longer than the 10 s from the table's start on, which the papers compare with: "
            "they are taken as they are"
        )


def _reference_audio(
    context: Context, reference: Path | None, rows: Sequence[Matched], sounds: Mapping[Path, Sound]
) -> ArtifactRef | None:
    """What Fréchet distances compare with: the references of the prompts, each once, as stable-audio-metrics takes one
    file for each track; where no name of --reference is a prompt's, all audio of that folder."""
    files = list(dict.fromkeys(row.reference for row in rows if row.reference))
    if files:
        name = set_name(reference) if reference else "references"
        return put_set(context.clients, name, ((file.name, sounds[file]) for file in files))
    if reference is None:
        return None
    context.say(f"no file of {reference} is named by a prompt: all of it is what distances compare with")
    return reference_set(context.clients, reference)
