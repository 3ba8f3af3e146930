"""The pages of listening tests: the listeners' own, which names no system, and the results, which a key opens.

A session is a cookie of its test's address alone. Its personal link has the token behind a `#`, which browsers send to
nobody: the page posts it, so it is in no log. All that listeners need lies below `/listening/` and `/static/`: a proxy
can give them that and nothing else.
"""

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import Field

from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.listening import Listening
from luthier_curation.listening.listening import ListenerPosition, Results, ratings_csv
from luthier_curation.listening.results import ROLE_NAMES
from luthier_curation.web.api import JsonBody
from luthier_curation.web.audio import AudioCache
from luthier_curation.web.templating import render
from luthier_kit.rpc import NotFound, PermissionDenied

SESSION, KEY = "luthier-listening", "luthier-results"
COOKIE_S = 180 * 86_400
HEAR_S = {pb.LISTENING_KIND_MOS: 10.0, pb.LISTENING_KIND_MUSHRA: 1.0}
"""Seconds of each sound, or all of a shorter one, that are heard before the page can be left."""
MUSHRA_WORDS = ("Excellent", "Good", "Fair", "Poor", "Bad")
"""of the continuous quality scale of BS.1534-3, a fifth of 0 to 100 each; those of P.800 for 5 to 1 are the same."""


@dataclass(frozen=True)
class Question:
    """A question as listeners read it."""

    id: int
    title: str
    text: str


QUESTIONS = {
    question.id: question
    for question in (
        Question(
            pb.LISTENING_QUESTION_AUDIO_QUALITY,
            "Audio quality",
            "How good is the sound itself? Listen for noise, distortion, dullness and other artefacts. Whether you "
            "like the music does not matter here.",
        ),
        Question(
            pb.LISTENING_QUESTION_PROMPT_ADHERENCE,
            "Match with the description",
            "How well does the music fit the description: genre, instruments, tempo, mood?",
        ),
        Question(
            pb.LISTENING_QUESTION_MUSICALITY,
            "Musicality",
            "How musical is it? Do melody, harmony and rhythm make sense, as if played by musicians?",
        ),
        Question(
            pb.LISTENING_QUESTION_STEREO,
            "Stereo image",
            "How natural is the stereo image: where instruments are placed, how wide it is? Use headphones.",
        ),
    )
}


class JoinBody(JsonBody):
    """A listener's name or code."""

    listener: Annotated[str, Field(max_length=200)]


class ResumeBody(JsonBody):
    """The token of a personal link."""

    token: Annotated[str, Field(max_length=200)]


class RatingBody(JsonBody):
    """An answer: step by number from 0, place of the sound in the step from 0, question, value on the scale."""

    step: Annotated[int, Field(ge=0, le=100_000)]
    place: Annotated[int, Field(ge=0, le=100)]
    question: Annotated[int, Field(ge=0, le=100)]
    value: Annotated[int, Field(ge=0, le=100)]


class NextBody(JsonBody):
    """The step that is done, by number from 0."""

    step: Annotated[int, Field(ge=0, le=100_000)]


class UnlockBody(JsonBody):
    """The key of the results page."""

    key: Annotated[str, Field(max_length=200)]


SessionToken = Annotated[str, Cookie(alias=SESSION, max_length=200)]
ResultsKey = Annotated[str, Cookie(alias=KEY, max_length=200)]


def routes(listening: Listening, cache: AudioCache) -> APIRouter:
    """The routes of listening tests."""
    router = APIRouter(prefix="/listening/{test_id}")

    @router.get("", response_class=HTMLResponse)
    def page(test_id: str) -> HTMLResponse:
        request = listening.plan(test_id).request
        return render(
            "listening.html",
            mushra=request.kind == pb.LISTENING_KIND_MUSHRA,
            referenced=request.trials[0].HasField("reference"),
            training=any(trial.training for trial in request.trials),
            quality=pb.LISTENING_QUESTION_AUDIO_QUALITY in request.questions,
            questions=[QUESTIONS[question] for question in request.questions],
            instructions=request.instructions,
            words=MUSHRA_WORDS,
            test_id=test_id,
        )

    @router.get("/state")
    def state(test_id: str, token: SessionToken = "") -> Response:
        kind = listening.plan(test_id).request.kind
        if token:
            try:
                return _private(_state(test_id, token, listening.place(test_id, token), kind))
            except NotFound:
                pass  # a session that is no more: begin anew
        return _private({"stage": "new"})

    @router.post("/sessions")
    def join(request: Request, test_id: str, body: JoinBody) -> Response:
        token = listening.join(test_id, body.listener)
        return _with_cookie(request, test_id, SESSION, token)

    @router.post("/resume")
    def resume(request: Request, test_id: str, body: ResumeBody) -> Response:
        listening.place(test_id, body.token)
        return _with_cookie(request, test_id, SESSION, body.token)

    @router.post("/ratings")
    def rate(test_id: str, body: RatingBody, token: SessionToken = "") -> dict[str, bool]:
        listening.rate(test_id, token, body.step, (body.place, body.question, body.value))
        return {"saved": True}

    @router.post("/next")
    def go_on(test_id: str, body: NextBody, token: SessionToken = "") -> Response:
        listening.finish_step(test_id, token, body.step)
        kind = listening.plan(test_id).request.kind
        return _private(_state(test_id, token, listening.place(test_id, token), kind))

    @router.get("/audio/{address}")
    def audio(test_id: str, address: str, token: SessionToken = "") -> Response:
        path = cache.path(listening.sound(test_id, token, address))
        # what the file would say of itself is the same for the hidden and the open reference
        headers = {
            "cache-control": "private, max-age=86400, immutable",
            "etag": f'"{address}"',
            "last-modified": "Thu, 01 Jan 1970 00:00:00 GMT",
        }
        return FileResponse(path, media_type="audio/flac", headers=headers)

    @router.get("/results", response_class=HTMLResponse)
    def results(test_id: str, key: ResultsKey = "", excluded: bool = False) -> HTMLResponse:
        listening.plan(test_id)
        try:
            found = _opened(listening, test_id, key, include_excluded=excluded)
        except PermissionDenied:
            return render("listening_key.html", status_code=403)
        return render("listening_results.html", **results_view(found.response, include_excluded=excluded))

    @router.post("/results/key")
    def unlock(request: Request, test_id: str, body: UnlockBody) -> Response:
        _opened(listening, test_id, body.key)
        return _with_cookie(request, test_id, KEY, body.key)

    @router.get("/results.csv")
    def scores_csv(test_id: str, key: ResultsKey = "", excluded: bool = False) -> Response:
        found = _opened(listening, test_id, key, include_excluded=excluded)
        return Response(found.response.csv, media_type="text/csv", headers=_named(found, "results"))

    @router.get("/ratings.csv")
    def ratings(test_id: str, key: ResultsKey = "") -> Response:
        found = _opened(listening, test_id, key)
        lines: Iterator[str] = ratings_csv(found.ratings)
        return StreamingResponse(lines, media_type="text/csv", headers=_named(found, "ratings"))

    return router


def _opened(listening: Listening, test_id: str, key: str, *, include_excluded: bool = False) -> Results:
    """The results, for who has the key. PermissionDenied."""
    listening.plan(test_id)
    found = listening.results(test_id, include_excluded=include_excluded)
    if not hmac.compare_digest(found.response.results_key.encode(), key.encode()):
        raise PermissionDenied("This is not the key of the results.", reason="RESULTS_KEY_WRONG")
    return found


def _state(test_id: str, token: str, place: ListenerPosition, kind: pb.ListeningKind) -> dict[str, Any]:
    """What the listeners' page needs to know, and nothing that tells one system from another."""
    base = f"/listening/{test_id}"
    step = place.step
    return {
        "stage": "step" if step else "done",
        "listener": place.listener,
        "link": f"{base}#{token}",
        "number": place.number,
        "steps": place.steps,
        "training": bool(step and step.training),
        "questions": [asdict(QUESTIONS[question]) for question in step.questions] if step else [],
        "prompt": place.prompt if step and pb.LISTENING_QUESTION_PROMPT_ADHERENCE in step.questions else "",
        "sounds": [
            {
                "label": sound.label,
                "url": f"{base}/audio/{sound.token}",
                "duration_s": sound.duration_s,
                "values": sound.values,
            }
            for sound in place.sounds
        ],
        "reference": f"{base}/audio/{place.reference}" if place.reference else "",
        "volume": f"{base}/audio/{place.volume}" if place.volume else "",
        "ahead": [f"{base}/audio/{token}" for token in place.ahead],
        "hear_s": HEAR_S[kind],
    }


def _private(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})


def _with_cookie(request: Request, test_id: str, name: str, value: str) -> Response:
    """Yes, and a cookie for this test's addresses alone, which scripts do not see."""
    response = _private({"ok": True})
    secure = request.headers.get("origin", "").startswith("https:")  # behind a proxy the request itself is plain
    response.set_cookie(
        name, value, max_age=COOKIE_S, path=f"/listening/{test_id}", httponly=True, samesite="strict", secure=secure
    )
    return response


def _named(found: Results, what: str) -> dict[str, str]:
    """Names of tests are a-z, 0-9, `-`, `_`, `.`: nothing to quote."""
    name = f"{found.response.test.name}-{what}.csv"
    return {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}


CHART_WIDTH = 400
"""of a row's picture, in its own units."""


@dataclass(frozen=True)
class Bar:
    """A score or a difference as a row: places in the picture, 0 to CHART_WIDTH, and words."""

    name: str
    dot: float
    low: float | None
    high: float | None
    mean: str
    interval: str
    listeners: int
    ratings: int
    role: str = ""
    p: str = ""
    p_adjusted: str = ""


@dataclass(frozen=True)
class QuestionView:
    """The results of one question."""

    title: str
    scores: list[Bar]
    differences: list[Bar]
    apart: list[Bar]


def results_view(found: pb.GetListeningResultsResponse, *, include_excluded: bool) -> dict[str, Any]:
    """What the results page shows."""
    mushra = found.test.kind == pb.LISTENING_KIND_MUSHRA
    scale = (0.0, 100.0) if mushra else (1.0, 5.0)
    widest = max((abs(end) for d in found.differences for end in (d.low, d.high, d.mean)), default=1.0) or 1.0

    def scored(scores: Iterable[pb.ListeningScore], question: int) -> list[Bar]:
        return [_bar(score.condition, score, score.ratings, scale) for score in scores if score.question == question]

    views = [
        QuestionView(
            QUESTIONS[question].title,
            scored(found.scores, question),
            [
                _bar(f"{one.condition} − {one.compared_with}", one, one.pairs, (-widest, widest))
                for one in found.differences
                if one.question == question
            ],
            scored(found.excluded_scores, question),
        )
        for question in found.test.questions
    ]
    ticks = range(0, 101, 20) if mushra else range(1, 6)
    return {
        "test": found.test,
        "kind": "MUSHRA" if mushra else "MOS",
        "questions": views,
        "listeners": found.listeners,
        "excluded": sum(listener.excluded for listener in found.listeners),
        "include_excluded": include_excluded,
        "screening": mushra and found.test.has_reference,
        "ticks": [(tick, _at(tick, scale)) for tick in ticks],
        "width": CHART_WIDTH,
        "middle": CHART_WIDTH / 2,
    }


def _bar(name: str, found: pb.ListeningScore | pb.ListeningDifference, ratings: int, scale: tuple[float, float]) -> Bar:
    there = found.HasField("low")
    bar = Bar(
        name=name,
        dot=_at(found.mean, scale),
        low=_at(found.low, scale) if there else None,
        high=_at(found.high, scale) if there else None,
        mean=f"{found.mean:.2f}",
        interval=f"{found.low:.2f} to {found.high:.2f}" if there else "one listener: no interval",
        listeners=found.listeners,
        ratings=ratings,
    )
    if isinstance(found, pb.ListeningScore):
        return replace(bar, role=ROLE_NAMES[found.role])
    tested = found.HasField("p")
    return replace(
        bar,
        mean=f"{found.mean:+.2f}",
        p=_p(found.p) if tested else "",
        p_adjusted=_p(found.p_adjusted) if tested else "",
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _at(value: float, scale: tuple[float, float]) -> float:
    """A place in a picture with a margin, so that dots at the ends are whole."""
    low, high = scale
    return round(10 + (CHART_WIDTH - 20) * (value - low) / (high - low), 1)
