"""What a model is told, as its configuration says: a prompt and numbers of seconds, and where each of them acts.

Each condition has an id; the lists of `model.diffusion` name the ids that act as tokens of cross attention, as one
vector for all latents (global) or as tokens before the latents (prepend). What is to be kept of a sound, for a model
that fills in the rest, acts as channels beside the latents (input concat).
"""

from collections.abc import Mapping
from typing import Any, Final

from luthier_model.rules import BOOL, Choice, Integer, Real, Rule, Text

MAX_CONDITIONS: Final = 16
T5, CLAP_TEXT, NUMBER, INT = "t5", "clap_text", "number", "int"
"""Types of conditions: two encoders of a prompt; seconds as a number between bounds, and seconds in whole ones, which
have an embedding each."""
MAX_TEXT_LAYERS: Final = 96
PROMPT: Final = "prompt"
SECONDS_START, SECONDS_TOTAL = "seconds_start", "seconds_total"
SECONDS: Final = (SECONDS_START, SECONDS_TOTAL)
KEPT, KEPT_LATENTS = "inpaint_mask", "inpaint_masked_input"
INPAINTING: Final = (KEPT, KEPT_LATENTS)
"""The library's ids of the mask (1 = kept, 0 = to be made) and of the latents that it keeps."""
CONFIGS: Final = "model.conditioning.configs"
CROSS, GLOBAL, PREPEND, CONCAT = (
    f"model.diffusion.{name}"
    for name in ("cross_attention_cond_ids", "global_cond_ids", "prepend_cond_ids", "input_concat_ids")
)
LISTS: Final = (CONFIGS, CROSS, GLOBAL, PREPEND, CONCAT)
"""Paths of the lists that `violations` checks."""

Violation = tuple[str, str]  # path of a field, what it must be


def ids_of(model: Mapping[str, Any], path: str) -> list[str]:
    """The ids in one of the lists of a checked `document["model"]`; none where it has no such list."""
    return list(model["diffusion"].get(path.rsplit(".", 1)[1], []))


def violations(model: Mapping[str, Any], *, inpainting: bool) -> list[Violation]:
    """Violations among the conditions of `document["model"]`, named where they act."""
    conditions = model.get("conditioning", {}).get("configs")
    if not isinstance(conditions, list) or not 1 <= len(conditions) <= MAX_CONDITIONS:
        return [(CONFIGS, f"must be a list of 1 to {MAX_CONDITIONS} conditions")]
    found: list[Violation] = []
    for index, condition in enumerate(conditions):
        found += _one_condition(f"{CONFIGS}[{index}]", condition)
    return found or _unknown_ids([c["id"] for c in conditions]) or _misplaced(model, inpainting=inpainting)


def _unknown_ids(ids: list[str]) -> list[Violation]:
    """One prompt and the seconds of a sound: nothing else can be told from a request."""
    if set(ids) - {PROMPT, *SECONDS} or not {PROMPT, SECONDS_TOTAL} <= set(ids) or len(ids) != len(set(ids)):
        text = f"must be {PROMPT}, {SECONDS_TOTAL} and perhaps {SECONDS_START}, each once, got {', '.join(ids)}"
        return [(CONFIGS, text[:200])]
    return []


def _misplaced(model: Mapping[str, Any], *, inpainting: bool) -> list[Violation]:
    known = {condition["id"] for condition in model["conditioning"]["configs"]}
    allowed = {CROSS: known, GLOBAL: known - {PROMPT}, PREPEND: known}
    diffusion, acting, found = model.get("diffusion", {}), set(), []
    for path, ids in allowed.items():
        given = diffusion.get(path.rsplit(".", 1)[1], [])
        texts = isinstance(given, list) and all(isinstance(each, str) for each in given)
        if not texts or len(given) != len(set(given)) or set(given) - ids:
            found.append((path, f"must hold ids among {', '.join(sorted(ids))}, each once, got {given!r}"[:300]))
            continue
        acting |= set(given)
        if path == CROSS and PROMPT not in given:
            found.append((path, f"must hold {PROMPT}, got {given!r}"[:200]))
    if idle := sorted(known - acting):
        found.append((CONFIGS, f"must act: no list of model.diffusion holds {', '.join(idle)}"))
    concat, wanted = diffusion.get(CONCAT.rsplit(".", 1)[1], []), INPAINTING if inpainting else ()
    if not isinstance(concat, list) or len(concat) != len(wanted) or any(each not in wanted for each in concat):
        text = (
            f"must hold {' and '.join(INPAINTING)}" if inpainting else "must be empty, or absent, in a diffusion_cond"
        )
        found.append((CONCAT, f"{text}, got {concat!r}"[:300]))
    elif len(set(concat)) != len(wanted):
        found.append((CONCAT, f"must hold each id once, got {concat!r}"[:300]))
    return found


Fields = Mapping[str, Rule]
_TYPES: Final[Mapping[str, tuple[Fields, Fields]]] = {
    T5: ({"t5_model_name": Text(200)}, {"max_length": Integer(1, 512), "project_out": BOOL}),
    CLAP_TEXT: (
        {"clap_ckpt_path": Text(1000)},  # read, never opened: the encoder comes as a folder
        {
            "use_text_features": BOOL,
            "feature_layer_ix": Integer(-MAX_TEXT_LAYERS - 1, MAX_TEXT_LAYERS),
            "audio_model_type": Text(100),  # this and the next are about the encoder of audio, which no prompt takes
            "enable_fusion": BOOL,
            "project_out": BOOL,
            "finetune": Choice((False,)),
        },
    ),
    NUMBER: ({"min_val": Real(0, 1e6), "max_val": Real(0, 1e6)}, {}),
    # the library looks the seconds up as they are, without taking min_val off: only 0 stays within its table
    INT: ({"max_val": Integer(1, 1 << 16)}, {"min_val": Choice((0,))}),
}
"""Of each type the fields that it must have and those that it may have."""


def _one_condition(path: str, condition: Any) -> list[Violation]:
    if not isinstance(condition, dict) or not isinstance(condition.get("config"), dict):
        return [(path, "must be an object with id, type and config")]
    kind, config = condition.get("type"), condition["config"]
    if not isinstance(condition.get("id"), str) or set(condition) != {"id", "type", "config"}:
        return [(path, "must have exactly id (a string), type and config")]
    known = (T5, CLAP_TEXT) if condition["id"] == PROMPT else (NUMBER, INT)
    if kind not in known:
        text = f"must be {known[0]!r} or {known[1]!r} for {condition['id'][:40]}, got {kind!r}"
        return [(f"{path}.type", text[:200])]
    required, optional = _TYPES[kind]
    found: list[Violation] = []
    for name, rule in {**required, **optional}.items():
        found += _problems(f"{path}.config.{name}", rule, config[name]) if name in config else []
    found += [(f"{path}.config.{name}", "is missing") for name in sorted(set(required) - set(config))]
    if kind == NUMBER and not found and not config["min_val"] < config["max_val"]:
        found.append((f"{path}.config.max_val", "must be above min_val"))
    unknown = sorted(set(config) - {*required, *optional})
    return found + [(f"{path}.config.{name}", "is not a known field") for name in unknown]


def _problems(path: str, rule: Rule, value: Any) -> list[Violation]:
    problem = rule.problem(value)
    return [(path, problem)] if problem else []
