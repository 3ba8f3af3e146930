"""The clips and prompts of a run's data sets, encoded: found in the store, or made now.

One thread encodes; others meanwhile fetch, decode and resample the clips that come next, and store what is encoded.
"""

import functools
import itertools
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import torch

from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier_kit.rpc import TRAIN, VALIDATION
from luthier_music.clip_facts import facts_of
from luthier_training import audio
from luthier_training.base_model import BaseModel, Excerpt, Latents, StoredLatents, StoredText
from luthier_training.clip_encoder import ClipEncoder
from luthier_training.dataset import rows_of, subset_of
from luthier_training.examples import Example, excerpts, windows
from luthier_training.job import Job
from luthier_training.reporting import Stopped

THREADS = 3
"""That read and store beside the one that encodes; the tiny model's encoder takes twice a clip's reading."""
MAX_READ_VALUES = 1 << 28
"""Samples of all clips that are read ahead, 1 GiB; a clip that has more of them is alone."""
T = TypeVar("T")
Encode = Callable[[torch.Tensor], Latents]


@dataclass(frozen=True)
class Part:
    """Latents of a clip from `start_s` on; `whole_s` is how long a longer one lasts that it is a window of, else 0."""

    latents: StoredLatents
    start_s: float = 0.0
    whole_s: float = 0.0


def encode(job: Job, base: BaseModel, *datasets: DatasetManifest) -> tuple[list[Example], list[Example]]:
    """Examples for training and for validation, of all data sets; the prompts' embeddings replace the text encoder in
    the model, or stand before it where metadata are drawn. A clip that several data sets name is encoded once.
    """
    numbered = [
        (number, row) for split in (TRAIN, VALIDATION) for number, dataset in enumerate(datasets)
        for row in rows_of(dataset, split)
    ]  # fmt: skip
    clips, files = [row for _, row in numbered], job.shared_folder("latents")
    parts = encode_clips(job, base, clips, files)
    sampled = tuple(job.request.fine_tune.sample_prompts)
    told = list(dict.fromkeys([*(tuple(clip.prompts) for clip in clips), *([sampled] if sampled else [])]))
    embeddings: dict[str, StoredText] = {}
    job.reporter.stage("encode prompts", len(told))
    for done, index in enumerate(job.ranks.own_first(len(told)), start=1):
        embeddings |= base.text_embeddings(told[index], files)
        job.reporter.advance(done, len(told))
        job.reporter.check()
    base.cache_prompts(embeddings, keep_encoder=job.request.fine_tune.metadata_share > 0)
    examples: dict[str, list[Example]] = {TRAIN: [], VALIDATION: []}
    for number, clip in numbered:
        told_of = (tuple(clip.prompts), facts_of(clip.facts, clip.tags), number, subset_of(clip))
        for part in parts[identity(clip)]:
            examples[clip.split].append(Example(part.latents, *told_of, part.start_s, part.whole_s))
    return examples[TRAIN], examples[VALIDATION]


def identity(clip: DatasetRow) -> tuple[str, str]:
    """What decides which parts of a clip there are: its sound and its split."""
    return clip.audio.sha256, clip.split


def encode_clips(job: Job, base: BaseModel, clips: list[DatasetRow], files: Path) -> dict[tuple[str, str], list[Part]]:
    """The parts of each different clip; this rank's share first. Raises Stopped between two parts."""
    encoder = ClipEncoder(base.model, base.configuration, job.device)
    room = Room(MAX_READ_VALUES)
    ordered = {identity(clips[index]): clips[index] for index in job.ranks.own_first(len(clips))}
    times = Counter(map(identity, clips))
    made: dict[tuple[str, str], list[Part]] = {}
    done = 0

    def encode_here(samples: torch.Tensor) -> Latents:
        job.reporter.check()
        return encoder.encode(samples)

    def task(key: tuple[str, str], clip: DatasetRow, given: Encode) -> tuple[tuple[str, str], list[Part]]:
        return key, parts_of(job, base, clip, files, given, room)

    job.reporter.stage("encode", len(clips))
    tasks = (functools.partial(task, key, clip) for key, clip in ordered.items())
    with closing(with_ahead(tasks, encode_here)) as results:
        for key, parts in results:
            made[key] = parts
            done += times[key]
            job.reporter.advance(done, len(clips))
            job.reporter.check()
    return made


def parts_of(job: Job, base: BaseModel, clip: DatasetRow, files: Path, given: Encode, room: "Room") -> list[Part]:
    """What is trained on of a clip: the whole, excerpts, windows. It is decoded once, and only where one is new."""
    recipe, known = job.request.fine_tune, base.configuration
    window_s = known.window_samples / known.sample_rate_hz
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=job.folder("encode"))))

        @functools.cache
        def samples() -> torch.Tensor:
            path = base.store.blobs.fetch(clip.audio, scratch, read_only=True)
            stack.enter_context(room.taken(round(audio.duration_s(path) * known.sample_rate_hz * known.channels)))
            return audio.read(path, known)

        def latents(part: Excerpt) -> StoredLatents:
            return base.latents(part, samples, files, given)

        whole = latents(Excerpt(clip, length_s=window_s if recipe.cut_to_window else 0.0))
        parts, lasts_s = [Part(whole)], whole.seconds_total
        if clip.split == TRAIN and recipe.min_excerpt_s:
            asked = excerpts(clip, lasts_s, recipe.min_excerpt_s, job.request.seed)
            parts += [Part(latents(each)) for each in asked]
        if clip.split == TRAIN and recipe.windows_per_clip:
            asked = windows(clip, lasts_s, window_s, recipe.windows_per_clip, job.request.seed)
            parts += [Part(latents(each), each.start_s, lasts_s) for each in asked]
        return parts


@dataclass(frozen=True)
class _Asked:
    """Samples that a task wants encoded, and where it waits for the latents."""

    samples: torch.Tensor
    latents: "Future[Latents]"


def with_ahead(tasks: Iterable[Callable[[Encode], T]], encode: Encode) -> Generator[T]:
    """The results of tasks as they come, THREADS of them at a time on threads of their own; `encode`, which each is
    given, runs on the caller's thread alone.

    An error of a task is raised here. Whoever stops early closes this: what the tasks then ask for raises Stopped.
    """
    waiting: SimpleQueue[_Asked | Future[T]] = SimpleQueue()  # what is asked for, and tasks that have ended
    running: set[Future[T]] = set()
    upcoming = iter(tasks)

    def delegated(samples: torch.Tensor) -> Latents:
        asked = _Asked(samples, Future())
        waiting.put(asked)
        return asked.latents.result()

    def begin(task: Callable[[Encode], T]) -> None:
        future = threads.submit(task, delegated)
        running.add(future)
        future.add_done_callback(waiting.put)

    with ThreadPoolExecutor(THREADS, "encoding") as threads:
        try:
            for task in itertools.islice(upcoming, THREADS):
                begin(task)
            while running:
                item = waiting.get()
                if isinstance(item, _Asked):
                    _answer(item, encode)
                    continue
                running.remove(item)
                for task in itertools.islice(upcoming, 1):
                    begin(task)
                yield item.result()
        finally:
            while running:
                item = waiting.get()
                if isinstance(item, _Asked):
                    item.latents.set_exception(Stopped())
                else:
                    running.remove(item)


def _answer(asked: _Asked, encode: Encode) -> None:
    try:
        asked.latents.set_result(encode(asked.samples))
    except BaseException as error:
        asked.latents.set_exception(error)  # the task that asked raises it
        if not isinstance(error, Exception):
            raise


class Room:
    """Bounds how much several threads hold at once."""

    def __init__(self, total: int) -> None:
        self._total, self._left, self._changed = total, total, threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Waits until there is room for so much, and has it meanwhile; what is more than all there is waits for all."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()
