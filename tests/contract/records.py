"""What all records of enrolment promise (``fedge_enrolment.records.Records``)."""

import asyncio
from contextlib import aclosing

import pytest

from fedge_enrolment.authority import Authorities
from fedge_enrolment.records import (
    AUTHORITY,
    NODE,
    TOKEN,
    ChangedError,
    ExistsError,
    Record,
    Records,
)
from tests.unit.enrolment.clock import Clock

NAMES = ("a", "gw-1.plant.example", "gw-1-plant-example", "x" * 253, "0.1")
"""As nodes and tokens may be called; what else somebody asks for never comes so far."""
DEADLINE_SECONDS = 20.0


class RecordsContract:
    """Subclasses have a fixture ``records``: empty, and another opening of the same: ``others``."""

    async def test_a_record_is_there_as_it_was_written(self, records: Records) -> None:
        for name in NAMES:
            made = await records.create(NODE, name, {"text": f"é {name}\n", "more": ""})
            found = await records.get(NODE, name)
            assert found is not None
            assert (found.kind, found.name, found.data) == (NODE, name, dict(made.data))
            assert found.data == {"text": f"é {name}\n", "more": ""}
            assert found.revision == made.revision != ""
        assert {each.name for each in await records.all_of(NODE)} == set(NAMES)
        assert await records.all_of(TOKEN) == []
        assert await records.get(TOKEN, "a") is None

    async def test_one_is_made_once(self, records: Records, others: Records) -> None:
        async def create(where: Records, who: str) -> str:
            try:
                return (await where.create(TOKEN, "t", {"by": who})).data["by"]
            except ExistsError:
                return ""

        made = await asyncio.gather(
            *(create(where, str(n)) for n, where in enumerate([records, others] * 8))
        )
        [winner] = [each for each in made if each]
        found = await records.get(TOKEN, "t")
        assert found is not None
        assert found.data == {"by": winner}

    async def test_of_two_changes_of_one_state_one_is_made(
        self, records: Records, others: Records
    ) -> None:
        before = await records.create(NODE, "n", {"count": "0"})

        async def add(where: Records) -> bool:
            try:
                await where.replace(before, {"count": "1"})
            except ChangedError:
                return False
            return True

        assert sum(await asyncio.gather(*map(add, [records, others] * 4))) == 1

    async def test_whoever_reads_again_loses_no_change(
        self, records: Records, others: Records
    ) -> None:
        await records.create(NODE, "n", {"count": "0"})

        async def add(where: Records) -> None:
            while True:
                found = await where.get(NODE, "n")
                assert found is not None
                try:
                    await where.replace(found, {"count": str(int(found.data["count"]) + 1)})
                except ChangedError:
                    continue
                return

        await asyncio.gather(*map(add, [records, others] * 5))
        found = await others.get(NODE, "n")
        assert found is not None
        assert found.data == {"count": "10"}

    async def test_what_is_gone_is_not_changed(self, records: Records) -> None:
        made = await records.create(NODE, "n", {"a": "b"})
        await records.delete(NODE, "n")
        await records.delete(NODE, "n")
        assert await records.get(NODE, "n") is None
        with pytest.raises(ChangedError):
            await records.replace(made, {"a": "c"})
        again = await records.create(NODE, "n", {"a": "d"})
        with pytest.raises(ChangedError):
            await records.replace(made, {"a": "c"})
        assert (await records.replace(again, {"a": "e"})).data == {"a": "e"}

    async def test_changes_are_told_wherever_they_are_made(
        self, records: Records, others: Records
    ) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), aclosing(records.changes()) as changes:  # type: ignore[type-var]
            await anext(changes)
            telling = asyncio.ensure_future(anext(changes))
            await others.create(TOKEN, "new", {"a": "b"})
            await telling
            telling = asyncio.ensure_future(anext(changes))
            await others.delete(TOKEN, "new")
            await telling

    async def test_secrets_are_not_shown(self, records: Records) -> None:
        made = await records.create(NODE, "n", {"key": "open sesame"})
        assert "open sesame" not in repr(made)

    async def test_the_authority_is_made_exactly_once(
        self, records: Records, others: Records
    ) -> None:
        clock = Clock()
        hubs = [Authorities(where, clock) for where in [records, others] * 4]
        found = await asyncio.gather(*(hub.current() for hub in hubs))
        assert len({each.fingerprint for each in found}) == 1
        servers = await asyncio.gather(*(hub.server("hub", []) for hub in hubs))
        assert len({(each.chain, each.key) for each in servers}) == 1
        kept = await records.all_of(AUTHORITY)
        assert [type(each) for each in kept] == [Record]
