"""demo-page: prompts with the audio of systems side by side, as a folder that any browser and web server shows.

What is on it comes from evaluations: the rows' references as the original, each baseline, each candidate. Generated
audio expires; a row whose audio is gone is named on the page and by the command.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_SUCCEEDED,
    EvaluatedModel,
    EvaluationResults,
    GetEvaluationRequest,
    RowResult,
)
from luthier.training.v1.model_card_pb2 import ModelCard
from luthier_kit.registry import resolve
from luthier_kit.rpc import FailedPrecondition, LuthierError, NotFound
from luthier_kit.store import Store
from luthier_music.audio import AudioError
from luthier_pipeline.clients import Clients, is_fatal
from luthier_pipeline.console import Context, Progress, UsageError
from luthier_pipeline.demo_page.page import FILES, Cell, Row, System, by_row, is_page, write_page
from luthier_pipeline.demo_page.sounds import Format, Heard, Sound, common_loudness_lufs, draw, hear, place
from luthier_pipeline.export.folder import check_movable, replacing
from luthier_pipeline.options import Json, begin
from luthier_pipeline.run_ids import identity_of

ROWS: Final = 12
MAX_ROWS: Final = 200  # of a page: its pictures and files
MAX_EVALUATIONS: Final = 8
MAX_TEXT: Final = 500  # characters of a line of licence
MAX_BYTES: Final = 1 << 30  # of one piece of audio
ORIGINAL: Final = "original"
EXPIRED: Final = "AUDIO_EXPIRED"


@dataclass(frozen=True)
class DemoPage:
    """What was written: the page, its rows, and those of which some audio is gone."""

    page: Path
    rows: Sequence[int]
    gone: Sequence[str]


def demo_page(
    ctx: typer.Context,
    evaluation: Annotated[
        list[str], typer.Argument(metavar="EVALUATION...", help="Ids, or how they begin; all of the same suite.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the page goes; one of this command is replaced.")],
    rows: Annotated[
        str,
        typer.Option(
            metavar="N|LIST", help="So many rows, evenly over the suite, or a list, from 0 on: 1,5,9; one alone: 5,"
        ),
    ] = str(ROWS),
    match_loudness: Annotated[
        bool, typer.Option("--match-loudness", help="Bring all audio to one loudness (BS.1770); default: as it is.")
    ] = False,
    format: Annotated[
        Format, typer.Option(help="flac: lossless, as it is stored; mp3: about a quarter of its size.")
    ] = "flac",
    title: Annotated[str, typer.Option(metavar="TEXT", help="Default: the names of the systems.")] = "",
    licence: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A line on rights, such as of the originals; repeatable.")
    ] = None,
    json: Json = False,
) -> DemoPage:
    """Make a page to listen to: each prompt with the original, the baseline and the candidate of evaluations."""
    context = begin(ctx, json)
    if len(evaluation) > MAX_EVALUATIONS:
        raise UsageError(f"EVALUATION: at most {MAX_EVALUATIONS}, got {len(evaluation)}")
    lines = licence or []
    if any(len(line) > MAX_TEXT for line in (*lines, title)):
        raise UsageError(f"--licence and --title: at most {MAX_TEXT} characters")
    check_out(out)
    found = [_results(context.clients, one) for one in dict.fromkeys(evaluation)]
    if others := [one for one in found if one.suite_sha256 != found[0].suite_sha256]:
        text = (
            f"{others[0].evaluation_id} is of suite {_suite(others[0])}, {found[0].evaluation_id} of {_suite(found[0])}"
        )
        raise UsageError(f"EVALUATION: all must be of the same rows: {text}")
    numbers = chosen_rows(rows, len(found[0].plan.suite.rows))
    systems = systems_of(context.clients.store, found, numbers)
    title = title or " beside ".join(dict.fromkeys(one.title for one in systems if one.evaluation))
    with tempfile.TemporaryDirectory() as scratch:
        fetched = _fetched(context, found, systems, numbers, Path(scratch))
        level = common_loudness_lufs(_levels(fetched)) if match_loudness else None
        with replacing(out, check_out) as folder:
            made = list(_rows(systems, found[0], numbers, fetched, folder, format, level))
            write_page(folder, systems, made, title=title, licences=lines, kind=format, level_lufs=level)
            size_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    gone = [
        f"row {row.number}, {systems[cell.system].title}: {cell.missing}"
        for row in made
        for cell in row.cells
        if cell.missing
    ]
    page = out / "index.html"
    told = [f"{page}: {len(made)} prompts, {len(systems)} systems, {size_mb:.1f} MB"]
    told += [f"at {level:.1f} LUFS each" if level is not None else "all is silent"] if match_loudness else []
    told += [f"not there: {one}" for one in gone]
    document = {"page": str(page), "rows": numbers, "systems": [one.title for one in systems], "missing": gone}
    context.answer(document, "\n".join(told))
    return DemoPage(page, numbers, gone)


def check_out(folder: Path) -> None:
    """Raises UsageError for a folder that no page may replace: it holds what this command did not write, or cannot be
    renamed."""
    check_movable(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; name a folder")
    inside = sorted(folder.rglob("*")) if folder.exists() else []
    strange = [name for path in inside if not FILES.fullmatch(name := path.relative_to(folder).as_posix())]
    if inside and (strange or not is_page(folder / "index.html")):
        held = strange[0] if strange else "no index.html of this command"
        raise UsageError(f"--out {folder} holds what no demo-page wrote ({held}); name a new or empty folder")


def chosen_rows(rows: str, count: int) -> list[int]:
    """Rows of a suite of `count`: `12` = so many evenly, `1,5,9` = these. UsageError for anything else."""
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*,?", rows):
        raise UsageError(f"--rows must be a number or numbers between commas, got {rows[:80]!r}")
    if "," in rows:
        numbers = list(dict.fromkeys(int(part) for part in rows.split(",") if part))
        if beyond := [number for number in numbers if number >= count]:
            raise UsageError(f"--rows: the suite has rows 0 to {count - 1}, got {beyond[0]}")
    else:
        most = min(int(rows), count)
        numbers = sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)})
    if not 1 <= len(numbers) <= MAX_ROWS:
        raise UsageError(f"--rows must be 1 to {MAX_ROWS} rows, got {rows[:80]}")
    return numbers


def systems_of(store: Store, found: Sequence[EvaluationResults], numbers: Sequence[int]) -> list[System]:
    """The columns: the references where the rows have some, baselines, then candidates; what is the same once."""
    suite_rows = [found[0].plan.suite.rows[number] for number in numbers]
    systems = []
    if any(row.HasField("reference") for row in suite_rows):
        systems.append(System(ORIGINAL, "the audio that the prompt describes"))
    known = set[tuple[str, ...]]()
    pairs = [(results, model) for results in found for model in results.plan.models[:-1]]
    pairs += [(results, results.plan.models[-1]) for results in found]
    for results, model in pairs:
        heard = by_row(results)
        audio = [heard[model.model, number].audio.sha256 for number in numbers if (model.model, number) in heard]
        identity = (model.model, model.model_digest, *audio)
        if identity not in known:
            known.add(identity)
            baseline = model is not results.plan.models[-1]
            systems.append(_system(store, results, model, "baseline" if baseline else "candidate"))
    return systems


def _system(store: Store, results: EvaluationResults, model: EvaluatedModel, role: str) -> System:
    plan = results.plan
    if model.audio.key:
        digest, settings = f"sha256:{model.audio.sha256}", "a set of files; nothing was generated for it"
        return System(model.model, role, digest, settings, evaluation=results)
    own = [row.guidance_scale for row in results.rows if row.model == model.model and row.HasField("guidance_scale")]
    scale = own[0] if plan.own_guidance and own else plan.guidance_scale
    settings = f"{plan.steps} steps, guidance {scale:g}" if scale or not plan.own_guidance else f"{plan.steps} steps"
    settings += f", {plan.request.sampler}" if plan.request.sampler else ""
    return System(model.model, role, model.model_digest, settings, model.dataset_name, _licences(store, model), results)


def _licences(store: Store, model: EvaluatedModel) -> str:
    """What the model's card says of the licences of what it was trained on; empty = nothing is recorded."""
    try:
        version = resolve(store, model.model_digest)
        if version.card is None:
            stated = version.notes.get("licences", ())
            return ", ".join(map(str, stated)) if isinstance(stated, list | tuple) else ""
        card = store.get(ModelCard, version.card)
    except LuthierError as error:
        if is_fatal(error):
            raise
        return ""
    parts = [", ".join(f"{amount.name} ({amount.clips} clips)" for amount in card.licences)]
    parts += [f"{card.unlicensed_clips} clips without a stated licence"] if card.unlicensed_clips else []
    parts += [f"its base: {', '.join(card.base_licences) or 'not recorded'}"]
    return "; ".join(filter(None, parts))


def _results(clients: Clients, given: str) -> EvaluationResults:
    identity = identity_of(clients.store, given)
    if not identity.startswith("evaluation-"):
        raise UsageError(f"EVALUATION must be an evaluation, got {identity}")
    known = clients.evaluation.GetEvaluation(GetEvaluationRequest(evaluation_id=identity)).evaluation
    if known.state != EVALUATION_STATE_SUCCEEDED:
        raise FailedPrecondition(f"{identity} has not ended with results", reason="EVALUATION_UNFINISHED")
    return clients.store.get(EvaluationResults, known.results)


def _suite(results: EvaluationResults) -> str:
    return f"{results.plan.suite.name} ({results.suite_sha256[:12]}, {len(results.plan.suite.rows)} rows)"


@dataclass(frozen=True)
class _Fetched:
    """Audio of a system for a row on this machine, or why there is none; what was measured of it."""

    path: Path | None = None
    missing: str = ""
    result: RowResult | None = None


def _fetched(
    context: Context,
    found: Sequence[EvaluationResults],
    systems: Sequence[System],
    numbers: Sequence[int],
    scratch: Path,
) -> Mapping[tuple[int, int], _Fetched]:
    """By row and system. Raises NotFound EXPIRED where no system has any audio left."""
    results = {one.evaluation_id: by_row(one) for one in found}
    fetched = {}
    for number in numbers:
        for index, system in enumerate(systems):
            if system.evaluation is None:
                row = found[0].plan.suite.rows[number]
                ref, result = (row.reference if row.HasField("reference") else None), None
            else:
                result = results[system.evaluation.evaluation_id].get((system.title, number))
                ref = result.audio if result and result.HasField("audio") else None
            one = _Fetched(result=result)
            if result and result.HasField("error"):
                one = replace(one, missing=f"failed: {result.error.message}")
            elif ref:
                one = _fetch(context.clients.store, ref, scratch, one)
            fetched[number, index] = one
    if not any(one.path for (_, index), one in fetched.items() if systems[index].evaluation):
        text = "no audio of these rows is stored any more (generated audio expires): run the evaluation again"
        raise NotFound(text, reason=EXPIRED)
    return fetched


def _fetch(store: Store, ref: ArtifactRef, scratch: Path, one: _Fetched) -> _Fetched:
    try:
        return replace(one, path=store.blobs.fetch(ref, scratch, max_bytes=MAX_BYTES, read_only=True))
    except NotFound as error:
        taken = error.reason == "ARTIFACT_TAKEN_DOWN"
        return replace(one, missing="was taken down" if taken else "is not stored any more: generated audio expires")
    except LuthierError as error:
        if is_fatal(error):
            raise
        return replace(one, missing=f"cannot be read: {error}")


def _levels(fetched: Mapping[tuple[int, int], _Fetched]) -> list[Heard]:
    heard = []
    for path in dict.fromkeys(one.path for one in fetched.values() if one.path):
        try:
            heard.append(hear(path))
        except AudioError:
            continue  # its cell will say so
    return heard


def _rows(
    systems: Sequence[System],
    results: EvaluationResults,
    numbers: Sequence[int],
    fetched: Mapping[tuple[int, int], _Fetched],
    folder: Path,
    kind: Format,
    level_lufs: float | None,
) -> Iterator[Row]:
    with Progress("prompts", len(numbers)) as progress:
        for number in numbers:
            sounds = dict[int, Sound]()
            faults = dict[int, str]()
            for index, system in enumerate(systems):
                if path := fetched[number, index].path:
                    comment = f"{system.title}, row {number} of suite {results.plan.suite.name}"
                    comment += f", {system.digest}" if system.digest else ""
                    try:
                        name = _name(number, index, system)
                        sounds[index] = place(path, folder, name, kind, level_lufs=level_lufs, comment=comment)
                    except AudioError as error:
                        faults[index] = f"cannot be read: {error}"
            loudest = max((float(sound.spectra.max()) for sound in sounds.values()), default=0.0)
            cells = []
            for index, system in enumerate(systems):
                one, sound = fetched[number, index], sounds.get(index)
                picture = draw(sound, folder, _name(number, index, system), loudest) if sound else ""
                cells.append(Cell(index, sound, picture, one.missing or faults.get(index, ""), one.result))
            yield Row(number, results.plan.suite.rows[number], cells)
            progress.advance()


def _name(number: int, index: int, system: System) -> str:
    """Of a file: row, column and what people call it, safe on every file system and in every URL."""
    slug = re.sub(r"[^a-z0-9]+", "-", system.title.lower()).strip("-")[:40]
    return f"{number:03}-{index}-{slug}"
