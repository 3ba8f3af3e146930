"""What is refused of a listening test and of what listeners send, before the database or the store is touched."""

import re
from collections import Counter
from typing import Final

from luthier.curation.v1 import listening_pb2 as pb
from luthier_curation.checking import check_reviewer, clean
from luthier_curation.listening.audio import MAX_BYTES
from luthier_kit.rpc import MAX_PROMPT_CHARS, NAME_PATTERN, Checks

MAX_TRIALS, MAX_SYSTEMS, MAX_QUESTIONS, MAX_SOUNDS = 500, 8, 4, 2000
MAX_TRIAL_S: Final = 900.0
"""Of all sounds of a MUSHRA trial, which a browser holds decoded at once: some 350 MB."""
MAX_INSTRUCTIONS_CHARS, MAX_REQUEST_ID_CHARS = 2000, 128
MAX_LISTENERS: Final = 500
"""Of a test: the page has no accounts."""
LOUDNESS_LUFS = (-60.0, -10.0)
REFERENCE, ANCHOR = "reference", "anchor"
_SYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,99}")
SYSTEM_BOUND = "must be 1 to 100 of letters, digits, '-', '_', '.', '@', ':', '+', '/', and not `reference` or `anchor`"
_LISTENER = re.compile(r"[^\W_][\w .'@-]{0,63}")
LISTENER_BOUND = "must be 1 to 64 letters, digits, spaces, '.', '-', '_', '@', beginning with a letter or digit"
TEST_ID = re.compile(r"listening-[0-9a-f]{24}")


def check_create(request: pb.CreateListeningTestRequest) -> None:
    """Bounds of a test; the sounds are looked at when they are copied."""
    checks = Checks()
    checks.text("request_id", request.request_id, max_chars=MAX_REQUEST_ID_CHARS, blank=False)
    clean(checks, "request_id", request.request_id)
    checks.name("name", request.name)
    checks.that(not TEST_ID.fullmatch(request.name), "name", "must not look like the id of a test")
    known = request.kind in (pb.LISTENING_KIND_MOS, pb.LISTENING_KIND_MUSHRA)
    checks.that(known, "kind", "must be LISTENING_KIND_MOS or LISTENING_KIND_MUSHRA")
    for field, question in checks.items("questions", request.questions, 1, MAX_QUESTIONS):
        there = question and question in pb.ListeningQuestion.values()
        checks.that(bool(there), field, "must be a known ListeningQuestion")
    checks.that(len(set(request.questions)) == len(request.questions), "questions", "must name each question once")
    if request.HasField("loudness_lufs"):
        checks.within("loudness_lufs", request.loudness_lufs, *LOUDNESS_LUFS)
    check_reviewer(checks, "created_by", request.created_by)
    checks.text("instructions", request.instructions, max_chars=MAX_INSTRUCTIONS_CHARS)
    clean(checks, "instructions", request.instructions)
    if checks.count("trials", request.trials, 1, MAX_TRIALS):
        _check_trials(checks, request)
    checks.done()


def _check_trials(checks: Checks, request: pb.CreateListeningTestRequest) -> None:
    sounds = sum(
        len(trial.stimuli) + trial.HasField("reference") + trial.HasField("anchor") for trial in request.trials
    )
    sounds += len(request.trials) * request.make_anchor
    if not checks.that(sounds <= MAX_SOUNDS, "trials", f"must have at most {MAX_SOUNDS} sounds, got {sounds}"):
        return
    training = sum(trial.training for trial in request.trials)
    checks.that(training < len(request.trials), "trials", "must have one that is not for training")
    for name in (REFERENCE, ANCHOR):
        given = sum(trial.HasField(name) for trial in request.trials)
        all_or_none = given in (0, len(request.trials))
        checks.that(all_or_none, "trials", f"must all have {name}, or none: {given} of {len(request.trials)} do")
    referenced = all(trial.HasField(REFERENCE) for trial in request.trials)
    mushra = request.kind == pb.LISTENING_KIND_MUSHRA
    if request.make_anchor:
        bound = "is for LISTENING_KIND_MUSHRA with references, and without anchors of your own"
        own = any(trial.HasField(ANCHOR) for trial in request.trials)
        checks.that(mushra and referenced and not own, "make_anchor", bound)
    systems = Counter(stimulus.system for stimulus in request.trials[0].stimuli)
    prompted = pb.LISTENING_QUESTION_PROMPT_ADHERENCE in request.questions
    for index, trial in enumerate(request.trials):
        checks.prefix = f"trials[{index}]."
        checks.text("prompt", trial.prompt, max_chars=MAX_PROMPT_CHARS, blank=not prompted)
        clean(checks, "prompt", trial.prompt)
        for field, stimulus in checks.items("stimuli", trial.stimuli, 1, MAX_SYSTEMS):
            named = _SYSTEM.fullmatch(stimulus.system) and stimulus.system not in (REFERENCE, ANCHOR)
            checks.that(bool(named), f"{field}.system", SYSTEM_BOUND)
            checks.artifact(f"{field}.audio", stimulus.audio, max_bytes=MAX_BYTES)
        found = Counter(stimulus.system for stimulus in trial.stimuli)
        checks.that(all(n == 1 for n in found.values()), "stimuli", "must name each system once")
        checks.that(found == systems, "stimuli", "must be of the same systems as in trials[0]")
        for name in (REFERENCE, ANCHOR):
            if trial.HasField(name):
                checks.artifact(name, getattr(trial, name), max_bytes=MAX_BYTES)
        if mushra:
            rated = len(trial.stimuli) + trial.HasField(REFERENCE) + trial.HasField(ANCHOR)
            checks.that(rated >= 2, "stimuli", "must be at least 2 sounds to compare, the reference counted")
    checks.prefix = ""


def check_test(test: str) -> None:
    """A test's name or id."""
    checks = Checks()
    checks.that(NAME_PATTERN.fullmatch(test) is not None, "test", "must be the name or the id of a listening test")
    checks.done()


def check_listener(listener: str) -> None:
    """The name or code that a listener gives; a spreadsheet takes none of them for a formula."""
    checks = Checks()
    checks.that(_LISTENER.fullmatch(listener) is not None, "listener", LISTENER_BOUND)
    clean(checks, "listener", listener)
    checks.done()


def check_value(kind: pb.ListeningKind, value: int) -> None:
    """A rating on the scale of its kind."""
    checks = Checks()
    checks.within("value", value, *((0, 100) if kind == pb.LISTENING_KIND_MUSHRA else (1, 5)))
    checks.done()
