"""The conditions of a model configuration: one T5 prompt, and numbers in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luthier_model.schema import Real, Whole

MAX_CONDITIONS = 16
PROMPT, SECONDS = "prompt", ("seconds_start", "seconds_total")


@dataclass(frozen=True)
class TextCondition:
    """The T5 encoder behind a prompt: its name in the configuration and how many tokens it reads."""

    id: str
    encoder: str
    max_tokens: int
    project_out: bool


def check_conditions(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Violations among the conditions of `configuration["model"]`: (field, what it must be)."""
    found: list[tuple[str, str]] = []
    conditions = model.get("conditioning", {}).get("configs")
    if not isinstance(conditions, list) or not 1 <= len(conditions) <= MAX_CONDITIONS:
        return [("model.conditioning.configs", f"must be a list of 1 to {MAX_CONDITIONS} conditions")]
    for index, condition in enumerate(conditions):
        found += [(f"model.conditioning.configs[{index}]{at}", what) for at, what in _condition(condition)]
    if found:
        return found
    types = {condition["id"]: condition["type"] for condition in conditions}
    wanted = {PROMPT: "t5", **dict.fromkeys(SECONDS, "number")}
    if types != wanted or len(conditions) != len(types):
        return [("model.conditioning.configs", f"must be exactly {wanted}, each once")]
    return _lists(model.get("diffusion", {}))


def _condition(condition: Any) -> list[tuple[str, str]]:
    if not isinstance(condition, dict) or not isinstance(condition.get("config"), dict):
        return [("", "must be an object with id, type and config")]
    kind, config = condition.get("type"), condition["config"]
    if not isinstance(condition.get("id"), str) or set(condition) != {"id", "type", "config"}:
        return [("", "must have exactly id (a string), type and config")]
    if kind == "t5":
        return _fields(config, {"t5_model_name"}, {"max_length", "project_out"}) + _t5(config)
    if kind == "number":
        return _fields(config, {"min_val", "max_val"}, set()) + _number(config)
    return [(".type", f"must be 't5' or 'number', got {kind!r}"[:200])]


def _fields(config: dict[str, Any], required: set[str], optional: set[str]) -> list[tuple[str, str]]:
    missing = [(f".config.{name}", "is missing") for name in sorted(required - set(config))]
    return missing + [(f".config.{name}", "is not a known field") for name in sorted(set(config) - required - optional)]


def _t5(config: dict[str, Any]) -> list[tuple[str, str]]:
    name = config.get("t5_model_name", "")
    found = [] if isinstance(name, str) and 0 < len(name) <= 200 else [(".config.t5_model_name", "must be a name")]
    problem = Whole(1, 512).problem(config.get("max_length", 128))
    project = config.get("project_out", False)
    found += [] if isinstance(project, bool) else [(".config.project_out", "must be true or false")]
    return found + ([(".config.max_length", problem)] if problem else [])


def _number(config: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(f".config.{name}", Real(0, 1e6).problem(config.get(name, 0))) for name in ("min_val", "max_val")]
    problems = [(at, what) for at, what in found if what]
    if not problems and not config.get("min_val", 0) < config.get("max_val", 0):
        problems.append((".config.max_val", "must be above min_val"))
    return problems


def _lists(diffusion: dict[str, Any]) -> list[tuple[str, str]]:
    wanted = {"cross_attention_cond_ids": [PROMPT, *SECONDS], "global_cond_ids": list(SECONDS)}
    return [
        (f"model.diffusion.{name}", f"must be {ids}, got {diffusion.get(name)!r}"[:200])
        for name, ids in wanted.items()
        if diffusion.get(name) != ids
    ]
