"""What the Pods of a Job tell people: why one does not start, how the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_CHARS = 500


def story(pods: Sequence[Any]) -> str:
    """The newest Pod in a sentence."""
    if not pods:
        return "waiting for a Pod"
    pod = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
    if pod.status.phase == "Pending":
        return _pending(pod)[:MAX_CHARS]
    ended = _ended(pod)
    return f"its last Pod {pod.metadata.name} ended: {ended}"[:MAX_CHARS] if ended else "its Pod starts"


def _pending(pod: Any) -> str:
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"its Pod cannot be scheduled: {condition.message or condition.reason}"
    waiting = [_word(status.state.waiting) for status in pod.status.container_statuses or () if status.state.waiting]
    return f"its Pod starts: {waiting[0]}" if waiting else "its Pod starts"


def _ended(pod: Any) -> str:
    """Empty for a Pod that has not."""
    states = [status.state.terminated for status in pod.status.container_statuses or ()]
    parts = [f"exit code {end.exit_code}: {_word(end)}" for end in states[:1] if end]
    if pod.status.reason:  # Evicted, NodeLost, …
        parts.insert(0, _word(pod.status))
    return "; ".join(parts)


def _word(said: Any) -> str:
    return ": ".join(part.strip() for part in (said.reason, said.message) if part)
