"""A version copies its own files, and nothing that is mounted into its container."""

import os
from pathlib import Path

from fedge_boot.copying import copy


def test_files_links_rights_and_empty_folders_are_the_same(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    (root / "usr/bin").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o711)
    target.mkdir()
    program = root / "usr/bin/program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o4755)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/link").symlink_to("program")
    os.mkfifo(root / "pipe")
    copy(target, root=root)
    assert (target / "usr/bin/program").read_bytes() == b"\x7fELF"
    assert (target / "usr/bin/program").stat().st_mode == program.stat().st_mode
    assert (target / "bin").readlink() == Path("usr/bin")
    assert (target / "usr/bin/link").readlink() == Path("program")
    assert (target / "empty").stat().st_mode & 0o777 == 0o711
    assert not (target / "pipe").exists()


def test_target_within_the_root_is_not_copied_into_itself(tmp_path: Path) -> None:
    (tmp_path / "slot").mkdir()
    (tmp_path / "file").write_text("x")
    copy(tmp_path / "slot", root=tmp_path)
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")) == [
        "file",
        "slot",
        "slot/file",
        "slot/slot",
    ]
