#!/usr/bin/env bash
# Croissant: files may be named by paths beside the document ("data/train.tar"), as exports of data sets do. mlcroissant unpacks an archive
# into its cache under the digest of that *name*, and what is there already is taken: the second data set of a machine whose archive has
# the same relative path, or a newer version of the first, gives the records of the old one. The digest of the archive is checked, before.
# Most expect a file whose SHA-256 is stated and checked to be the one that is read.
# Hurt: versions of a data set in tar or ZIP shards, whose names are alike by convention ("data/train-00000-of-00001.tar").
# Printed:
#   mlcroissant 1.1.1: data set one gives 'one', data set two gives 'one'
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get mlcroissant==1.1.1 pandas==3.1.1
cd "$t" && CROISSANT_CACHE="$t/cache" v/bin/python -W ignore - 2>/dev/null <<'PY'
import hashlib, io, json, os, tarfile
from importlib.metadata import version
import mlcroissant
from mlcroissant._src.core.context import Context, CroissantVersion
from mlcroissant._src.core.rdf import make_context
context = make_context(Context(conforms_to=CroissantVersion.V_1_1))
def songs(title):
    os.makedirs(title)
    with tarfile.open(f"{title}/train.tar", "w") as archive:
        member = tarfile.TarInfo("song.txt"); member.size = len(title)
        archive.addfile(member, io.BytesIO(title.encode()))
    digest = hashlib.sha256(open(f"{title}/train.tar", "rb").read()).hexdigest()
    archive = {"@type": "cr:FileObject", "@id": "tar", "name": "tar", "contentUrl": "train.tar", "encodingFormat": "application/x-tar", "sha256": digest}
    files = {"@type": "cr:FileSet", "@id": "texts", "name": "texts", "encodingFormat": "text/plain", "includes": "*.txt", "containedIn": {"@id": "tar"}}
    field = {"@type": "cr:Field", "@id": "songs/title", "name": "title", "dataType": "sc:Text",
             "source": {"fileSet": {"@id": "texts"}, "extract": {"fileProperty": "content"}}}
    records = {"@type": "cr:RecordSet", "@id": "songs", "name": "songs", "field": [field]}
    document = {"@context": context, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": title, "description": title,
                "license": "MIT", "url": "https://example.org", "distribution": [archive, files], "recordSet": [records]}
    json.dump(document, open(f"{title}/croissant.json", "w"))
    [record] = mlcroissant.Dataset(jsonld=os.path.abspath(f"{title}/croissant.json")).records("songs")
    return record["songs/title"].decode()
first, second = songs("one"), songs("two")
print(f"mlcroissant {version('mlcroissant')}: data set one gives {first!r}, data set two gives {second!r}")
assert (first, second) == ("one", "one")
PY
