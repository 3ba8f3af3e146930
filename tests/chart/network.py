"""Which connections NetworkPolicies permit: the semantics of networking.k8s.io/v1, as far as the chart uses them."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from tests.chart.rendering import NAMESPACE, Manifest


@dataclass(frozen=True)
class Peer:
    """A Pod, or an address outside the cluster."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    namespace: str = NAMESPACE
    address: str = ""
    """IP address; "" for a Pod, which has one of the cluster's own."""


POD_ADDRESS = "10.244.1.7"


def reaches(policies: list[Manifest], source: Peer, target: Peer, port: int) -> bool:
    """Whether a TCP connection is permitted: by egress from its source and by ingress to its target."""
    return _permitted(policies, "Egress", source, target, port) and _permitted(
        policies, "Ingress", target, source, port
    )


def _permitted(policies: list[Manifest], side: str, subject: Peer, other: Peer, port: int) -> bool:
    selecting = [p["spec"] for p in policies if side in p["spec"]["policyTypes"] and _selected(p, subject)]
    rules = [rule for spec in selecting for rule in spec.get(side.lower(), [])]
    ports = (other if side == "Egress" else subject).ports
    peers = "to" if side == "Egress" else "from"
    return not selecting or any(
        _peer_allowed(rule.get(peers), other) and _port_allowed(rule.get("ports"), ports, port) for rule in rules
    )


def _selected(policy: Manifest, peer: Peer) -> bool:
    inside = not peer.address and peer.namespace == policy["metadata"]["namespace"]
    return inside and _match(policy["spec"]["podSelector"], peer.labels)


def _match(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _peer_allowed(allowed: list[dict[str, Any]] | None, peer: Peer) -> bool:
    return allowed is None or any(_matches(item, peer) for item in allowed)


def _matches(allowed: dict[str, Any], peer: Peer) -> bool:
    if block := allowed.get("ipBlock"):
        address = ipaddress.ip_address(peer.address or POD_ADDRESS)
        within = [address in ipaddress.ip_network(cidr) for cidr in (block["cidr"], *block.get("except", []))]
        return within[0] and not any(within[1:])
    if peer.address:
        return False
    if "namespaceSelector" in allowed:
        namespaced = _match(allowed["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        namespaced = peer.namespace == NAMESPACE
    return namespaced and _match(allowed.get("podSelector", {}), peer.labels)


def _port_allowed(allowed: list[dict[str, Any]] | None, named: dict[str, int], port: int) -> bool:
    numbers = [named.get(p["port"]) if isinstance(p["port"], str) else p["port"] for p in allowed or []]
    tcp = [p.get("protocol", "TCP") == "TCP" for p in allowed or []]
    return allowed is None or any(n == port and t for n, t in zip(numbers, tcp, strict=True))
