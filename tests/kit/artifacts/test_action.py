"""What names an action, and what does not."""

import math

import pytest

from luthier_kit.store import Action


def test_the_order_of_parameters_does_not_matter() -> None:
    assert Action("render", parameters={"a": 1, "b": 2}).digest == Action("render", parameters={"b": 2, "a": 1}).digest


def test_the_order_of_inputs_matters() -> None:
    assert Action("score", ["aa", "bb"]).digest != Action("score", ["bb", "aa"]).digest


def test_licences_do_not_name_an_action() -> None:
    assert Action("render", licences=["MIT"]).digest == Action("render").digest


def test_the_digest_is_stable_across_releases() -> None:
    """A change of this value recomputes everybody's corpus: it must be meant."""
    action = Action("render", ["ab"], {"gain_db": -3.5, "name": "Ä"}, seed=7, version="2", tools={"soundfont": "cd"})
    assert action.digest == "c6deb1d6ef88e52e2bad5de5cef34bbcbd7cc3da414bfc3a6ea8259b2ab39d5f"


@pytest.mark.parametrize("parameters", [{"x": math.nan}, {"x": object()}])
def test_what_json_cannot_say_is_refused(parameters: dict) -> None:
    with pytest.raises((ValueError, TypeError)):
        _ = Action("render", parameters=parameters).digest


@pytest.mark.parametrize(
    ("stage", "inputs"), [("", []), ("Render", []), ("a/b", []), ("render", "abc"), ("render", [""])]
)
def test_bad_names_are_refused(stage: str, inputs: list[str]) -> None:
    with pytest.raises(ValueError, match=r"render|stage"):
        Action(stage, inputs)
