"""training-content-summary.md: the public summary of training content that Article 53(1)(d) of Regulation (EU)
2024/1689 asks providers of general-purpose models for, by the sections of the Commission's template, C(2025) 8311 of
5 December 2025. What lineage knows is filled in; what only the provider can say is marked.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from luthier_kit.markdown import escaped, table
from luthier_pipeline.console import clock
from luthier_pipeline.export.figures import OFF, figures
from luthier_pipeline.lawpack.behind import Behind, UsedDataset

ASKED: Final = "**to be stated by the provider**"
KINDS: Final[Mapping[str, str]] = {
    "public": "2.1 Publicly available datasets",
    "licensed": "2.2.1 Datasets commercially licensed by rightsholders or their representatives",
    "private": "2.2.2 Private datasets obtained from other third parties",
    "crawled": "2.3 Data crawled and scraped from online sources",
    "user": "2.4 User data",
    "synthetic": "2.5 Synthetic data",
    "other": "2.6 Other sources of data",
}
"""Sections of the template by the kinds of source that a data set can be stated to be of."""
_BOUNDS: Final = ((10_000, "less than 10,000 hours"), (1_000_000, "10,000 to 1 million hours"))
VLLM: Final = "vllm"


def summary(found: Behind, sources: Mapping[str, str], provider: str, contact: str) -> str:
    """The document. `sources`: kinds of source by the names of data sets; those that are not named are `other`."""
    model = found.version
    counted = figures(found.rows())
    hours = counted.every.duration_s / 3600
    bases = [each.version.label for each in found.ancestors[1:]]
    general = [
        ("Provider, contact", f"{escaped(provider) or ASKED}, {escaped(contact) or ASKED}"),
        ("Authorised representative in the Union", ASKED),
        ("Model, version", f"{escaped(model.label)}, sha256:{model.digest}"),
        ("Models that it was made from", ", ".join(map(escaped, bases)) or "none"),
        ("Date of placement on the Union market", ASKED),
        ("Registered", f"{model.created_at:%d %B %Y}" if model.created_at else "not recorded"),
    ]
    size = next((text for most, text in _BOUNDS if hours < most), "more than 1 million hours")
    if found.unknown:
        size += " of what is known; the size of what its base heard is not"
    modalities = [
        ("Audio", f"{size} ({clock(counted.every.duration_s)} of {counted.every.clips} clips)", "music"),
        ("Text", f"less than 1 billion tokens ({counted.composers.total()} captions)", "captions, in English"),
    ]
    parts = [
        f"# Public summary of training content: {escaped(model.label)}",
        "By the template of the European Commission, C(2025) 8311. Written by `luthier lawpack` from the lineage of "
        f"every clip; where it says {ASKED}, nobody told it.",
        "## 1. General information",
        table(("", ""), general),
        "### 1.3 Modalities and size",
        table(("modality", "size", "content"), modalities),
        *_unknown(found.unknown),
        "## 2. List of data sources",
        *_sources(found.datasets, sources),
        "Captions:",
        _captions(found.datasets),
        "## 3. Data processing",
        "### 3.1 Respect of reservations of rights from the text and data mining exception",
        f"Luthier reads files that an operator brings and crawls nothing. How the operator came by them: {ASKED}. What "
        "is taken down (`luthier takedown`) is in no data set that is frozen after, and no run begins on it.",
        "### 3.2 Removal of illegal content",
        f"Clips were accepted one by one or by rule ({counted.every.clips - counted.automatic} by people, "
        f"{counted.automatic} by a rule). Beyond that: {ASKED}.",
    ]
    return "\n\n".join(parts) + "\n"


def _unknown(texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    return ["Not known to the registry:", "\n".join(f"- {escaped(text)}" for text in texts)]


def _sources(datasets: Sequence[UsedDataset], sources: Mapping[str, str]) -> Iterable[str]:
    """Every section of the template, with the data sets that were stated to be of it."""
    for kind, title in KINDS.items():
        yield f"### {title}"
        rows = []
        for dataset in datasets:
            if sources.get(dataset.name, sources.get(dataset.name.partition("@")[0], "other")) != kind:
                continue
            counted = figures(dataset.rows)
            rows.append(
                (
                    escaped(dataset.name),
                    f"sha256:{dataset.digest}",
                    f"{counted.every.clips} clips of {len(counted.every.songs)} songs, "
                    f"{clock(counted.every.duration_s)}",
                    f"{counted.from_midi} clips rendered from MIDI files, {counted.every.clips - counted.from_midi} "
                    "from recordings",
                    ", ".join(escaped(name) for name in sorted(counted.licences)) or "none stated",
                    escaped(dataset.heard_by),
                )
            )
        yield table(("data set", "manifest", "size", "content", "licences", "heard by"), rows) if rows else "None."


def _captions(datasets: Sequence[UsedDataset]) -> str:
    """Who wrote the captions; those of a language model are synthetic data (2.5)."""
    rows = []
    for dataset in datasets:
        counted = figures(dataset.rows)
        models = sorted(
            version
            for name, versions in counted.versions.items()
            for version in versions
            if VLLM in name and not version.startswith(OFF)
        )
        for composer, count in sorted(counted.composers.items()):
            of = f", {', '.join(map(escaped, models))}: synthetic data (2.5)" if composer == VLLM else ""
            rows.append((escaped(dataset.name), f"{escaped(composer)}{of}", count))
    return table(("data set", "composed by", "captions"), rows) if rows else "None."
