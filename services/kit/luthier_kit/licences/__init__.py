"""What licences allow and ask for: a table of rules that is data (`rules.json`), each with its source.

It is no legal advice, and says of itself what it rests on. A licence that the table does not have, or that nobody
stated, allows nothing that was chosen here: a person has to decide.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from luthier.common.v1.common_pb2 import (
    LICENSED_USE_COMMERCIAL,
    LICENSED_USE_REDISTRIBUTION,
    LICENSED_USE_RESEARCH,
    LICENSED_USE_UNSPECIFIED,
    LicensedUse,
)
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.rpc import FailedPrecondition, InvalidRequest

USES: Final[Mapping[str, LicensedUse]] = {
    "research": LICENSED_USE_RESEARCH,
    "commercial": LICENSED_USE_COMMERCIAL,
    "redistribution": LICENSED_USE_REDISTRIBUTION,
}
"""Uses of a data set by their names: to train a model for research, to train one that earns money, to pass it on."""
UNSTATED: Final = frozenset({"", "unknown"})
"""Licences that say nothing: `luthier run` without --licence stores the second."""
FORBIDDEN: Final = "forbidden"
_SHOWN: Final = 10
"""Rows that a refusal names; it counts all."""


@dataclass(frozen=True)
class Rule:
    """What one licence says. Uses are `allowed` or FORBIDDEN. `names`: by which it is stated beside `licence`, its SPDX
    identifier where it has one (`spdx`).

    `attribution`: whoever made it is named. `share_alike`: what is made of it and passed on has the same licence.
    `source`: title, section and address of what it rests on.
    """

    licence: str
    spdx: bool
    title: str
    names: tuple[str, ...]
    training: str
    commercial: str
    redistribution: str
    attribution: bool
    share_alike: bool
    source: str
    note: str

    def allows(self, use: LicensedUse) -> bool:
        """Whether it allows a use."""
        needed = {
            LICENSED_USE_RESEARCH: (self.training,),
            LICENSED_USE_COMMERCIAL: (self.training, self.commercial),
            LICENSED_USE_REDISTRIBUTION: (self.redistribution,),
        }[use]
        return FORBIDDEN not in needed


@dataclass(frozen=True)
class Refused:
    """A clip whose licence forbids a use, or does not tell; `why` in words."""

    clip_id: str
    licence: str
    why: str


@cache
def rules() -> tuple[str, tuple[Rule, ...]]:
    """The table's version, a date, and its rules by name."""
    told = json.loads(resources.files(__package__).joinpath("rules.json").read_text())
    return told["version"], tuple(Rule(**{**each, "names": tuple(each["names"])}) for each in told["rules"])


@cache
def _by_name() -> Mapping[str, Rule]:
    return {_key(name): rule for rule in rules()[1] for name in (rule.licence, *rule.names)}


def _key(licence: str) -> str:
    """`CC BY 4.0`, `cc-by-4.0` and `CC-BY-4.0` are one."""
    return re.sub(r"[\s_-]+", "-", licence.strip()).casefold()


def rule_of(licence: str) -> Rule | None:
    """The rule of a licence by its SPDX identifier or a plain name; None where the table has none.

    `TimGM6mb SoundFont: GPL-2.0-only` names what it is of, too.
    """
    return _by_name().get(_key(licence)) or _by_name().get(_key(licence.rpartition(": ")[2]))


def licences_of(row: DatasetRow) -> list[str]:
    """The licences that bind a clip, sorted; `unknown` where one of its parts states none."""
    stated = set(row.licences) or {"unknown"}
    return sorted({"unknown" if each in UNSTATED or each.startswith("unstated") else each for each in stated})


def refusals(rows: Iterable[DatasetRow], use: LicensedUse) -> list[Refused]:
    """The clips that a use may not have, by each licence that says so; none where no use is chosen. InvalidRequest."""
    if use == LICENSED_USE_UNSPECIFIED:
        return []
    if use not in USES.values():
        raise InvalidRequest(violations=[("use", "must be a known LicensedUse")])
    found = []
    for row in rows:
        for licence in licences_of(row):
            if why := _why_not(licence, use):
                found.append(Refused(row.clip_id, licence, why))
    return found


def _why_not(licence: str, use: LicensedUse) -> str:
    """Why a licence does not allow a use, empty where it does."""
    if licence in UNSTATED:
        return "no licence is stated"
    rule = rule_of(licence)
    if rule is None:
        return "is none that the table of rules has"
    return "" if rule.allows(use) else f"forbids it ({rule.source})"


def refuse(rows: Iterable[DatasetRow], use: LicensedUse) -> None:
    """FailedPrecondition LICENCE_FORBIDS where a use may not have all of these clips: names licences, clips and why."""
    found = refusals(rows, use)
    if not found:
        return
    clips = defaultdict[tuple[str, str], list[str]](list)
    for each in found:
        clips[each.licence, each.why].append(each.clip_id)
    parts = [
        f"{len(ids)} clips: {licence!r} {why}: {named(ids)}"
        for (licence, why), ids in sorted(clips.items(), key=lambda item: -len(item[1]))[:_SHOWN]
    ]
    use_name = next(name for name, each in USES.items() if each == use)
    count = len({each.clip_id for each in found})
    raise FailedPrecondition(
        f"{count} clips may not be used for {use_name}: {'; '.join(parts)}", reason="LICENCE_FORBIDS", clips=str(count)
    )


def named(ids: Sequence[str]) -> str:
    """The first of some ids, and how many there are beside them."""
    more = len(ids) - _SHOWN
    return ", ".join(ids[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(rows: Iterable[DatasetRow]) -> Counter[str]:
    """Clips by each licence that binds them."""
    return Counter(licence for row in rows for licence in licences_of(row))
