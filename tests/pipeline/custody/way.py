"""A store as the services leave it: two songs on their way to a model."""

import hashlib
import json

from luthier.analysis.v1.analysis_pb2 import CutClipsResponse
from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier.inference.v1.inference_pb2 import GenerateResponse
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.models import ModelVersion, register
from luthier_pipeline.resources import plain


class Way:
    """Two songs rendered, cut, frozen into a data set, a base and a tuned model, audio generated and evaluated."""

    def __init__(self, store: Artifacts) -> None:
        self.store = store
        self.midi = [self.blob("midi", f"song {n}", "mid") for n in range(2)]
        files = [{"path": f"Artist/Song {n}.mid", "sha256": ref.sha256} for n, ref in enumerate(self.midi)]
        corpus = self.blob("manifests", json.dumps({"licence": "CC0-1.0", "files": files}), "json")
        store.append("corpora/way", {"manifest": plain(corpus)})
        self.mixes = [self.render(ref) for ref in self.midi]
        self.clips = [self.cut(ref) for ref in self.mixes]
        self.dataset = self.freeze()
        self.base = self.model("base", {})
        self.tuned = self.model("tuned", {"base": "base@1", "base_digest": self.base.digest}, dataset=self.dataset)
        self.audio = self.generate("A rock song")
        self.judged = self.generate("A row of the suite")
        row = Action("evaluation-row", [self.tuned.digest, hashlib.sha256(b"row").hexdigest()])
        store.run(row, RowResult, lambda: RowResult(audio=self.judged))

    def blob(self, kind, text, ext="flac"):
        return self.store.put_bytes(kind, text.encode(), ext)

    def render(self, midi):
        mix = self.blob("mixes", f"mix of {midi.key}")
        action = Action("render", [midi.sha256], tools={"soundfont": "5f" * 32})
        self.store.run(action, RenderSongResponse, lambda: RenderSongResponse(mix=mix))
        return mix

    def cut(self, mix):
        clip = self.blob("clips", f"clip of {mix.key}")
        response = CutClipsResponse()
        response.clips.add(audio=clip)
        timeline = hashlib.sha256(b"a timeline").hexdigest()
        self.store.run(Action("cut", [mix.sha256, timeline]), CutClipsResponse, lambda: response)
        return clip

    def freeze(self):
        rows = [
            {
                "clip_id": f"clip-{n}",
                "audio": plain(clip),
                "prompts": [f"prompt {n}"],
                "source": {"midi_sha256": midi.sha256},
                "lineage": {"inputs": [midi.sha256, "actions/prompt/x.json"]},
                "licences": ["CC0-1.0"],
            }
            for n, (clip, midi) in enumerate(zip(self.clips, self.midi, strict=True))
        ]
        manifest = self.blob("manifests", json.dumps({"format": "luthier.dataset.v1", "rows": rows}), "json")
        self.store.append("datasets/way", {"manifest": plain(manifest), "splits": [{"metadata": {}}]})
        return manifest

    def model(self, name, notes, dataset=None):
        version = ModelVersion(
            name=name,
            checkpoint=self.blob("checkpoints", f"weights of {name}", "safetensors"),
            configuration=self.blob("configurations", "{}", "json"),
            dataset=dataset,
            dataset_name="way@1" if dataset else "",
            notes=notes,
        )
        return register(self.store, version)

    def generate(self, prompt):
        audio = self.blob("generated", prompt)
        action = Action("generate", [self.tuned.digest], {"prompt": prompt}, seed=5)
        self.store.run(action, GenerateResponse, lambda: GenerateResponse(audio=audio))
        return audio
