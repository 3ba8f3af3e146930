"""The card of an exported data set: README.md, with the metadata that the Hugging Face hub and `datasets` read.

Everything in it is counted from the manifest. Names, titles and tags are untrusted text.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Final

import yaml

from luthier_kit.hub_licences import hub_licence
from luthier_kit.markdown import escaped, table
from luthier_pipeline.console import clock
from luthier_pipeline.export.columns import COLUMNS, Kind
from luthier_pipeline.export.dataset import Format, FrozenDataset
from luthier_pipeline.export.figures import Figures, most_common
from luthier_pipeline.export.folder import CARD_MARK, PICTURES
from luthier_pipeline.export.pictures import key_histogram, tempo_histogram

MOST_ARTISTS, MOST_NAMES = 50, 8
_SIZES: Final = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_YAML_KINDS: Final[dict[Kind, dict[str, str]]] = {
    "text": {"dtype": "string"}, "texts": {"sequence": "string"}, "number": {"dtype": "float64"},
    "flag": {"dtype": "bool"},
}  # fmt: skip
_SHOWN_KINDS: Final[dict[Kind, str]] = {
    "text": "text", "texts": "list of texts", "number": "number", "flag": "true or false",
}  # fmt: skip


def card(dataset: FrozenDataset, found: Figures, form: Format) -> str:
    """README.md; its pictures are what `draw` draws."""
    parts = [
        f"---\n{CARD_MARK}\n{_front_matter(dataset, found, form)}---",
        f"# {dataset.name}, version {dataset.version}",
        f"{found.every.clips} clips of {len(found.every.songs)} songs with captions, "
        f"{clock(found.every.duration_s)} of audio, frozen by Luthier"
        + (f" on {dataset.exported_at:%d %B %Y}" if dataset.exported_at else "")
        + ". `manifest.json` has every clip with all that is known of it.",
        f"```python\n{_example(dataset, form)}```",
        "## Subsets\n\n" + _subsets(found),
        "## Splits\n\n" + _splits(dataset, found),
        "## Tempo and key\n\n" + _tempo_and_key(found),
        *(["## Reviewers\n\n" + _agreement(dataset)] if dataset.manifest.HasField("agreement") else []),
        "## Columns\n\n" + _columns(dataset, form),
        "## Licences\n\n" + _licences(found),
        "## Sources\n\n" + _sources(found),
        "## How it was made\n\n" + _making(found),
        "## Known limits\n\n" + _limits(found),
    ]
    return "\n\n".join(parts) + "\n"


def draw(found: Figures, folder: Path) -> None:
    """The pictures of what is known, below `folder`."""
    if found.tempi or found.keys:
        (folder / PICTURES).mkdir()
    if found.tempi:
        tempo_histogram(found.tempi, folder / PICTURES / "tempo.png")
    if found.keys:
        key_histogram(found.keys, folder / PICTURES / "key.png")


def _front_matter(dataset: FrozenDataset, found: Figures, form: Format) -> str:
    """YAML. `datasets` takes the files of each split from it, and of Parquet the types of the columns."""
    files = {
        "audiofolder": "{split}/**", "parquet": "data/{split}-*.parquet", "webdataset": "data/{split}-*.tar",
    }[form]  # fmt: skip
    front: dict[str, object] = {
        "pretty_name": f"{dataset.name}, version {dataset.version}",
        "license": hub_licence(sorted(found.licences), found.unlicensed),
        "task_categories": ["text-to-audio"],
        "tags": ["audio", "music", "luthier"],
        "size_categories": [next((name for most, name in _SIZES if found.every.clips < most), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": files.format(split=split)} for split in dataset.splits],
            }
        ],
    }
    if form != "webdataset":  # its reader takes the types of the first five clips, whatever the card says
        columns = [{"name": column.name, **_YAML_KINDS[column.kind]} for column in COLUMNS]
        front["dataset_info"] = {"features": [{"name": "audio", "dtype": "audio"}, *columns]}
    text: str = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return text


def _example(dataset: FrozenDataset, form: Format) -> str:
    if form == "webdataset":
        return (
            "import glob\nimport webdataset\n\n"
            f'shards = sorted(glob.glob("data/{dataset.splits[0]}-*.tar"))\n'
            "for clip in webdataset.WebDataset(shards, shardshuffle=False):\n"
            f'    clip["{dataset.suffixes[0]}"], clip["json"]  # bytes; the columns below as JSON\n'
        )
    return (
        "import datasets\n\n"
        f'clips = datasets.load_dataset("FOLDER")  # {", ".join(dataset.splits)}\n'
        f'clips["{dataset.splits[0]}"][0]["text"]\n'
    )


def _subsets(found: Figures) -> str:
    rows = []
    for name, group in sorted(found.subsets.items()):
        most = [
            ", ".join(f"{escaped(item)} ({count})" for item, count in most_common(counter, MOST_NAMES)) or "none known"
            for counter in (group.instruments, group.genres)
        ]
        mean_s = f"{group.duration_s / group.clips:.1f} s"
        rows.append([escaped(name), group.clips, len(group.songs), mean_s, clock(group.duration_s), *most])
    header = ("subset", "clips", "songs", "mean length", "total", "instruments (clips)", "genres (clips)")
    return table(header, rows)


def _splits(dataset: FrozenDataset, found: Figures) -> str:
    rows = [
        (split, group.clips, len(group.songs), clock(group.duration_s))
        for split in dataset.splits
        for group in [found.splits[split]]
    ]
    moved = len(dataset.manifest.moved_songs)
    return (
        table(("split", "clips", "songs", "total"), rows)
        + "\n\nAll clips of a song are in one split, which follows from a digest of the song's content"
        + (f"; {moved} song(s) were moved so that no split is empty." if moved else ".")
    )


def _tempo_and_key(found: Figures) -> str:
    clips, parts = found.every.clips, []
    if found.tempi:
        low, high = min(found.tempi), max(found.tempi)
        text = f"Tempo of {len(found.tempi)} of {clips} clips, from {low:.0f} to {high:.0f} BPM"
        parts.append(f"![{text}]({PICTURES}/tempo.png)")
    else:
        parts.append("No tempo is known.")
    if found.keys:
        most = ", ".join(f"{escaped(name)} {count}" for name, count in most_common(found.keys, 3))
        parts.append(f"![Key of {found.keys.total()} of {clips} clips, most often {most}]({PICTURES}/key.png)")
    else:
        parts.append("No key is known.")
    return "\n\n".join(parts)


def _agreement(dataset: FrozenDataset) -> str:
    """How far the reviewers agree, with the counts that it follows from."""
    agreed = dataset.manifest.agreement
    rows = [
        (
            escaped(pair.reviewer), escaped(pair.other), pair.both_accepted, pair.both_rejected,
            pair.only_reviewer_accepted, pair.only_other_accepted,
            f"{pair.kappa:.2f}" if pair.HasField("kappa") else "not defined",
        )
        for pair in agreed.pairs
    ]  # fmt: skip
    mean = f", mean {agreed.kappa:.2f} by clips" if agreed.HasField("kappa") and len(rows) > 1 else ""
    text = f"Two or more judged {agreed.clips} clips of the collection, rejected ones included. Cohen's kappa{mean}:"
    header = ("reviewer", "other", "both accept", "both reject", "only the first", "only the other", "kappa")
    return f"{text}\n\n{table(header, rows)}"


def _columns(dataset: FrozenDataset, form: Format) -> str:
    audio = {
        "audiofolder": ("audio", "audio", "The audio file; in `metadata.parquet` its name, `file_name`."),
        "parquet": ("audio", "audio", "The audio file (`bytes`) and its name (`path`)."),
        "webdataset": (" or ".join(dataset.suffixes), "audio", "The audio file."),
    }[form]
    columns = [(f"`{column.name}`", _SHOWN_KINDS[column.kind], column.description) for column in COLUMNS]
    return table(("column", "type", ""), [audio, *columns])


def _licences(found: Figures) -> str:
    if not found.licences:
        return "None is recorded: ask whoever gave you this data set."
    rows = [(escaped(name), count) for name, count in most_common(found.licences, len(found.licences))]
    if found.unlicensed:
        rows.append(("*not stated*: ask whoever gave you this data set", found.unlicensed))
    return (
        "Of songs, sounds and tags, as they were stated where the data set was made. A clip is bound by all of its "
        "own (`licences`).\n\n" + table(("licence", "clips"), rows)
    )


def _sources(found: Figures) -> str:
    artists = sorted(found.artists.items(), key=lambda item: (-item[1].clips, item[0]))
    rows = [(escaped(name) or "*unknown*", len(group.songs), group.clips) for name, group in artists[:MOST_ARTISTS]]
    parts = [table(("artist", "songs", "clips"), rows)]
    if more := artists[MOST_ARTISTS:]:
        parts.append(f"… and {len(more)} more artists with {sum(group.clips for _, group in more)} clips.")
    if found.tags:
        tags = [(escaped(source), escaped(licence), count) for (source, licence), count in sorted(found.tags.items())]
        parts.append(table(("source of tags", "licence", "tags"), tags))
    return "\n\n".join(parts)


def _making(found: Figures) -> str:
    clips, by_person = found.every.clips, found.every.clips - found.automatic
    composed = ", ".join(f"{count} by {escaped(name)}" for name, count in most_common(found.composers, MOST_NAMES))
    steps = [
        f"- {found.from_midi} of {clips} clips were rendered from MIDI files. Facts come from the notes where those "
        "prove them, else from an analysis of the audio; `details` says which.",
        f"- Prompts: {composed or 'by whom is not recorded'}. Composed prompts are checked against the clip's facts "
        "before anybody decides; a person may accept a clip in spite of it.",
        f"- Accepted: {by_person} clips by people, {found.automatic} by a rule.",
        f"- Written by luthier-pipeline {version('luthier-pipeline')}.",
    ]
    rows = [
        (escaped(name), ", ".join(escaped(one) for one in sorted(versions)[:MOST_NAMES]))
        for name, versions in sorted(found.versions.items())
    ]
    versions = "\n\n" + table(("stage, tool, sound or model", "version or digest"), rows) if rows else ""
    return "\n".join(steps) + versions


def _limits(found: Figures) -> str:
    clips = found.every.clips
    limits = [
        f"The tempo of {clips - len(found.tempi)} clips and the key of {clips - found.keys.total()} are unknown; the "
        f"tempo of {found.estimated_tempi} and the key of {found.estimated_keys} are estimates from the audio.",
        "Clips rendered from MIDI sound like the SoundFonts and plugins that rendered them, not like recordings, and "
        "no words are sung in them."
        if found.from_midi
        else "",
        f"{found.automatic} clips were accepted by a rule: nobody need have listened to them."
        if found.automatic
        else "",
        "Splits are kept apart by the song's content; another arrangement of a song is another song to them.",
        "Licences and names are as they were stated, and were not verified.",
        "Whoever takes a song down later reaches the data set where it was made, not this copy.",
    ]
    return "\n".join(f"- {limit}" for limit in limits if limit)
