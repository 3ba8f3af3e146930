"""Whether the music asked for is heard in the audio that was made, as the analysis service hears.

    stored audio ─ AnalyzeAudio (tempo, key) ─ the rules of evaluation ─ asked, heard, obeyed of each field

Analysis is asked when the audio is stored and its place in the scheduler given back. The estimators are those that
labelled the training data, and the rules those by which evaluation scores models: a tempo is obeyed within 2 %
(Accuracy 1), a key where tonic and mode are the same, and audio in which none is found does not obey. Analysis hears no
meter and no instruments: these say that they were not measured. Nothing that fails here costs the audio: the fields
then say that they were not computed, and why.
"""

import contextvars
import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDoneError
from dataclasses import dataclass
from typing import Final

from luthier.analysis.v1.analysis_pb2 import (
    FEATURE_KEY,
    FEATURE_TEMPO,
    AnalyzeAudioRequest,
    AnalyzeAudioResponse,
    DecodeAudioRequest,
)
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import ArtifactRef, KeyFact, Span, TempoFact
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FLAC, FLAC_24, WAV, WAV_24, WAV_FLOAT
from luthier_kit.rpc import UNREACHABLE, Cancelled, Channel, LuthierError
from luthier_music.captions.wanted import Wanted
from luthier_music.key_facts import key_of
from luthier_music.keys import Key, key_score
from luthier_music.tempo import accuracy_1, accuracy_2

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 60.0
"""For one piece of audio."""
RETRY_BUDGET_S: Final = 3.0  # for which analysis is asked again while it is full or away: a caller waits for it
MARGIN_S: Final = 1.0  # of a call's time, which is left for the answer
AT_ONCE: Final = 16  # pieces of audio that are listened to
LOOK_S: Final = 0.1  # how often is looked whether the caller left
READ_BY_ANALYSIS: Final = (FLAC, FLAC_24, WAV, WAV_24, WAV_FLOAT)
"""Formats that it measures as they are; others it decodes first."""

NOT_MEASURED: Final = {
    "meter": "not measured: analysis hears no meter",
    "bars": "not measured: the length is exact by construction",
    "instruments": "not measured: analysis hears no instruments",
}
NO_SERVICE: Final = "this server knows no analysis service (LUTHIER_ANALYSIS_ADDRESS)"


@dataclass(frozen=True)
class Hearing:
    """What was heard of each field asked for. `octaves_off`: how far the tempo heard is from the one asked for, 0 or
    more, infinite where none was found or asked for.
    """

    fields: tuple[pb.ObeyedField, ...]
    octaves_off: float = math.inf

    @property
    def measured(self) -> bool:
        """Whether all that can be measured was."""
        return all(one.HasField("obeyed") for one in self._measurable())

    @property
    def obeyed(self) -> bool:
        """Whether all that can be measured is as it was asked for."""
        return self.measured and all(one.obeyed for one in self._measurable())

    def rank(self) -> tuple[int, float, float]:
        """The larger the better: fields that are obeyed, then how near the others are, then the error of the tempo."""
        measured = self._measurable()
        return sum(one.obeyed for one in measured), sum(one.near for one in measured), -self.octaves_off

    def _measurable(self) -> list[pb.ObeyedField]:
        return [one for one in self.fields if one.field not in NOT_MEASURED]


class Listener:
    """Asks the analysis service at an address, host:port; empty = there is none."""

    def __init__(self, address: str) -> None:
        self._channel = Channel(address, slots_hint=2, retry_budget_s=RETRY_BUDGET_S) if address else None
        self._analysis = AnalysisServiceStub(self._channel) if self._channel else None
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listen")

    @property
    def known(self) -> bool:
        """Whether there is an analysis service."""
        return self._analysis is not None

    def hear(
        self, wanted: Wanted, audio: ArtifactRef, output_format: str, span_s: float | None, stop: threading.Event,
        time_left_s: float | None,
    ) -> Hearing:  # fmt: skip
        """What is heard in stored audio, or in its first `span_s` seconds, of what was wanted. Within `time_left_s`.

        Raises Cancelled when `stop` is set, and nothing else.
        """
        asked = wanted.in_words()
        features = [
            feature for field, feature in (("tempo_bpm", FEATURE_TEMPO), ("key", FEATURE_KEY)) if field in asked
        ]
        request = AnalyzeAudioRequest(audio=audio, features=features, span=Span(end_s=span_s) if span_s else None)
        try:
            measured = self._measured(request, output_format, stop, time_left_s) if features else None
            return judged(wanted, measured or AnalyzeAudioResponse())
        except Cancelled:
            raise
        except _NotComputedError as error:
            why = str(error)
        except Exception:
            log.exception("what was heard cannot be judged")
            why = "internal error"
        return Hearing(tuple(_unmeasured(field, words, f"not computed: {why}") for field, words in asked.items()))

    def close(self) -> None:
        """Ends the calls that are under way."""
        if self._channel:
            self._channel.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _measured(
        self, request: AnalyzeAudioRequest, output_format: str, stop: threading.Event, time_left_s: float | None
    ) -> AnalyzeAudioResponse:
        """In a thread of its own, which is left behind when the caller goes or the time is over."""
        if self._analysis is None:
            raise _NotComputedError(NO_SERVICE)
        timeout_s = TIMEOUT_S if time_left_s is None else min(TIMEOUT_S, time_left_s - MARGIN_S)
        if timeout_s <= 0:
            raise _NotComputedError("the call's deadline leaves no time for it")
        ends_at = time.monotonic() + timeout_s
        run = contextvars.copy_context().run
        answer: Future[AnalyzeAudioResponse] = self._threads.submit(
            run, _ask, self._analysis, request, output_format, timeout_s
        )
        while True:
            try:
                return answer.result(timeout=min(LOOK_S, max(ends_at - time.monotonic(), 0.0)))
            except NotDoneError:
                if stop.is_set():
                    raise Cancelled("the caller went away while the audio was listened to") from None
                if time.monotonic() >= ends_at:
                    raise _NotComputedError(f"analysis did not answer within {timeout_s:.1f} s") from None
            except LuthierError as error:
                log.warning("what was made cannot be listened to: %s", error)
                away = error.reason == UNREACHABLE
                raise _NotComputedError("the analysis service cannot be reached" if away else str(error)) from None


class _NotComputedError(Exception):
    """Why nothing was measured, for people."""


def _ask(
    analysis: AnalysisServiceStub, request: AnalyzeAudioRequest, output_format: str, timeout_s: float
) -> AnalyzeAudioResponse:
    if output_format not in READ_BY_ANALYSIS:
        decoded = analysis.DecodeAudio(DecodeAudioRequest(original=request.audio), timeout=timeout_s)
        request.audio.CopyFrom(decoded.audio)
    measured: AnalyzeAudioResponse = analysis.AnalyzeAudio(request, timeout=timeout_s)
    return measured


def judged(wanted: Wanted, measured: AnalyzeAudioResponse) -> Hearing:
    """What was measured, held against what was wanted, in the order of the fields."""
    fields, octaves_off = [], math.inf
    for field, words in wanted.in_words().items():
        if field == "tempo_bpm" and wanted.tempo_bpm is not None:
            fields.append(_of_tempo(wanted.tempo_bpm, words, measured.tempo))
            if measured.tempo.tempo_bpm:
                octaves_off = abs(math.log2(measured.tempo.tempo_bpm / wanted.tempo_bpm))
        elif field == "key" and wanted.key is not None:
            fields.append(_of_key(wanted.key, measured.key))
        else:
            fields.append(_unmeasured(field, words, ""))
    return Hearing(tuple(fields), octaves_off)


def _of_tempo(asked_bpm: float, words: str, fact: TempoFact) -> pb.ObeyedField:
    found = pb.ObeyedField(field="tempo_bpm", asked=words, obeyed=False, near=0.0, estimator=fact.estimator)
    if not fact.tempo_bpm:
        found.note = "no tempo was found in the audio"
        return found
    found.heard, found.obeyed = f"{fact.tempo_bpm:.4g} BPM", accuracy_1(asked_bpm, fact.tempo_bpm)
    if accuracy_2(asked_bpm, fact.tempo_bpm):
        found.near = 1.0
        found.note = "" if found.obeyed else "2, 3, 1/2 or 1/3 times the tempo asked for"
    return found


def _of_key(asked: Key, fact: KeyFact) -> pb.ObeyedField:
    heard = key_of(fact)
    return pb.ObeyedField(
        field="key",
        asked=str(asked),
        heard=str(heard or ""),
        obeyed=heard == asked,
        near=key_score(asked, heard) if heard else 0.0,
        estimator=fact.estimator,
        note="" if heard else "no key was found in the audio",
    )


def _unmeasured(field: str, words: str, why: str) -> pb.ObeyedField:
    return pb.ObeyedField(field=field, asked=words, note=NOT_MEASURED.get(field, why))
