from pathlib import Path

import pytest

from fedge_cli.errors import UsageError
from fedge_cli.manifests import Manifest, read


def read_text(tmp_path: Path, text: str, *, name: str = "m.yaml") -> list[Manifest | UsageError]:
    path = tmp_path / name
    path.write_text(text)
    return list(read(str(path)))


def only(found: list[Manifest | UsageError]) -> Manifest:
    [manifest] = found
    assert isinstance(manifest, Manifest), manifest
    return manifest


def texts(tmp_path: Path, found: list[Manifest | UsageError]) -> list[str]:
    return [
        (each.place if isinstance(each, Manifest) else f"error {each}").replace(f"{tmp_path}/", "")
        for each in found
    ]


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def test_each_document_has_its_number_and_the_line_of_its_first_word(tmp_path: Path) -> None:
    text = f"# words\n\n{CONFIG_MAP % 'a'}---\n# nothing\n---\n\n{CONFIG_MAP % 'b'}"
    assert texts(tmp_path, read_text(tmp_path, text)) == [
        "m.yaml, document 1 (line 3)",
        "m.yaml, document 2 (line 10)",
    ]


def test_document_that_is_no_yaml_stops_no_other(tmp_path: Path) -> None:
    text = f"{CONFIG_MAP % 'a'}---\nkind: [\n---\n{CONFIG_MAP % 'b'}"
    first, second, third = texts(tmp_path, read_text(tmp_path, text))
    assert first == "m.yaml, document 1 (line 1)"
    assert second.startswith("error m.yaml, document 2: line 6, column 1: not YAML: ")
    assert third == "m.yaml, document 3 (line 7)"


def test_key_that_is_there_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    [error] = texts(tmp_path, read_text(tmp_path, CONFIG_MAP % "a" + "data:\n  x: 1\n  x: 2\n"))
    assert error == "error m.yaml, document 1: line 6, column 3: not YAML: key 'x' is there twice"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5432:22", "5432:22"),
        ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("0644", 0o644),
        ("0o644", 0o644),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("yes", True),
        ("~", None),
        ("'8'", "8"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_what_kubernetes_tools_take_them_for(
    tmp_path: Path, written: str, meant: object
) -> None:
    found = only(read_text(tmp_path, CONFIG_MAP % "a" + f"data: {{x: {written}}}\n"))
    assert found.object["data"]["x"] == meant
    assert type(found.object["data"]["x"]) is type(meant)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a\n", "an object is expected, found list"),
        ("kind: Pod\nmetadata: {name: a}\n", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "kind is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: a\n", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", "metadata.name is not a text"),
        (CONFIG_MAP % "a" + "data: {x: .nan}\n", "a value that JSON does not know"),
        (CONFIG_MAP % "a" + "data: {x: !!binary aGk=}\n", "a value that JSON does not know"),
        (CONFIG_MAP % "a" + "data: {x: !odd 1}\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_object_is_told_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    [error] = texts(tmp_path, read_text(tmp_path, text))
    assert error.startswith("error m.yaml, document 1")
    assert reason in error


def test_items_of_a_list_are_read_one_by_one(tmp_path: Path) -> None:
    text = """
        {"apiVersion": "v1", "kind": "List", "items": [
        \t{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}},
          {"apiVersion": "v1", "kind": "ConfigMap"}]}
    """
    assert texts(tmp_path, read_text(tmp_path, text, name="l.json")) == [
        "l.json, document 1 (line 2), items[0]",
        "error l.json, document 1 (line 2), items[1]: metadata.name is missing",
    ]


def test_json_documents_may_follow_each_other(tmp_path: Path) -> None:
    one = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}'
    found = texts(tmp_path, read_text(tmp_path, f"{one}\n{one}\n{{]", name="j.json"))
    assert found[:2] == ["j.json, document 1 (line 1)", "j.json, document 2 (line 2)"]
    assert found[2].startswith("error j.json, document 3: line 3, column 2: not JSON: ")


def test_folder_gives_its_manifests_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "notes.md", "kustomization.yaml"):
        (tmp_path / name).write_text(CONFIG_MAP % "x")
    assert texts(tmp_path, list(read(str(tmp_path)))) == [
        "a.yaml, document 1 (line 1)",
        "b.yml, document 1 (line 1)",
    ]


def test_folder_without_manifests_and_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no"):
        list(read(str(tmp_path)))
    with pytest.raises(UsageError, match="does not exist"):
        list(read(str(tmp_path / "no")))


def test_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    [error] = texts(tmp_path, list(read(str(tmp_path))))
    assert "x.yaml" in error
    assert "utf-8" in error
