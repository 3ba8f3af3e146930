"""A store as the services leave it: two songs on their way to a model."""

import hashlib
from dataclasses import replace
from typing import Any

from luthier.analysis.v1.analysis_pb2 import CutClipsResponse
from luthier.common.v1.common_pb2 import ADAPTER_KIND_LORA, ArtifactRef, ClipSource, Lineage, ModelAdapter
from luthier.curation.v1.curation_pb2 import SplitSummary
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier.inference.v1.inference_pb2 import GenerateResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier.training.v1.training_pb2 import CreateTrainingRunRequest, TrainingProgress, TrainingResult
from luthier_kit.registry import ModelVersion, RunKind, RunLog, register
from luthier_kit.store import Action, Store
from luthier_pipeline.corpus import StoredCorpus, corpus_of, publish
from luthier_pipeline.lineage import LineageIndex
from luthier_pipeline.retention.reach import Reach
from luthier_pipeline.retention.reach import reach as reach_of

TRAINING = RunKind("training", CreateTrainingRunRequest, TrainingProgress, TrainingResult)


class FilledStore:
    """Two songs rendered, cut, frozen into a data set, a base and a tuned model, audio generated and evaluated."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.midi = [self.blob("midi", f"song {n}", "mid") for n in range(2)]
        self.announce("way", {f"Artist/Song {n}.mid": ref for n, ref in enumerate(self.midi)})
        self.mixes = [self.render(ref) for ref in self.midi]
        self.clips = [self.cut(ref) for ref in self.mixes]
        self.dataset = self.freeze()
        self.base = self.model("base", {})
        self.tuned, self.run_id = self.train()
        self.audio = self.generate("A rock song")
        self.judged = self.generate("A row of the suite")
        row = Action("evaluation-row", [self.tuned.digest, hashlib.sha256(b"row").hexdigest()])
        store.actions.run(row, RowResult, lambda: RowResult(audio=self.judged))

    def blob(self, kind: str, text: str, ext: str = "flac") -> ArtifactRef:
        return self.store.blobs.put_bytes(kind, text.encode(), ext)

    def announce(self, collection: str, files: dict[str, ArtifactRef], licence: str = "CC0-1.0") -> StoredCorpus:
        rows = [CorpusFile(path=path, key=ref.key, sha256=ref.sha256, fingerprint=path) for path, ref in files.items()]
        return publish(self.store, collection, "r", corpus_of(rows, licence), None)

    def render(self, midi: ArtifactRef) -> ArtifactRef:
        mix = self.blob("mixes", f"mix of {midi.key}")
        action = Action("render", [midi.sha256], tools={"soundfont": "5f" * 32})
        self.store.actions.run(action, RenderSongResponse, lambda: RenderSongResponse(mix=mix))
        return mix

    def cut(self, mix: ArtifactRef) -> ArtifactRef:
        clip = self.blob("clips", f"clip of {mix.key}")
        response = CutClipsResponse()
        response.clips.add(audio=clip)
        timeline = hashlib.sha256(b"a timeline").hexdigest()
        self.store.actions.run(Action("cut", [mix.sha256, timeline]), CutClipsResponse, lambda: response)
        return clip

    def freeze(self) -> ArtifactRef:
        rows = [
            DatasetRow(
                clip_id=f"clip-{n}",
                audio=clip,
                prompts=[f"prompt {n}"],
                source=ClipSource(midi_sha256=midi.sha256),
                lineage=Lineage(inputs=[midi.sha256, "actions/prompt/x.json"]),
                licences=["CC0-1.0"],
            )
            for n, (clip, midi) in enumerate(zip(self.clips, self.midi, strict=True))
        ]
        manifest = self.store.put("manifests", DatasetManifest(format="luthier.dataset.v1", rows=rows))
        version = DatasetVersion(manifest=manifest, splits=[SplitSummary(split="train"), SplitSummary(split="test")])
        self.store.series(DatasetVersion, "datasets/way").append(version)
        return manifest

    def model(self, name: str, notes: dict[str, Any], dataset: ArtifactRef | None = None) -> ModelVersion:
        version = ModelVersion(
            name=name,
            checkpoint=self.blob("checkpoints", f"weights of {name}", "safetensors"),
            configuration=self.blob("configurations", "{}", "json"),
            dataset=dataset,
            dataset_name="way@1" if dataset else "",
            notes=notes,
        )
        return register(self.store, version)

    def adapt(self, name: str, base: ModelVersion) -> ModelVersion:
        """A version that is an adapter over another."""
        artifact = self.blob("checkpoints", f"adapter of {name}", "safetensors")
        adapters = (*base.adapters, ModelAdapter(artifact=artifact, kind=ADAPTER_KIND_LORA, rank=16, alpha=16))
        notes = {"base": base.label, "base_digest": base.digest}
        version = replace(base, name=name, adapters=adapters, dataset=self.dataset, notes=notes, created_at=None, n=0)
        return register(self.store, version)

    def train(self) -> tuple[ModelVersion, str]:
        request = CreateTrainingRunRequest(request_id="q", dataset=self.dataset, model_name="tuned")
        log = RunLog.create(self.store, TRAINING, "q", request)
        own = RunLog(self.store, TRAINING, log.id, "runner")
        own.start()
        notes = {"base": "base@1", "base_digest": self.base.digest, "run": log.id}
        tuned = self.model("tuned", notes, dataset=self.dataset)
        own.succeed(TrainingResult(model=tuned.label, model_digest=f"sha256:{tuned.digest}"))
        return tuned, log.id

    def generate(self, prompt: str) -> ArtifactRef:
        audio = self.blob("generated", prompt)
        action = Action("generate", [self.tuned.digest], {"prompt": prompt}, seed=5)
        self.store.actions.run(action, GenerateResponse, lambda: GenerateResponse(audio=audio))
        return audio


def reach(index: LineageIndex, *digests: str) -> Reach:
    """What comes from files, by their digests."""
    return reach_of(index, index.numbers(digests))
