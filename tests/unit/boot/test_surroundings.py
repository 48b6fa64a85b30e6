"""What a host may lack, and the one line that says so."""

import socket
from pathlib import Path

import pytest

from fedge_boot.errors import NOT_NOW, NOT_SO, BootError
from fedge_boot.settings import Settings
from fedge_boot.surroundings import check_ports, check_socket, check_volume, mounts


def table(data: Path, *, root: str | None = None, tags: str = "shared:7") -> str:
    root = str(data) if root is None else root
    return (
        "1 0 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        f"2 1 254:1 {root} {data} rw,relatime {tags} - ext4 /dev/vda1 rw\n"
    )


@pytest.mark.parametrize("root", [None, "/", "/lib/fedge-data"])
def test_volume_at_the_same_path_is_taken(tmp_path: Path, root: str | None) -> None:
    data = tmp_path / "fedge-data"
    data.mkdir()
    check_volume(data, mounts(table(data, root=root)))
    assert list(data.iterdir()) == []


@pytest.mark.parametrize(
    ("root", "tags", "words"),
    [
        ("/var/lib/docker/volumes/x/_data", "shared:7", "is the folder /var/lib/docker/volumes"),
        (None, "", "is not shared"),
        (None, "shared:7 master:1", "is not shared"),
        (None, "master:1", "is not shared"),
    ],
)
def test_volume_that_containerd_does_not_see_alike_is_refused(
    tmp_path: Path, root: str | None, tags: str, words: str
) -> None:
    with pytest.raises(BootError, match=words) as refused:
        check_volume(tmp_path, mounts(table(tmp_path, root=root, tags=tags)))
    assert "\n" not in str(refused.value)
    assert f"--volume {tmp_path}:{tmp_path}:rshared" in str(refused.value)


def test_missing_volume_is_said(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="no volume is mounted"):
        check_volume(tmp_path / "elsewhere", mounts(table(tmp_path)))


def test_volume_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"  # a folder in which nothing can be made, for root too
    with pytest.raises(BootError, match="cannot be written to"):
        check_volume(gone, mounts(table(gone)))


def test_socket_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    assert "no socket" in check_socket(tmp_path / "containerd.sock")


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "containerd.sock").mkdir()  # what docker makes of a path that is not there
    with pytest.raises(BootError, match="is not a socket") as refused:
        check_socket(tmp_path / "containerd.sock")
    assert refused.value.code == NOT_SO


def test_socket_at_which_nobody_answers_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert "nobody answers" in check_socket(path)
        server.listen()
        assert check_socket(path) == ""


def test_port_in_use_names_the_port_and_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BootError, match=f"port {port} .*FEDGE_X") as refused:
            check_ports([("127.0.0.1", port, "FEDGE_X")], patience_seconds=0)
    assert refused.value.code == NOT_NOW
    check_ports([("127.0.0.1", port, "FEDGE_X")], patience_seconds=0)


@pytest.mark.parametrize("value", ["x", "0", "70000", "-1"])
def test_wrong_number_is_named(value: str) -> None:
    with pytest.raises(BootError, match="FEDGE_BOOT_MQTT_PORT"):
        Settings.of({"FEDGE_BOOT_MQTT_PORT": value})
