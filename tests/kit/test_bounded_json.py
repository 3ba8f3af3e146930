"""JSON is bounded before it is decoded: length, depth and number of values, in little time and memory."""

import json
from contextlib import suppress

import pytest

from luthier_kit.bounded_json import check_json, read_json
from tests.support.measure import cost_of

MB = 1 << 20


@pytest.mark.parametrize(
    "value",
    [
        {}, [], "text", 1.5, None, {"a": [1, {"b": "]]]]{{{{,,,,"}]}, {'"': "\\", "\\\\": '\\"'}, "é\u2028\U0001f3b8",
        ["\\" * 7, '"' * 5, "x" * (2 * MB), "\\" * MB + '"'],
    ],
)  # fmt: skip
def test_what_is_within_the_bounds_is_read_as_it_is(value: object) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    assert read_json(data, max_bytes=8 * MB, max_depth=4, max_values=8) == value


def test_brackets_and_commas_in_texts_do_not_count() -> None:
    assert read_json(json.dumps(["[[[[,,,,{{{{" * 1000]).encode(), max_bytes=MB, max_depth=1, max_values=2)


@pytest.mark.parametrize(
    ("data", "bound"),
    [
        (b"[" * 4 + b"]" * 4, "at most 3 deep"),
        (b'{"a":{"a":{"a":[1]}}}', "at most 3 deep"),
        (b"[1,2,3,4,5,6]", "at most 5 values"),
        (b" " * 101, "at most 100 bytes, got 101"),
        (b'{"a": 1', "not JSON"),
        (b'"open', "not JSON"),
        (b"\xff", "not JSON"),
        (b"]]]]", "not JSON"),
        (b"", "not JSON"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        ("[1]".encode("utf-16"), "not JSON"),
    ],
)
def test_the_bound_is_named(data: bytes, bound: str) -> None:
    with pytest.raises(ValueError, match=bound):
        read_json(data, max_bytes=100, max_depth=3, max_values=5)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_json(b"\xef\xbb\xbf[1]", max_bytes=100) == [1]


@pytest.mark.parametrize("data", [rb'["\ud83d"]', rb'{"\uDE00": 1}', rb'["\ude00\ud83d"]', rb'["\ud83d\\ude00"]'])
def test_half_of_a_surrogate_pair_is_refused(data: bytes) -> None:
    """Python's decoder takes it; a name of it is a SystemError in protobuf's, a text of it cannot be stored."""
    with pytest.raises(ValueError, match="surrogate"):
        read_json(data, max_bytes=100)


def test_a_surrogate_pair_and_what_only_looks_like_half_of_one_are_read() -> None:
    assert read_json(rb'["\ud83d\ude00", "\\ud83d"]', max_bytes=100) == ["\U0001f600", "\\ud83d"]


def test_another_encoding_does_not_hide_brackets_from_the_scan() -> None:
    """In UTF-16 the second byte of U+2200 is a quotation mark: a scan of bytes takes what follows for text."""
    data = ('["\u2200"' + ",[]" * 50 + "]").encode("utf-16-le")
    with pytest.raises(ValueError, match="not JSON"):
        read_json(data, max_bytes=1000, max_depth=2, max_values=10)


def test_a_name_that_stands_twice_is_refused_where_others_wrote_the_text() -> None:
    data = b'[{"a": 1}, {"a": 1, "b": {"c": 2, "d": 3, "c": 4}}]'
    assert read_json(data, max_bytes=100) == [{"a": 1}, {"a": 1, "b": {"c": 4, "d": 3}}]
    with pytest.raises(ValueError, match="the name 'c' stands twice"):
        read_json(data, max_bytes=100, unique_names=True)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * (40 * MB),
        b'{"a":' * (8 * MB),
        b"[" + b"[]," * (13 * MB),
        b'"' * (40 * MB + 1),
        b"\\" * (40 * MB),
        b'["' + b'\\"' * (20 * MB),
    ],
    ids=["arrays", "objects", "empty arrays", "quotes", "backslashes", "escaped quotes"],
)
def test_forty_megabytes_of_hostile_json_cost_little(data: bytes) -> None:
    def checked() -> None:
        with suppress(ValueError):
            check_json(data, max_bytes=64 * MB)

    cost = cost_of(checked)
    assert cost.seconds < 5
    assert cost.peak_bytes < 100 * MB
