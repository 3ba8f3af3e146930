"""What the HTTP routes take and give, as an OpenAPI 3.1 document and as a page.

Fields and their descriptions are those of the contract: its descriptors, and its comments, which the wheel of the stubs
brings in `luthier/contracts.binpb`.
"""

import functools
import re
from html import escape
from importlib import resources
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.detecting import MAX_UPLOAD_BYTES
from luthier_inference.web.body import DEFAULT_TIMEOUT_S, JSON, MAX_TIMEOUT_S, RESPONSE_FORMATS, VLLM_NAMES, short_name

Described = Any  # protobuf's descriptors, whose classes differ between its implementations
Schema = dict[str, Any]

_NUMBERS: Final[dict[int, Schema]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": ["string", "integer"], "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": ["string", "integer"], "pattern": "^[0-9]+$", "minimum": 0},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
}
"""Of protobuf's JSON mapping; 64 bits are strings in answers, as many readers have no such numbers."""
_WELL_KNOWN: Final[dict[str, Schema]] = {"google.protobuf.Timestamp": {"type": "string", "format": "date-time"}}
_OWN_FIELDS: Final[dict[str, Schema]] = {
    "response_format": {
        "type": "string", "enum": [*RESPONSE_FORMATS, JSON], "default": "wav",
        "description": "Format of the audio, or `json` for a GenerateResponse in place of the audio's bytes.",
    },
    "stream_format": {
        "type": "string", "enum": ["audio", "sse"],
        "description": "`sse` = progress, response and audio as server-sent events; `audio` = bytes, whatever Accept "
        "says. Absent = as `response_format` and Accept say.",
    },
    "speed": {"type": "number", "const": 1, "description": "1: audio is made at the speed that the prompt asks for."},
    "timeout_s": {
        "type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_S, "default": DEFAULT_TIMEOUT_S,
        "description": "How long the caller waits, seconds. What could not be ready by then is refused at once.",
    },
}  # fmt: skip
_AUDIO_URL: Final[Schema] = {"type": "string", "description": "Where this server gives the audio."}
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "reason", "violations"],
            "properties": {
                "message": {"type": "string", "description": "For people."},
                "type": {"type": "string", "description": "The name of OpenAI's client for the status."},
                "param": {"type": ["string", "null"], "description": "The first field that is wrong."},
                "code": {"type": "integer", "description": "The HTTP status."},
                "reason": {"type": "string", "description": "Stable, as gRPC's ErrorInfo has it."},
                "violations": {
                    "type": "array",
                    "description": "Every field that is wrong, and the bound that it breaks.",
                    "items": {
                        "type": "object",
                        "required": ["field", "description"],
                        "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                    },
                },
                "retry_after_s": {"type": "number", "description": "When to try again, seconds."},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    },
}
_STATUSES: Final = {
    "400": "A field is unknown, of another type or beyond its bound; the body is not JSON.",
    "401": "The caller brings no token, or an unknown one.",
    "403": "The caller may not do this; another site's page asks.",
    "404": "No such model or artifact.",
    "413": "The body is too long, or does not state its length.",
    "415": "The body is not said to be JSON, or a file where one is wanted.",
    "422": "What is named exists and does not fit.",
    "429": "The caller has as many calls in flight as it may have.",
    "500": "A bug, or stored bytes that are corrupt.",
    "503": "Every place is taken, or a part is down: Retry-After says when to try again.",
    "504": "It was not ready within `timeout_s`.",
}


@functools.cache
def comments() -> dict[str, str]:
    """The contract's comments, by the full names of messages, fields, enums and values."""
    files = FileDescriptorSet.FromString(resources.files("luthier").joinpath("contracts.binpb").read_bytes())
    found: dict[str, str] = {}
    for file in files.file:
        said = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}

        def message(described: DescriptorProto, path: tuple[int, ...], within: str, said: dict[Any, str]) -> None:
            name = f"{within}.{described.name}"
            found[name] = said.get(path, "")
            for index, field in enumerate(described.field):
                found[f"{name}.{field.name}"] = said.get((*path, 2, index), "")
            for index, nested in enumerate(described.nested_type):
                message(nested, (*path, 3, index), name, said)

        def enum(described: EnumDescriptorProto, path: tuple[int, ...], within: str, said: dict[Any, str]) -> None:
            found[f"{within}.{described.name}"] = said.get(path, "")
            for index, value in enumerate(described.value):  # values are siblings of their enum
                found[f"{within}.{value.name}"] = said.get((*path, 2, index), "")

        for index, each in enumerate(file.message_type):
            message(each, (4, index), file.package, said)
        for index, one in enumerate(file.enum_type):
            enum(one, (5, index), file.package, said)
    return found


def _enum_schema(described: Described) -> Schema:
    return {"type": "string", "enum": [value.name for value in described.values]}


def _field_schema(field: Described, schemas: dict[str, Schema]) -> Schema:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = _field_schema(field.message_type.fields_by_name["value"], schemas)
        return {"type": "object", "additionalProperties": values, "description": comments().get(field.full_name, "")}
    if field.message_type is not None:
        name = field.message_type.full_name
        schema = _WELL_KNOWN.get(name) or {"$ref": f"#/components/schemas/{_add(field.message_type, schemas)}"}
    elif field.enum_type is not None:
        schema = _enum_schema(field.enum_type)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        schema = {"type": "string", "contentEncoding": "base64"}
    else:
        schema = _NUMBERS.get(field.cpp_type, {"type": "string"})
    if field.is_repeated:
        schema = {"type": "array", "items": schema}
    return schema | {"description": comments().get(field.full_name, "")}


def _add(message: Described, schemas: dict[str, Schema]) -> str:
    """The name of a message's schema, which is added with those that it refers to."""
    name = str(message.name)
    if name not in schemas:
        schemas[name] = {}  # a message may refer to itself
        properties = {field.name: _field_schema(field, schemas) for field in message.fields}
        if "audio" in properties:
            properties = {"audio_url": _AUDIO_URL, **properties}
        schemas[name] = {
            "type": "object", "description": comments().get(message.full_name, ""), "properties": properties,
        }  # fmt: skip
    return name


def _request_schema(schemas: dict[str, Schema]) -> Schema:
    """The body: vLLM-Omni's names, this server's own, then every further field of the contract."""
    fields = {field.name: _field_schema(field, schemas) for field in pb.GenerateRequest.DESCRIPTOR.fields}
    for field in pb.GenerateRequest.DESCRIPTOR.fields:
        if field.enum_type:
            short = [short_name(value) for value in field.enum_type.values[1:]]
            fields[field.name]["enum"] = [*short, *fields[field.name]["enum"]]
    named = {name: fields.pop(own) for name, own in VLLM_NAMES.items()}
    fields["output_format"]["description"] += " In place of `response_format`."
    return {
        "type": "object",
        "description": "Names are vLLM-Omni's and, beside them, those of GenerateRequest (luthier.inference.v1), by "
        "which the first four may be said, too: " + ", ".join(f"`{own}`" for own in VLLM_NAMES.values()) + ".",
        "properties": {**named, **_OWN_FIELDS, **fields},
    }


def _response(description: str, content: dict[str, Schema] | None = None) -> Schema:
    return {"description": description, **({"content": content} if content else {})}


def _errors(*statuses: str) -> dict[str, Schema]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: _response(_STATUSES[status], content) for status in statuses}


def _reference(message: Described, schemas: dict[str, Schema]) -> Schema:
    return {"schema": {"$ref": f"#/components/schemas/{_add(message, schemas)}"}}


@functools.cache
def document() -> Schema:
    """The OpenAPI document."""
    schemas: dict[str, Schema] = {"Error": _ERROR}
    schemas["Generate"] = _request_schema(schemas)
    generated = _reference(pb.GenerateResponse.DESCRIPTOR, schemas)
    _add(pb.GenerateProgress.DESCRIPTOR, schemas)
    found = _reference(pb.DetectMarksResponse.DESCRIPTOR, schemas)
    model = {"$ref": f"#/components/schemas/{_add(pb.Model.DESCRIPTOR, schemas)}"}
    own = {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    }
    listed = {
        "type": "object",
        "required": ["object", "data", "default_model"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"allOf": [{"type": "object", "properties": own}, model]}},
            "default_model": {"type": "string", "description": "Answers requests that name none; empty = none does."},
        },
    }
    audio = {
        form: {"schema": {"type": "string", "format": "binary"}}
        for form in ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")
    }
    events = {
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "`progress` (GenerateProgress) after each step and while the request waits; `response` "
                "(GenerateResponse); `audio`, whose `audio` are bytes in base64, in order; `done`. `error` (Error) "
                "ends a stream that had begun.",
            }
        }
    }
    token: list[Schema] = [{}, {"token": []}]
    digest = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": r"^[0-9a-f]{64}\.[a-z0-9]+$"},
        "description": "`<sha256>.<extension>`, the end of `audio_url`.",
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Luthier inference",
            "version": "1",
            "description": "Prompts in, audio out. The same request is the same audio, and is made once.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/audio/generate": {
                "post": {
                    "summary": "Generates audio.",
                    "operationId": "generate",
                    "security": token,
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Generate"}}},
                    },
                    "responses": {
                        "200": _response(
                            "The audio, a GenerateResponse, or events.",
                            {**audio, "application/json": generated, **events},
                        ),
                        **_errors(*_STATUSES),
                    },
                }
            },
            "/v1/audio/verify": {
                "post": {
                    "summary": "Says what a file says of what made it, and what is known of it: content credentials, "
                    "watermark, output by its bytes and by its sound.",
                    "operationId": "verify",
                    "security": token,
                    "requestBody": {
                        "required": True,
                        "description": f"The file, at most {MAX_UPLOAD_BYTES} bytes. It is not kept, and no address in "
                        "it is asked.",
                        "content": {
                            form: {"schema": {"type": "string", "format": "binary"}}
                            for form in ("application/octet-stream", "audio/*")
                        },
                    },
                    "responses": {
                        "200": _response("What was found.", {"application/json": found}),
                        **_errors("400", "401", "403", "413", "415", "429", "500", "503", "504"),
                    },
                }
            },
            "/v1/audio/{name}": {
                "get": {
                    "summary": "Gives audio that was generated.",
                    "operationId": "storedAudio",
                    "security": token,
                    "parameters": [digest],
                    "responses": {
                        "200": _response("The file.", audio),
                        "206": _response("The range that was asked for.", audio),
                        "304": _response("The caller has it."),
                        "416": _response("There is no such range."),
                        **_errors("401", "403", "404", "500", "503"),
                    },
                }
            },
            "/v1/models": {
                "get": {
                    "summary": "Lists the registered model versions.",
                    "operationId": "models",
                    "security": token,
                    "responses": {
                        "200": _response("The versions.", {"application/json": {"schema": listed}}),
                        **_errors("401", "403", "503"),
                    },
                }
            },
            "/health": {
                "get": {
                    "summary": "Says whether the service is SERVING.",
                    "operationId": "health",
                    "responses": {"200": _response("It is."), "503": _response("It is not.")},
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _said(text: str) -> str:
    """A description as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _type_of(schema: Schema) -> str:
    """A schema in a few words, as HTML."""
    if "allOf" in schema:
        return " and ".join(_type_of(each) for each in schema["allOf"])
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_type_of(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "")
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind or repr(schema.get("const"))))


def _table(schema: Schema) -> str:
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{_type_of(each)}</td>"
        f"<td>{_said(each.get('description', ''))}</td></tr>"
        for name, each in schema.get("properties", {}).items()
    )
    head = "<tr><th scope='col'>field</th><th scope='col'>type</th><th scope='col'>meaning</th></tr>"
    return f"<div class='scroll' tabindex='0'><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


def _operation(path: str, method: str, operation: Schema) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    taken = f" The body is {_type_of(body)}, in JSON." if body else ""
    rows = "".join(
        f"<tr><th scope='row'>{status}</th><td>{_said(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{_said(operation['summary'])}{taken}</p>"
        f"<div class='scroll' tabindex='0'><table><tbody>{rows}</tbody></table></div></section>"
    )


@functools.cache
def reference_page() -> str:
    """The document as HTML that needs no script."""
    told = document()
    operations = "".join(
        _operation(path, method, each) for path, methods in told["paths"].items() for method, each in methods.items()
    )
    error = told["components"]["schemas"]["Error"]["properties"]["error"]
    named = told["components"]["schemas"] | {"Error": {"description": "The member `error` of a refusal.", **error}}
    schemas = "".join(
        f"<section id='{escape(name)}'><h2>{escape(name)}</h2><p>{_said(schema.get('description', ''))}</p>"
        f"{_table(schema)}</section>"
        for name, schema in named.items()
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'><title>Luthier inference over HTTP</title>"
        "<link rel='icon' href='/static/icon.svg' type='image/svg+xml'>"
        "<link rel='stylesheet' href='/static/style.css'></head><body class='reference'>"
        "<header class='top'><a class='brand' href='/'><img src='/static/icon.svg' alt='' width='22' height='22'> "
        "Luthier <b>over HTTP</b></a><a href='/openapi.json'>openapi.json</a></header>"
        f"<main><h1>Luthier inference over HTTP</h1><p>{escape(told['info']['description'])}</p>"
        f"{operations}{schemas}</main></body></html>"
    )


async def as_json(_: Request) -> Response:
    """The route of the document."""
    return JSONResponse(document(), headers={"Cache-Control": "no-cache"})


async def as_page(_: Request) -> Response:
    """The route of the page."""
    return HTMLResponse(reference_page(), headers={"Cache-Control": "no-cache"})
