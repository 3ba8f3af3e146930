"""takedown by artist, song, plugin, SoundFont and licence."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import ListClipsResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, Recording
from luthier.rendering.v1.rendering_pb2 import RenderSongResponse, RenderStemResponse
from luthier_kit.rpc import NotFound
from luthier_kit.store import Action, Store
from luthier_pipeline.cli import app
from luthier_pipeline.console import Context
from luthier_pipeline.corpus import corpus_of, publish
from luthier_pipeline.retention import takedown
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier
from tests.pipeline.filled_store import FilledStore

PLUGIN, FONT = "aa" * 32, "bb" * 32


def run(store: Store, *words: str) -> Done:
    curation = Stub(ListClips=ListClipsResponse())
    return luthier(["takedown", *words, "--reason", "claim 7", "--json"], FakeClients(store, curation=curation))


def falls(store: Store, *words: str) -> set[str]:
    return set(run(store, *words, "--dry-run").document["derived"])


class Songbook:
    """A corpus of two artists; the songs' stems are played by a plugin and by a SoundFont."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.midi = {
            path: store.blobs.put_bytes("midi", path.encode(), "mid")
            for path in ("Ann Lee/One.mid", "Ann Lee/Two.mid", "Bob/One.mid", "Bob/One.1.mid")
        }
        fingerprints = {path: hashlib.sha256(path.encode()).hexdigest() for path in self.midi}
        group = [fingerprints["Bob/One.mid"], fingerprints["Ann Lee/One.mid"]]  # a cover
        files = [
            CorpusFile(
                path=path, artist=path.partition("/")[0], title=Path(path).stem, key=ref.key, sha256=ref.sha256,
                fingerprint=fingerprints[path], related_fingerprints=group if path.endswith("One.mid") else [],
            )
            for path, ref in self.midi.items()
        ]  # fmt: skip
        corpus = corpus_of(files, "CC0-1.0")
        for file in corpus.manifest.files:  # as an ingest would find them by their notes
            if file.path.endswith("/One.mid"):
                file.related_fingerprints[:] = group
        publish(store, "book", "r", corpus, None)
        self.piano = {path: store.blobs.put_bytes("stems", f"piano {path}".encode(), "flac") for path in self.midi}
        self.bass = {path: store.blobs.put_bytes("stems", f"bass {path}".encode(), "flac") for path in self.midi}
        self.mix = {path: self.render(path) for path in self.midi}

    def render(self, path: str) -> ArtifactRef:
        """Ann Lee's pianos are a plugin, Bob's the SoundFont, which plays every bass."""
        mix = self.store.blobs.put_bytes("mixes", f"mix {path}".encode(), "flac")
        response = RenderSongResponse(mix=mix)
        piano, bass = response.stems.add(audio=self.piano[path]), response.stems.add(audio=self.bass[path])
        font = ("soundfont", "MuseScore General.sf2", FONT)
        of_piano = ("vst3", "Spitfire Piano", PLUGIN) if path.startswith("Ann") else font
        for stem, (backend, source, digest) in ((piano, of_piano), (bass, font)):
            stem.sound.backend, stem.sound.source, stem.sound.digest = backend, source, digest
        tools = {"Spitfire Piano": PLUGIN, "MuseScore General.sf2": FONT}  # of the whole map, whatever was drawn
        action = Action("render", [self.midi[path].sha256], tools=tools, licences=["MIT"])
        self.store.actions.run(action, RenderSongResponse, lambda: response)
        return mix

    def keys(self, path: str) -> set[str]:
        return {files[path].key for files in (self.midi, self.piano, self.bass, self.mix)}


@pytest.mark.parametrize("name", ["Ann Lee", "ann lee"])
def test_all_of_an_artist_falls_and_nothing_else(each_store: Store, name: str) -> None:
    book = Songbook(each_store)
    assert falls(each_store, "--artist", name) == book.keys("Ann Lee/One.mid") | book.keys("Ann Lee/Two.mid")


@pytest.mark.parametrize("name", ["Bob/One", "bob/one.mid"])
def test_a_song_is_named_with_or_without_its_ending(store: Store, name: str) -> None:
    book = Songbook(store)
    assert falls(store, "--song", name) == book.keys("Bob/One.mid")


def test_a_song_in_a_deeper_folder_is_known_by_its_artist_and_title_or_its_path(store: Store) -> None:
    ref = store.blobs.put_bytes("midi", b"deep", "mid")
    file = CorpusFile(path="Jazz/Eve/Op. 27.mid", artist="Eve", title="Op. 27", key=ref.key, sha256=ref.sha256)
    publish(store, "deep", "r", corpus_of([file], "CC0-1.0"), None)
    for name in ("eve/op. 27", "Eve/Op. 27.mid", "Jazz/Eve/Op. 27.mid"):
        assert falls(store, "--song", name) == {ref.key}
    assert falls(store, "--artist", "Eve") == {ref.key}


def test_near_duplicates_of_what_falls_are_named_and_left(store: Store) -> None:
    book = Songbook(store)
    document = run(store, "--song", "Ann Lee/One", "--dry-run").document
    assert document["near_duplicates"] == ["Bob/One.mid"]
    run(store, "--song", "Ann Lee/One", "--yes")
    assert store.blobs.read(book.midi["Bob/One.mid"])


@pytest.mark.parametrize("name", ["Spitfire Piano", "spitfire piano", PLUGIN, f"sha256:{PLUGIN}"])
def test_of_a_plugin_fall_the_stems_that_it_played_and_their_mixes(store: Store, name: str) -> None:
    book = Songbook(store)
    played = [path for path in book.midi if path.startswith("Ann")]
    assert falls(store, "--plugin", name) == {files[path].key for files in (book.piano, book.mix) for path in played}


@pytest.mark.parametrize("name", ["MuseScore General.sf2", "musescore general", FONT])
def test_of_a_soundfont_fall_the_stems_that_it_played_and_their_mixes(store: Store, name: str) -> None:
    book = Songbook(store)
    pianos = {book.piano[path].key for path in book.midi if path.startswith("Bob")}
    assert falls(store, "--soundfont", name) == pianos | {
        f[path].key for f in (book.bass, book.mix) for path in book.midi
    }


def test_a_sound_falls_with_the_clips_cut_from_what_it_played(store: Store) -> None:
    book = Songbook(store)
    filled = FilledStore(store)
    clip = filled.cut(book.mix["Ann Lee/Two.mid"])
    assert clip.key in falls(store, "--plugin", "Spitfire Piano")


def test_a_stem_that_was_played_again_falls_with_its_plugin(store: Store) -> None:
    again = store.blobs.put_bytes("stems", b"again", "flac")
    sound = {"backend": "vst3", "source": "Old Synth", "digest": PLUGIN, "presetDigest": "cc" * 32}
    action = Action("render-stem", ["dd" * 32], {"sound": sound})
    store.actions.run(action, RenderStemResponse, lambda: RenderStemResponse(audio=again))
    assert falls(store, "--plugin", "Old Synth") == {again.key} == falls(store, "--plugin", "cc" * 32)


def test_records_that_do_not_tell_their_sounds_fall_with_every_tool_that_they_name(store: Store) -> None:
    filled = FilledStore(store)  # its renders name a tool, `soundfont`, by digest
    found = falls(store, "--soundfont", "5f" * 32)
    assert {ref.key for ref in (*filled.mixes, *filled.clips)} == found
    assert falls(store, "--plugin", "5f" * 32) == found  # which of the two it was is not told


def test_a_licence_falls_with_songs_and_with_sounds_under_it(store: Store) -> None:
    book = Songbook(store)
    tape = store.blobs.put_bytes("audio", b"tape", "mp3")
    recording = CorpusFile(
        path="Cal/T.mp3", key=tape.key, sha256=tape.sha256, recording=Recording(licence="CC-BY-NC-4.0")
    )
    publish(store, "tapes", "r", corpus_of([recording], "CC0-1.0"), None)
    assert falls(store, "--licence", "cc-by-nc-4.0") == {tape.key}
    assert falls(store, "--licence", "MIT") == {f[p].key for f in (book.piano, book.bass, book.mix) for p in book.midi}
    assert falls(store, "--licence", "CC0-1.0") == {key for path in book.midi for key in book.keys(path)}


def test_models_under_a_licence_and_what_they_made_are_named_and_left(store: Store) -> None:
    filled = FilledStore(store)
    filled.model("research", {"licences": ["CC-BY-NC-4.0"]})
    document = run(store, "--licence", "CC-BY-NC-4.0", "--dry-run").document
    assert (document["models"], document["derived"]) == (["research@1"], [])


@pytest.mark.parametrize(
    ("option", "name", "there"),
    [
        ("--artist", "Nobody", "artist Nobody"),
        ("--song", "Ann Lee/Three", "song Ann Lee/Three"),
        ("--plugin", "MuseScore General", "Spitfire Piano"),
        ("--soundfont", "Spitfire Piano", "MuseScore General.sf2"),
        ("--licence", "GPL-3.0", "CC0-1.0, MIT"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(store: Store, option: str, name: str, there: str) -> None:
    Songbook(store)
    done = run(store, option, name, "--yes")
    assert (done.code, done.document["error"]["code"]) == (1, NotFound.code.name)
    assert there in done.err
    assert not list(store.objects.keys("tombstones/"))


@pytest.mark.parametrize("words", [[], ["--artist", "a", "--song", "b"], ["midi/x.mid", "--licence", "MIT"]])
def test_one_thing_is_named(store: Store, words: list[str]) -> None:
    assert run(store, *words, "--dry-run").code == 2


def test_nothing_is_taken_down_without_a_yes(store: Store) -> None:
    Songbook(store)
    done = run(store, "--artist", "Bob")
    assert done.code == 2
    assert "would be taken down (artist Bob): 8 files" in done.err
    assert "--yes" in done.err
    assert not list(store.objects.keys("tombstones/"))


@pytest.mark.parametrize(("answer", "falls_"), [("y", True), ("n", False)])
def test_on_a_terminal_a_person_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, answer: str, falls_: bool
) -> None:
    Songbook(store)
    monkeypatch.setattr(takedown, "has_terminal", lambda: True)
    curation = Stub(ListClips=ListClipsResponse())
    line = ["takedown", "--artist", "Bob", "--reason", "claim 7"]
    done = CliRunner().invoke(app, line, obj=Context(FakeClients(store, curation=curation)), input=f"{answer}\n")
    assert (done.exit_code == 0, bool(list(store.objects.keys("tombstones/")))) == (falls_, falls_)


def test_a_large_takedown_is_two_objects_and_the_same_list(store: Store) -> None:
    Songbook(store)
    listed = falls(store, "--licence", "CC0-1.0")
    done = run(store, "--licence", "CC0-1.0", "--yes").document
    assert set(done["derived"]) == listed
    assert len(list(store.objects.keys("tombstones/"))) == 2
