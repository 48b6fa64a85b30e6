"""Tokens, nodes and authorities on the command line, with records in a folder."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from fedge_cli.app import app
from fedge_enrolment.authority import Authorities
from fedge_enrolment.records import AUTHORITY, FolderRecords
from fedge_enrolment.registrar import TERMS
from fedge_enrolment.tokens import JoinToken


@pytest.fixture
def log() -> Iterator[None]:
    """Undo what commands do to the log, which goes where their errors went."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def records(tmp_path: Path, log: None) -> Path:
    """Records as hub leaves them when it has started."""
    found = FolderRecords(tmp_path)
    terms = {"cloud": "cloud.example:443", "broker": "cloud.example:443"}
    asyncio.run(found.create(AUTHORITY, TERMS, terms))
    asyncio.run(Authorities(found, lambda: datetime.now(UTC)).current())
    return tmp_path


def fedge(records: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*words, f"--records={records}"])
    assert result.exit_code == code, result.output
    return result.output


def test_a_token_is_made_listed_and_revoked(records: Path) -> None:
    token = JoinToken.decode(fedge(records, "token", "create", "--node=gw-1", "--ttl=2h"))
    assert (token.cloud, token.node) == ("cloud.example:443", "gw-1")
    listed = fedge(records, "token", "list")
    assert token.id in listed
    assert token.secret not in listed
    [entry] = json.loads(fedge(records, "token", "list", "-o", "json"))
    assert entry["node"] == "gw-1"
    fedge(records, "token", "revoke", token.id)
    assert json.loads(fedge(records, "token", "list", "-o", "json")) == []
    assert "there is no token" in fedge(records, "token", "revoke", token.id, code=3)


def test_bad_words_are_told_with_the_remedy(records: Path) -> None:
    assert "node" in fedge(records, "token", "create", "--node=Not A Name", code=1)
    assert "at least one use" in fedge(records, "token", "create", "--uses=0", code=1)
    assert "fedge node list" in fedge(records, "node", "revoke", "nobody", code=3)


def test_authorities_are_shown_changed_and_distrusted(records: Path) -> None:
    def shown() -> list[str]:
        return re.findall(r"^# ([0-9a-f]{64}) until", fedge(records, "ca", "show"), re.MULTILINE)

    [old] = shown()
    assert "fedge ca rotate" in fedge(records, "ca", "distrust", old, code=1)
    assert "fedge ca show" in fedge(records, "ca", "distrust", "nonsense", code=2)
    new = fedge(records, "ca", "rotate", "--after=1m").split()[-1]
    assert shown() == [new, old]
    assert "on its way already" in fedge(records, "ca", "rotate", code=1)
    later = Authorities(FolderRecords(records), lambda: datetime.now(UTC) + timedelta(minutes=2))
    structlog.reset_defaults()
    assert asyncio.run(later.current()).fingerprint.hex() == new
    fedge(records, "ca", "distrust", old)
    assert shown() == [new]
    assert "fedge ca show" in fedge(records, "ca", "distrust", old, code=1)
