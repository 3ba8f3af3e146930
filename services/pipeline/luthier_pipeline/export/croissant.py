"""Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html): a data set's files and records for
machines, with the fields of its vocabulary for responsible AI that are known. mlcroissant reads the records of it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from luthier_kit.markdown import plain
from luthier_pipeline.export.columns import COLUMNS, Kind
from luthier_pipeline.export.dataset import Format, FrozenDataset, sha256_of
from luthier_pipeline.export.figures import Figures, most_common

Json = dict[str, object]
CONFORMS_TO: Final = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
_CR_TERMS: Final = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
    "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
CONTEXT: Final[Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _CR_TERMS},
}
"""The context of version 1.1."""
_TYPES: Final[dict[Kind, str]] = {
    "text": "sc:Text", "texts": "sc:Text", "number": "sc:Float", "flag": "sc:Boolean",
}  # fmt: skip
AUDIO_TYPES: Final = {"mp3": "audio/mpeg", "aif": "audio/aiff"}
"""Of files whose type is not named as they end."""
MEDIA_TYPES: Final = {".parquet": "application/x-parquet", ".tar": "application/x-tar"}
CLIPS, CLIP_FILES = "clips", "clip-files"
"""Names of the set of records, and of the set of files that hold them."""


def croissant(dataset: FrozenDataset, found: Figures, form: Format, folder: Path) -> Json:
    """croissant.json of the data set that lies in `folder`, whole but for this file and the card."""
    description = (
        f"{found.every.clips} clips of {len(found.every.songs)} songs with captions, "
        f"{found.every.duration_s / 3600:.2f} hours of audio, with tempo, key, instruments, tags and licences of each."
    )
    document: Json = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": dataset.name,
        "description": description,
        "version": f"{dataset.version}.0.0",
        "keywords": ["audio", "music", *(plain(name) for name, _ in most_common(found.every.genres, 20))],
        "isLiveDataset": False,
        **_responsible_ai(found),
        "distribution": [*_files(dataset, form, folder)],
        "recordSet": [_records(form)],
    }
    if found.licences:
        document["license"] = [plain(name) for name in sorted(found.licences)]
    if dataset.exported_at:
        document["datePublished"] = f"{dataset.exported_at:%Y-%m-%d}"
    return document


def _files(dataset: FrozenDataset, form: Format, folder: Path) -> Iterable[Json]:
    """Each Parquet file and archive with its digest; the set of files with records; and the audio that is files.

    The records are never said to be contained in files. mlcroissant does not read the columns of contained Parquet
    files, and takes an archive for one of another data set whose name below its folder is the same. Called from the
    folder itself it takes the dots out of all names, so the patterns do without.
    """
    held = sorted(path for path in folder.rglob("*") if path.suffix in MEDIA_TYPES)
    names = [path.relative_to(folder).as_posix() for path in held]
    for name, path in zip(names, held, strict=True):
        yield {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{path.stat().st_size} B",
            "encodingFormat": MEDIA_TYPES[path.suffix],
            "sha256": sha256_of(path),
        }
    yield {
        "@type": "cr:FileSet",
        "@id": CLIP_FILES,
        "name": CLIP_FILES,
        "description": "The files that hold the records of the clips.",
        "includes": {
            "audiofolder": "*/metadata*parquet", "parquet": "data/*parquet", "webdataset": "metadata*parquet",
        }[form],
        "encodingFormat": MEDIA_TYPES[".parquet"],
    }  # fmt: skip
    if form != "parquet":
        archives = [{"@id": name} for name in names if name.endswith(".tar")]
        for suffix in dataset.suffixes:
            yield {
                "@type": "cr:FileSet",
                "@id": f"{suffix}-files",
                "name": f"{suffix}-files",
                "description": "Audio of the clips, by file_name.",
                "encodingFormat": AUDIO_TYPES.get(suffix, f"audio/{suffix}"),
                "includes": f"*.{suffix}" if archives else [f"{split}/clip-*.{suffix}" for split in dataset.splits],
                **({"containedIn": archives} if archives else {}),
            }


def _records(form: Format) -> Json:
    columns = [(column.name, column.kind, column.description) for column in COLUMNS]
    if form != "parquet":
        columns.insert(0, ("file_name", "text", "Name of the audio file, in the folder or archives of its split."))
    fields = [_field(name, kind, description, {"column": name}) for name, kind, description in columns]
    if form == "parquet":
        audio = _field("audio", "text", "The audio file as bytes.", {"column": "audio"}, {"jsonPath": "bytes"})
        fields.insert(0, audio | {"dataType": "sc:AudioObject"})
    return {
        "@type": "cr:RecordSet",
        "@id": CLIPS,
        "name": CLIPS,
        "description": "One record for each clip.",
        "key": {"@id": f"{CLIPS}/clip_id"},
        "field": fields,
    }


def _field(name: str, kind: Kind, description: str, extract: Json, transform: Json | None = None) -> Json:
    return {
        "@type": "cr:Field",
        "@id": f"{CLIPS}/{name}",
        "name": name,
        "description": description,
        "dataType": _TYPES[kind],
        **({"isArray": True, "arrayShape": "-1"} if kind == "texts" else {}),
        "source": {
            "fileSet": {"@id": CLIP_FILES},
            "extract": extract,
            **({"transform": transform} if transform else {}),
        },
    }


def _responsible_ai(found: Figures) -> Json:
    """What is known for certain; what only the maker of the collection can say is left out."""
    clips, by_person = found.every.clips, found.every.clips - found.automatic
    composers = [plain(name) for name in sorted(found.composers)]
    stated = "" if found.unlicensed else " with a stated licence"
    without = f"No licence is stated for {found.unlicensed} clips. " if found.unlicensed else ""
    tools = [
        f"{plain(name)} {plain(one)}" for name, versions in sorted(found.versions.items()) for one in sorted(versions)
    ]
    document: Json = {
        "rai:dataCollection": f"{found.from_midi} of {clips} clips were rendered from MIDI files that an operator "
        f"brought{stated}, {clips - found.from_midi} come from elsewhere. {without}Songs were cut into clips; "
        "tempo, key and instruments were taken from the notes where the notes prove them, else from an analysis of "
        "the audio.",
        "rai:dataPreprocessingProtocol": "Songs with the same content are one song. All clips of a song are in one "
        "split, which follows from a digest of the song's content.",
        "rai:dataAnnotationProtocol": f"Captions were composed by: {', '.join(composers) or 'not recorded'}. Composed "
        "captions are checked against the facts of their clip before anybody decides about it. "
        f"{by_person} clips were accepted by people, {found.automatic} by a rule.",
        "rai:dataLimitations": f"Tempo is unknown for {clips - len(found.tempi)} clips and an estimate for "
        f"{found.estimated_tempi}; key is unknown for {clips - found.keys.total()} and an estimate for "
        f"{found.estimated_keys}. Licences are as they were stated and were not verified.",
        "rai:personalSensitiveInformation": "Names of artists, and the names under which people reviewed clips (in "
        "details and manifest.json). Titles, tags and captions were not searched for names.",
    }
    if tools:
        document["rai:machineAnnotationTools"] = tools
    return document
