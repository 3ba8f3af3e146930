"""What licences allow: the table of rules, and what is refused by it."""

import re

import pytest

from luthier.common.v1.common_pb2 import (
    LICENSED_USE_COMMERCIAL,
    LICENSED_USE_REDISTRIBUTION,
    LICENSED_USE_RESEARCH,
    LICENSED_USE_UNSPECIFIED,
    LicensedUse,
)
from luthier.curation.v1.dataset_pb2 import DatasetRow
from luthier_kit.licences import refusals, refuse, rule_of, rules
from luthier_kit.rpc import FailedPrecondition, InvalidRequest

RESEARCH, COMMERCIAL, SHARED = LICENSED_USE_RESEARCH, LICENSED_USE_COMMERCIAL, LICENSED_USE_REDISTRIBUTION


def row(number: int, *licences: str) -> DatasetRow:
    return DatasetRow(clip_id=f"clip-{number}", licences=licences)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC0-1.0", {RESEARCH, COMMERCIAL, SHARED}),
        ("MIT", {RESEARCH, COMMERCIAL, SHARED}),
        ("CC-BY-SA-4.0", {RESEARCH, COMMERCIAL, SHARED}),
        ("CC-BY-NC-4.0", {RESEARCH, SHARED}),
        ("CC-BY-NC-SA-3.0", {RESEARCH, SHARED}),
        ("CC-BY-ND-4.0", {RESEARCH, COMMERCIAL}),
        ("CC-BY-NC-ND-4.0", {RESEARCH}),
        ("GPL-2.0-or-later", {RESEARCH, COMMERCIAL, SHARED}),
        ("A guitar: CC-BY-NC-4.0", {RESEARCH, SHARED}),
        ("Spotify Developer Policy: not for training machine-learning models", set()),
        ("Last.fm API terms of service: non-commercial use, attribution", {RESEARCH}),
        ("none (names are facts)", {RESEARCH, COMMERCIAL, SHARED}),
        ("unknown", set()),
        ("unstated (the sheet has none)", set()),
        ("", set()),
        ("All rights reserved", set()),
    ],
)
def test_each_licence_allows_what_its_text_allows(licence: str, allowed: set[LicensedUse]) -> None:
    found = {use for use in (RESEARCH, COMMERCIAL, SHARED) if not refusals([row(1, licence)], use)}

    assert found == allowed


def test_a_clip_without_any_licence_is_refused() -> None:
    assert [each.licence for each in refusals([row(1)], RESEARCH)] == ["unknown"]


def test_one_of_several_licences_is_enough_to_refuse() -> None:
    assert [each.licence for each in refusals([row(1, "MIT", "CC-BY-NC-4.0")], COMMERCIAL)] == ["CC-BY-NC-4.0"]


def test_nothing_is_refused_where_no_use_is_chosen() -> None:
    refuse([row(1), row(2, "All rights reserved")], LICENSED_USE_UNSPECIFIED)


def test_a_use_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        refusals([row(1, "MIT")], 77)  # type: ignore[arg-type]  # protobuf keeps numbers that a later release may know

    assert list(refused.value.violations) == [("use", "must be a known LicensedUse")]


@pytest.mark.parametrize("spelled", ["CC BY 4.0", "cc-by-4.0", " CC_BY_4.0 "])
def test_a_licence_goes_by_its_spellings(spelled: str) -> None:
    rule = rule_of(spelled)

    assert rule
    assert rule.licence == "CC-BY-4.0"


def test_a_refusal_names_clips_licences_and_sources() -> None:
    rows = [row(number, "CC-BY-NC-4.0") for number in range(12)] + [row(12, "MIT"), row(13, "")]

    with pytest.raises(FailedPrecondition) as refused:
        refuse(rows, COMMERCIAL)

    text = str(refused.value)
    assert (refused.value.reason, refused.value.metadata["clips"]) == ("LICENCE_FORBIDS", "13")
    assert "13 clips may not be used for commercial: 12 clips: 'CC-BY-NC-4.0' forbids it" in text
    assert "https://creativecommons.org/licenses/by-nc/4.0/legalcode" in text
    assert "clip-0, clip-1" in text
    assert "clip-9 and 2 more" in text
    assert "1 clips: 'unknown' no licence is stated: clip-13" in text


def test_every_rule_has_a_source_and_a_name_of_its_own() -> None:
    version, table = rules()

    assert re.fullmatch(r"\d{4}-\d\d-\d\d", version)
    assert all("https://" in rule.source for rule in table if rule.licence != "none")
    assert all({rule.training, rule.commercial, rule.redistribution} <= {"allowed", "forbidden"} for rule in table)
    names = [name.casefold() for rule in table for name in (rule.licence, *rule.names)]
    assert len(names) == len(set(names))
