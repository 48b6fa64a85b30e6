"""Those of one key go one after the other, whoever gives up meanwhile."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_fabric.lanes import Lanes

KEY = ("queue", "a")


async def test_other_keys_do_not_wait() -> None:
    lanes = Lanes()
    await lanes.enter(KEY)
    async with asyncio.timeout(10):
        await lanes.enter(("queue", "b"))
        await lanes.enter(("other", "a"))


async def test_who_is_cancelled_as_it_gets_the_way_passes_it_on() -> None:
    lanes = Lanes()
    await lanes.enter(KEY)
    second, third = (asyncio.create_task(lanes.enter(KEY)) for _ in range(2))
    await asyncio.sleep(0)
    lanes.leave(KEY)
    second.cancel()
    async with asyncio.timeout(10):
        await third
    with pytest.raises(asyncio.CancelledError):
        await second


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.booleans()), max_size=12))
def test_order_is_kept_and_no_lane_stays_blocked(tasks: list[tuple[int, int, bool]]) -> None:
    async def scenario() -> None:
        lanes, inside = Lanes(), set[int]()
        taken: dict[int, list[int]] = {0: [], 1: []}

        async def one(number: int, key: int, steps: int) -> None:
            lane = ("queue", str(key))
            await lanes.enter(lane)
            try:
                assert key not in inside
                inside.add(key)
                taken[key].append(number)
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                inside.discard(key)
                lanes.leave(lane)

        running = []
        for number, (key, steps, is_cancelled) in enumerate(tasks):
            running.append(asyncio.create_task(one(number, key, steps)))
            await asyncio.sleep(0)
            if is_cancelled:
                running[number // 2].cancel()
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*running, return_exceptions=True)
        assert not any(isinstance(each, Exception) for each in ended)
        assert all(each == sorted(each) for each in taken.values())
        async with asyncio.timeout(10):
            for key in taken:
                await lanes.enter(("queue", str(key)))

    asyncio.run(scenario())
