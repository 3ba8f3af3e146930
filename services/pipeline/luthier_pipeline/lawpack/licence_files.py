"""licences.csv, ATTRIBUTION.md and README.md of a pack: what binds the clips, whom to name, what is in the folder."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.licences import USES, Rule, licences_of, named, refusals, rule_of, rules
from luthier_kit.markdown import escaped, table
from luthier_pipeline.console import clock
from luthier_pipeline.export.figures import figures
from luthier_pipeline.lawpack.behind import Behind, by_licence, obligations

COLUMNS: Final = (
    "licence", "subset", "clips", "songs", "minutes", "training", "commercial", "redistribution", "obligations",
    "source",
)  # fmt: skip
UNKNOWN: Final = "unknown"


def licences_csv(rows: Sequence[DatasetRow]) -> str:
    """One line for each licence and subset; what no rule tells is `unknown`."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (licence, subset), amount in by_licence(rows).items():
        rule = rule_of(licence)
        uses = (rule.training, rule.commercial, rule.redistribution) if rule else (UNKNOWN,) * 3
        size = (amount.clips, amount.songs, f"{amount.seconds / 60:.2f}")
        source = rule.source if rule else ""
        writer.writerow([*map(_cell, (licence, subset)), *size, *uses, "; ".join(obligations(licence)), source])
    return file.getvalue()


def _cell(text: str) -> str:
    """A text from outside, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def attribution(found: Behind, rows: Sequence[DatasetRow]) -> str:
    """Every song with its licences, those first whose licences ask for names; then what played and analysed them."""
    songs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        song = row.source.song
        songs[song.artist, song.title, row.song_fingerprint].update(licences_of(row))
    lines = []
    for (artist, title, fingerprint), licences in songs.items():
        asked = [rule for each in sorted(licences) if (rule := rule_of(each)) and rule.attribution]
        name = " – ".join(filter(None, (escaped(artist), escaped(title)))) or "no name"
        stated = ", ".join(map(escaped, sorted(licences)))
        lines.append((not asked, name, stated, _addresses(asked), fingerprint[:16]))
    cells = [line[1:] for line in sorted(lines)]
    tools = [
        (escaped(name), ", ".join(map(escaped, sorted(versions)))) for name, versions in figures(rows).versions.items()
    ]
    bases = [(escaped(each.version.label), f"sha256:{each.version.digest}") for each in found.ancestors[1:]]
    parts = [
        f"# Attribution: {escaped(found.version.label)}",
        "Songs whose clips the model heard, as their files or their operator name them; first those whose licences ask "
        "for a name.",
        table(("song", "licences", "of whom to say so", "fingerprint"), cells) if cells else "None is known.",
        "Bases:\n\n" + (table(("model", "digest"), bases) if bases else "none."),
        "Tools, instruments and models that took part in the clips:\n\n"
        + (table(("name", "version or digest"), sorted(tools)) if tools else "none are recorded."),
    ]
    return "\n\n".join(parts) + "\n"


def _addresses(asked: Sequence[Rule]) -> str:
    return ", ".join(escaped(rule.source.rpartition(": ")[2]) for rule in asked) or "nobody asks"


def read_me(found: Behind, rows: Sequence[DatasetRow], files: Mapping[str, str]) -> str:
    """What is in the folder, what each use may have, and what nobody knows. `files`: descriptions by name."""
    uses = []
    for name, use in USES.items():
        refused = refusals(rows, use)
        clips = sorted({each.clip_id for each in refused})
        why = sorted({f"{escaped(each.licence)} {escaped(each.why)}" for each in refused})
        uses.append((name, "yes" if not clips else f"no: {len(clips)} of {len(rows)} clips", "; ".join(why)))
    binding = [
        (escaped(licence), escaped(subset), amount.clips, clock(amount.seconds), "; ".join(obligations(licence)))
        for (licence, subset), amount in by_licence(rows).items()
    ]
    unread = sorted({escaped(licence) for licence, _ in by_licence(rows) if rule_of(licence) is None})
    base_licences = ", ".join(map(escaped, found.base_licences())) or "none is recorded"
    parts = [
        f"# What is behind {escaped(found.version.label)}",
        f"sha256:{found.version.digest}. Written by `luthier lawpack` from the lineage of every clip. It states what "
        f"licences say, by the table of rules of {rules()[0]} (licence-rules.json); it is no legal advice.",
        "## May it be used\n\n" + table(("for", "by the licences of its clips", "why not"), uses),
        "## What binds it\n\n" + (table(("licence", "subset", "clips", "length", "asks for"), binding) or "Nothing."),
        f"Licences of its bases: {base_licences}.",
        *([f"No rule is known for {named(unread)}: a person has to read them."] if unread else []),
        *(["## What nobody knows\n\n" + "\n".join(f"- {escaped(text)}" for text in found.unknown)]
          if found.unknown else []),
        "## Files\n\n" + table(("file", "what it is"), [(f"`{name}`", text) for name, text in files.items()]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
