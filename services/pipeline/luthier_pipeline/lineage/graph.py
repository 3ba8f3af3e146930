"""The way back from a file to everything behind it: files by digest and steps by name, as a graph."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_pipeline.lineage.index import LineageIndex
from luthier_pipeline.lineage.steps import ACTION, DATASET, MODEL, Song, Step

MIDI, RECORDING, BLOB, TEXT = "midi", "recording", "blob", "text"
STORED, EXPIRED, TAKEN_DOWN, DELETED = "", "expired", "taken down", "deleted"
GENERATE: Final = "generate"
SHOWN: Final = 20
"""Branches of one node that the printed tree shows; the JSON has all."""


@dataclass(frozen=True)
class File:
    """Bytes of a lineage: a MIDI file, a recording, another blob, or a text that was only digested.

    `behind` are the names of the steps that made it. `clip` is what a data set says of it. `state` is STORED, or why
    its bytes are not there: generated audio has EXPIRED (asked for again, it is made again), else it was TAKEN_DOWN or
    DELETED.
    """

    digest: str
    kind: str
    key: str
    behind: tuple[str, ...]
    song: Song | None = None
    clip: DatasetRow | None = None
    state: str = STORED

    @property
    def licences(self) -> list[str]:
        if self.clip:
            return list(self.clip.licences)
        return [self.song.licence] if self.song and self.song.licence else []


@dataclass
class Lineage:
    """Everything behind a digest: files by digest and steps by name, each with the names that it came from."""

    root: str
    nodes: dict[str, File | Step] = field(default_factory=dict)

    def document(self) -> Mapping[str, object]:
        """The graph as JSON, and what a person asks for first."""
        files = [node for node in self.nodes.values() if isinstance(node, File)]
        steps = [node for node in self.nodes.values() if isinstance(node, Step)]
        prompts = [prompt for node in self.nodes.values() for prompt in _prompts(node)]
        return {
            "sha256": self.root,
            "midi": [_song_document(file) for file in files if file.kind == MIDI],
            "recordings": [_song_document(file) for file in files if file.kind == RECORDING],
            "tools": {name: version for step in steps for name, version in step.tools.items()},
            "prompts": list(dict.fromkeys(prompts)),
            "datasets": [step.name for step in steps if step.kind == DATASET],
            "models": [step.name for step in steps if step.kind == MODEL],
            "licences": sorted({licence for node in self.nodes.values() for licence in node.licences}),
            "nodes": [{"name": name, **_node_document(node)} for name, node in self.nodes.items()],
        }

    def tree(self) -> str:
        """For people: each node once with its branches, later ones as `…`."""
        return "\n".join(self._lines(self.root, "", set()))

    def _lines(self, name: str, indent: str, shown: set[str]) -> Iterator[str]:
        node = self.nodes[name]
        branches = [other for other in _behind(node) if self.nodes[other].kind != TEXT]
        again = name in shown and bool(branches)
        yield f"{indent}{_title(node)}{'  …' if again else ''}"
        if again:
            return
        shown.add(name)
        for branch in branches[:SHOWN]:
            yield from self._lines(branch, indent + "  ", shown)
        if len(branches) > SHOWN:
            yield f"{indent}  and {len(branches) - SHOWN} more (--json has all)"


def lineage_of(index: LineageIndex, digest: str) -> Lineage:
    """Everything behind a digest."""
    found, waiting = Lineage(digest), [digest]
    clips: dict[str, DatasetRow] = {}  # what data sets on the way say of them
    while waiting:
        files = [name for name in dict.fromkeys(waiting) if name not in found.nodes]
        made_by, waiting = index.makers(files), []
        for name in files:
            makers, clip = made_by[name], clips.get(name)
            key, song = index.blob(name), index.song(name)
            origin = clip.source.midi_sha256 if clip and not makers else ""
            kind = BLOB if key or makers else TEXT
            if song or key.startswith("midi/"):
                kind = RECORDING if song and song.is_recording else MIDI
            behind = tuple(step.name for step in makers) or tuple(filter(None, [origin]))
            state = STORED if kind == TEXT else _state(index, name, key, makers)
            found.nodes[name] = File(name, kind, key, behind, song, clip, state)
            waiting += [origin] if origin else []
            for step in (step for step in makers if step.name not in found.nodes):
                clips |= step.clips
                found.nodes[step.name] = step
                waiting += step.inputs
    return found


def _state(index: LineageIndex, digest: str, key: str, makers: Sequence[Step]) -> str:
    """Of a file; what only names files (a model's version) is never stored. What was taken down is refused while its
    bytes are still there, too."""
    if index.store.tombstones.names(index.store.objects, digest):
        return TAKEN_DOWN
    if key or not any(step.kind == ACTION for step in makers):
        return STORED
    return EXPIRED if all(step.stage == GENERATE for step in makers) else DELETED


def _behind(node: File | Step) -> tuple[str, ...]:
    return node.behind if isinstance(node, File) else node.inputs


def _prompts(node: File | Step) -> list[str]:
    if isinstance(node, File):
        return list(node.clip.prompts) if node.clip else []
    prompt = node.parameters.get("prompt")
    return [prompt] if prompt else []


def _song_document(file: File) -> Mapping[str, str]:
    song = file.song or Song("", "", "")
    return {"sha256": file.digest, "path": song.path, "licence": song.licence}


def _node_document(node: File | Step) -> Mapping[str, object]:
    """A node as JSON: what is empty is left out, but a file's digest and key."""
    facts: dict[str, object]
    if isinstance(node, File):
        inputs = node.clip.lineage.inputs if node.clip else ()
        facts = {
            "path": node.song.path if node.song else "",
            "licence": node.song.licence if node.song else "",
            "clip_id": node.clip.clip_id if node.clip else "",
            "state": node.state,
            "records": [name for name in inputs if name.startswith("actions/")],
        }
        always: dict[str, object] = {"kind": node.kind, "sha256": node.digest, "key": node.key}
    else:
        facts = {
            "stage": node.stage,
            "version": node.version,
            "parameters": node.parameters,
            "seed": node.seed,
            "tools": node.tools,
            "dataset_name": node.dataset_name,
            "evaluation": node.evaluation,
            "created_by": node.created_by,
            "reason": node.reason,
            "run": node.run,
            "state": node.state,
        }
        always = {"kind": node.kind}
    facts |= {"prompts": _prompts(node), "licences": list(node.licences)}
    return {
        **always,
        **{name: value for name, value in facts.items() if value not in ("", None, [], {})},
        "from": list(_behind(node)),
    }


def _title(node: File | Step) -> str:
    """One line: what it is, and the facts by which a person knows it."""
    if isinstance(node, File):
        song = node.song or Song("", "", "")
        parts = [node.key or f"sha256:{node.digest}", node.state, song.path, song.licence]
    elif node.kind == ACTION:
        tools = ", ".join(f"{tool} {version[:16]}" for tool, version in sorted(node.tools.items()))
        parts = [node.stage, f"seed {node.seed}" if node.seed else "", tools]
    else:
        parts = [node.kind, node.name, node.reason]
    prompts = [f'"{prompt[:80]}"' for prompt in _prompts(node)[:1]]
    return "  ".join(part for part in (*parts, *prompts) if part)
