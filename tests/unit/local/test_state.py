import stat
from pathlib import Path

import pytest

from fedge_local.errors import LocalError
from fedge_local.state import EdgeState, Line, StackState, alone


@pytest.fixture
def state() -> StackState:
    return StackState(
        password="hidden",
        network="198.18.0.0/24",
        ports={"amqp": 20000},
        edges={"edge-1": EdgeState(index=0, password="hidden", line=Line.CUT)},
        settings={"FEDGE_LOG_LEVEL": "debug"},
        edge_disk_bytes=1 << 28,
        fake_clock=True,
    )


def test_state_is_loaded_as_it_was_saved(state: StackState, tmp_path: Path) -> None:
    state.save(tmp_path / "stack.json")
    assert StackState.load(tmp_path / "stack.json") == state


def test_state_is_readable_by_its_owner_only(state: StackState, tmp_path: Path) -> None:
    state.save(tmp_path / "stack.json")
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_state_shows_no_password(state: StackState) -> None:
    assert "hidden" not in repr(state)


def test_state_is_none_when_nothing_was_saved(tmp_path: Path) -> None:
    assert StackState.load(tmp_path / "stack.json") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 99}'])
def test_state_that_is_not_ours_is_an_error_with_a_remedy(text: str, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(LocalError, match="remove it"):
        StackState.load(tmp_path / "stack.json")


def test_second_command_is_turned_away_while_one_works(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(LocalError, match="wait for it"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
