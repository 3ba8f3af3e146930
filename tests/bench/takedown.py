"""How soon a takedown tells what falls, over a million clips, and what the lineage index costs.

`services/pipeline/.venv/bin/python tests/bench/takedown.py [--clips N] [--stored N] [--keep FOLDER]`

Two parts. The index of `--stored` clips is read from a real folder store of records, as the services write them: how
many records a second, and what it takes when nothing is new. The index of `--clips` is filled without a store, batch by
batch with the same code, and then asked, in a process of its own each time as `luthier takedown --dry-run` does: the
time counts from the opening of the file to the list of what falls. A song gives ten clips; a stem is played by one of
200 plugins or one of 20 SoundFonts, and songs are under one of 4 licences.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from luthier.analysis.v1.analysis_pb2 import CutClipsResponse
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.pipeline.v1.pipeline_pb2 import (
    TAKEDOWN_KIND_ARTIST,
    TAKEDOWN_KIND_LICENCE,
    TAKEDOWN_KIND_PLUGIN,
    TAKEDOWN_KIND_SONG,
    TAKEDOWN_KIND_SOUNDFONT,
    CorpusFile,
    CorpusManifest,
)
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier.store.v1.store_pb2 import ActionRecord
from luthier_kit.store import Action, FolderStore, Store, artifacts_in, encode_record
from luthier_pipeline.lineage import ACTION, DATASET, MODEL, PLUGIN, SOUNDFONT, LineageIndex, Step
from luthier_pipeline.lineage.steps import Sound
from luthier_pipeline.retention.asked import Asked
from luthier_pipeline.retention.reach import reach

CLIPS_OF_A_SONG, STEMS, PLUGINS, SOUNDFONTS, LICENCES, SONGS_OF_AN_ARTIST = 10, 4, 200, 20, 4, 20
CLIPS_OF_A_DATASET, GENERATED_BY_A_MODEL = 50_000, 500
SONGS_AT_ONCE = 200
QUESTIONS = (
    Asked(TAKEDOWN_KIND_SONG, "Artist 7/Song 141"),
    Asked(TAKEDOWN_KIND_ARTIST, "Artist 7"),
    Asked(TAKEDOWN_KIND_PLUGIN, "Plugin 3"),
    Asked(TAKEDOWN_KIND_SOUNDFONT, "font-3.sf2"),
    Asked(TAKEDOWN_KIND_LICENCE, "LICENCE-1"),
)


def sha(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def sounds(song: int) -> list[tuple[str, str, str]]:
    """Back end, name and digest of what plays each stem."""
    found = []
    for stem in range(STEMS):
        number = int(sha(song, stem)[:8], 16)
        kind, name = (SOUNDFONT, f"font-{number % SOUNDFONTS}.sf2") if stem else (PLUGIN, f"Plugin {number % PLUGINS}")
        found.append((kind, name, sha(name)))
    return found


def steps_of(song: int) -> Iterator[Step]:
    """What the stages do with a song and its clips, as the index is told it."""
    midi, mix = sha("midi", song), sha("mix", song)
    stems = [sha("stem", song, stem) for stem in range(STEMS)]
    clips = [sha("clip", song, clip) for clip in range(CLIPS_OF_A_SONG)]
    played = [
        Sound(kind, name, digest, output)
        for stem, (kind, name, digest) in zip(stems, sounds(song), strict=True)
        for output in (stem, mix)
    ]
    licence = (f"LICENCE-{song % LICENCES}",)
    yield Step(ACTION, f"actions/inspect/{sha('i', song)}.json", (midi,), (), "inspect")
    yield Step(
        ACTION, f"actions/render/{sha('r', song)}.json", (midi,), (mix, *stems), "render", licences=licence,
        sounds=tuple(played),
    )  # fmt: skip
    yield Step(ACTION, f"actions/analyze/{sha('a', song)}.json", (mix,), (), "analyze")
    yield Step(ACTION, f"actions/cut/{sha('c', song)}.json", (mix, sha("timeline", song)), tuple(clips), "cut")
    for clip in clips:
        yield Step(ACTION, f"actions/prompt/{sha('p', clip)}.json", (sha("facts", clip),), (), "prompt")
        yield Step(ACTION, f"actions/latents/{sha('l', clip)}.json", (clip,), (sha("latent", clip),), "latents")


def blobs_of(song: int) -> Iterator[str]:
    yield f"midi/{sha('midi', song)}.mid"
    yield f"mixes/{sha('mix', song)}.flac"
    yield from (f"stems/{sha('stem', song, stem)}.flac" for stem in range(STEMS))
    for clip in (sha("clip", song, number) for number in range(CLIPS_OF_A_SONG)):
        yield f"clips/{clip}.flac"
        yield f"latents/{sha('latent', clip)}.safetensors"


def file_of(song: int) -> CorpusFile:
    artist = f"Artist {song // SONGS_OF_AN_ARTIST}"
    return CorpusFile(
        path=f"{artist}/Song {song}.mid", artist=artist, title=f"Song {song}", sha256=sha("midi", song),
        fingerprint=sha("fingerprint", song),
    )  # fmt: skip


def fill(index: LineageIndex, songs: int) -> None:
    """The index of a store of so many songs, which there is not."""
    for first in range(0, songs, SONGS_AT_ONCE):
        part = range(first, min(songs, first + SONGS_AT_ONCE))
        steps = [step for song in part for step in steps_of(song)]
        with index._written():
            numbers = index._number_records([step.name for step in steps])
            index._add_steps([(numbers[step.name], step) for step in steps])
            index._add_blobs([key for song in part for key in blobs_of(song)])
    for licence in range(LICENCES):
        manifest = CorpusManifest(licence=f"LICENCE-{licence}", files=map(file_of, range(licence, songs, LICENCES)))
        with index._written():
            index._add_songs(f"manifests/{sha('manifest', licence)}.json", manifest)
    for first in range(0, songs, CLIPS_OF_A_DATASET // CLIPS_OF_A_SONG):
        name, part = f"set{first}@1", range(first, min(songs, first + CLIPS_OF_A_DATASET // CLIPS_OF_A_SONG))
        clips = tuple(sha("clip", song, clip) for song in part for clip in range(CLIPS_OF_A_SONG))
        model = sha("model", first)
        made = [
            Step(ACTION, f"actions/generate/{sha('g', model, n)}.json", (model,), (sha("out", model, n),), "generate")
            for n in range(GENERATED_BY_A_MODEL)
        ]
        with index._written():
            index._add_named(Step(DATASET, name, clips, (sha("dataset", first),)), f"datasets/{name}")
            weights = sha("weights", first)
            index._add_named(Step(MODEL, name, (sha("dataset", first),), (model, weights)), f"models/{name}")
            numbers = index._number_records([step.name for step in made])
            index._add_steps([(numbers[step.name], step) for step in made])
            index._add_blobs([f"generated/{step.outputs[0]}.flac" for step in made])


def store_folder(folder: Path, songs: int) -> Store:
    """A folder store with the records and the (empty) blobs of so many songs."""
    store = Store(FolderStore(folder, "luthier"))
    store.objects.ensure_bucket(create=True)
    for song in range(songs):
        for key in blobs_of(song):
            _write(folder / "luthier" / key, b"")
        for step in steps_of(song):
            response = RenderSongResponse() if step.stage == "render" else CutClipsResponse()
            refs = [_ref(step, digest) for digest in step.outputs]
            if isinstance(response, RenderSongResponse):
                response.mix.CopyFrom(refs[0])
                for ref, (kind, name, digest) in zip(refs[1:], sounds(song), strict=True):
                    stem = response.stems.add(audio=ref)
                    stem.sound.backend, stem.sound.source, stem.sound.digest = kind, name, digest
            else:
                for ref in refs:
                    response.clips.add(audio=ref)
            action = Action(step.stage, step.inputs, {"n": 1}, licences=step.licences)
            record = ActionRecord(stage=step.stage, digest=action.digest, lineage=action.lineage, commit="0" * 32)
            record.result.Pack(response)
            record.blobs.extend(artifacts_in(response))
            record.created_at.GetCurrentTime()
            _write(folder / "luthier" / step.name, encode_record(record))
    store.put("manifests", CorpusManifest(licence="LICENCE-0", files=map(file_of, range(songs))))
    return store


def _ref(step: Step, digest: str) -> ArtifactRef:
    kind = {"render": "stems", "cut": "clips", "latents": "latents"}[step.stage]
    return ArtifactRef(bucket="luthier", key=f"{kind}/{digest}.flac", sha256=digest, media_type="audio/flac")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def empty_store(folder: Path) -> Store:
    store = Store(FolderStore(folder, "luthier"))
    store.objects.ensure_bucket(create=True)
    return store


def ask(path: Path, number: int) -> None:
    """One question in this process; prints what it came to as JSON."""
    LineageIndex.update = lambda _: None  # type: ignore[method-assign]  # there is no store to bring it up to date with
    with tempfile.TemporaryDirectory() as folder:
        store = empty_store(Path(folder))
        began, cpu_began = time.perf_counter(), time.process_time()
        index = LineageIndex(store, path)
        index.read_steps = lambda _: {}  # type: ignore[method-assign]  # nor documents of models
        asked = QUESTIONS[number]
        found = reach(index, asked.found(index))
        document = json.dumps(found.document())
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = [len(each) for each in (found.derived, found.datasets, found.models, found.generated, document)]
    files, datasets, models, outputs, _ = counts
    told = f"{files} files, {found.clips} clips, {datasets} data sets, {models} models, {outputs} outputs"
    print(f"{asked}: {told} in {seconds:.1f} s ({cpu_s:.1f} s of CPU), {peak / 1024:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--stored", type=int, default=20_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is not None:
        ask(options.keep / "index.sqlite3", options.ask)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if options.stored:
            store = store_folder(Path(temporary) / "store", options.stored // CLIPS_OF_A_SONG)
            records = sum(1 for _ in store.objects.keys("actions/"))
            began = time.perf_counter()
            index = LineageIndex(store, Path(temporary) / "stored.sqlite3")
            built_s = time.perf_counter() - began
            began = time.perf_counter()
            index.update()
            again_s = time.perf_counter() - began
            told = f"{records} records read in {built_s:.1f} s ({records / built_s:.0f} a second)"
            print(f"{options.stored} clips in a folder: {told}, again with nothing new {again_s:.2f} s", flush=True)
            index.close()
        path = folder / "index.sqlite3"
        if not path.exists():
            began = time.perf_counter()
            LineageIndex.update = lambda _: None  # type: ignore[method-assign]
            index = LineageIndex(empty_store(Path(temporary) / "empty"), path)
            fill(index, options.clips // CLIPS_OF_A_SONG)
            index.close()
            took_s = time.perf_counter() - began
            print(
                f"{options.clips} clips: index filled in {took_s:.0f} s, {path.stat().st_size / 1e6:.0f} MB", flush=True
            )
        for number in range(len(QUESTIONS)):
            command = [sys.executable, __file__, "--keep", str(folder), "--ask", str(number)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
