from pathlib import Path

import pytest

from fedge_local.errors import MissingError
from fedge_local.rabbitmq_home import ROOT_VARIABLE, Installation, installed, make_home


def install(source: Path) -> None:
    (source / "sbin").mkdir(parents=True)
    (source / "sbin/rabbitmq-server").touch()
    applications = {
        "rabbit": "kernel,rabbit_common",
        "rabbit_common": "",
        "rabbitmq_mqtt": "rabbit,ranch",
        "ranch": "",
        "rabbitmq_stomp": "rabbit",
    }
    for name, needs in applications.items():
        folder = source / f"plugins/{name}-1.2.3/ebin"
        folder.mkdir(parents=True)
        (folder / f"{name}.app").write_text(
            f"{{application,{name},[{{vsn,x}},{{applications,[{needs}]}}]}}."
        )


def install_erlang(root: Path, release: str) -> None:
    erlang = root / "usr/lib/erlang"
    (erlang / "bin").mkdir(parents=True)
    (erlang / "bin/erl").touch()
    (erlang / "releases").mkdir()
    (erlang / "releases/start_erl.data").write_text(release)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/erl").symlink_to("../lib/erlang/bin/erl")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    folder = tmp_path / "rabbitmq"
    install(folder)
    return Installation(folder=folder)


@pytest.fixture
def other_root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for version in ("4.0.5", "4.0.10"):
        install(root / f"usr/lib/rabbitmq/lib/rabbitmq_server-{version}")
    return root


def plugins(home: Path) -> set[str]:
    return {each.name for each in (home / "plugins").iterdir()}


def test_home_has_what_the_plugins_need_and_nothing_else(
    installation: Installation, tmp_path: Path
) -> None:
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    assert plugins(tmp_path / "home") == {
        "rabbit-1.2.3", "rabbit_common-1.2.3", "rabbitmq_mqtt-1.2.3", "ranch-1.2.3",
    }  # fmt: skip
    assert (tmp_path / "home/sbin/rabbitmq-server").exists()


def test_home_has_everything_when_a_plugin_is_packed(
    installation: Installation, tmp_path: Path
) -> None:
    (installation.folder / "plugins/rabbitmq_top-1.2.3.ez").touch()
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    assert "rabbitmq_stomp-1.2.3" in plugins(tmp_path / "home")


def test_home_is_made_anew_when_the_plugins_change(
    installation: Installation, tmp_path: Path
) -> None:
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    make_home(installation, tmp_path / "home", [])
    assert plugins(tmp_path / "home") == {"rabbit-1.2.3", "rabbit_common-1.2.3"}


def test_plugin_that_is_not_installed_is_named(installation: Installation, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="rabbitmq_none"):
        make_home(installation, tmp_path / "home", ["rabbitmq_none"])


def test_newest_installation_of_another_root_is_found(other_root: Path) -> None:
    found = installed(other_root)
    assert found.folder == other_root / "usr/lib/rabbitmq/lib/rabbitmq_server-4.0.10"
    assert not found.is_of_this_machine


def test_other_root_can_be_named_by_a_variable(
    other_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(other_root))
    assert installed().root == other_root


def test_root_without_rabbitmq_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=f"{tmp_path}.*scripts/rabbitmq4"):
        installed(tmp_path)


def test_home_leads_to_files_as_their_own_root_knows_them(other_root: Path, tmp_path: Path) -> None:
    make_home(installed(other_root), tmp_path / "home", ["rabbitmq_mqtt"])
    there = Path("/usr/lib/rabbitmq/lib/rabbitmq_server-4.0.10")
    assert (tmp_path / "home/sbin/rabbitmq-server").readlink() == there / "sbin/rabbitmq-server"
    assert (tmp_path / "home/plugins/ranch-1.2.3").readlink() == there / "plugins/ranch-1.2.3"


def test_erlang_release_is_that_of_the_other_root(other_root: Path) -> None:
    assert installed(other_root).erlang_release == 0
    install_erlang(other_root, "15.2.7 27\n")
    assert installed(other_root).erlang_release == 27


def test_erlang_release_that_cannot_be_read_is_not_known(other_root: Path) -> None:
    install_erlang(other_root, "")
    assert installed(other_root).erlang_release == 0
