"""What an evaluation must show before a version is promoted: a file that people edit, by default `promotion_rule.yaml`
beside this module.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from luthier_evaluation.metrics import METRICS
from luthier_evaluation.plan import MAX_ROWS
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import InvalidRequest

ASKED: Final = tuple(metric.name for metric in METRICS if metric.permuted)
"""Metrics of what the prompt asks for."""
SHARES: Final = ("failed", "silent", "clipped")
OPTIONAL_SHARES: Final = ("copies",)
"""A rule that does not name them has no such clause."""


@dataclass(frozen=True)
class Rule:
    """A promotion rule. `rows`, `follows` and `margins` are by metric, the shares by what they are of.

    `rows`: 1 to 5000 of the candidate; `follows`: largest p of the permutation test, above 0 to 1; `better`: a metric,
    empty = none; `margins`: how far the lower end of a paired interval may lie below 0, 0 to 1; `shares`: 0 to 1.
    """

    name: str
    sha256: str
    rows: Mapping[str, int]
    follows: Mapping[str, float]
    better: str
    margins: Mapping[str, float]
    shares: Mapping[str, float]


def read_rule(path: Path | None = None) -> Rule:
    """The rule in a file, or the default. Raises InvalidRequest RULE_INVALID with every fault and its line."""
    try:
        data = path.read_bytes() if path else (resources.files(__package__) / "promotion_rule.yaml").read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the promotion rule {path}: {error.strerror}", reason="RULE_INVALID") from error
    faults = Faults()
    root = read_yaml(data, faults)
    rule = _rule(faults, root, hashlib.sha256(data).hexdigest()) if root else None
    if rule is None or faults.said:
        raise InvalidRequest("\n".join([f"the promotion rule {path}:", *faults.said]), reason="RULE_INVALID")
    return rule


def _rule(faults: Faults, root: Node, sha256: str) -> Rule:
    needed = ("name", "rows", "follows", "margins", *SHARES)
    found = faults.members(root, (*needed, "better", *OPTIONAL_SHARES), needed)
    if (name := found.get("name")) and not (name.text or "").strip():
        faults.add(name, "must be a text")
    better = found.get("better")
    if better and better.text not in ("", *ASKED):
        faults.add(better, f"must be one of {', '.join(ASKED)}, or empty, got {better}")
    return Rule(
        name=(name.text if name else "") or "",
        sha256=sha256,
        rows={metric: faults.whole(node, 1, MAX_ROWS) for metric, node in _metrics(faults, found.get("rows"))},
        follows={metric: faults.within(node, 1e-4, 1) for metric, node in _metrics(faults, found.get("follows"))},
        better=(better.text if better else "") or "",
        margins={metric: faults.within(node, 0, 1) for metric, node in _metrics(faults, found.get("margins"))},
        shares={share: faults.within(found[share], 0, 1) for share in (*SHARES, *OPTIONAL_SHARES) if share in found},
    )


def _metrics(faults: Faults, node: Node | None) -> list[tuple[str, Node]]:
    return list(faults.members(node, ASKED).items()) if node else []
