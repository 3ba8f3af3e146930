"""The lineage index: which step made which file of which others, of a whole store, in a SQLite file.

What the store keeps is never changed, so the index is brought up to date by reading what it has not seen; it holds who
made and who used what, and where songs, sounds and licences are. All else of a step is read from its document when it
is asked for. A file that is lost, damaged or of another version is made anew.

`open_index` keeps it in the cache folder of the user (LUTHIER_CACHE), one file for each store. tests/bench/takedown.py
measures it with a million clips.
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from luthier.pipeline.v1.pipeline_pb2 import CorpusManifest
from luthier_kit.rpc import FailedPrecondition, NotFound
from luthier_kit.store import MARK_KEY, Store, is_blob_key
from luthier_pipeline.corpus import ROOT as CORPORA
from luthier_pipeline.corpus import ingest_series
from luthier_pipeline.lineage.steps import (
    ACTION,
    DATASET,
    MODEL,
    READS_AT_ONCE,
    RUN,
    Song,
    Step,
    digest_in_key,
    is_digest,
    newest_entries,
    read_action,
    read_dataset,
    read_manifest,
    read_model,
    read_run,
)

VERSION: Final = 2
"""Of the tables and of what is read into them: a file of another one is made anew."""
BATCH: Final = 2000  # documents of one transaction: what was read of them outlives a crash
ASKED_AT_ONCE: Final = 500  # variables of one statement
OFF: Final = "off"
CACHE_KIB: Final = 256 << 10  # of pages in memory: new digests fall all over their index
MAX_MARK_BYTES: Final = 1024
MAX_ENDING_CHARS: Final = 5  # `.midi`: the title `Op. 27` has none
OF_A_THREAD: Final = 25  # documents that a thread reads at a time: handing one over takes as long as reading it
LOCKED_S: Final = 300.0  # how long another command that writes is waited for
NOT_LISTED: Final = frozenset(
    {"audit", "heartbeats", "proofs", "quarantine", "quotas", "requests", "songs", "takedowns", "tombstones"}
)
"""Folders of the store that neither make nor name what is made."""

T = TypeVar("T")
Ids = NDArray[np.signedinteger[Any]]
PAIR: Final = np.dtype("<i4")  # numbers of files and steps as they are packed

_TABLES: Final = """
CREATE TABLE digests (id INTEGER PRIMARY KEY, sha BLOB NOT NULL UNIQUE);
CREATE TABLE forms (id INTEGER PRIMARY KEY, before TEXT NOT NULL, after TEXT NOT NULL, UNIQUE (before, after));
CREATE TABLE blobs (digest INTEGER NOT NULL, form INTEGER NOT NULL, PRIMARY KEY (digest, form)) WITHOUT ROWID;
CREATE TABLE steps (id INTEGER PRIMARY KEY, form INTEGER, sha BLOB, UNIQUE (form, sha));
CREATE TABLE named (step INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL);
CREATE INDEX named_name ON named (name);
CREATE UNIQUE INDEX named_key ON named (key);
CREATE TABLE actions (id INTEGER PRIMARY KEY, used BLOB NOT NULL, made BLOB NOT NULL);
CREATE TABLE used (digest INTEGER NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (step, digest)) WITHOUT ROWID;
CREATE TABLE gave (digest INTEGER NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (step, digest)) WITHOUT ROWID;
CREATE TABLE made (digest INTEGER NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (digest, step)) WITHOUT ROWID;
CREATE TABLE beneath (digest INTEGER NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (digest, step)) WITHOUT ROWID;
CREATE TABLE tools (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
                    UNIQUE (kind, name, digest));
CREATE TABLE played (tool INTEGER NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY (tool, digest)) WITHOUT ROWID;
CREATE TABLE licences (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE bound (licence INTEGER NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY (licence, digest)) WITHOUT ROWID;
CREATE TABLE granted (licence INTEGER NOT NULL, step INTEGER NOT NULL, PRIMARY KEY (licence, step)) WITHOUT ROWID;
CREATE TABLE songs (id INTEGER PRIMARY KEY, manifest TEXT NOT NULL, digest INTEGER NOT NULL, path TEXT NOT NULL,
                    folded TEXT NOT NULL, artist TEXT NOT NULL, fingerprint TEXT NOT NULL, licence TEXT NOT NULL,
                    recording INTEGER NOT NULL);
CREATE INDEX songs_digest ON songs (digest);
CREATE INDEX songs_path ON songs (path);
CREATE INDEX songs_folded ON songs (folded);
CREATE INDEX songs_artist ON songs (artist);
CREATE INDEX songs_manifest ON songs (manifest);
CREATE INDEX songs_fingerprint ON songs (fingerprint);
CREATE TABLE related (fingerprint TEXT NOT NULL, song INTEGER NOT NULL, PRIMARY KEY (fingerprint, song)) WITHOUT ROWID;
CREATE INDEX related_song ON related (song);
CREATE TABLE corpora (manifest TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# `bound`: files that a licence binds; `granted`: models and generations whose licences name it. `songs.folded` is
# `artist/title` and `songs.artist` the artist, both case-folded. `steps` are records of actions by the digest
# in their key, and further ones whose names are in `named`. What a batch of actions used and made is packed in
# `actions`, pairs of file and step as 32-bit numbers: a walk takes all of them, and rows would take ten times as long.
# `used` and `gave`, what they made, are of the further steps alone; `made` is of all, for the way back from a file.


@dataclass(frozen=True)
class Graph:
    """Who used and made what, as arrays: edge i of `used` is that step `used_by[i]` used file `used[i]`, ascending by
    file; edge i of `made` that step `made_by[i]` made file `made[i]`, ascending by step. Files and steps are numbers of
    the index; `kinds` are the kinds of steps that are no actions."""

    used: Ids
    used_by: Ids
    made: Ids
    made_by: Ids
    beneath: Ids
    beneath_of: Ids
    kinds: Mapping[int, str]
    files: int
    steps: int


class LineageIndex:
    """Steps and files of a store. Without a `path` it is kept in memory, for stores that are small and for tests.

    Brought up to date when it is opened; `update` does so again. For an installation's operator, not for a request.
    """

    def __init__(self, store: Store, path: Path | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.store, self._say = store, say
        self._database = _opened(path)
        self._known: dict[tuple[str, ...], int] = {}  # numbers of rows of small tables
        self._steps: dict[int, Step] = {}  # that were read from their documents
        self.update()

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    # What it knows

    def blob(self, digest: str) -> str:
        """The key of a stored blob with this digest; empty where there is none."""
        rows = self._rows(
            "SELECT before || lower(hex(sha)) || after FROM digests JOIN blobs ON blobs.digest = digests.id "
            "JOIN forms ON forms.id = blobs.form WHERE digests.id = ? ORDER BY forms.id DESC LIMIT 1",
            self._number(digest),
        )
        return str(rows[0][0]) if rows else ""

    def makers(self, digests: Collection[str]) -> dict[str, list[Step]]:
        """Of each of these files the steps that made it."""
        made_by: dict[str, list[int]] = {digest: [] for digest in digests}
        for part in _parts([bytes.fromhex(digest) for digest in digests if is_digest(digest)]):
            marks = _marks(part)
            rows = self._rows(
                f"SELECT sha, step FROM digests JOIN made ON made.digest = digests.id WHERE sha IN ({marks})", *part
            )
            for sha, step in rows:
                made_by[sha.hex()].append(step)
        steps = self.read_steps(sorted({step for made in made_by.values() for step in made}))
        return {digest: [steps[step] for step in made if step in steps] for digest, made in made_by.items()}

    def song(self, digest: str) -> Song | None:
        """Where a file lay in a corpus; of several, the place that was told last."""
        number = self._number(digest)
        found = list(self._songs("songs.digest = ? ORDER BY songs.id DESC LIMIT 1", number))
        return found[0][1] if found else None

    def resolve(self, name: str) -> str:
        """The digest that a key, a digest, `sha256:…`, `name@n` or a path in a corpus means.

        NotFound; FailedPrecondition NAME_AMBIGUOUS when it means several.
        """
        text = name.removeprefix("sha256:")
        if is_blob_key(text):
            text = digest_in_key(text)
        if self._number(text) is not None:
            return text
        found: dict[str, list[str]] = defaultdict(list)
        for step in self.named(name):
            if step.outputs:
                found[step.outputs[0]].append(step.kind)
        for digest, song in self._songs("songs.path = ?", name):
            found[digest].append(song.corpus)
        if not found:
            raise NotFound(f"nothing in the store is or names {name[:200]!r}", reason="ARTIFACT_NOT_FOUND")
        if len(found) > 1:
            which = "; ".join(f"{digest} ({', '.join(places)})" for digest, places in found.items())
            raise FailedPrecondition(f"{name[:200]!r} means several, give a digest: {which}", reason="NAME_AMBIGUOUS")
        return next(iter(found))

    def resolve_file(self, name: str) -> str:
        """As `resolve`, of a file only. FailedPrecondition NOT_A_FILE names the files of a step or a model version."""
        digest = name.removeprefix("sha256:")
        models = [step for step in self.makers([digest])[digest] if step.kind == MODEL and step.outputs[0] == digest]
        for step in (*self.named(name), *models):
            files = ", ".join(filter(None, map(self.blob, step.outputs))) or "none is stored"
            text = f"{name} is no file but {step.kind} {step.name}; its files: {files}"
            raise FailedPrecondition(text, reason="NOT_A_FILE")
        return self.resolve(name)

    def by_artist(self, artist: str) -> Ids:
        """The songs of an artist, whatever the case of the name."""
        return self._ids("SELECT DISTINCT digest FROM songs WHERE artist = ?", artist.casefold())

    def by_song(self, song: str) -> Ids:
        """The files of a song, `Artist/Title` with or without an ending, whatever its case, or a path in a corpus."""
        folded = song.casefold()
        return self._ids(
            "SELECT DISTINCT digest FROM songs WHERE folded IN (?, ?) OR path = ?",
            folded,
            _without_ending(folded),
            song,
        )

    def by_sound(self, kind: str, name: str) -> Ids:
        """The files that a plugin or a SoundFont is in, by its name, whatever its case, or its digest."""
        chosen = [number for number, told in self._tools(kind) if name.casefold() in told]
        return self._ids(f"SELECT DISTINCT digest FROM played WHERE tool IN ({_marks(chosen)})", *chosen)

    def sounds(self, kind: str) -> list[str]:
        """Names of all plugins or SoundFonts that played, sorted."""
        rows = self._rows("SELECT DISTINCT name FROM tools WHERE kind = ? ORDER BY name", kind)
        return [name for (name,) in rows]

    def by_licence(self, licence: str) -> Ids:
        """What a licence binds: songs, and what rendering made with sounds under it."""
        chosen = [number for number, name in self._rows("SELECT id, name FROM licences") if _same(name, licence)]
        return self._ids(f"SELECT DISTINCT digest FROM bound WHERE licence IN ({_marks(chosen)})", *chosen)

    def granted(self, licence: str) -> list[str]:
        """Model versions whose own licences name it."""
        rows = self._rows(
            "SELECT licences.name, named.name FROM licences JOIN granted ON granted.licence = licences.id "
            "JOIN named ON named.step = granted.step WHERE named.kind = ? ORDER BY named.name",
            MODEL,
        )
        return [model for name, model in rows if _same(name, licence)]

    def licences(self) -> list[str]:
        """Names of all licences, sorted."""
        return [name for (name,) in self._rows("SELECT name FROM licences ORDER BY name")]

    def near(self, numbers: Ids) -> list[str]:
        """Paths of songs that have the same notes as songs among these files, or are near-duplicates of them, and are
        not among them; sorted."""
        with self._chosen(numbers):
            rows = self._rows(
                "WITH own AS (SELECT songs.id, fingerprint FROM chosen JOIN songs ON songs.digest = chosen.id), "
                "same AS (SELECT fingerprint FROM own WHERE fingerprint <> '' "
                "         UNION SELECT related.fingerprint FROM own JOIN related ON related.song = own.id) "
                "SELECT path FROM same JOIN songs USING (fingerprint) WHERE digest NOT IN (SELECT id FROM chosen) "
                "UNION SELECT path FROM own JOIN related USING (fingerprint) JOIN songs ON songs.id = related.song "
                "WHERE digest NOT IN (SELECT id FROM chosen) ORDER BY path"
            )
            return [path for (path,) in rows]

    def numbers(self, digests: Iterable[str]) -> Ids:
        """The numbers of these files; what the store never named is left out."""
        found: list[int] = []
        for part in _parts([bytes.fromhex(digest) for digest in digests if is_digest(digest)]):
            marks = _marks(part)
            found += [number for (number,) in self._rows(f"SELECT id FROM digests WHERE sha IN ({marks})", *part)]
        return np.array(found, dtype=np.int64)

    def files(self, numbers: Ids) -> tuple[list[str], list[str]]:
        """Digests of files, and their keys; `sha256:…` where no blob is stored. In the order of the numbers."""
        forms = {number: (before, after) for number, before, after in self._rows("SELECT id, before, after FROM forms")}
        with self._chosen(numbers):
            rows = self._rows(
                "SELECT digests.id, sha, max(form) FROM chosen JOIN digests ON digests.id = chosen.id "
                "LEFT JOIN blobs ON blobs.digest = digests.id GROUP BY digests.id"
            )
        found = {}
        for number, sha, form in rows:
            digest = sha.hex()
            before, after = forms[form] if form else ("sha256:", "")
            found[number] = (digest, f"{before}{digest}{after}")
        ordered = [found[number] for number in numbers.tolist()]
        return [digest for digest, _ in ordered], [key for _, key in ordered]

    def names(self, steps: Ids) -> dict[str, list[str]]:
        """Names of those steps that are no actions, by kind."""
        found: dict[str, list[str]] = defaultdict(list)
        with self._chosen(steps):
            rows = self._database.execute("SELECT kind, name FROM chosen JOIN named ON named.step = chosen.id")
            for kind, name in rows:
                found[kind].append(name)
        return found

    def graph(self) -> Graph:
        """All of it as arrays, to be walked; about a second for the steps of a million clips."""
        packed = self._rows("SELECT used, made FROM actions")
        of_actions = [
            np.frombuffer(b"".join(column), dtype=PAIR).reshape(-1, 2) for column in zip(*packed, strict=True)
        ]
        further = [
            "SELECT digest, step FROM used",
            "SELECT digest, step FROM gave",
            "SELECT digest, step FROM beneath",
        ]
        used, made, beneath = (self._pairs(statement) for statement in further)
        if of_actions:
            used, made = np.concatenate([of_actions[0], used]), np.concatenate([of_actions[1], made])
        used, made = (pairs[np.argsort(pairs[:, by], kind="stable")] for pairs, by in ((used, 0), (made, 1)))
        [(files, steps)] = self._rows(
            "SELECT coalesce((SELECT max(id) FROM digests), 0), coalesce((SELECT max(id) FROM steps), 0)"
        )
        kinds = dict(self._rows("SELECT step, kind FROM named"))
        return Graph(
            used[:, 0], used[:, 1], made[:, 0], made[:, 1], beneath[:, 0], beneath[:, 1], kinds, files + 1, steps + 1
        )

    # Bringing it up to date

    def update(self) -> None:
        """Read what the store has and the index has not seen, and forget what is not stored any more.

        Records are never deleted: where one is gone, the store was brought back as it was before, and all is read anew.
        """
        try:
            self._update()
        except _OlderStore:
            self._say("the store has lost records that the lineage index knows: all of them are read anew")
            with self._written():
                for (table,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
                    self._database.execute(f"DELETE FROM {table}")
            self._known.clear()
            self._update()

    def _update(self) -> None:
        told = 0
        self._steps.clear()  # a run has another newest entry
        for folder in self.store.objects.children(""):
            if folder in NOT_LISTED:
                continue
            if folder == "actions":
                for stage in self.store.objects.children("actions/"):
                    told += self._update_actions(f"actions/{stage}/")
            else:
                keys = self.store.objects.key_set(f"{folder}/")
                self._update_blobs(f"{folder}/", keys)
                told += self._update_documents(folder, keys)
        if told >= BATCH:
            self._say(f"the lineage index has read {told} documents")

    def _update_actions(self, folder: str) -> int:
        listed = self.store.objects.key_set(folder)
        known = {
            key
            for (key,) in self._rows(
                "SELECT before || lower(hex(sha)) || after FROM forms JOIN steps ON steps.form = forms.id "
                "WHERE before = ?",
                folder,
            )
        }
        if known - listed:
            raise _OlderStore
        fresh = sorted(listed - known)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for keys in _parts(fresh, BATCH):
                read = pool.map(lambda part: [read_action(self.store, key) for key in part], _parts(keys, OF_A_THREAD))
                steps = [step for part in read for step in part]
                with self._written():
                    numbers = self._number_records(keys)
                    self._add_steps(
                        [(numbers[key], step) for key, step in zip(keys, steps, strict=True) if step and key in numbers]
                    )
                if len(fresh) > 10 * BATCH:
                    self._say(f"the lineage index reads {folder}: {keys[-1]} of {len(fresh)} new ones")
        return len(fresh)

    def _update_blobs(self, folder: str, listed: set[str]) -> None:
        listed = {key for key in listed if is_blob_key(key)}
        known = {
            key: (digest, form)
            for key, digest, form in self._rows(
                "SELECT before || lower(hex(sha)) || after, blobs.digest, blobs.form FROM forms "
                "JOIN blobs ON blobs.form = forms.id JOIN digests ON digests.id = blobs.digest "
                "WHERE before >= ? AND before < ?",
                folder,
                f"{folder[:-1]}0",  # the character behind "/"
            )
        }
        with self._written():
            gone = [known[key] for key in known.keys() - listed]
            self._database.executemany("DELETE FROM blobs WHERE digest = ? AND form = ?", gone)
        for keys in _parts(sorted(listed - known.keys()), 10 * BATCH):
            with self._written():
                self._add_blobs(keys)

    def _update_documents(self, folder: str, keys: set[str]) -> int:
        """Read the documents of a folder that has some; how many were new."""
        if folder == "manifests":
            return self._update_manifests(keys)
        if folder == "corpora":
            return self._update_corpora(keys)
        if folder in {"datasets", "models"}:
            return self._update_versions(keys, f"{folder}/")
        return self._update_runs(keys) if folder == "runs" else 0

    def _update_manifests(self, keys: set[str]) -> int:
        manifests = {key for key in keys if is_blob_key(key)}
        fresh = self._unseen(manifests, "manifests/")
        for key in fresh:
            manifest = read_manifest(self.store, key)
            with self._written():
                if not self._rows("SELECT 1 FROM seen WHERE key = ?", key):  # by another command meanwhile
                    self._add_songs(key, manifest)
                    self._see(key)
        return len(fresh)

    def _update_corpora(self, keys: set[str]) -> int:
        fresh = self._unseen(keys, CORPORA)
        for name in sorted({key.removeprefix(CORPORA).rpartition("/")[0] for key in fresh}):
            entries = ingest_series(self.store, name).entries()
            with self._written():
                rows = [(outcome.corpus.manifest.key, f"{CORPORA}{name}@{number}") for number, outcome in entries]
                self._database.executemany("INSERT OR REPLACE INTO corpora VALUES (?, ?)", rows)
                self._see(*(key for key in fresh if key.rpartition("/")[0] == f"{CORPORA}{name}"))
        return len(fresh)

    def _update_versions(self, keys: set[str], folder: str) -> int:
        fresh = self._unseen({key for key in keys if key.removesuffix(".json").rpartition("/")[2].isdecimal()}, folder)
        for key in fresh:
            name, _, number = key.removeprefix(folder).removesuffix(".json").rpartition("/")
            if folder == "models/":
                step = read_model(self.store, f"{name}@{number}")
            else:
                step = read_dataset(self.store, name, int(number))
            with self._written():
                if step:
                    self._add_named(step, key)
                self._see(key)
        return len(fresh)

    def _update_runs(self, keys: set[str]) -> int:
        newest = newest_entries(keys)
        known = dict(self._rows("SELECT key, step FROM named WHERE kind = ?", RUN))
        fresh = sorted(set(newest) - known.keys())
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            found = zip(fresh, pool.map(lambda key: read_run(self.store, key), fresh), strict=True)
            steps = {key: step for key, step in found if step}
        with self._written():
            for key in known.keys() - set(newest):  # a later entry is the state, or the run is gone
                self._forget_step(known[key])
            for key, step in steps.items():
                self._add_named(step, key)
        return len(steps)

    # Writing

    def _add_blobs(self, keys: Sequence[str]) -> None:
        split = {key: key.split(digest_in_key(key)) for key in keys}
        numbers = self._number_digests(digest_in_key(key) for key in keys)
        rows = [(numbers[digest_in_key(key)], self._form(before, after)) for key, (before, after) in split.items()]
        self._database.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", rows)

    def _add_songs(self, key: str, manifest: CorpusManifest) -> None:
        files = [file for file in manifest.files if is_digest(file.sha256)]
        numbers = self._number_digests(file.sha256 for file in files)
        for file in files:
            licence = file.recording.licence or manifest.licence
            folder, _, name = file.path.rpartition("/")
            artist, title = file.artist or folder.rpartition("/")[2], file.title or _without_ending(name)
            row = (
                key, numbers[file.sha256], file.path, f"{artist}/{title}".casefold(), artist.casefold(),
                file.fingerprint, licence, file.HasField("recording"),
            )  # fmt: skip
            columns = "manifest, digest, path, folded, artist, fingerprint, licence, recording"
            song = self._database.execute(f"INSERT INTO songs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            related = [(fingerprint, song.lastrowid) for fingerprint in file.related_fingerprints]
            self._database.executemany("INSERT OR IGNORE INTO related VALUES (?, ?)", related)
            if licence:
                bound = (self._licence(licence), numbers[file.sha256])
                self._database.execute("INSERT OR IGNORE INTO bound VALUES (?, ?)", bound)

    def _add_named(self, step: Step, key: str) -> None:
        if self._rows("SELECT 1 FROM named WHERE key = ?", key):  # read by another command meanwhile
            return
        found = self._database.execute("INSERT INTO steps (form, sha) VALUES (NULL, NULL)")
        number = found.lastrowid
        assert number is not None
        self._database.execute("INSERT INTO named VALUES (?, ?, ?, ?)", (number, step.kind, step.name, key))
        self._add_steps([(number, step)])

    def _add_steps(self, steps: Sequence[tuple[int, Step]]) -> None:
        """Inputs, outputs, sounds and licences of steps that have numbers."""
        of = self._number_digests(
            digest
            for _, step in steps
            for digest in (*step.inputs, *step.outputs, *step.beneath, *(sound.output for sound in step.sounds))
        )
        used, made, beneath, played, bound, granted = (list[tuple[int, int]]() for _ in range(6))
        for number, step in steps:
            used += [(of[digest], number) for digest in step.inputs if digest in of]
            made += [(of[digest], number) for digest in step.outputs if digest in of]
            beneath += [(of[digest], number) for digest in step.beneath if digest in of]
            for sound in step.sounds:
                if sound.output in of:
                    played.append((self._tool(sound.kind, sound.name, sound.digest), of[sound.output]))
            for licence in step.licences:
                if step.kind == ACTION and step.stage not in _OF_MODELS:
                    bound += [(self._licence(licence), of[digest]) for digest in step.outputs if digest in of]
                else:
                    granted.append((self._licence(licence), number))
            for digest, row in step.clips.items():
                bound += [(self._licence(licence), of[digest]) for licence in row.licences if digest in of]
        tables = {"used": used, "made": made, "beneath": beneath, "played": played, "bound": bound, "granted": granted}
        if steps and steps[0][1].kind == ACTION:
            self._add_packed(tables.pop("used"), made)
        else:
            tables["gave"] = made
        for table, rows in tables.items():
            self._database.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", rows)

    def _add_packed(self, used: Collection[tuple[int, int]], made: Collection[tuple[int, int]]) -> None:
        """What a batch of actions used and made, each pair once."""
        packed = [np.array(sorted(set(pairs)), dtype=PAIR).tobytes() for pairs in (used, made)]
        self._database.execute("INSERT INTO actions (used, made) VALUES (?, ?)", packed)

    def _forget_step(self, number: int) -> None:
        self._database.execute("DELETE FROM used WHERE step = ?", (number,))
        self._database.execute(
            "DELETE FROM made WHERE (digest, step) IN (SELECT digest, step FROM gave WHERE step = ?)", (number,)
        )
        self._database.execute("DELETE FROM gave WHERE step = ?", (number,))
        self._database.execute("DELETE FROM named WHERE step = ?", (number,))

    def _number_digests(self, digests: Iterable[str]) -> dict[str, int]:
        """Numbers of digests, new ones given; what is no digest (a name among inputs) has none."""
        found: dict[str, int] = {}
        shas = [bytes.fromhex(digest) for digest in dict.fromkeys(digests) if is_digest(digest)]
        self._database.executemany("INSERT OR IGNORE INTO digests (sha) VALUES (?)", ((sha,) for sha in shas))
        for part in _parts(shas):
            marks = _marks(part)
            rows = self._database.execute(f"SELECT sha, id FROM digests WHERE sha IN ({marks})", part)
            found |= {sha.hex(): number for sha, number in rows}
        return found

    def _number_records(self, keys: Sequence[str]) -> dict[str, int]:
        """New numbers of records; what another command has read meanwhile has none."""
        found: dict[str, int] = {}
        for key in keys:
            digest = digest_in_key(key)
            if not is_digest(digest):
                continue
            before, after = key.split(digest)
            inserted = self._database.execute(
                "INSERT OR IGNORE INTO steps (form, sha) VALUES (?, ?)",
                (self._form(before, after), bytes.fromhex(digest)),
            )
            if inserted.rowcount:
                assert inserted.lastrowid is not None
                found[key] = inserted.lastrowid
        return found

    def _form(self, before: str, after: str) -> int:
        return self._own("forms (before, after)", before, after)

    def _tool(self, kind: str, name: str, digest: str) -> int:
        return self._own("tools (kind, name, digest)", kind, name, digest)

    def _licence(self, name: str) -> int:
        return self._own("licences (name)", name)

    def _own(self, columns: str, *values: str) -> int:
        """The number of a row of a small table, which is added where it is new."""
        if (columns, *values) not in self._known:
            table, _, names = columns.partition(" ")
            self._database.execute(f"INSERT OR IGNORE INTO {columns} VALUES ({_marks(values)})", values)
            where = " AND ".join(f"{name} = ?" for name in names.strip("()").split(", "))
            [(number,)] = self._rows(f"SELECT id FROM {table} WHERE {where}", *values)
            self._known[columns, *values] = int(number)
        return self._known[columns, *values]

    def _unseen(self, keys: set[str], folder: str) -> list[str]:
        """Those of a folder's documents that were not read yet; songs of manifests that are gone are forgotten."""
        known = {
            key for (key,) in self._rows("SELECT key FROM seen WHERE key >= ? AND key < ?", folder, f"{folder[:-1]}0")
        }
        if gone := known - keys:
            with self._written():
                for key in gone:
                    self._database.execute(
                        "DELETE FROM related WHERE song IN (SELECT id FROM songs WHERE manifest = ?)", (key,)
                    )
                    self._database.execute("DELETE FROM songs WHERE manifest = ?", (key,))
                    self._database.execute("DELETE FROM seen WHERE key = ?", (key,))
        return sorted(keys - known, key=lambda key: (len(key), key))  # the entries of a series by their numbers

    def _see(self, *keys: str) -> None:
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    @contextmanager
    def _written(self) -> Iterator[None]:
        """A transaction."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            self._known.clear()
            raise
        self._database.execute("COMMIT")

    # Reading

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.execute(statement, values).fetchall()

    def _number(self, digest: str) -> int | None:
        found = self._rows("SELECT id FROM digests WHERE sha = ?", bytes.fromhex(digest)) if is_digest(digest) else []
        return int(found[0][0]) if found else None

    def _songs(self, where: str, *values: object) -> Iterator[tuple[str, Song]]:
        rows = self._rows(
            "SELECT sha, path, licence, coalesce(corpora.name, songs.manifest), recording, fingerprint FROM songs "
            "JOIN digests ON digests.id = songs.digest LEFT JOIN corpora ON corpora.manifest = songs.manifest "
            f"WHERE {where}",
            *values,
        )
        for sha, path, licence, corpus, recording, fingerprint in rows:
            yield sha.hex(), Song(path, licence, corpus, bool(recording), fingerprint)

    def _tools(self, kind: str) -> Iterator[tuple[int, set[str]]]:
        """Of each tool of a kind the names that mean it. What records of before tell without a kind is of any."""
        for number, name, digest in self._rows("SELECT id, name, digest FROM tools WHERE kind IN (?, '')", kind):
            folded = name.casefold()
            yield number, {folded, _without_ending(folded), digest, f"sha256:{digest}"}

    def _ids(self, statement: str, *values: object) -> Ids:
        return np.fromiter((number for (number,) in self._rows(statement, *values)), dtype=np.int64)

    def named(self, name: str) -> list[Step]:
        """The steps of a name: `name@n`, a run's id, an action's key."""
        found = [step for (step,) in self._rows("SELECT step FROM named WHERE name = ?", name)]
        if name.startswith("actions/") and is_digest(digest := digest_in_key(name)):
            before, after = name.split(digest)
            found += [
                step
                for (step,) in self._rows(
                    "SELECT steps.id FROM steps JOIN forms ON forms.id = form "
                    "WHERE before = ? AND after = ? AND sha = ?",
                    before,
                    after,
                    bytes.fromhex(digest),
                )
            ]
        return list(self.read_steps(found).values())

    def read_steps(self, numbers: Collection[int]) -> dict[int, Step]:
        """Steps by their documents; one whose document is gone is left out."""
        told: list[tuple[int, str, str, str]] = []
        for part in _parts([number for number in numbers if number not in self._steps]):
            marks = _marks(part)
            told += self._rows(
                "SELECT steps.id, coalesce(key, before || lower(hex(sha)) || after), coalesce(kind, ''), "
                "coalesce(name, '') FROM steps LEFT JOIN named ON named.step = steps.id "
                f"LEFT JOIN forms ON forms.id = steps.form WHERE steps.id IN ({marks})",
                *part,
            )
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for (number, *_), step in zip(told, pool.map(lambda row: self._read_step(*row[1:]), told), strict=True):
                if step:
                    self._steps[number] = step
        return {number: self._steps[number] for number in numbers if number in self._steps}

    def _read_step(self, key: str, kind: str, name: str) -> Step | None:
        if kind == MODEL:
            return read_model(self.store, name)
        if kind == DATASET:
            dataset, _, number = name.rpartition("@")
            return read_dataset(self.store, dataset, int(number))
        return read_run(self.store, key) if kind == RUN else read_action(self.store, key)

    def _pairs(self, statement: str) -> NDArray[np.int32]:
        """Files and steps, [pairs, 2]."""
        return np.array(self._rows(statement), dtype=PAIR).reshape(-1, 2)

    @contextmanager
    def _chosen(self, numbers: Ids) -> Iterator[None]:
        """Files or steps in the temporary table `chosen`."""
        self._database.execute("CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY)")
        try:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", zip(np.sort(numbers).tolist()))
            self._database.execute("COMMIT")
            yield
        finally:
            self._database.execute("DROP TABLE chosen")


_OF_MODELS: Final = frozenset({"generate"})
"""Stages whose licences are those of models: what they made is named, and left for a person to decide about."""


def open_index(store: Store, environ: Mapping[str, str], say: Callable[[str], None]) -> LineageIndex:
    """The index of a store, brought up to date, in the folder LUTHIER_CACHE, else in that of the user's caches.

    With LUTHIER_CACHE=off it is made in memory, for this command alone; so it is, and that is said, where the folder
    cannot be written.
    """
    if environ.get("LUTHIER_CACHE") == OFF:
        return LineageIndex(store, None, say)
    cache = environ.get("LUTHIER_CACHE") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "luthier"
    mark = store.objects.get(MARK_KEY, MAX_MARK_BYTES) or b""
    name = hashlib.sha256(f"{store.objects!r}\0".encode() + mark).hexdigest()[:16]
    path = Path(cache) / f"lineage-{name}.sqlite3"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return LineageIndex(store, path, say)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged where opening it did not look
            _delete(path)
            return LineageIndex(store, path, say)
    except (OSError, sqlite3.OperationalError) as error:
        say(f"no lineage index is kept at {path} ({error}): all records are read for this command (LUTHIER_CACHE)")
        return LineageIndex(store, None, say)


def _opened(path: Path | None) -> sqlite3.Connection:
    """The database with its tables, made anew where the file is damaged or of another version."""
    if path is None:
        return _with_tables(":memory:")
    for _ in range(2):
        try:
            database = _with_tables(path)
            path.chmod(0o600)  # it names artists and songs
            return database
        except sqlite3.OperationalError:  # a disk that is full, a folder that may not be written
            raise
        except (sqlite3.DatabaseError, _AnotherVersion):
            _delete(path)
    return _with_tables(path)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


class _OlderStore(Exception):
    """The store lacks what the index knows."""


class _AnotherVersion(Exception):
    """The file has other tables."""


def _with_tables(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None)
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KIB}",
        ):
            database.execute(f"PRAGMA {pragma}")
        database.execute("BEGIN IMMEDIATE")  # of two commands that begin at once one makes the tables
        [(version,)] = database.execute("PRAGMA user_version").fetchall()
        if version not in {0, VERSION}:
            raise _AnotherVersion
        if not version:
            for statement in filter(str.strip, _TABLES.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _parts(items: Sequence[T], size: int = ASKED_AT_ONCE) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _without_ending(name: str) -> str:
    """A file's name or path without its last suffix."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and ending and "/" not in ending and len(ending) <= MAX_ENDING_CHARS else name
