"""AnalysisService: messages to domain calls and back."""

from luthier_kit.rpc import InvalidRequest, Service
from luthier_kit.store import Action, Store, open_store
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc
from luthier_analysis import jobs, replies, requests
from luthier_analysis.features.options import Options
from luthier_analysis.header import read_header
from luthier_analysis.settings import AnalysisSettings
from luthier_analysis.workers import Workers
from luthier_music.audio import AudioError

VERSION = "2"  # of the stages; raised whenever the same input would give another answer


class Analysis(analysis_pb2_grpc.AnalysisServiceServicer):
    """Every call is an action: what was answered before is found, not computed."""

    def __init__(self, settings: AnalysisSettings, store: Store, workers: Workers) -> None:
        self._settings, self._store, self._workers = settings, store, workers
        self._options = Options(settings.tempo_estimator, settings.weights())

    def AnalyzeAudio(self, request: pb.AnalyzeAudioRequest, context: grpc.ServicerContext) -> pb.AnalyzeAudioResponse:
        """Measure what is asked for."""
        asked = requests.analyze(request, self._options)

        def compute() -> pb.AnalyzeAudioResponse:
            with self._fetched(request.audio, "audio") as (path, _):
                requests.span_within(asked.span, read_header(path))
                return replies.analyzed(
                    self._workers.run(context, jobs.analyze, path, asked.features, asked.span, asked.options)
                )

        self._store.blobs.exists(request.audio)  # refuses a bad reference, also where an answer is already known
        action = self._action("analyze", [request.audio.sha256], asked.parameters(), asked.options)
        return self._store.actions.run(action, pb.AnalyzeAudioResponse, compute)[0]

    def CutClips(self, request: pb.CutClipsRequest, context: grpc.ServicerContext) -> pb.CutClipsResponse:
        """Cut a song."""
        asked = requests.cut(request)

        def compute() -> pb.CutClipsResponse:
            with self._fetched(request.mix, "mix") as (path, folder):
                requests.same_length(asked.timeline, read_header(path))
                result, cpu_s = self._workers.run(
                    context, jobs.cut, path, asked.timeline, asked.plan, self._options, folder
                )
                return replies.cut(result, cpu_s, asked.plan, self._store)

        self._store.blobs.exists(request.mix)
        action = self._action("cut", asked.inputs, asked.parameters(self._options), self._options)
        response, _ = self._store.actions.run(action, pb.CutClipsResponse, compute)
        response.max_clips = asked.plan.max_clips  # not from the record: older ones do not say it
        return response

    def _action(self, stage: str, inputs: list[str], parameters: dict, options: Options) -> Action:
        tools = {"essentia": version("essentia")}
        if options.tempo_estimator == "deeprhythm":
            tools["deeprhythm"] = options.deeprhythm.sha256 if options.deeprhythm else "absent"
        return Action(stage, inputs, parameters, version=VERSION, tools=tools)

    @contextmanager
    def _fetched(self, ref: object, field: str) -> Iterator[tuple[Path, Path]]:
        """The artifact as a file, and a folder that goes with it; what is wrong with the audio names the field."""
        with tempfile.TemporaryDirectory(prefix="analysis-", dir=self._settings.scratch) as folder:
            try:
                yield self._store.blobs.fetch(ref, Path(folder)), Path(folder)  # type: ignore[arg-type]
            except AudioError as error:
                raise InvalidRequest(violations=[(field, str(error))], reason="INVALID_AUDIO") from error


def service(settings: AnalysisSettings) -> Service:
    """The service, ready to be served: store proven, one child process per slot."""
    workers = Workers(settings.slots)
    servicer = Analysis(settings, open_store(settings), workers)
    return Service(
        domain="analysis",
        name=pb.DESCRIPTOR.services_by_name["AnalysisService"].full_name,
        register=partial(analysis_pb2_grpc.add_AnalysisServiceServicer_to_server, servicer),
        prepare=workers.warm_up,
        close=workers.close,
    )
