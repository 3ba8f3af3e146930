#!/usr/bin/env bash
# Croissant: a set of Parquet shards is a FileSet that is "containedIn" the FileObjects with their digests, as the specification says of
# sets of files. mlcroissant finds no fault in it; reading its records then ends with "Column … does not exist", since a set that is
# contained in files is a list of paths to it and is never opened. The same set without containedIn (beside the document) is read.
# Most expect what the library validates to be readable by it.
# Hurt: data sets whose Croissant file passes every check and gives nobody a record.
# Printed:
#   mlcroissant 1.1.1: shards contained in files: 0 errors, records: Column "title" does not exist
#   mlcroissant 1.1.1: shards beside the document: 0 errors, records: [b'one', b'two']
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get mlcroissant==1.1.1 pyarrow==26.0.1 pandas==3.1.1
mkdir "$t/songs" && cd "$t/songs" && ../v/bin/python -W ignore - 2>/dev/null <<'PY'
import hashlib, json, os
from importlib.metadata import version
import mlcroissant, pyarrow as pa, pyarrow.parquet as pq
from mlcroissant._src.core.context import Context, CroissantVersion
from mlcroissant._src.core.rdf import make_context
context = make_context(Context(conforms_to=CroissantVersion.V_1_1))
shards = []
for name, title in (("a.parquet", "one"), ("b.parquet", "two")):
    pq.write_table(pa.table({"title": [title]}), name)
    digest = hashlib.sha256(open(name, "rb").read()).hexdigest()
    shards.append({"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": "application/x-parquet", "sha256": digest})
def read(**where):
    files = {"@type": "cr:FileSet", "@id": "shards", "name": "shards", "encodingFormat": "application/x-parquet", "includes": "*.parquet", **where}
    field = {"@type": "cr:Field", "@id": "songs/title", "name": "title", "dataType": "sc:Text",
             "source": {"fileSet": {"@id": "shards"}, "extract": {"column": "title"}}}
    records = {"@type": "cr:RecordSet", "@id": "songs", "name": "songs", "field": [field]}
    document = {"@context": context, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": "songs", "description": "songs",
                "license": "MIT", "url": "https://example.org", "distribution": [*shards, files], "recordSet": [records]}
    json.dump(document, open("croissant.json", "w"))
    dataset = mlcroissant.Dataset(jsonld=os.path.abspath("croissant.json"))
    try: found = [record["songs/title"] for record in dataset.records("songs")]
    except Exception as error:
        while error.__cause__: error = error.__cause__
        found = str(error).split(". ")[0]
    return len(dataset.metadata.ctx.issues.errors), found
contained = read(containedIn=[{"@id": shard["@id"]} for shard in shards])
beside = read()
for what, (errors, found) in (("shards contained in files", contained), ("shards beside the document", beside)):
    print(f"mlcroissant {version('mlcroissant')}: {what}: {errors} errors, records: {found}")
assert contained == (0, 'Column "title" does not exist')
assert beside == (0, [b"one", b"two"])
PY
