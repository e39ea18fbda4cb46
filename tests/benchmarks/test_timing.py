"""Timing in turns, and what is made of the seconds."""

import gc
import time

from benchmarks.timing import Contender, Summary, in_turns, quotients


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    contenders = [
        Contender(lambda: calls.append("a"), before=lambda: calls.append("before a")),
        Contender(lambda: calls.append("b")),
    ]
    seconds = in_turns(contenders, rounds=2, warm_up=1)
    assert calls == ["before a", "a", "b"] * 3
    assert [len(each) for each in seconds] == [2, 2]


def test_what_comes_before_is_not_timed() -> None:
    slow, quick = in_turns(
        [Contender(lambda: time.sleep(0.05)), Contender(lambda: None, before=lambda: time.sleep(0.05))],
        rounds=1,
        warm_up=0,
    )
    assert slow[0] >= 0.05 > quick[0]


def test_no_garbage_is_collected_meanwhile() -> None:
    enabled: list[bool] = []
    in_turns([Contender(lambda: enabled.append(gc.isenabled()))], rounds=1)
    assert enabled == [False, False]
    assert gc.isenabled()


def test_quotients_are_of_one_round_each() -> None:
    """A round in which the machine was twice as slow for both says the same."""
    ratio = Summary.of(quotients([3.0, 6.0, 4.0], [2.0, 4.0, 2.0]))
    assert (ratio.median, ratio.low, ratio.high) == (1.5, 1.5, 2.0)
