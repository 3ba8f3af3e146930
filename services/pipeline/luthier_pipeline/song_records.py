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

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ActionInfo, ArtifactRef
from luthier.curation.v1.curation_pb2 import GetClipStampsRequest, UpsertClipsResponse
from luthier.enrichment.v1.enrichment_pb2 import EnrichSongResponse
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, SongClip, SongRecord
from luthier_kit.rpc import LuthierError, PermissionDenied, Unimplemented
from luthier_kit.store import digest_of
from luthier_pipeline.clients import Clients

log = logging.getLogger(__name__)
ROOT: Final = "songs/"
VERSION: Final = "1"  # raised whenever the pipeline itself makes other clips of the same answers
SERVICES: Final = ("rendering", "analysis", "enrichment", "prompting")
"""Whose answers make a song's clips."""
STAMPS_AT_ONCE: Final = 5000  # as GetClipStampsRequest says
TIMEOUT_S: Final = 120.0


def record_key(collection: str, song: CorpusFile, number: int) -> str:
    """Where the record of a song lies, as written or (1 or more) of its variation `number`."""
    return f"{ROOT}{collection}/{song.sha256}{f'.{number}' if number else ''}.json"


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

    def add_blob(self, ref: ArtifactRef, bucket: str) -> None:
        """A blob that the clips are made of."""
        self.blobs[ref.key] = ref.size_bytes
        self.whole &= ref.bucket in ("", bucket)

    def add_clips(self, upserted: UpsertClipsResponse) -> None:
        """Clips that curation took."""
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
class Configurations:
    """How the services are configured, by name; an empty digest is not known. `ages`: enrichment's answers do."""

    digests: Mapping[str, str]
    ages: bool = False

    @classmethod
    def of(cls, clients: Clients) -> "Configurations":
        """As the services say it now."""
        said = {service: clients.configuration(service) for service in SERVICES}
        return cls({service: one.digest for service, one in said.items()}, ages=said["enrichment"].ages)

    @property
    def known(self) -> bool:
        """Whether every service says what it is."""
        return all(self.digests.values())


class SongRecords:
    """The records of a collection under one set of options. `asked` names the options: SHA-256 of all of them that
    decide what becomes of a song."""

    def __init__(self, clients: Clients, collection: str, asked: str, configurations: Configurations) -> None:
        self._clients, self._collection, self._asked = clients, collection, asked
        self.configurations = configurations
        self._refused = False

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

    def found(self, items: Iterable[Item], pool: ThreadPoolExecutor) -> dict[tuple[str, int], SongRecord]:
        """By digest of the file and number of the variation, the records that hold: nothing is to be done for them.
        Records whose enrichment has to be asked again (`enriched`) are among them; the caller asks."""
        if not self.configurations.known:
            return {}
        store = self._clients.store
        names = set(store.objects.keys(f"{ROOT}{self._collection}/"))
        kept = [item for item in items if record_key(self._collection, item.song, item.number) in names]
        records = {
            (item.song.sha256, item.number): record
            for item, record in zip(kept, pool.map(self._read, kept), strict=True)
            if record
        }
        blobs = store.blobs.stored({key: size for one in records.values() for key, size in one.blobs.items()})
        actions = store.objects.sizes({key for one in records.values() for key in one.actions})
        records = {
            name: one
            for name, one in records.items()
            if blobs.issuperset(one.blobs) and all(key in actions for key in one.actions)
        }
        stamps = self._stamps([clip.clip_id for one in records.values() for clip in one.clips])
        return {
            name: one
            for name, one in records.items()
            if all(stamps.get(clip.clip_id) == clip.stamp for clip in one.clips)
        }

    def _read(self, item: Item) -> SongRecord | None:
        record = self._clients.store.note(SongRecord, record_key(self._collection, item.song, item.number))
        return record if record and record.question == self.question(item) else None

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
        try:
            self._clients.store.put_note(record_key(self._collection, item.song, item.number), record)
        except LuthierError as error:
            if not self._refused:
                log.warning("a song that is done is not noted, the next run asks all of it again: %s", error)
            self._refused = True


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(ids), STAMPS_AT_ONCE):
        yield ids[first : first + STAMPS_AT_ONCE]


def solo_choice_key(collection: str) -> str:
    """Where the choice of solo clips of a collection's corpus lies."""
    return f"{ROOT}{collection}/solos.json"
