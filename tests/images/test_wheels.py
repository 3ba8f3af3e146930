"""Which wheels install where, by their file names and by the markers of locks."""

import pytest
from packaging.requirements import Requirement

from deploy.images.wheels import TARGETS, Target, missing, table

ARM = Target("aarch64", 13)
INTEL = Target("x86_64", 11)


@pytest.mark.parametrize(
    ("wheel", "arm", "intel"),
    [
        ("a-1-py3-none-any.whl", True, True),
        ("a-1-py2.py3-none-any.whl", True, True),
        ("a-1-py2-none-any.whl", False, False),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", False, True),
        ("a-1-cp313-cp313-manylinux2014_aarch64.whl", True, False),
        ("a-1-cp39-abi3-manylinux_2_28_aarch64.whl", True, False),
        ("a-1-cp312-abi3-manylinux_2_28_x86_64.whl", False, False),
        ("a-1-cp313-cp313t-manylinux2014_aarch64.whl", False, False),
        ("a-1-cp313-cp313-musllinux_1_2_aarch64.whl", False, False),
        ("a-1-cp311-cp311-manylinux_2_39_x86_64.whl", False, False),
        ("a-1-cp311-cp311-macosx_11_0_arm64.whl", False, False),
        ("a-1-1build-py3-none-manylinux_2_17_aarch64.whl", True, False),
    ],
)
def test_where_a_wheel_installs(wheel: str, arm: bool, intel: bool) -> None:
    assert (ARM.runs(wheel), INTEL.runs(wheel)) == (arm, intel)


def test_what_is_not_wanted_on_a_platform_is_not_missing_there() -> None:
    requirements = [Requirement("a==1 ; platform_machine == 'x86_64'"), Requirement("b==2"), Requirement("c==3")]
    files = {"a==1": [], "b==2": ["b-2-py3-none-any.whl"], "c==3": ["c-3-cp311-cp311-manylinux_2_17_x86_64.whl"]}
    assert missing(ARM, requirements, files) == ["c 3"]
    assert missing(INTEL, requirements, files) == ["a 1"]


def test_the_table_names_what_is_missing() -> None:
    found = {"music": {target: ["a 1"] if target == ARM else [] for target in TARGETS}}
    assert table(found).splitlines()[2] == "| music |" + " all there |" * 5 + " a 1 |"
