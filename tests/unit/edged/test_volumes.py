"""Volumes: changed all at once, written only when different, never left by a path."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedge_edged.errors import ConfigError, MountError
from fedge_edged.node_pods import NodeObjects
from fedge_edged.pods import Pod, ServiceAccountTokenSource
from fedge_edged.subpaths import sub_path
from fedge_edged.tmpfs import bind, unmount_below
from fedge_edged.unhonoured import REFUSED
from fedge_edged.volumes import Volumes, write_atomically
from tests.unit.edged.kit import change, config_map, objects, pod, secret

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone mounts and gives away")


def files(texts: Mapping[str, str], mode: int = 0o644) -> dict[str, tuple[bytes, int]]:
    return {name: (text.encode(), mode) for name, text in texts.items()}


def read(folder: Path) -> dict[str, str]:
    """Return what a container sees: no names that begin with two dots."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for top in folder.iterdir()
        if not top.name.startswith("..")
        for path in ([top] if top.is_file() else [p for p in top.rglob("*") if p.is_file()])
    }


class TestWriting:
    """A folder whose content changes all at once."""

    def test_folder_holds_exactly_the_files(self, tmp_path: Path) -> None:
        assert write_atomically(tmp_path, files({"a": "1", "deep/er/b": "2"}))
        assert read(tmp_path) == {"a": "1", "deep/er/b": "2"}

    def test_nothing_is_written_when_nothing_differs(self, tmp_path: Path) -> None:
        write_atomically(tmp_path, files({"a": "1"}))
        before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
        assert not write_atomically(tmp_path, files({"a": "1"}))
        assert {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")} == before

    @pytest.mark.parametrize(
        "new",
        [{"a": "2"}, {"a": "1", "b": ""}, {"b": "1"}, {}],
        ids=["text", "more", "name", "none"],
    )
    def test_every_difference_is_written(self, tmp_path: Path, new: dict[str, str]) -> None:
        write_atomically(tmp_path, files({"a": "1"}))
        assert write_atomically(tmp_path, files(new))
        assert read(tmp_path) == new

    def test_other_mode_is_a_difference(self, tmp_path: Path) -> None:
        write_atomically(tmp_path, files({"a": "1"}, 0o644))
        assert write_atomically(tmp_path, files({"a": "1"}, 0o400))
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400

    def test_old_content_does_not_stay_behind(self, tmp_path: Path) -> None:
        for number in range(5):
            write_atomically(tmp_path, files({"a": str(number)}))
        assert len([p for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()]) == 1

    def test_file_becomes_a_folder_and_a_file_again(self, tmp_path: Path) -> None:
        for wanted in ({"a": "1"}, {"a/b": "2"}, {"a": "3"}):
            write_atomically(tmp_path, files(wanted))
            assert read(tmp_path) == wanted

    def test_reader_sees_all_old_or_all_new(self, tmp_path: Path) -> None:
        names = [f"k{number}" for number in range(8)]
        write_atomically(tmp_path, files(dict.fromkeys(names, "0")))
        seen: list[set[str]] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                # as a program does that wants one state: it resolves the link once
                folder = tmp_path / (tmp_path / "..data").readlink()
                try:
                    seen.append({(folder / name).read_text() for name in names})
                except FileNotFoundError:
                    continue  # replaced and removed meanwhile: it looks again

        reader = threading.Thread(target=watch)
        reader.start()
        try:
            for number in range(1, 200):
                write_atomically(tmp_path, files(dict.fromkeys(names, str(number))))
        finally:
            stop.set()
            reader.join()
        assert seen
        assert all(len(each) == 1 for each in seen)

    def test_write_that_was_cut_before_the_swap_is_done_again(self, tmp_path: Path) -> None:
        write_atomically(tmp_path, files({"a": "1"}))
        content = (tmp_path / "..data").readlink()
        write_atomically(tmp_path, files({"a": "2"}))
        half = tmp_path / content
        half.mkdir()
        (half / "a").write_text("")  # as after a power cut: there, and empty
        write_atomically(tmp_path, files({"a": "1"}))
        assert read(tmp_path) == {"a": "1"}

    def test_write_that_was_cut_after_the_swap_is_completed(self, tmp_path: Path) -> None:
        write_atomically(tmp_path, files({"a": "1", "b": "2"}))
        (tmp_path / "b").unlink()  # as if the link had not been made yet
        write_atomically(tmp_path, files({"a": "1", "b": "2"}))
        assert read(tmp_path) == {"a": "1", "b": "2"}


Prepare = Callable[..., Path]


class TestVolumes:
    """What a pod's volumes hold."""

    @pytest.fixture
    def held(self) -> NodeObjects:
        return objects(
            configmaps=[config_map("cm", {"a": "1", "b": "2"}, binaryData={"bin": "AP8="})],
            secrets=[secret("s", {"p": "pw"})],
        )

    @pytest.fixture
    def volumes(self, held: NodeObjects, tmp_path: Path) -> Iterator[Volumes]:
        volumes = Volumes(held, disk=tmp_path / "disk", memory=tmp_path / "memory")
        yield volumes
        volumes.remove("uid-a")

    @pytest.fixture
    def prepare(self, volumes: Volumes) -> Prepare:
        def prepare(meta: Mapping[str, Any] | None = None, **source: Any) -> Path:
            made = pod(meta=meta, volumes=[{"name": "v", **source}])
            return volumes.prepare(made, {"status.podIP": "10.88.0.2"})["v"]

        return prepare

    def test_config_map_is_a_folder_of_files(self, prepare: Prepare, tmp_path: Path) -> None:
        path = prepare(configMap={"name": "cm", "defaultMode": 0o440})
        assert path.is_relative_to(tmp_path / "disk")
        assert (path / "a").read_text() == "1"
        assert (path / "bin").read_bytes() == b"\x00\xff"
        assert (path / "a").stat().st_mode & 0o777 == 0o440

    def test_items_choose_keys_paths_and_modes(self, prepare: Prepare) -> None:
        items = [{"key": "b", "path": "x/y", "mode": 0o600}]
        path = prepare(configMap={"name": "cm", "items": items})
        assert read(path) == {"x/y": "2"}
        assert (path / "x/y").stat().st_mode & 0o777 == 0o600

    def test_secret_lies_in_memory_only(self, prepare: Prepare, tmp_path: Path) -> None:
        path = prepare(secret={"secretName": "s"})
        assert path.is_relative_to(tmp_path / "memory")
        assert read(path) == {"p": "pw"}

    def test_key_that_was_removed_vanishes(self, prepare: Prepare, held: NodeObjects) -> None:
        path = prepare(configMap={"name": "cm"})
        held.put(change("configmaps", "cm", config_map("cm", {"b": "3", "c": "4"}), 2))
        assert prepare(configMap={"name": "cm"}) == path
        assert read(path) == {"b": "3", "c": "4"}

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
            ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
            (
                {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}},
                'references non-existent key "z"',
            ),
            ({"nfs": {"server": "x", "path": "/"}}, "does not support"),
        ],
    )
    def test_what_is_missing_is_named(
        self, prepare: Prepare, source: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MountError, match=message) as raised:
            prepare(**source)
        assert raised.value.reason == "ContainerCreating"

    @pytest.mark.parametrize("kind", sorted(REFUSED["volume"]))
    def test_volume_of_another_type_keeps_the_pod_waiting(
        self, prepare: Prepare, kind: str
    ) -> None:
        with pytest.raises(MountError, match="of a type that this node does not support"):
            prepare(**{kind: {}})

    @pytest.mark.parametrize("kind", sorted(REFUSED["projection"]))
    def test_projection_of_another_type_keeps_the_pod_waiting(
        self, prepare: Prepare, kind: str
    ) -> None:
        with pytest.raises(MountError, match="of a type that this node does not support"):
            prepare(projected={"sources": [{kind: {"path": "x"}}]})

    def test_failure_names_the_volume_as_the_kubelet_does(self, prepare: Prepare) -> None:
        with pytest.raises(MountError, match=r'^MountVolume.SetUp failed for volume "v" : '):
            prepare(configMap={"name": "gone"})

    def test_what_is_optional_may_be_missing(self, prepare: Prepare) -> None:
        assert read(prepare(configMap={"name": "gone", "optional": True})) == {}
        items = [{"key": "z", "path": "z"}, {"key": "a", "path": "a"}]
        assert read(prepare(configMap={"name": "cm", "items": items, "optional": True})) == {
            "a": "1"
        }

    def test_what_cannot_be_written_is_told(self, prepare: Prepare) -> None:
        items = [{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]
        with pytest.raises(MountError, match=r'^MountVolume.SetUp failed for volume "v" : '):
            prepare(configMap={"name": "cm", "items": items})

    def test_key_that_leaves_the_volume_is_refused(
        self, prepare: Prepare, held: NodeObjects, tmp_path: Path
    ) -> None:
        for key in ("../../x", "..data"):
            held.put(change("configmaps", "cm", config_map("cm", {key: "1"}), 2))
            with pytest.raises(MountError, match="leaves the volume"):
                prepare(configMap={"name": "cm"})
        assert not list(tmp_path.rglob("x"))

    @pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", "..", "..data/x"])
    def test_path_that_leaves_the_volume_is_refused(self, prepare: Prepare, path: str) -> None:
        with pytest.raises(MountError, match="leaves the volume"):
            prepare(configMap={"name": "cm", "items": [{"key": "a", "path": path}]})

    def test_fields_of_the_pod_are_files(self, prepare: Prepare) -> None:
        path = prepare(
            meta={"labels": {"b": "2", "a": 'x"y'}},
            downwardAPI={
                "items": [
                    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                ]
            },
        )
        assert read(path) == {"name": "a", "labels": 'a="x\\"y"\nb="2"'}

    def test_several_sources_share_one_folder_in_memory(
        self, prepare: Prepare, tmp_path: Path
    ) -> None:
        path = prepare(
            projected={
                "sources": [
                    {"configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}},
                    {"secret": {"name": "s"}},
                    {"downwardAPI": {"items": [
                        {"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}
                    ]}},
                ]
            }
        )  # fmt: skip
        assert path.is_relative_to(tmp_path / "memory")
        assert read(path) == {"a": "1", "p": "pw", "n": "a"}

    def test_empty_folder_keeps_what_containers_write(
        self, prepare: Prepare, tmp_path: Path
    ) -> None:
        path = prepare(emptyDir={})
        (path / "written").write_text("x")
        assert prepare(emptyDir={}) == path
        assert (path / "written").read_text() == "x"
        assert path.is_relative_to(tmp_path / "disk")

    def test_what_containers_do_with_their_folder_stays(self, prepare: Prepare) -> None:
        path = prepare(emptyDir={})
        assert path.stat().st_mode & 0o7777 == 0o777
        path.chmod(0o700)  # as databases do
        prepare(emptyDir={})
        assert path.stat().st_mode & 0o7777 == 0o700

    @needs_root
    def test_folder_in_memory_is_no_larger_than_the_node(
        self, held: NodeObjects, tmp_path: Path
    ) -> None:
        volumes = Volumes(
            held, disk=tmp_path / "disk", memory=tmp_path / "memory", node={"memory": "2Mi"}
        )
        made = pod(
            securityContext={"fsGroup": 4321},
            volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}],
        )
        try:
            path = volumes.prepare(made, {})["v"]
            assert shutil.disk_usage(path).total == 2 * 1024**2
            found = path.stat()
            assert (found.st_gid, found.st_mode & 0o7777) == (4321, 0o2777)
        finally:
            volumes.remove("uid-a")

    @needs_root
    def test_folder_in_memory_is_a_file_system_of_its_size(
        self, prepare: Prepare, volumes: Volumes, tmp_path: Path
    ) -> None:
        source = {"medium": "Memory", "sizeLimit": "1Mi"}
        path = prepare(emptyDir=source)
        (path / "written").write_text("x")
        assert path.is_mount()
        assert path.is_relative_to(tmp_path / "memory")
        usage = shutil.disk_usage(path)
        assert usage.total == 1024**2
        assert prepare(emptyDir=source) == path
        assert (path / "written").read_text() == "x"
        volumes.remove("uid-a")
        assert not path.is_mount()
        assert not path.exists()

    @needs_root
    def test_folder_in_memory_is_found_again_by_the_next_edged(
        self, held: NodeObjects, tmp_path: Path
    ) -> None:
        made = pod(volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}])
        places = [
            Volumes(held, disk=tmp_path / "disk", memory=tmp_path / "memory") for _ in range(2)
        ]
        path = places[0].prepare(made, {})["v"]
        (path / "written").write_text("x")
        assert places[1].prepare(made, {})["v"] == path
        assert (path / "written").read_text() == "x"
        assert Path("/proc/self/mountinfo").read_text().count(f" {path} ") == 1
        places[1].remove("uid-a")
        assert not path.exists()

    def test_folder_of_an_unknown_medium_is_refused(self, prepare: Prepare) -> None:
        with pytest.raises(MountError, match="HugePages"):
            prepare(emptyDir={"medium": "HugePages"})

    @needs_root
    def test_files_belong_to_the_group_of_the_pod(self, volumes: Volumes) -> None:
        made = pod(
            securityContext={"fsGroup": 4321},
            volumes=[
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
                {"name": "e", "emptyDir": {}},
            ],
        )
        paths = volumes.prepare(made, {})
        secret = (paths["s"] / "p").stat()
        assert (secret.st_gid, secret.st_mode & 0o777) == (4321, 0o440)
        folder = paths["e"].stat()
        assert (folder.st_gid, folder.st_mode & 0o7777) == (4321, 0o2777)

    def test_folder_that_outgrows_its_limit_is_told(self, volumes: Volumes) -> None:
        made = pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}])
        path = volumes.prepare(made, {})["v"]
        (path / "small").write_bytes(b"x" * 1000)
        assert volumes.over_limit(made) is None
        (path / "large").write_bytes(b"x" * 100_000)
        text = volumes.over_limit(made)
        assert text == 'Usage of EmptyDir volume "v" exceeds the limit "64Ki". '

    def test_nothing_of_a_pod_that_is_gone_stays(
        self, prepare: Prepare, volumes: Volumes, tmp_path: Path
    ) -> None:
        prepare(secret={"secretName": "s"})
        prepare(emptyDir={})
        volumes.remove("uid-a")
        volumes.remove("uid-a")
        assert not list(tmp_path.rglob("uid-a"))

    @pytest.mark.parametrize(
        ("kind", "exists", "fits"),
        [
            ("", False, True),
            ("Directory", True, True),
            ("Directory", False, False),
            ("DirectoryOrCreate", False, True),
            ("File", False, False),
            ("File", True, False),
            ("FileOrCreate", False, True),
            ("FileOrCreate", True, False),
            ("Socket", True, False),
            ("CharDevice", True, False),
            ("BlockDevice", True, False),
        ],
    )
    def test_path_of_the_node_is_checked(
        self, prepare: Prepare, tmp_path: Path, kind: str, exists: bool, fits: bool
    ) -> None:
        path = tmp_path / "there"
        if exists:
            path.mkdir()
        if not fits:
            with pytest.raises(MountError, match="hostPath type check failed"):
                prepare(hostPath={"path": str(path), "type": kind})
            return
        assert prepare(hostPath={"path": str(path), "type": kind}) == path
        assert path.exists() == bool(kind)


class TestSubPaths:
    """A mount of a part of a volume."""

    @pytest.fixture
    def volume(self, tmp_path: Path) -> Path:
        volume = tmp_path / "v"
        volume.mkdir()
        return volume

    @pytest.fixture
    def at(self, tmp_path: Path) -> Iterator[Path]:
        yield tmp_path / "places" / "0"
        unmount_below(tmp_path)

    def test_part_of_a_volume_is_mounted(self, volume: Path) -> None:
        (volume / "in").mkdir()
        assert sub_path(volume, "in") == volume / "in"

    def test_part_that_is_not_there_becomes_a_folder(self, volume: Path) -> None:
        volume.chmod(0o2770)
        made = sub_path(volume, "new/er")
        assert (made, made.stat().st_mode & 0o7777) == (volume / "new/er", 0o2770)

    def test_link_that_stays_inside_is_followed(self, volume: Path) -> None:
        write_atomically(volume, files({"key": "1"}))
        assert sub_path(volume, "key").read_text() == "1"

    @pytest.mark.parametrize("part", ["../x", "link", "link/passwd", "/etc", "in/../../x"])
    def test_part_that_leaves_the_volume_is_refused(self, volume: Path, part: str) -> None:
        (volume / "link").symlink_to("/etc")
        with pytest.raises(ConfigError, match="leaves the volume"):
            sub_path(volume, part)
        assert not (volume.parent / "x").exists()

    def test_links_in_a_circle_are_refused(self, volume: Path) -> None:
        (volume / "one").symlink_to("two")
        (volume / "two").symlink_to("one")
        with pytest.raises(ConfigError, match="cannot be mounted"):
            sub_path(volume, "one")

    def test_link_that_is_put_there_meanwhile_is_not_followed(
        self, volume: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (volume / "part").mkdir()
        resolve = Path.resolve

        def resolve_then_swap(path: Path, *, strict: bool = False) -> Path:
            found = resolve(path, strict=strict)
            if path == volume:  # the last look before the way down
                (volume / "part").rmdir()
                (volume / "part").symlink_to("/etc")
            return found

        monkeypatch.setattr(Path, "resolve", resolve_then_swap)
        with pytest.raises(ConfigError, match="has become a link"):
            sub_path(volume, "part")

    @needs_root
    def test_what_is_mounted_is_what_was_found(self, volume: Path, at: Path) -> None:
        (volume / "part").mkdir()
        (volume / "part" / "file").write_text("found")
        assert sub_path(volume, "part", at=at) == at
        (volume / "part").rename(volume / "moved")
        (volume / "part").symlink_to("/etc")
        assert (at / "file").read_text() == "found"

    @needs_root
    def test_next_container_has_the_part_as_it_is_then(self, volume: Path, at: Path) -> None:
        (volume / "part").mkdir()
        sub_path(volume, "part", at=at)
        (volume / "part").rmdir()
        (volume / "part").write_text("a file now")
        assert sub_path(volume, "part", at=at).read_text() == "a file now"

    @needs_root
    def test_what_a_container_mounted_in_its_volume_outlives_the_pod(
        self, volume: Path, tmp_path: Path
    ) -> None:
        (volume / "file").write_text("kept")
        volumes = Volumes(objects(), disk=tmp_path / "disk", memory=tmp_path / "memory")
        folder = volumes.prepare(pod(volumes=[{"name": "e", "emptyDir": {}}]), {})["e"]
        (folder / "mounted").mkdir()
        bind(volume, folder / "mounted")
        volumes.clear("uid-a")
        assert not folder.exists()
        assert (volume / "file").read_text() == "kept"

    @needs_root
    def test_part_of_the_node_outlives_the_pod(self, volume: Path, tmp_path: Path) -> None:
        (volume / "part").mkdir()
        (volume / "part" / "file").write_text("kept")
        at = tmp_path / "memory" / "uid-a" / "volumes" / "sub-paths" / "main" / "0"
        sub_path(volume, "part", at=at)
        Volumes(objects(), disk=tmp_path / "disk", memory=tmp_path / "memory").remove("uid-a")
        assert not (tmp_path / "memory" / "uid-a").exists()
        assert (volume / "part" / "file").read_text() == "kept"


class _Giver:
    """Gives a token once it has one."""

    def __init__(self) -> None:
        self.held: str | None = None

    def token(self, pod: Pod, source: ServiceAccountTokenSource) -> str:
        if self.held is None:
            raise MountError("failed to fetch token: not yet")
        return f"{self.held} for {pod.metadata.name} and {source.audience}"


class TestTokens:
    """Tokens of service accounts in projected volumes."""

    SOURCE: ClassVar = {"serviceAccountToken": {"path": "token", "audience": "api"}}

    def wanted(self, **security: Any) -> Pod:
        volume = {"name": "v", "projected": {"sources": [self.SOURCE]}}
        return pod(volumes=[volume], securityContext=security)

    def test_pod_waits_for_its_token(self, tmp_path: Path) -> None:
        giver = _Giver()
        volumes = Volumes(objects(), disk=tmp_path / "d", memory=tmp_path / "m", tokens=giver)
        with pytest.raises(MountError, match='volume "v" : failed to fetch token: not yet'):
            volumes.prepare(self.wanted(), {})
        giver.held = "secret"
        path = volumes.prepare(self.wanted(), {})["v"]
        assert read(path) == {"token": "secret for a and api"}

    @needs_root
    def test_token_is_the_groups_alone(self, tmp_path: Path) -> None:
        giver = _Giver()
        giver.held = "secret"
        volumes = Volumes(objects(), disk=tmp_path / "d", memory=tmp_path / "m", tokens=giver)
        path = volumes.prepare(self.wanted(fsGroup=4321), {})["v"]
        found = (path / "token").stat()
        assert (found.st_gid, found.st_mode & 0o777) == (4321, 0o640)

    def test_nobody_gives_tokens_unless_somebody_does(self, tmp_path: Path) -> None:
        with pytest.raises(MountError, match="no token of the audience"):
            Volumes(objects(), disk=tmp_path, memory=tmp_path).prepare(self.wanted(), {})

    def test_tokens_may_be_left_out(self, tmp_path: Path) -> None:
        volumes = Volumes(objects(), disk=tmp_path, memory=tmp_path, tokens=None)
        assert read(volumes.prepare(self.wanted(), {})["v"]) == {}
