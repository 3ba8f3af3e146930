"""Songs that went all the way before, so that a run finds out at once that nothing is to be done for them.

Without them a run asks every stage of every song, and each stage finds its action record: right, but hundreds of
questions a song. A song that went all the way leaves one record (`SongRecord`) that names all that decided what became
of it, the configurations of the services among it, and all that must still be there: blobs, action records, clips in
curation. Where any of that is another one the song is taken all the way again, and every stage finds or makes its own.

What decides, and who says it:

    the song's file, name, group, and what lies beside it    its row of the manifest
    what is asked for                                        the options of the run, the passages chosen for solo clips
    versions, tools, models, settings of the services        GetConfiguration; each answer names it, too
    web services that enrichment asks                        enrichment, asked again where its answers age
    what people or other runs did to the clips               curation: the stamp of what the pipeline sent last
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Final

from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef
from luthier.curation.v1.curation_pb2 import GetClipStampsRequest, UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, SongClip, SongRecord
from luthier_kit.rpc import PermissionDenied, Unimplemented
from luthier_kit.store import digest_of
from luthier_pipeline.clients import Clients
from luthier_pipeline.notes import find_note, folder_of, keep_note

VERSION: Final = "1"  # raised whenever the pipeline itself makes other clips of the same answers
SERVICES: Final[tuple[str, ...]] = ("rendering", "analysis", "enrichment", "prompting")
"""Whose answers make a song's clips."""
OF_RECORDINGS: Final = tuple(service for service in SERVICES if service != "rendering")
"""Whose answers make the clips of recordings: nobody waits for a renderer there, and none may be running."""
SONGS_AT_ONCE: Final = 500  # whose records are held in memory: a song names some fifty objects
STAMPS_AT_ONCE: Final = 5000  # as GetClipStampsRequest says
SONGS_OF_A_PAGE: Final = 1000  # of a listing of the store
READS_FOR_A_PAGE: Final = 10  # that cost what a page of a listing does
TIMEOUT_S: Final = 120.0


def record_key(collection: str, song: CorpusFile, number: int) -> str:
    """Where the record of a song lies, as written or (1 or more) of its variation `number`."""
    return f"{folder_of(collection)}{song.sha256}{f'.{number}' if number else ''}.json"


def digest_of_message(message: Message) -> str:
    """SHA-256 of a message as this program writes it."""
    return sha256(message.SerializeToString(deterministic=True)).hexdigest()


def digest_of_answer(enriched: EnrichSongResponse) -> str:
    """SHA-256 of what enrichment says of a song, whenever it was found out."""
    said = EnrichSongResponse()
    said.CopyFrom(enriched)
    said.ClearField("action")
    return digest_of_message(said)


@dataclass
class Behind:
    """What a song's clips are made of, gathered while it goes its way."""

    blobs: dict[str, int] = field(default_factory=dict)  # length in bytes by key
    actions: list[str] = field(default_factory=list)
    answers: int = 0
    clips: list[SongClip] = field(default_factory=list)
    enriched: EnrichSongResponse | None = None
    whole: bool = True
    """Whether all of it is known: every answer names its record and the configuration that was expected."""

    def add_action(self, action: ActionInfo, configuration: str) -> None:
        """An answer of a service that is configured so."""
        self.answers += 1
        self.actions.append(action.action_key)
        self.whole &= bool(action.action_key and action.configuration) and action.configuration == configuration

    def add_check(self, answered: str, configuration: str) -> None:
        """An answer that leaves no record, by a server configured so, of a service that should be configured so."""
        self.whole &= bool(answered) and answered == configuration

    def add_blob(self, ref: ArtifactRef, bucket: str) -> None:
        """A blob that the clips are made of."""
        self.blobs[ref.key] = ref.size_bytes
        self.whole &= ref.bucket in ("", bucket)

    def add_clips(self, upserted: UpsertClipsResponse) -> None:
        """Clips that curation took."""
        self.answers += 1
        self.whole &= len(upserted.stamps) == len(upserted.clip_ids) and all(upserted.stamps)
        for clip_id, stamp in zip(upserted.clip_ids, upserted.stamps, strict=False):
            self.clips.append(SongClip(clip_id=clip_id, stamp=stamp))


@dataclass(frozen=True)
class Item:
    """A song, or (number 1 or more) a variation of it; `solos` are the passages chosen for solo clips, by part."""

    song: CorpusFile
    number: int
    solos: Mapping[int, frozenset[float]]


@dataclass(frozen=True)
class Done:
    """A song for which nothing is to be done: the number of its clips, and of its record what came of it."""

    clips: int
    came: SongRecord

    @classmethod
    def of(cls, record: SongRecord) -> "Done":
        """Without what had to be checked, which is most of it."""
        came = SongRecord(
            enriched=record.enriched,
            answers=record.answers,
            audio_s=record.audio_s,
            solo_s=record.solo_s,
            notes=record.notes,
        )
        return cls(len(record.clips), came)


@dataclass(frozen=True)
class Configurations:
    """How the services are configured, by name; an empty digest is not known. `ages`: enrichment's answers do."""

    digests: Mapping[str, str]
    ages: bool = False

    @classmethod
    def of(cls, clients: Clients, services: Iterable[str] = SERVICES) -> "Configurations":
        """As the services say it now."""
        said = {service: clients.configuration(service) for service in services}
        return cls({service: one.digest for service, one in said.items()}, ages=said["enrichment"].ages)

    @property
    def known(self) -> bool:
        """Whether every service that was asked says what it is."""
        return all(self.digests.values())


class SongRecords:
    """The records of a collection under one set of options. `asked` names the options: SHA-256 of all of them that
    decide what becomes of a song."""

    def __init__(self, clients: Clients, collection: str, asked: str, configurations: Configurations) -> None:
        self._clients, self._collection, self._asked = clients, collection, asked
        self.configurations = configurations

    def question(self, item: Item) -> str:
        """SHA-256 of all that decides what becomes of a song."""
        solos = {str(part): sorted(starts) for part, starts in item.solos.items()}
        return digest_of(
            {
                "version": VERSION,
                "song": digest_of_message(item.song),
                "number": item.number,
                "asked": self._asked,
                "solos": solos,
                "configurations": dict(self.configurations.digests),
            }
        )

    def found(
        self, items: Iterable[Item], pool: ThreadPoolExecutor, *, count: int, of: int
    ) -> dict[tuple[str, int], Done]:
        """By digest of the file and number of the variation, what is done: nothing is to be done for it, where
        enrichment has not to be asked again (`enriched`); the caller asks. `count`: how many items there are; `of`: in
        the whole corpus.

        Their names are listed, or each is asked for by its name, whichever costs less: 2,000 shards that each list the
        records of 100,000 songs ask for 200,000 pages.
        """
        if not self.configurations.known:
            return {}
        kept = iter(items)
        if count > READS_FOR_A_PAGE * (1 + of // SONGS_OF_A_PAGE):
            names = set(self._clients.store.objects.keys(folder_of(self._collection)))
            kept = (item for item in items if record_key(self._collection, item.song, item.number) in names)
        done: dict[tuple[str, int], Done] = {}
        while batch := list(islice(kept, SONGS_AT_ONCE)):
            records = zip(batch, pool.map(self._read, batch), strict=True)
            done |= self._hold({(item.song.sha256, item.number): one for item, one in records if one})
        return done

    def _read(self, item: Item) -> SongRecord | None:
        record = find_note(self._clients.store, SongRecord, record_key(self._collection, item.song, item.number))
        return record if record and record.question == self.question(item) else None

    def _hold(self, records: Mapping[tuple[str, int], SongRecord]) -> dict[tuple[str, int], Done]:
        """Those of which all is there."""
        store = self._clients.store
        blobs = store.blobs.stored({key: size for one in records.values() for key, size in one.blobs.items()})
        actions = store.objects.sizes({key for one in records.values() for key in one.actions})
        stamps = self._stamps([clip.clip_id for one in records.values() for clip in one.clips])
        return {
            name: Done.of(one)
            for name, one in records.items()
            if blobs.issuperset(one.blobs)
            and actions.keys() >= set(one.actions)
            and all(stamps.get(clip.clip_id) == clip.stamp for clip in one.clips)
        }

    def _stamps(self, ids: list[str]) -> dict[str, str]:
        """What curation says of clips, by id."""
        found: dict[str, str] = {}
        for part in _parts(ids):
            request = GetClipStampsRequest(clip_ids=part)
            try:
                answer = self._clients.curation.GetClipStamps(request, timeout=TIMEOUT_S)
            except (Unimplemented, PermissionDenied):  # an older server
                return {}
            found |= dict(zip(part, answer.stamps, strict=True))
        return found

    def put(self, item: Item, behind: Behind, record: SongRecord) -> None:
        """Keeps that a song went all the way; `record` has what it gave. Where not all is known nothing is kept."""
        if not (self.configurations.known and behind.whole):
            return
        record.question = self.question(item)
        if self.configurations.ages and behind.enriched is not None:
            record.enriched = digest_of_answer(behind.enriched)
        record.clips.extend(behind.clips)
        record.blobs.update(behind.blobs)
        record.actions.extend(dict.fromkeys(behind.actions))
        record.answers = behind.answers
        keep_note(self._clients.store, record_key(self._collection, item.song, item.number), record)


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(ids), STAMPS_AT_ONCE):
        yield ids[first : first + STAMPS_AT_ONCE]


def solo_choice_key(collection: str) -> str:
    """Where the choice of solo clips of a collection's corpus lies."""
    return f"{folder_of(collection)}solos.json"
