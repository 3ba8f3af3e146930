"""What is in the database of listening tests: tests, listeners' sessions, and each rating as soon as it is given."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import Session, defer

from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.listening.checking import MAX_LISTENERS
from luthier_curation.listening.orders import Step
from luthier_curation.listening.results import Rating
from luthier_curation.tables import ListeningRatingRow, ListeningSessionRow, ListeningTestRow
from luthier_kit.rpc import Aborted, FailedPrecondition, InvalidRequest, NotFound, page_position, page_token

TOKEN_BYTES = 24


@dataclass(frozen=True)
class Page:
    """Tests, newest first, each with its position for tokens; an empty token = the last page."""

    tests: Sequence[tuple[str, pb.ListeningTest]]
    next_token: str


def test_id_of(request_id: str) -> str:
    """The id of the test that a request id begins."""
    return f"listening-{hashlib.sha256(request_id.encode()).hexdigest()[:24]}"


def create(session: Session, plan: pb.ListeningPlan) -> ListeningTestRow:
    """Keep a test, or find it. FailedPrecondition for a request id that began another, and for a name that is taken."""
    request = plan.request
    if known := begun(session, request):
        return known
    if session.scalar(select(ListeningTestRow.test_id).where(ListeningTestRow.name == request.name)):
        text = f"there is a listening test {request.name!r} already; choose another name"
        raise FailedPrecondition(text, reason="LISTENING_TEST_EXISTS")
    now = _now_ms()
    row = ListeningTestRow(
        test_id=test_id_of(request.request_id),
        name=request.name,
        plan=plan,
        summary=summary_of(plan, now),
        results_key=secrets.token_urlsafe(TOKEN_BYTES),
        created_at_ms=now,
    )
    session.add(row)
    return row


def summary_of(plan: pb.ListeningPlan, created_at_ms: int) -> pb.ListeningTest:
    """A test as the contract has it, before anybody listened."""
    request, test_id = plan.request, test_id_of(plan.request.request_id)
    training = sum(trial.training for trial in request.trials)
    roles = {stimulus.role for stimulus in plan.trials[0].stimuli}
    summary = pb.ListeningTest(
        test_id=test_id,
        name=request.name,
        kind=request.kind,
        questions=request.questions,
        systems=[stimulus.system for stimulus in request.trials[0].stimuli],
        trials=len(request.trials) - training,
        training_trials=training,
        has_reference=pb.LISTENING_ROLE_REFERENCE in roles,
        has_anchor=pb.LISTENING_ROLE_ANCHOR in roles,
        loudness_lufs=request.loudness_lufs if request.HasField("loudness_lufs") else None,
        created_by=request.created_by,
        path=f"/listening/{test_id}",
        results_path=f"/listening/{test_id}/results",
    )
    summary.created_at.FromMilliseconds(created_at_ms)
    return summary


def begun(session: Session, request: pb.CreateListeningTestRequest) -> ListeningTestRow | None:
    """The test that this request began. FailedPrecondition when its id began another one."""
    row = session.get(ListeningTestRow, test_id_of(request.request_id))
    if row is not None and row.plan.request != request:
        text = f"request id {request.request_id!r} began another listening test; use a new one"
        raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
    return row


def find(session: Session, test: str) -> ListeningTestRow:
    """A test by its name or its id. NotFound."""
    query = select(ListeningTestRow).where(or_(ListeningTestRow.name == test, ListeningTestRow.test_id == test))
    row = session.scalars(query).one_or_none()
    if row is None:
        text = f"no listening test {test!r}"
        raise NotFound(text, reason="LISTENING_TEST_NOT_FOUND")
    return row


def listed(session: Session, request: pb.ListListeningTestsRequest, size: int) -> Page:
    """A page of tests, newest first. InvalidRequest for a token of another list."""
    query = select(ListeningTestRow).options(defer(ListeningTestRow.plan))
    order = (ListeningTestRow.created_at_ms, ListeningTestRow.test_id)
    if position := page_position(request):
        at_ms, _, test_id = position.partition(" ")
        query = query.where(tuple_(*order) < tuple_(int(at_ms), test_id))
    rows = list(session.scalars(query.order_by(*(column.desc() for column in order)).limit(size + 1)))
    more, rows = len(rows) > size, rows[:size]
    tests = [(f"{row.created_at_ms} {row.test_id}", told(session, row)) for row in rows]
    return Page(tests, page_token(request, tests[-1][0]) if more else "")


def told(session: Session, row: ListeningTestRow) -> pb.ListeningTest:
    """A test as the contract has it, with its listeners so far."""
    query = select(func.count(), func.count(ListeningSessionRow.finished_at_ms))
    listeners, finished = session.execute(query.where(ListeningSessionRow.test_id == row.test_id)).one()
    message = pb.ListeningTest()
    message.CopyFrom(row.summary)
    message.listeners, message.finished = listeners, finished
    return message


def join(session: Session, test_id: str, listener: str) -> tuple[ListeningSessionRow, str]:
    """A new session, and its token, which nobody gets again. FailedPrecondition for a name that somebody has, and
    where the test is full."""
    of_test = ListeningSessionRow.test_id == test_id
    if session.scalar(select(ListeningSessionRow.session_id).where(of_test, ListeningSessionRow.listener == listener)):
        text = "Somebody of this name is listening already. If it was you, open your personal link; else add a letter."
        raise FailedPrecondition(text, reason="LISTENER_EXISTS")
    there = session.scalar(select(func.count()).select_from(ListeningSessionRow).where(of_test)) or 0
    if there >= MAX_LISTENERS:
        raise FailedPrecondition(f"The test has {MAX_LISTENERS} listeners, and takes no more.", reason="TEST_FULL")
    token, now = secrets.token_urlsafe(TOKEN_BYTES), _now_ms()
    row = ListeningSessionRow(
        session_id=secrets.token_hex(16),
        test_id=test_id,
        listener=listener,
        token_sha256=_digest(token),
        seed=secrets.token_hex(16),
        position=0,
        begun_at_ms=now,
        updated_at_ms=now,
        finished_at_ms=None,
    )
    session.add(row)
    return row, token


def session_of(session: Session, test_id: str, token: str, *, lock: bool = False) -> ListeningSessionRow:
    """The session of a token. NotFound."""
    query = select(ListeningSessionRow).where(
        ListeningSessionRow.test_id == test_id, ListeningSessionRow.token_sha256 == _digest(token)
    )
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("This link or cookie opens no session of this test.", reason="LISTENING_SESSION_NOT_FOUND")
    return row


def values(session: Session, row: ListeningSessionRow, trial: int) -> dict[tuple[int, int], int]:
    """What the listener has said of a trial, by condition and question."""
    query = select(ListeningRatingRow).where(
        ListeningRatingRow.session_id == row.session_id, ListeningRatingRow.trial == trial
    )
    return {(rating.condition, rating.question): rating.value for rating in session.scalars(query)}


def rate(session: Session, row: ListeningSessionRow, number: int, step: Step, answer: tuple[int, int, int]) -> None:
    """Keep an answer (place in the step, question, value). Aborted unless it is about the step that the session is at,
    InvalidRequest for a place or question that the step has not."""
    place, question, value = answer
    if number != row.position:
        raise Aborted("This page was left in another window; reload it.", reason="STEP_PASSED")
    if not 0 <= place < len(step.conditions) or question not in step.questions:
        raise InvalidRequest(violations=[("place", "must be a sound and a question of this step")])
    key = (row.session_id, step.trial, step.conditions[place], question)
    rating = session.get(ListeningRatingRow, key)
    if rating is None:
        rating = ListeningRatingRow(
            session_id=row.session_id, trial=step.trial, condition=step.conditions[place], question=question
        )
        session.add(rating)
    rating.step, rating.value, rating.at_ms = number, value, _now_ms()
    row.updated_at_ms = rating.at_ms


def finish_step(session: Session, row: ListeningSessionRow, number: int, steps: Sequence[Step]) -> None:
    """Go on behind a step of which everything is rated; a second time it does nothing. FailedPrecondition, Aborted."""
    if number == row.position - 1:
        return
    if number != row.position or number >= len(steps):
        raise Aborted("This page was left in another window; reload it.", reason="STEP_PASSED")
    step = steps[number]
    said = values(session, row, step.trial)
    if any((condition, question) not in said for condition in step.conditions for question in step.questions):
        raise FailedPrecondition("Every sound of this page must be rated first.", reason="RATINGS_MISSING")
    row.position += 1
    row.updated_at_ms = _now_ms()
    if row.position == len(steps):
        row.finished_at_ms = row.updated_at_ms


def sessions(session: Session, test_id: str) -> Sequence[ListeningSessionRow]:
    """Everybody who began, in that order."""
    query = select(ListeningSessionRow).where(ListeningSessionRow.test_id == test_id)
    return session.scalars(query.order_by(ListeningSessionRow.begun_at_ms, ListeningSessionRow.session_id)).all()


def ratings(session: Session, row: ListeningTestRow) -> list[Rating]:
    """Every rating that counts: of a step that is done, and of no training; by listener, trial, condition, question."""
    query = (
        select(
            ListeningSessionRow.listener,
            ListeningRatingRow.trial,
            ListeningRatingRow.condition,
            ListeningRatingRow.question,
            ListeningRatingRow.value,
        )
        .join(ListeningSessionRow, ListeningSessionRow.session_id == ListeningRatingRow.session_id)
        .where(ListeningSessionRow.test_id == row.test_id, ListeningRatingRow.step < ListeningSessionRow.position)
        .order_by(
            ListeningSessionRow.begun_at_ms,
            ListeningSessionRow.session_id,
            ListeningRatingRow.trial,
            ListeningRatingRow.condition,
            ListeningRatingRow.question,
        )
    )
    found = []
    trials = row.plan.trials
    for listener, trial, condition, question, value in session.execute(query):
        if not trials[trial].training:
            stimulus = trials[trial].stimuli[condition]
            asked = cast("pb.ListeningQuestion", question)
            found.append(Rating(listener, trial, stimulus.condition, stimulus.role, asked, value))
    return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
