import pytest

from fedge_local.rabbitmq import SMALL, emulator_flags


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_code_is_mapped_once_where_erlang_can(machine: str) -> None:
    assert emulator_flags(SMALL, 27, machine=machine) == f"{SMALL} +JMsingle true"


@pytest.mark.parametrize(
    ("release", "machine"),
    [(25, "x86_64"), (0, "x86_64"), (27, "armv7l")],
    ids=["too old", "not known", "not compiled"],
)
def test_erlang_gets_no_flag_that_it_refuses(release: int, machine: str) -> None:
    assert emulator_flags(SMALL, release, machine=machine) == SMALL
