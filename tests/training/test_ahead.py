"""Work ahead of its caller and beside it: in order, bounded, by one thread that ends."""

import threading
from collections.abc import Callable, Iterator

import pytest

from luthier_training.ahead import DEPTH, Beside, ahead


def test_results_come_in_order_and_only_so_many_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            asked.append(number)
            yield number

    def double(number: int) -> int:
        made.append(number)
        return 2 * number

    results = ahead(double, numbers())
    for expected in range(20):
        assert next(results) == 2 * expected
        assert len(asked) <= expected + DEPTH + 1
    assert list(results) == []
    assert made == list(range(20))


def test_the_next_is_made_while_the_caller_holds_one() -> None:
    begun = [threading.Event() for _ in range(4)]

    def begin(number: int) -> int:
        begun[number].set()
        return number

    results = ahead(begin, range(4))
    assert next(results) == 0
    assert begun[DEPTH].wait(10)  # nobody has asked for it


def test_an_error_comes_where_its_result_would() -> None:
    results = ahead(lambda number: 1 // (2 - number), range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_it_ends_its_thread() -> None:
    before = threading.active_count()
    results = ahead(lambda number: number, range(1000))
    next(results)
    assert threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before


def test_what_is_begun_goes_on_beside_and_is_handed_over_by_the_caller() -> None:
    beside, go, handed = Beside(), threading.Event(), list[tuple[str, int]]()

    def then(result: str) -> None:
        handed.append((result, threading.get_ident()))

    beside.begin(lambda: "first" if go.wait(10) else "late", then)
    beside.poll()
    assert not handed
    go.set()
    beside.begin(lambda: "second", then)  # not before the first is handed over
    assert handed == [("first", threading.get_ident())]
    beside.finish()
    beside.finish()
    assert [result for result, _ in handed] == ["first", "second"]


def test_what_went_wrong_beside_is_raised_once() -> None:
    with Beside() as beside:
        beside.begin(lambda: 1 // 0, print)
        with pytest.raises(ZeroDivisionError):
            beside.finish()
        beside.finish()


def test_a_block_waits_at_its_end_for_what_it_began() -> None:
    go, handed, before = threading.Event(), list[int](), threading.active_count()
    with Beside() as beside:
        beside.begin(lambda: int(go.wait(10)), handed.append)
        go.set()
    assert handed == [1]
    assert threading.active_count() == before


def test_what_goes_wrong_last_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(ZeroDivisionError), Beside() as beside:
        beside.begin(lambda: 1 // 0, print)


def test_a_block_that_fails_hands_over_what_it_began_and_raises_its_own_error(caplog: pytest.LogCaptureFixture) -> None:
    handed = list[int]()

    def failing(work: Callable[[], int]) -> None:
        with Beside() as beside:
            beside.begin(work, handed.append)
            raise KeyError

    for work in (lambda: 1, lambda: 1 // 0):
        with pytest.raises(KeyError):
            failing(work)
    assert handed == [1]
    assert "ZeroDivisionError" in caplog.text
