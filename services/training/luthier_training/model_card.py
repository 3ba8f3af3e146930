"""The card of a model that is fine-tuned: what it heard, of what and under which licences, and how it was trained.

Everything is counted from the rows of the frozen data set, by the facts and tags that a caption may state. What lies
beyond the model's window is not counted, because the model does not hear it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import yaml

from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier.training.v1.model_card_pb2 import HeardAmount, HeardDataset, HeardTempo, ModelCard
from luthier_kit.hub_licences import hub_licence
from luthier_kit.licences import UNSTATED
from luthier_kit.markdown import escaped, table
from luthier_kit.registry import RANDOM, TRANSFORMER
from luthier_kit.rpc import TRAIN, VALIDATION
from luthier_kit.store import Store
from luthier_music.clip_facts import facts_of
from luthier_music.instruments import DRUM_PROGRAM, DRUMS, PROGRAM_NAMES
from luthier_music.keys import parse_key
from luthier_music.vocabulary import clean, implied_genres
from luthier_training.base_model import BaseModel
from luthier_training.checkpoints import Progress
from luthier_training.continuing import NamedDataset, chain
from luthier_training.dataset import rows_of, subset_of
from luthier_training.job import Job
from luthier_training.plan import Plan, plan_of

TEMPO_BIN_BPM: Final = 5
MAX_NAME_CHARS: Final = 100
MOST_SHOWN: Final = 40
"""Rows of a table for people; the JSON has all."""


@dataclass
class Heard:
    """Seconds and clips of each thing of a kind, and of how many seconds anything of the kind is known."""

    seconds: dict[str, float] = field(default_factory=dict)
    clips: Counter[str] = field(default_factory=Counter)
    known_s: float = 0.0

    def add(self, found: Mapping[str, float], length_s: float) -> None:
        """A clip in which each of these is for so many seconds."""
        for name, seconds in found.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.clips.update(found.keys())
        self.known_s += length_s if found else 0.0

    def amounts(self, base: Iterable[HeardAmount] = ()) -> list[HeardAmount]:
        """With what the base heard; most first, and what is equally much by name."""
        before = {amount.name: amount.duration_s + amount.base_duration_s for amount in base}
        amounts = [
            HeardAmount(
                name=name,
                duration_s=round(self.seconds.get(name, 0.0), 3),
                clips=self.clips[name],
                base_duration_s=before.get(name, 0.0),
            )
            for name in {*self.seconds, *before}
        ]
        return sorted(amounts, key=lambda amount: (-amount.duration_s - amount.base_duration_s, amount.name))


def card_of_run(
    job: Job, base: BaseModel, datasets: Iterable[NamedDataset], step: int, progress: Progress
) -> ModelCard:
    """The card of what a run exports, the weights of a step; the runs that it continues count as its own training."""
    recipe, before = job.request.fine_tune, ModelCard()
    if base.version.card:
        before = job.store.get(ModelCard, base.version.card)
    requests = [job.request]
    if recipe.HasField("continue_from"):
        requests += [run.request for run in chain(job.store, recipe.continue_from)]
    heard, held_out = dict[str, DatasetRow](), set[str]()
    for number, request in enumerate(requests):
        for split, row in _drawn(job.store, plan_of(request)):
            if split == TRAIN:
                heard.setdefault(row.audio.sha256, row)
            elif not number:
                held_out.add(row.audio.sha256)
    card = card_of(list(heard.values()), len(held_out), base.configuration.window_s, before)
    without_card = not base.version.card and base.version.notes.get(TRANSFORMER) != RANDOM
    card.base_unknown = without_card or before.base_unknown
    card.model_name, card.run_id, card.seed = job.request.model_name, job.run_id, job.request.seed
    card.base, card.base_digest = base.version.label, base.version.digest
    card.datasets.extend(HeardDataset(name=each.name, digest=each.sha256) for each in datasets)
    card.base_licences.extend(sorted(base.version.notes.get("licences", ())))
    card.settings.CopyFrom(recipe)
    card.steps, card.moving_average = step, recipe.ema_decay > 0
    card.validation.extend(progress.validation)
    card.samples.extend(each for each in job.reporter.progress.samples if each.step == step)
    card.markdown = markdown(card)
    return card


def _drawn(store: Store, plan: Plan) -> Iterator[tuple[str, DatasetRow]]:
    """Split and row of the clips of a plan: of the training split those that a stage draws from."""
    for number, ref in enumerate(plan.datasets):
        manifest, subsets = store.get(DatasetManifest, ref), plan.subsets(number)
        for row in rows_of(manifest, TRAIN):
            if "" in subsets or subset_of(row) in subsets:
                yield TRAIN, row
        for row in rows_of(manifest, VALIDATION):
            yield VALIDATION, row


def card_of(rows: Sequence[DatasetRow], validation_clips: int, window_s: float, base: ModelCard) -> ModelCard:
    """The card as far as the clips that were trained on and the base's card, empty where it has none, say it."""
    instruments, genres, tempi, keys, subsets, licences = (Heard() for _ in range(6))
    total_s, unlicensed = 0.0, 0
    for row in rows:
        facts, length_s = facts_of(row.facts, row.tags), min(row.facts.duration_s, window_s)
        total_s += length_s
        names = {_instrument(heard.name, heard.program): heard.share * length_s for heard in facts.instruments}
        instruments.add(names, length_s)
        genres.add(dict.fromkeys(_all_genres(facts.genres), length_s), length_s)
        steady = facts.tempo_bpm is not None and not facts.tempo_changes and not facts.notated
        low_bpm = TEMPO_BIN_BPM * math.floor((facts.tempo_bpm or 0.0) / TEMPO_BIN_BPM)
        tempi.add({str(low_bpm): length_s} if steady else {}, length_s)
        key = {str(parse_key(f"{facts.tonic} {facts.mode}")): length_s} if facts.tonic and facts.mode else {}
        keys.add(key, length_s)
        subsets.add({subset_of(row): length_s}, length_s)
        stated = sorted(set(row.licences) - UNSTATED)
        licences.add(dict.fromkeys(stated, length_s), length_s)
        unlicensed += not stated or not UNSTATED.isdisjoint(row.licences)
    return ModelCard(
        clips=len(rows),
        songs=_songs(rows),
        duration_s=round(total_s, 3),
        base_duration_s=base.duration_s + base.base_duration_s,
        validation_clips=validation_clips,
        instruments=instruments.amounts(base.instruments),
        genres=genres.amounts(base.genres),
        tempi=_tempi(tempi, base),
        keys=keys.amounts(base.keys),
        subsets=subsets.amounts(base.subsets),
        licences=licences.amounts(),
        unlicensed_clips=unlicensed,
        instruments_known_s=instruments.known_s + base.instruments_known_s,
        genres_known_s=genres.known_s + base.genres_known_s,
        tempi_known_s=tempi.known_s + base.tempi_known_s,
        keys_known_s=keys.known_s + base.keys_known_s,
    )


def _songs(rows: Iterable[DatasetRow]) -> int:
    return len({row.song_fingerprint for row in rows})


def _instrument(name: str, program: int | None) -> str:
    """The General MIDI name, however it was spelt; of another instrument its own, which is other people's text."""
    if program is None:
        return clean(name, MAX_NAME_CHARS)
    return DRUMS if program == DRUM_PROGRAM else PROGRAM_NAMES[program]


def _all_genres(genres: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*(implied_genres(genre) for genre in genres))


def _tempi(heard: Heard, base: ModelCard) -> list[HeardTempo]:
    before = [
        HeardAmount(name=f"{tempo.low_bpm:.0f}", duration_s=tempo.duration_s, base_duration_s=tempo.base_duration_s)
        for tempo in base.tempi
    ]
    return [
        HeardTempo(
            low_bpm=int(amount.name),
            high_bpm=int(amount.name) + TEMPO_BIN_BPM,
            duration_s=amount.duration_s,
            clips=amount.clips,
            base_duration_s=amount.base_duration_s,
        )
        for amount in sorted(heard.amounts(before), key=lambda amount: int(amount.name))
    ]


def markdown(card: ModelCard) -> str:
    """The card for people: README.md of a model, its front matter as the Hugging Face hub reads it.

    Names and licences are other people's text.
    """
    licences = sorted({amount.name for amount in card.licences} | set(card.base_licences))
    # a base that states no licence binds all the same
    front = {
        "license": hub_licence(licences, card.unlicensed_clips + (not card.base_licences)),
        "pipeline_tag": "text-to-audio",
        "library_name": "stable-audio-tools",
        "tags": ["audio", "music", "luthier"],
    }
    settings = card.settings
    losses = [(point.step, f"{point.loss:.4f}") for point in card.validation]
    stated = [(escaped(amount.name), amount.clips) for amount in card.licences]
    if card.unlicensed_clips:
        stated.append(("*not stated*", card.unlicensed_clips))
    base_licences = ", ".join(map(escaped, card.base_licences)) or "not recorded"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {escaped(card.model_name)}",
        f"{escaped(card.base)}, fine-tuned by Luthier on {minutes(card.duration_s)} min of audio: {card.clips} clips "
        f"of {card.songs} songs"
        + (f"; its base was trained on {minutes(card.base_duration_s)} min before" if card.base_duration_s else "")
        + ("; what its base heard before is not recorded" if card.base_unknown else "")
        + ". What is unknown of a clip is counted nowhere, and what lies beyond the model's window is not heard.",
        "## What it heard",
        *_heard(card),
        "## Licences",
        table(("licence of clips", "clips"), stated) if stated else "Of the clips none is recorded.",
        f"Of the base: {base_licences}.",
        "## Training",
        table(
            ("setting", "value"),
            [
                *(("data set", f"{escaped(each.name)}, manifest {each.digest}") for each in card.datasets),
                ("base", f"{escaped(card.base)}, {card.base_digest}"),
                ("steps", card.steps),
                ("stages", ", ".join(f"{escaped(each.name)} ({each.steps})" for each in settings.stages) or "one"),
                ("batch", f"{settings.batch_size} clips, {settings.accumulate} summed"),
                ("learning rate", f"{settings.learning_rate:g}, {settings.warmup_steps} steps of warm-up"),
                ("conditioning dropout", f"{settings.conditioning_dropout:g}"),
                ("metadata in place of a prompt", f"{settings.metadata_share:g}"),
                ("moving average", f"{settings.ema_decay:g}" if card.moving_average else "none"),
                ("seed", f"{card.seed}"),
                ("run", card.run_id),
            ],
        ),
        f"Validation loss over {card.validation_clips} clips of other songs; step 0 is the base:",
        table(("step", "loss"), losses),
    ]
    return "\n\n".join(parts) + "\n"


def _heard(card: ModelCard) -> Iterable[str]:
    """A table for each kind, in minutes, the most heard first."""
    kinds = (
        ("instrument", "instruments", card.instruments, card.instruments_known_s),
        ("genre", "genres", card.genres, card.genres_known_s),
        ("key", "keys", card.keys, card.keys_known_s),
        ("subset", "subsets", card.subsets, card.duration_s + card.base_duration_s),
    )
    for name, many, amounts, known_s in kinds:
        if not amounts:
            yield f"No {name} is known."
            continue
        rows = [_row(escaped(amount.name), amount) for amount in amounts[:MOST_SHOWN]]
        yield table((name, "minutes", "clips", "minutes of the base"), rows)
        more = f"; {len(amounts) - MOST_SHOWN} more {many} in the JSON" if len(amounts) > MOST_SHOWN else ""
        yield f"Known of {minutes(known_s)} min{more}."
    if card.tempi:
        yield table(
            ("tempo (BPM)", "minutes", "clips", "minutes of the base"),
            [_row(f"{tempo.low_bpm:.0f} to {tempo.high_bpm:.0f}", tempo) for tempo in card.tempi],
        )
    else:
        yield "No tempo is known."


def _row(name: str, amount: HeardAmount | HeardTempo) -> tuple[object, ...]:
    return (name, minutes(amount.duration_s), amount.clips, minutes(amount.base_duration_s))


def minutes(seconds: float) -> str:
    """`12.3`"""
    return f"{seconds / 60:.1f}"
