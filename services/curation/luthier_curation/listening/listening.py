"""What listening tests can do, for the gRPC service and the page alike: input is checked, transactions are whole."""

import csv
import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.database import Repository
from luthier_curation.listening import audio, checking, orders, results, sessions
from luthier_curation.listening.orders import Step
from luthier_curation.listening.results import QUESTION_NAMES, ROLE_NAMES, Design, Rating
from luthier_curation.listening.sessions import Page
from luthier_curation.tables import ListeningSessionRow, ListeningTestRow
from luthier_kit.rpc import InvalidRequest, NotFound, in_field
from luthier_kit.store import Store

KNOWN_TESTS, KNOWN_SESSIONS = 8, 64
"""Tests and orders of steps that are held in memory: neither ever changes."""
DECODING = 1
"""Sounds that are decoded at a time: five minutes of 96 kHz stereo are 230 MB, and some times that while filtered."""
RATING_COLUMNS = ("listener", "trial", "condition", "role", "question", "value")


@dataclass(frozen=True)
class Sound:
    """A sound as a listener meets it: a label without meaning, the address of its audio, its length in seconds, and
    what they said so far by question."""

    label: str
    token: str
    duration_s: float
    values: dict[int, int]


@dataclass(frozen=True)
class ListenerPosition:
    """Where a listener is: the step by number (from 0) of `steps`; `step` is None at the end. `ahead` are addresses
    of audio that the next step needs, `volume` of the sound to set the volume by."""

    listener: str
    number: int
    steps: int
    step: Step | None
    prompt: str
    sounds: list[Sound]
    reference: str
    volume: str
    ahead: list[str]


@dataclass(frozen=True)
class Results:
    """All that listeners said, and what it comes to."""

    response: pb.GetListeningResultsResponse
    ratings: list[Rating]


@dataclass(frozen=True)
class _Said:
    """What the database holds of a test."""

    row: ListeningTestRow
    test: pb.ListeningTest
    people: Sequence[ListeningSessionRow]
    ratings: list[Rating]


class Listening:
    """Listening tests over one database and one store. Threads may share it.

    `scratch` is where audio is decoded; None = the system's folder for temporary files. `plan(test_id)` is all that a
    test is (NotFound).
    """

    def __init__(self, repository: Repository, store: Store, scratch: Path | None = None) -> None:
        self.repository, self.store, self.scratch = repository, store, scratch
        self._decoding = threading.BoundedSemaphore(DECODING)
        self.plan = lru_cache(maxsize=KNOWN_TESTS)(self._loaded)
        self._steps = lru_cache(maxsize=KNOWN_SESSIONS)(self._ordered)

    def create(self, request: pb.CreateListeningTestRequest) -> ListeningTestRow:
        """Copy the audio, make the anchors, keep the test. The same request is the same test."""
        checking.check_create(request)
        if known := self.repository.read(lambda session: sessions.begun(session, request)):
            return known
        plan = pb.ListeningPlan(request=request)
        for index, trial in enumerate(request.trials):
            plan.trials.append(self._kept(request, trial, f"trials[{index}]"))
        if all(step.training for step in orders.steps_of(plan, "")):
            bound = "must ask something of these sounds: the stereo image is asked about two channels only"
            raise InvalidRequest(violations=[("questions", bound)])
        return self.repository.write(lambda session: sessions.create(session, plan))

    def _kept(self, request: pb.CreateListeningTestRequest, trial: pb.ListeningTrial, field: str) -> pb.KeptTrial:
        """A trial with its audio copied. InvalidRequest beyond what a browser can hold of it."""
        kept = pb.KeptTrial(prompt=trial.prompt, training=trial.training)

        def add(name: str, role: pb.ListeningRole, source: ArtifactRef, place: str) -> pb.KeptStimulus:
            loudness_lufs = request.loudness_lufs if request.HasField("loudness_lufs") else None
            with self._decoding, in_field(f"{field}.{place}"):
                stimulus = audio.keep(self.store, source, loudness_lufs, self.scratch)
            stimulus.condition, stimulus.role = name, role
            kept.stimuli.append(stimulus)
            return stimulus

        for index, stimulus in enumerate(trial.stimuli):
            add(stimulus.system, pb.LISTENING_ROLE_SYSTEM, stimulus.audio, f"stimuli[{index}].audio")
        if trial.HasField("reference"):
            reference = add(checking.REFERENCE, pb.LISTENING_ROLE_REFERENCE, trial.reference, "reference")
            if request.make_anchor:
                with self._decoding:
                    made = audio.anchor(self.store, reference, self.scratch)
                made.condition, made.role = checking.ANCHOR, pb.LISTENING_ROLE_ANCHOR
                kept.stimuli.append(made)
        if trial.HasField("anchor"):
            add(checking.ANCHOR, pb.LISTENING_ROLE_ANCHOR, trial.anchor, "anchor")
        length_s = sum(stimulus.duration_s for stimulus in kept.stimuli)
        if request.kind == pb.LISTENING_KIND_MUSHRA and length_s > checking.MAX_TRIAL_S:
            bound = f"must be at most {checking.MAX_TRIAL_S:g} s in all, got {length_s:.0f} s: take shorter ones"
            raise InvalidRequest(violations=[(f"{field}.stimuli", bound)])
        return kept

    def test(self, test: str) -> pb.ListeningTest:
        """A test by its name or its id, with its listeners so far. NotFound."""
        checking.check_test(test)
        return self.repository.read(lambda session: sessions.told(session, sessions.find(session, test)))

    def listed(self, request: pb.ListListeningTestsRequest, size: int) -> Page:
        """See `sessions.listed`."""
        return self.repository.read(lambda session: sessions.listed(session, request, size))

    def results(self, test: str, *, include_excluded: bool = False) -> Results:
        """What listeners said so far. NotFound."""
        checking.check_test(test)

        def read(session: Session) -> _Said:
            row = sessions.find(session, test)
            people, ratings = sessions.sessions(session, row.test_id), sessions.ratings(session, row)
            return _Said(row, sessions.told(session, row), people, ratings)

        known = self.repository.read(read)
        design, ratings = design_of(known.row.plan), known.ratings
        listeners = results.screened(ratings, design.kind)
        excluded = {name for name, found in listeners.items() if found.excluded and not include_excluded}
        counted = [rating for rating in ratings if rating.listener not in excluded]
        apart = [rating for rating in ratings if rating.listener in excluded]
        scores, differences = results.scores_of(counted, design), results.differences_of(counted, design)
        response = pb.GetListeningResultsResponse(
            test=known.test,
            scores=scores,
            differences=differences,
            excluded_scores=results.scores_of(apart, design),
            csv=results.csv_of(scores, differences),
            results_key=known.row.results_key,
        )
        for person in known.people:
            listener = listeners.get(person.listener) or pb.Listener(name=person.listener)
            listener.finished = person.finished_at_ms is not None
            response.listeners.append(listener)
        return Results(response, ratings)

    def join(self, test_id: str, listener: str) -> str:
        """Begin a session: its token. See `sessions.join`."""
        listener = listener.strip()
        checking.check_listener(listener)
        self.plan(test_id)
        return self.repository.write(lambda session: sessions.join(session, test_id, listener)[1])

    def place(self, test_id: str, token: str) -> ListenerPosition:
        """Where the listener of this token is. NotFound."""
        plan = self.plan(test_id)

        def read(session: Session) -> tuple[ListeningSessionRow, dict[tuple[int, int], int]]:
            row = sessions.session_of(session, test_id, token)
            steps = self._steps(test_id, row.seed)
            said = sessions.values(session, row, steps[row.position].trial) if row.position < len(steps) else {}
            return row, said

        row, said = self.repository.read(read)
        steps = self._steps(test_id, row.seed)
        step = steps[row.position] if row.position < len(steps) else None
        following = steps[row.position + 1 : row.position + 2]
        sounds = [] if step is None else _sounds(plan, step, row.seed, said)
        reference = orders.audio_token(row.seed, step.trial, None) if step and _shows_reference(plan) else ""
        return ListenerPosition(
            listener=row.listener,
            number=row.position,
            steps=len(steps),
            step=step,
            prompt=plan.trials[step.trial].prompt if step else "",
            sounds=sounds,
            reference=reference,
            volume=reference or (sounds[0].token if sounds else ""),
            ahead=[token for one in following for token in self._audio(plan, one, row.seed)],
        )

    def rate(self, test_id: str, token: str, number: int, answer: tuple[int, int, int]) -> None:
        """Keep an answer: place in the step, question, value. See `sessions.rate`."""
        plan = self.plan(test_id)
        checking.check_value(plan.request.kind, answer[2])

        def write(session: Session) -> None:
            row = sessions.session_of(session, test_id, token, lock=True)
            steps = self._steps(test_id, row.seed)
            step = steps[number] if 0 <= number < len(steps) else steps[0]
            sessions.rate(session, row, number, step, answer)

        self.repository.write(write)

    def finish_step(self, test_id: str, token: str, number: int) -> None:
        """Go on to the next step. See `sessions.finish_step`."""
        self.plan(test_id)

        def write(session: Session) -> None:
            row = sessions.session_of(session, test_id, token, lock=True)
            sessions.finish_step(session, row, number, self._steps(test_id, row.seed))

        self.repository.write(write)

    def sound(self, test_id: str, token: str, address: str) -> ArtifactRef:
        """The audio of an address that the listener's present step, or the next one, plays. NotFound."""
        plan = self.plan(test_id)
        row = self.repository.read(lambda session: sessions.session_of(session, test_id, token))
        for step in self._steps(test_id, row.seed)[row.position : row.position + 2]:
            if stimulus := self._audio(plan, step, row.seed).get(address):
                return stimulus.audio
        raise NotFound("This sound is not of the page that the session is at.", reason="SOUND_NOT_FOUND")

    @staticmethod
    def _audio(plan: pb.ListeningPlan, step: Step, seed: str) -> dict[str, pb.KeptStimulus]:
        """What a step plays, by address."""
        stimuli = plan.trials[step.trial].stimuli
        found = {orders.audio_token(seed, step.trial, c): stimuli[c] for c in step.conditions}
        if _shows_reference(plan):
            shown = next(stimulus for stimulus in stimuli if stimulus.role == pb.LISTENING_ROLE_REFERENCE)
            found[orders.audio_token(seed, step.trial, None)] = shown
        return found

    def _loaded(self, test_id: str) -> pb.ListeningPlan:
        if not checking.TEST_ID.fullmatch(test_id):
            raise NotFound("There is no such listening test.", reason="LISTENING_TEST_NOT_FOUND")
        return self.repository.read(lambda session: sessions.find(session, test_id)).plan

    def _ordered(self, test_id: str, seed: str) -> list[Step]:
        return orders.steps_of(self.plan(test_id), seed)


def _sounds(plan: pb.ListeningPlan, step: Step, seed: str, said: dict[tuple[int, int], int]) -> list[Sound]:
    """The rated sounds of a step, in the order shown."""
    stimuli = plan.trials[step.trial].stimuli
    return [
        Sound(
            label,
            orders.audio_token(seed, step.trial, condition),
            stimuli[condition].duration_s,
            {question: said[condition, question] for question in step.questions if (condition, question) in said},
        )
        for condition, label in zip(step.conditions, step.labels, strict=True)
    ]


def _shows_reference(plan: pb.ListeningPlan) -> bool:
    """MUSHRA shows the reference beside what is rated; MOS only hides it."""
    return plan.request.kind == pb.LISTENING_KIND_MUSHRA and plan.request.trials[0].HasField("reference")


def design_of(plan: pb.ListeningPlan) -> Design:
    """What results are told by."""
    conditions = [(stimulus.condition, stimulus.role) for stimulus in plan.trials[0].stimuli]
    return Design(plan.request.kind, list(plan.request.questions), conditions)


def ratings_csv(ratings: list[Rating]) -> Iterator[str]:
    """Every rating as CSV (RFC 4180) with a header, line by line; trials count from 0, as in the request."""
    yield _line(RATING_COLUMNS)
    for rating in ratings:
        named = (ROLE_NAMES[rating.role], QUESTION_NAMES[rating.question])
        yield _line((rating.listener, rating.trial, rating.condition, *named, int(rating.value)))


def _line(cells: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
