"""Versions side by side: put there whole or not at all, tried out, kept or taken back."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from fedge_local import images
from fedge_slots import ArchiveError, Installed, SlotError, Slots, Was, broker_of, describe, unpack
from fedge_slots._slots import ROOM_LEFT_BYTES


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


def install(slots: Slots, name: str) -> None:
    with slots.installing(name) as part:
        assert part is not None
        (part.root / "file").write_text(name)
        part.described = Installed(name=name, version=name)


def folders(slots: Slots) -> set[str]:
    return {each.name for each in slots.folder.iterdir() if each.is_dir()}


def test_version_is_there_whole_or_not_at_all(slots: Slots) -> None:
    def half() -> None:
        with slots.installing("v2") as part:
            assert part is not None
            (part.root / "half").write_text("x")
            raise ValueError("killed")

    with pytest.raises(ValueError, match="killed"):
        half()
    assert slots.installed("v2") is None
    assert folders(slots) == set()
    # one that a kill has left of is begun anew
    (slots.folder / "v2.part" / "root").mkdir(parents=True)
    install(slots, "v2")
    assert slots.installed("v2") == Installed(name="v2", version="v2")
    assert (slots.root("v2") / "file").read_text() == "v2"
    with slots.installing("v2") as part:
        assert part is None


def test_version_that_does_not_fit_is_refused_before_anything_is_written(slots: Slots) -> None:
    free = shutil.disk_usage(slots.folder.parent).free
    with pytest.raises(SlotError, match="make room there"):  # noqa: SIM117
        with slots.installing("v2", needs_bytes=free - ROOM_LEFT_BYTES + 2**30):
            pass
    assert folders(slots) == set()


def test_version_that_proves_itself_is_kept_and_the_one_before_stays(slots: Slots) -> None:
    for number in (2, 3, 4):
        name = f"v{number}"
        install(slots, name)
        slots.try_out(name, id="j", seconds=60, base="b", was=Was(linked=True, pods=("p",)))
        trial = slots.state().trial
        assert trial is not None
        assert (trial.slot, trial.was.pods) == (name, ("p",))
        slots.keep()
    state = slots.state()
    assert (state.current, state.trial, state.base) == ("v4", None, "b")
    assert state.outcome is not None
    assert (state.outcome.slot, state.outcome.reason) == ("v4", "")
    assert folders(slots) == {"v3", "v4"}


def test_version_that_does_not_is_taken_back(slots: Slots) -> None:
    install(slots, "v2")
    slots.try_out("v2", id="j", seconds=60, base="b")
    slots.keep()
    install(slots, "v3")
    slots.try_out("v3", id="k", seconds=60, base="b")
    slots.take_back("no link")
    state = slots.state()
    assert (state.current, state.trial) == ("v2", None)
    assert state.outcome is not None
    assert (state.outcome.id, state.outcome.reason) == ("k", "no link")


def test_one_at_a_time_is_tried_out_and_only_what_is_there(slots: Slots) -> None:
    with pytest.raises(SlotError, match="not installed"):
        slots.try_out("v2", id="j", seconds=60, base="b")
    install(slots, "v2")
    slots.try_out("v2", id="j", seconds=60, base="b")
    slots.try_out("v2", id="j", seconds=60, base="b")  # the same once more, after a kill
    with pytest.raises(SlotError, match="'v2' is being tried out"):
        slots.try_out("v2", id="k", seconds=60, base="b")


def test_state_that_cannot_be_read_means_the_own_image(slots: Slots) -> None:
    slots.folder.mkdir()
    (slots.folder / "state.json").write_text("{")
    assert slots.state().current == ""


def test_state_of_a_newer_version_is_read(slots: Slots) -> None:
    slots.folder.mkdir()
    (slots.folder / "state.json").write_text('{"current": "v9", "later": [1], "base": "b"}')
    assert slots.state().current == "v9"


def archive(tmp_path: Path, **options: object) -> Path:
    recipe = images.ImageRecipe(name="fedge.local/toy:1", **options)  # type: ignore[arg-type]
    path = tmp_path / "image.tar"
    path.write_bytes(images.build(recipe).archive)
    return path


def test_archive_is_unpacked_as_a_container_would_see_it(tmp_path: Path) -> None:
    path = archive(tmp_path, scripts={"/usr/bin/hello": "#!/bin/sh\n"})
    described = describe(path)
    assert (
        described.digest
        == images.build(
            images.ImageRecipe(name="fedge.local/toy:1", scripts={"/usr/bin/hello": "#!/bin/sh\n"})
        ).digest
    )
    root = tmp_path / "root"
    root.mkdir()
    unpack(path, described, root)
    assert (root / "usr/bin/hello").read_text() == "#!/bin/sh\n"
    assert (root / "bin/sh").is_symlink()


def test_archive_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = archive(tmp_path, scripts={"/usr/bin/hello": "#!/bin/sh\nexit 0\n"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"exit 0", b"exit 1"))
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ArchiveError, match="not what its digest says"):
        unpack(path, describe(path), root)


@pytest.mark.parametrize("content", [b"", b"x" * 1024, b"\x00" * 10240])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="not an archive of an image"):
        describe(path)


def layered(path: Path, *layers: dict[str, str | None]) -> Path:
    """Write an archive of these layers: a file's text, or None for one that is taken away."""

    def packed(files: dict[str, str | None]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                if text is not None and text.startswith("->"):
                    member.type, member.linkname = tarfile.SYMTYPE, text[2:]
                    tar.addfile(member)
                    continue
                member.size = len(text or "")
                tar.addfile(member, io.BytesIO((text or "").encode()))
        return out.getvalue()

    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    from fedge_slots import own_architecture  # noqa: PLC0415

    config = blob(json.dumps({"architecture": own_architecture(), "config": {}}).encode())
    manifest = {"config": config, "layers": [blob(packed(each)) for each in layers]}
    index = {"manifests": [blob(json.dumps(manifest).encode())]}
    blobs["index.json"] = json.dumps(index).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_later_layers_take_away_and_replace(tmp_path: Path) -> None:
    path = layered(
        tmp_path / "i.tar",
        {"a/one": "1", "a/two": "2", "b/three": "3", "link": "->a"},
        {"a/.wh.one": None, "b/.wh..wh..opq": None, "b/four": "4", "link": "a file now"},
    )
    root = tmp_path / "root"
    root.mkdir()
    unpack(path, describe(path), root)
    assert sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()) == [
        "a/two",
        "b/four",
        "link",
    ]


@pytest.mark.parametrize(
    "layers",
    [
        [{"../out": "x"}],
        [{"a/../../out": "x"}],
        [{"link": "->/", "link/tmp/fedge-out": "x"}],
        [{"link": "->.."}, {"link/.wh.precious": None}],
    ],
)
def test_nothing_is_touched_outside(tmp_path: Path, layers: list[dict[str, str | None]]) -> None:
    (tmp_path / "precious").write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    path = layered(tmp_path / "i.tar", *layers)
    with pytest.raises(ArchiveError):
        unpack(path, describe(path), root)
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "out").exists()
    assert not Path("/tmp/fedge-out").exists()


def test_broker_of_a_version_is_known_by_its_folder(tmp_path: Path) -> None:
    assert broker_of(tmp_path) == ""
    (tmp_path / "usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5").mkdir(parents=True)
    assert broker_of(tmp_path) == "4.0.5"
