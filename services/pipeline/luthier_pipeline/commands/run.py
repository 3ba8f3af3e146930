"""run: from a folder or a manifest, or a shard of one, to clips in curation."""

import os
import time
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.errors import Internal
from luthier_pipeline import catalogue
from luthier_pipeline.catalogue import Written
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.commands.corpus import ingest_collection, sheet_of
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.diary import Diary
from luthier_pipeline.progress import clock
from luthier_pipeline.resources import MAX_MANIFEST_BYTES, as_collection, as_name, plain
from luthier_pipeline.run import SHARD_IN_FLIGHT, Flight, Summary, default_in_flight, run_songs
from luthier_pipeline.shard import Shard, parse
from luthier_pipeline.song import Options, SongWay


def run(context: Context) -> None:
    """Takes a folder or a manifest all the way into curation; of many shards, one."""
    arguments, begun = context.arguments, time.monotonic()
    shard = _shard(context)
    collection = as_collection(arguments.collection) if arguments.collection else _named(arguments.source)
    written = _written(context, collection)
    songs = shard.of(written.corpus.songs)
    summary = _begin(written, shard, len(songs), fresh=Path(arguments.source).is_dir())
    way = SongWay(context.place, _options(context, written, collection))
    sizes = {"shard": shard.index, "shards": shard.count, "corpus_songs": len(written.corpus.songs)}
    facts = {**sizes, **Flight(len(songs)).facts(summary, None)}
    with Diary(context.place.store, collection, written.run, str(shard), **facts) as diary:
        flight = run_songs(songs, way, summary, _in_flight(context, shard), diary)
        summary.seconds = round(time.monotonic() - begun, 1)
        if flight.settled != len(songs):
            raise Internal(f"{len(songs) - flight.settled} songs are not accounted for", reason="SONGS_LOST")
        diary.tell(**flight.facts(summary, 0.0))
        diary.end()
    document = {**summary.document(), "collection": collection, "manifest": plain(written.manifest)}
    context.answer({**document, "shard": shard.index, "shards": shard.count}, _told(summary, collection))


def _shard(context: Context) -> Shard:
    try:
        shard = parse(context.arguments.shard, context.arguments.shards, os.environ)
    except ValueError as error:
        raise UsageError(f"--shard {error}") from None
    if shard.count > 1 and Path(context.arguments.source).is_dir():
        raise UsageError("--shard takes its songs from corpora/NAME or a manifest, which luthier ingest writes first")
    return shard


def _named(source: str) -> str:
    name = source.removeprefix(catalogue.ROOT)
    return as_collection(name) if name != source else as_name(Path(source).resolve().name)


def _written(context: Context, collection: str) -> Written:
    """The corpus that the source names."""
    text, arguments, store = context.arguments.source, context.arguments, context.place.store
    source = Path(text)
    if source.is_dir():
        return ingest_collection(context, source, collection)
    if text.startswith(catalogue.ROOT):
        name = as_collection(text.removeprefix(catalogue.ROOT))
        return catalogue.wait_for(store, name, arguments.submission, arguments.wait, context.say)
    if source.is_file():
        manifest = store.put_file("manifests", source, media_type="application/json")
    elif text.startswith("manifests/"):
        manifest = ArtifactRef(key=text, sha256=source.stem)
    else:
        raise UsageError(f"must be a folder, corpora/NAME, a manifest file or a manifests/… key, got {text}")
    corpus = Corpus.from_json(store.read(manifest, max_bytes=MAX_MANIFEST_BYTES))
    return Written(f"manifest-{manifest.sha256[:12]}", corpus, manifest)


def _begin(written: Written, shard: Shard, songs: int, *, fresh: bool) -> Summary:
    """What is known before the first song. Files that are no songs are told by who runs the whole, not by shards."""
    if shard.count > 1:
        return Summary(files=songs, songs=songs)
    found = written.corpus
    summary = Summary(files=len(found.entries), duplicates=len(found.duplicates), songs=songs)
    summary.failures.extend(found.failures)
    if fresh:
        summary.computed = sum(entry.computed for entry in found.entries if not entry.failure)
        summary.reused = sum(not entry.computed for entry in found.entries if not entry.failure)
    return summary


def _options(context: Context, written: Written, collection: str) -> Options:
    arguments = context.arguments
    return Options(
        collection,
        licence=written.corpus.licence,
        backend=arguments.backend,
        clip_s=arguments.clip_seconds,
        prompts=arguments.prompts,
        sheet=sheet_of(context, None) or written.sheet,
        mix_only=arguments.mix_only,
        patience_s=PATIENCE_S,
    )


def _in_flight(context: Context, shard: Shard) -> int:
    return int(context.arguments.in_flight or (SHARD_IN_FLIGHT if shard.count > 1 else default_in_flight()))


def _told(summary: Summary, collection: str) -> str:
    lines = [
        f"{summary.files} files: {summary.songs} songs, {summary.duplicates} duplicates, "
        f"{summary.files - summary.songs - summary.duplicates} refused",
        f"{summary.rendered} songs rendered ({clock(summary.audio_s)} of music), {summary.clips} clips in collection "
        f"{collection}, in {clock(summary.seconds)}",
        f"{summary.computed} actions computed, {summary.reused} found done",
    ]
    lines += [f"FAILED {f.path}: {f.stage}: {f.reason}: {f.message}" for f in summary.failures]
    return "\n".join(lines)
