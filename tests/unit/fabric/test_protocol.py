"""Which versions understand each other."""

import pytest

from fedge_fabric import protocol


@pytest.mark.parametrize("told", ["1.0", "1.1", protocol.PROTOCOL])
def test_one_minor_version_apart_is_understood(told: str) -> None:
    assert protocol.understands(told)


@pytest.mark.parametrize("told", ["1.2", "2.0", "0.9", "", "one", "1.0.0", "1", "-1.-1", "9" * 99])
def test_others_are_not_and_it_is_said_what_to_do(told: str) -> None:
    assert not protocol.understands(told)
    assert "upgrade the older side" in protocol.mismatch(told)
