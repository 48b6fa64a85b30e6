"""What one device may say: the others are not kept waiting, and its last word is not lost."""

import asyncio

import pytest

from fedge_objects import ObjectKey
from fedge_twin.device import DEVICES
from fedge_twin.quota import Admitted, Parked, Quota
from fedge_twin.topics import Word


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def word(device: str, number: int) -> Word:
    return Word(f"$hw/events/device/default/{device}/twin/update", b"", (number, 1))


def test_over_the_quota_only_the_newest_waits_and_the_others_are_counted() -> None:
    clock = Hand()
    quota = Quota(words_per_second=10, burst=3, clock=clock)
    answers = [quota.admit(word("wild", number)) for number in range(8)]
    assert answers[:3] == [Admitted()] * 3
    assert answers[3] == Parked(None)
    assert [each.instead_of for each in answers[4:] if isinstance(each, Parked)] == [
        word("wild", number) for number in (3, 4, 5, 6)
    ]
    assert [each.is_answered for each in answers[4:] if isinstance(each, Parked)] == [
        True,
        False,
        False,
        False,
    ]
    assert quota.dropped(ObjectKey(DEVICES, "default", "wild")) == 4
    assert quota.dropped(ObjectKey(DEVICES, "default", "calm")) == 0
    assert quota.admit(word("calm", 1)) == Admitted()


def test_no_rate_is_no_limit() -> None:
    quota = Quota(words_per_second=0, burst=1, clock=Hand())
    assert all(quota.admit(word("wild", number)) == Admitted() for number in range(100))


@pytest.mark.looptime
async def test_the_newest_word_is_taken_when_it_may_and_before_a_later_one() -> None:
    loop = asyncio.get_running_loop()
    quota = Quota(words_per_second=2, burst=1, clock=loop.time)
    for number in range(5):
        quota.admit(word("wild", number))
    async with asyncio.timeout(1.1):
        assert await quota.due() == [word("wild", 4)]
    assert isinstance(quota.admit(word("wild", 5)), Parked)
    assert await quota.due() == [word("wild", 5)]
    await asyncio.sleep(10)
    assert quota.admit(word("wild", 6)) == Admitted()


@pytest.mark.looptime
async def test_what_waited_is_forgotten_with_the_session_that_it_came_in() -> None:
    loop = asyncio.get_running_loop()
    quota = Quota(words_per_second=1, burst=1, clock=loop.time)
    quota.admit(word("wild", 1))
    quota.admit(word("wild", 2))
    quota.forget()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await quota.due()
