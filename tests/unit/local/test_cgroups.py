from pathlib import Path

import pytest

from fedge_local import cgroups


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory misc\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    return tmp_path


def test_controllers_that_containers_need_are_handed_down(root: Path) -> None:
    cgroups.hand_down_controllers(root)
    assert (root / "cgroup.subtree_control").read_text() == "+cpu +io"


def test_nothing_is_written_when_all_is_handed_down(root: Path) -> None:
    control = root / "cgroup.subtree_control"
    control.write_text("cpu io memory\n")
    cgroups.hand_down_controllers(root)
    assert control.read_text() == "cpu io memory\n"


def test_version_1_needs_nothing(tmp_path: Path) -> None:
    cgroups.hand_down_controllers(tmp_path)
    assert list(tmp_path.iterdir()) == []
