"""listening: people rate what models made, blindly, in the browser; what they said comes back as a table and as CSV."""

import hashlib
import json as json_text
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.listening_pb2 import (
    LISTENING_KIND_MOS,
    LISTENING_KIND_MUSHRA,
    LISTENING_QUESTION_AUDIO_QUALITY,
    LISTENING_QUESTION_MUSICALITY,
    LISTENING_QUESTION_PROMPT_ADHERENCE,
    LISTENING_QUESTION_STEREO,
    CreateListeningTestRequest,
    CreateListeningTestResponse,
    GetListeningResultsRequest,
    GetListeningResultsResponse,
    ListeningDifference,
    ListeningKind,
    ListeningQuestion,
    ListeningScore,
    ListeningStimulus,
    ListeningTest,
    ListeningTrial,
    ListListeningTestsRequest,
)
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_SUCCEEDED,
    Evaluation,
    EvaluationResults,
    GetEvaluationRequest,
)
from luthier_kit.rpc import NotFound
from luthier_kit.store import Store
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError, plain, table
from luthier_pipeline.files import put
from luthier_pipeline.options import USER, Json, RequestId, Reviewer, begin
from luthier_pipeline.run_ids import identity_of

CREATE_TIMEOUT_S: Final = 600.0
DEFAULT_ROWS: Final = 12
"""At two systems 24 sounds."""
LOUDNESS_LUFS: Final = -23.0  # of EBU R 128: low enough that nearly everything reaches it without clipping
MEDIA_TYPES: Final = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
PAGE_SIZE: Final = 500
KINDS: Final = {"mos": LISTENING_KIND_MOS, "mushra": LISTENING_KIND_MUSHRA}
QUESTIONS: Final = {
    "audio-quality": LISTENING_QUESTION_AUDIO_QUALITY,
    "prompt-adherence": LISTENING_QUESTION_PROMPT_ADHERENCE,
    "musicality": LISTENING_QUESTION_MUSICALITY,
    "stereo": LISTENING_QUESTION_STEREO,
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Let people rate models blindly in the browser.",
)


def _questions(names: str) -> list[ListeningQuestion]:
    """The questions that a list between commas names. UsageError for one that there is not, and for one twice."""
    asked = [name.strip() for name in names.split(",")]
    if not set(asked) <= set(QUESTIONS) or len(set(asked)) < len(asked):
        raise UsageError(f"--questions must be of {', '.join(QUESTIONS)}, each once, got {names[:80]!r}")
    return [QUESTIONS[name] for name in asked]


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the test; listeners do not see it.")],
    evaluation: Annotated[
        str, typer.Option(metavar="ID", help="Evaluation whose audio is heard, or how its id begins.")
    ],
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A further evaluation of the same suite: its models are heard beside."),
    ] = None,
    kind: Annotated[
        Literal["mos", "mushra"], typer.Option(help="mos: one sound at a time, 1 to 5; mushra: side by side, 0 to 100.")
    ] = "mos",
    questions: Annotated[str, typer.Option(metavar="NAME,...", help="What is asked, in this order.")] = ",".join(
        QUESTIONS
    ),
    rows: Annotated[
        int, typer.Option(metavar="N", min=1, max=500, help="Rows of the suite, from the first on.")
    ] = DEFAULT_ROWS,
    training: Annotated[
        int, typer.Option(metavar="N", min=0, max=50, help="Further rows before, to learn the page; not counted.")
    ] = 0,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="References: files named by row, 0.flac, 1.wav…; hidden among the others."),
    ] = None,
    no_anchor: Annotated[
        bool, typer.Option("--no-anchor", help="Of mushra with references: make no 3.5 kHz anchor.")
    ] = False,
    loudness: Annotated[
        float, typer.Option(metavar="LUFS", min=-60, max=-10, help="Loudness that all is played at.")
    ] = LOUDNESS_LUFS,
    own_loudness: Annotated[bool, typer.Option("--own-loudness", help="Play all as loud as it is.")] = False,
    instructions: Annotated[
        str, typer.Option(metavar="TEXT", help="What listeners read first; must not name a system.")
    ] = "",
    request_id: RequestId = "",
    reviewer: Reviewer = USER,
    json: Json = False,
) -> CreateListeningTestResponse:
    """Make a blind test of what an evaluation's models made, and print the listeners' link.

    The same arguments are the same test. Its audio is copied: the evaluation's own may expire.
    """
    context = begin(ctx, json)
    clients = context.clients
    wanted = _questions(questions)
    heard = _heard(clients, [evaluation, *(baseline or ())])
    references = _references(reference) if reference else {}
    usable = [row for row in heard if not reference or row.row in references]
    if not usable:
        why = f"no file of {reference} is named by a row" if reference else "no row has audio of every model"
        raise UsageError(f"nothing to listen to: {why}")
    request = CreateListeningTestRequest(
        request_id=request_id,
        name=name,
        kind=KINDS[kind],
        questions=wanted,
        make_anchor=bool(reference) and kind == "mushra" and not no_anchor,
        loudness_lufs=None if own_loudness else loudness,
        created_by=reviewer,
        instructions=instructions,
    )
    for place, row in enumerate(usable[: training + rows]):
        trial = ListeningTrial(prompt=row.prompt, training=place < training)
        trial.stimuli.extend(ListeningStimulus(system=model, audio=audio) for model, audio in row.audio.items())
        if reference:
            path = references[row.row]
            trial.reference.CopyFrom(put(clients.store, "audio", path, MEDIA_TYPES[path.suffix.lower()]))
        request.trials.append(trial)
    if not request_id:
        request.request_id = hashlib.sha256(json_text.dumps(plain(request), sort_keys=True).encode()).hexdigest()
    try:
        answer = clients.curation.CreateListeningTest(request, timeout=CREATE_TIMEOUT_S)
    except NotFound as error:
        if error.reason != "ARTIFACT_NOT_FOUND":
            raise
        text = f"{error}: generated audio expires; luthier evaluate with another --request-id makes it again"
        raise NotFound(text, reason=error.reason) from None
    test = answer.test
    counted = f"{test.trials} trials of {', '.join(test.systems)}"
    extra = [word for word, there in (("reference", test.has_reference), ("anchor", test.has_anchor)) if there]
    told = [
        f"listening test {test.name} ({kind.upper()}): {counted}{''.join(f', {word}' for word in extra)}",
        f"link for listeners: {_address(clients, test.path)}",
        f"results: {_address(clients, test.results_path)}  key {answer.results_key}",
        f"next: give listeners the link, then luthier listening results {test.name}",
    ]
    if test.trials < rows:
        context.say(f"{test.trials} of {rows} rows: the others have no audio of every model, or no reference")
    context.answer({**plain(answer), "link": _address(clients, test.path)}, "\n".join(told))
    return answer


@app.command("results")
def results(
    ctx: typer.Context,
    test: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the test.")],
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Where scores and differences go.")] = None,
    include_excluded: Annotated[
        bool, typer.Option("--include-excluded", help="Count listeners that post-screening excludes, too.")
    ] = False,
    json: Json = False,
) -> GetListeningResultsResponse:
    """Show what listeners said so far: means with 95 % intervals, paired differences, who was excluded."""
    context = begin(ctx, json)
    clients = context.clients
    answer = clients.curation.GetListeningResults(
        GetListeningResultsRequest(test=test, include_excluded=include_excluded)
    )
    if csv:
        csv.parent.mkdir(parents=True, exist_ok=True)
        csv.write_text(answer.csv, encoding="utf-8", newline="")
    found = answer.test
    excluded = [listener for listener in answer.listeners if listener.excluded]
    text = [f"{found.name}: {found.listeners} listeners, {found.finished} finished"]
    if answer.scores:
        header = ["question", "system", "mean", "95 %", "listeners", "ratings"]
        text += ["", table([_score(score) for score in answer.scores], header)]
    if answer.differences:
        header = ["question", "difference", "mean", "95 %", "p", "p (Holm)"]
        text += ["", table([_difference(one) for one in answer.differences], header)]
    for listener in excluded:
        low = f"{listener.low_reference_trials} of {listener.screened_trials}"
        what = "counted although excluded" if include_excluded else "excluded"
        text += [f"{what}: {listener.name}, hidden reference below 90 in {low} trials (BS.1534-3: at most 15 %)"]
    if not answer.scores:
        text += [f"nobody has rated yet; link for listeners: {_address(clients, found.path)}"]
    text += ["", f"page: {_address(clients, found.results_path)}  key {answer.results_key}"]
    text += [f"written: {csv}"] if csv else []
    context.answer(plain(answer), "\n".join(text))
    return answer


@app.command("list")
def list_tests(ctx: typer.Context, json: Json = False) -> list[ListeningTest]:
    """List listening tests, newest first."""
    context = begin(ctx, json)
    found = listed(context.clients)
    rows = [
        [
            test.name,
            kind_name(test.kind),
            ", ".join(test.systems),
            str(test.trials),
            f"{test.finished} of {test.listeners}",
            test.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M"),
            _address(context.clients, test.path),
        ]
        for test in found
    ]
    header = ["test", "kind", "systems", "trials", "finished", "created", "link"]
    text = table(rows, header) if rows else "no listening tests; luthier listening create makes one"
    context.answer({"tests": [plain(test) for test in found]}, text)
    return found


def listed(clients: Clients) -> list[ListeningTest]:
    """Every listening test, newest first."""
    request, found = ListListeningTestsRequest(page_size=PAGE_SIZE), list[ListeningTest]()
    while True:
        page = clients.curation.ListListeningTests(request)
        found += page.tests
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@dataclass(frozen=True)
class Heard:
    """A row of a suite and what each model made of it, by `name@n`."""

    row: int
    prompt: str
    audio: dict[str, ArtifactRef]


def _heard(clients: Clients, ids: Sequence[str]) -> list[Heard]:
    """Rows of which every model of these evaluations has audio. UsageError unless they are done, and of one suite."""
    store: Store = clients.store
    measured = [store.get(EvaluationResults, succeeded(clients, one).results) for one in ids]
    suites = {found.suite_sha256 for found in measured}
    if len(suites) > 1:
        raise UsageError("--evaluation and --baseline must be of one suite with the same rows, and are not")
    models = list(dict.fromkeys(model.model for found in measured for model in found.plan.models))
    audio: dict[tuple[int, str], ArtifactRef] = {}
    for found in measured:
        for result in found.rows:
            if result.audio.key and not result.HasField("error"):
                audio.setdefault((result.row, result.model), result.audio)
    return [
        Heard(number, row.prompt, {model: audio[number, model] for model in models})
        for number, row in enumerate(measured[0].plan.suite.rows)
        if all((number, model) in audio for model in models)
    ]


def succeeded(clients: Clients, evaluation_id: str) -> Evaluation:
    """The evaluation, by its id or how that begins. UsageError for one that has no results."""
    identity = identity_of(clients.store, evaluation_id)
    found: Evaluation = clients.evaluation.GetEvaluation(GetEvaluationRequest(evaluation_id=identity)).evaluation
    if found.state != EVALUATION_STATE_SUCCEEDED:
        raise UsageError(f"{identity} has no results: it is not done, or did not succeed (luthier status)")
    return found


def _references(folder: Path) -> dict[int, Path]:
    """The files of a folder that are named by a row. UsageError where two are named by the same."""
    if not folder.is_dir():
        raise UsageError(f"--reference must be a folder, got {folder}")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in MEDIA_TYPES and path.stem.isdecimal():
            if int(path.stem) in found:
                raise UsageError(f"{path.name} and {found[int(path.stem)].name} are both of row {int(path.stem)}")
            found[int(path.stem)] = path
    return found


def _address(clients: Clients, path: str) -> str:
    """Where a page is, as far as it is known."""
    return f"http://{clients.curation_page}{path}" if clients.curation_page else f"{path} on the curation page"


def kind_name(kind: ListeningKind) -> str:
    return ListeningKind.Name(kind).removeprefix("LISTENING_KIND_")


def question_name(question: ListeningQuestion) -> str:
    return next(name for name, number in QUESTIONS.items() if number == question)


def _interval(found: ListeningScore | ListeningDifference) -> str:
    return f"[{found.low:.2f}, {found.high:.2f}]" if found.HasField("low") else ""


def _score(score: ListeningScore) -> list[str]:
    counts = [str(score.listeners), str(score.ratings)]
    return [question_name(score.question), score.condition, f"{score.mean:.2f}", _interval(score), *counts]


def _difference(one: ListeningDifference) -> list[str]:
    ps: Iterable[str] = (f"{one.p:.4f}", f"{one.p_adjusted:.4f}") if one.HasField("p") else ("", "")
    pair = f"{one.condition} - {one.compared_with}"
    return [question_name(one.question), pair, f"{one.mean:+.2f}", _interval(one), *ps]
