#!/usr/bin/env bash
# A stored JSON document with a list of roles, one of which this build does not know yet, read with ignore_unknown_fields=True: the
# unknown entry is taken out of the list, what follows moves up, and a list that runs beside it (gains, channels) keeps its length. The
# bass gets the gain of the drums. Most expect a placeholder at its place: the binary form keeps the number and the position.
# Hurt: manifests and captions kept as protobuf JSON and read by an older service during a rollout; nothing is reported.
# Printed:
#   protobuf 7.36.2: written ['VOICE', 'DRUMS', 'BASS'] with gains [-3.0, -6.0, -9.0]
#   protobuf 7.36.2: older reader, binary: roles [1, 3, 2] with gains [-3.0, -6.0, -9.0]
#   protobuf 7.36.2: older reader, JSON:   roles [1, 2] with gains [-3.0, -6.0, -9.0]
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get protobuf==7.36.2
cd "$t" && v/bin/python -W ignore - <<'PY'
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from importlib.metadata import version
def schema(*roles):  # message Mix { repeated Role roles = 1; repeated float gains = 2; }
    file = descriptor_pb2.FileDescriptorProto(name="mix.proto", package="mix", syntax="proto3")
    enum = file.enum_type.add(name="Role")
    for number, name in enumerate(roles):
        enum.value.add(name=name, number=number)
    message, field = file.message_type.add(name="Mix"), descriptor_pb2.FieldDescriptorProto
    message.field.add(name="roles", number=1, type=field.TYPE_ENUM, label=field.LABEL_REPEATED, type_name=".mix.Role")
    message.field.add(name="gains", number=2, type=field.TYPE_FLOAT, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mix.Mix"))
Newer, Older = schema("UNKNOWN", "VOICE", "BASS", "DRUMS"), schema("UNKNOWN", "VOICE", "BASS")
written = Newer(roles=[1, 3, 2], gains=[-3, -6, -9])
names = json_format.MessageToDict(written)["roles"]
binary = Older.FromString(written.SerializeToString())
text = json_format.Parse(json_format.MessageToJson(written), Older(), ignore_unknown_fields=True)
name = f"protobuf {version('protobuf')}"
print(f"{name}: written {names} with gains {list(written.gains)}")
print(f"{name}: older reader, binary: roles {list(binary.roles)} with gains {list(binary.gains)}")
print(f"{name}: older reader, JSON:   roles {list(text.roles)} with gains {list(text.gains)}")
assert list(binary.roles) == [1, 3, 2] and list(text.roles) == [1, 2] and len(text.gains) == 3
PY
