"""An analysis service that keeps the contract: it cuts what it is asked for to the sample, and measures a little."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc
import soundfile

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1 import analysis_pb2_grpc
from luthier.common.v1 import common_pb2 as common
from luthier_kit.store import Store


@dataclass
class Analysis(analysis_pb2_grpc.AnalysisServiceServicer):
    """Facts of a part: as long as it is, in D minor, at 90 BPM, a flute by the notes. `left_out` counts parts from the
    end that it finds nearly silent."""

    store: Store
    folder: Path
    left_out: int = 0
    asked: list[pb.CutClipsRequest] = field(default_factory=list)

    def CutClips(self, request: pb.CutClipsRequest, context: grpc.ServicerContext) -> pb.CutClipsResponse:
        self.asked.append(request)
        whole, rate = soundfile.read(self.store.blobs.fetch(request.mix, self.folder), dtype="int16", always_2d=True)
        spans = request.spans[: len(request.spans) - self.left_out]
        answer = pb.CutClipsResponse(notes=["left out: nearly silent"] * self.left_out)
        for number, span in enumerate(spans):
            path = self.folder / f"part-{number}.flac"
            soundfile.write(path, whole[round(span.start_s * rate) : round(span.end_s * rate)], rate, subtype="PCM_16")
            facts = common.ClipFacts(
                duration_s=span.end_s - span.start_s,
                tempo=common.TempoFact(tempo_bpm=90, source=common.FACT_SOURCE_TEMPO_MAP),
                key=common.KeyFact(tonic="D", mode=common.MODE_MINOR, source=common.FACT_SOURCE_NOTES),
                loudness_lufs=-20,
            )
            if request.HasField("timeline"):
                facts.instruments.add(instrument="Flute", family="Pipe", share=1)
            else:
                facts.voice.SetInParent()
            audio = self.store.blobs.put_file("clips", path, media_type="audio/flac")
            answer.clips.add(audio=audio, span=span, facts=facts)
        answer.action.action_key = "actions/cut/" + "d" * 64 + ".json"
        answer.action.lineage.versions["cut"] = "7"
        return answer
