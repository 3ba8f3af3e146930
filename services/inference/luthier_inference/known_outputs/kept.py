"""The log of outputs in the store, and the index of it that this process holds.

Each output has a document `generated/<sha256>.json` (LoggedOutput) beside its audio: written once, and gone when
generated audio expires. Every server of an installation lists them before it searches and reads those that are new, so
that all of them know all outputs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.known_outputs.fingerprint import VERSION, Fingerprint, fingerprint_of
from luthier_inference.known_outputs.index import Index
from luthier_kit.rpc import DataLoss, InvalidRequest, NotFound, PermissionDenied
from luthier_kit.store import Store, is_blob_key
from luthier_music.audio import Samples

FOLDER: Final = "generated/"
MAX_TOLD: Final = 8
MAX_ENTRY_BYTES: Final = 512 << 10
_GONE_SHARE: Final = 0.1  # of what the index holds, that has expired: it is then made anew


@dataclass(frozen=True)
class Found:
    """What a search found, how many outputs it was among."""

    outputs: tuple[pb.KnownOutput, ...] = ()
    among: int = 0


class KnownOutputs:
    """The log of a store, `max_bytes` of it in memory; 0 = switched off. Threads may share it."""

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store, self._max_bytes = store, max_bytes
        self._lock = threading.Lock()
        self._index = Index(max_bytes)
        self._entries: dict[str, pb.LoggedOutput] = {}  # by their keys, without fingerprints
        self._skipped: set[str] = set()  # keys of what is no entry of this version
        self._by_watermark: dict[str, str] = {}  # keys of records

    @property
    def on(self) -> bool:
        """Whether outputs are kept."""
        return self._max_bytes > 0

    def keep(
        self, samples: Samples, rate_hz: int, audio: ArtifactRef, action_key: str, model: str, watermark_id: str
    ) -> "pb.OutputLogState":
        """Writes the entry of an output, samples (samples, channels) as its file has them, and says what became of it.
        What the store raises: an output that should be known again and is not kept, is not given away.
        """
        if not self.on:
            return pb.OUTPUT_LOG_STATE_OFF
        fingerprint = fingerprint_of(samples, rate_hz)
        if fingerprint is None:
            return pb.OUTPUT_LOG_STATE_NOTHING_TO_HEAR
        entry = pb.LoggedOutput(
            audio=audio,
            action_key=action_key,
            model=model,
            watermark_id=watermark_id,
            duration_s=fingerprint.duration_s,
            version=VERSION,
            fingerprint=fingerprint.to_bytes(),
        )
        self._store.put(FOLDER.rstrip("/"), entry)
        return pb.OUTPUT_LOG_STATE_KEPT

    def search(self, samples: Samples, rate_hz: int, stop: Callable[[], bool] = lambda: False) -> Found:
        """The outputs that are heard in a sound (frames, channels), the surest first, at most MAX_TOLD. Those that were
        taken down are told, too: their audio is gone. `stop` is asked before each window: True ends the search."""
        if not self.on:
            return Found()
        with self._lock:
            self._refresh()
            heard = self._index.search(samples, rate_hz, stop)
            told = [
                pb.KnownOutput(
                    output_key=self._entries[each.output].audio.key,
                    action_key=self._entries[each.output].action_key,
                    model=self._entries[each.output].model,
                    at_s=each.at_s,
                    output_at_s=each.output_at_s,
                    duration_s=each.duration_s,
                    score=each.score,
                )
                for each in heard
                if each.output in self._entries
            ]
            return Found(tuple(told[:MAX_TOLD]), len(self._entries))

    def action_of(self, watermark_id: str) -> str:
        """Key of the record that a watermark leads to, as the log has it; empty where it has none."""
        with self._lock:
            self._refresh()
            return self._by_watermark.get(watermark_id, "")

    def _refresh(self) -> None:
        """Reads what was written since, the oldest first, and forgets what is gone."""
        if not self.on:
            return
        listed = {found.key: found for found in self._store.objects.stored(FOLDER) if _is_entry(found.key)}
        gone = self._entries.keys() - listed.keys()
        for key in gone:
            self._by_watermark.pop(self._entries.pop(key).watermark_id, None)
        self._skipped &= listed.keys()
        if len(self._index) - len(self._entries) > _GONE_SHARE * len(self._index):
            self._index, self._entries, self._by_watermark = Index(self._max_bytes), {}, {}
        new = [each for each in listed.values() if each.key not in self._entries and each.key not in self._skipped]
        for found in sorted(new, key=lambda found: (found.written_at, found.key)):
            if not self._read(found.key):
                self._skipped.add(found.key)

    def _read(self, key: str) -> bool:
        """Adds an entry to the index; False where it is none of this version."""
        ref = ArtifactRef(key=key, sha256=key.removeprefix(FOLDER).removesuffix(".json"))
        try:
            entry = self._store.get(pb.LoggedOutput, ref)
            fingerprint = Fingerprint.from_bytes(entry.fingerprint) if entry.version == VERSION else None
        except (NotFound, PermissionDenied, InvalidRequest, DataLoss):  # gone meanwhile, or no entry
            return False
        if fingerprint is None:
            return False
        entry.ClearField("fingerprint")
        for forgotten in self._index.add(key, fingerprint):
            if forgotten in self._entries:
                self._skipped.add(forgotten)
                self._by_watermark.pop(self._entries.pop(forgotten).watermark_id, None)
        self._entries[key] = entry
        if entry.watermark_id:
            self._by_watermark[entry.watermark_id] = entry.action_key
        return True


def _is_entry(key: str) -> bool:
    return key.endswith(".json") and is_blob_key(key)
