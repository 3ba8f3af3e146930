"""Walks back from a digest to everything behind it: MIDI files, plugins and SoundFonts, prompts, data sets, models."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from luthier_pipeline.custody.ledger import ACTION, DATASET, MODEL, Ledger, Step

SHOWN = 20
"""Branches of one node that the printed tree shows; the document has all."""


@dataclass
class Ancestry:
    """A graph: `nodes` by name (a digest or a step's name), each with the names that it came `from`."""

    root: str
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The graph, and what a person asks for first."""
        found = [{"name": name, **node} for name, node in self.nodes.items()]
        tools: dict[str, str] = {}
        prompts: dict[str, None] = {}
        for node in found:
            tools.update(node.get("tools", {}))
            prompts.update(dict.fromkeys(node.get("prompts", [])))
        return {
            "sha256": self.root,
            "midi": [
                {key: n.get(key, "") for key in ("sha256", "path", "licence")} for n in found if n["kind"] == "midi"
            ],
            "tools": tools,
            "prompts": list(prompts),
            "datasets": [node["name"] for node in found if node["kind"] == DATASET],
            "models": [node["name"] for node in found if node["kind"] == MODEL],
            "licences": sorted({name for node in found for name in node.get("licences", [])}),
            "nodes": found,
        }

    def tree(self) -> str:
        """For people: each node once with its branches, later ones as `…`."""
        return "\n".join(self._lines(self.root, "", set()))

    def _lines(self, name: str, indent: str, told: set[str]) -> Iterator[str]:
        node = self.nodes[name]
        branches = [n for n in node["from"] if self.nodes[n]["kind"] != "text"]
        again = name in told and bool(branches)
        yield f"{indent}{_title(name, node)}{'  …' if again else ''}"
        if again:
            return
        told.add(name)
        for branch in branches[:SHOWN]:
            yield from self._lines(branch, indent + "  ", told)
        if len(branches) > SHOWN:
            yield f"{indent}  and {len(branches) - SHOWN} more (--json has all)"


def trace(ledger: Ledger, digest: str) -> Ancestry:
    """Everything behind a digest."""
    found, waiting = Ancestry(digest), [digest]
    clips: dict[str, dict[str, Any]] = {}  # what data sets on the way say of them
    while waiting:
        if (name := waiting.pop()) in found.nodes:
            continue
        makers, clip = ledger.makers.get(name, []), clips.get(name, {})
        behind = [step.name for step in makers] or [one for one in [clip.get("midi_sha256")] if one]
        found.nodes[name] = {**_artifact(ledger, name, bool(makers)), "from": behind}
        if clip:
            found.nodes[name] |= {key: clip[key] for key in ("clip_id", "prompts", "records", "licences")}
        waiting += [one for one in behind if not makers]
        for step in (step for step in makers if step.name not in found.nodes):
            clips |= step.facts.get("clips", {})
            found.nodes[step.name] = {**_step(step), "from": list(step.inputs)}
            waiting += step.inputs
    return found


def _artifact(ledger: Ledger, digest: str, made: bool) -> dict[str, Any]:
    key = ledger.blobs.get(digest, "")
    if song := ledger.songs.get(digest):
        licences = [song.licence] if song.licence else []
        return {
            "kind": "midi",
            "sha256": digest,
            "key": key,
            "path": song.path,
            "licence": song.licence,
            "licences": licences,
        }
    if key.startswith("midi/"):
        return {"kind": "midi", "sha256": digest, "key": key}
    return {"kind": "blob" if key or made else "text", "sha256": digest, "key": key}


def _step(step: Step) -> dict[str, Any]:
    facts = {name: value for name, value in step.facts.items() if name != "clips" and value not in ("", [], {})}
    if step.kind == ACTION and (prompt := step.facts["parameters"].get("prompt")):
        facts["prompts"] = [prompt]
    return {"kind": step.kind, **facts}


def _title(name: str, node: dict[str, Any]) -> str:
    """One line: what it is, and the facts by which a person knows it."""
    if node["kind"] == ACTION:
        tools = ", ".join(f"{tool} {version[:16]}" for tool, version in sorted(node.get("tools", {}).items()))
        parts = [node["stage"], f"seed {node['seed']}" if node.get("seed") else "", tools]
    elif node["kind"] in ("midi", "blob", "text"):
        parts = [node["key"] or f"sha256:{name}", node.get("path", ""), node.get("licence", "")]
    else:
        parts = [node["kind"], name, node.get("reason", "")]
    prompts = [f'"{prompt[:80]}"' for prompt in node.get("prompts", [])[:1]]
    return "  ".join(part for part in (*parts, *prompts) if part)
