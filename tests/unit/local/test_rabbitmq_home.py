from pathlib import Path

import pytest

from fedge_local.errors import MissingError
from fedge_local.rabbitmq_home import make_home


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    source = tmp_path / "rabbitmq"
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
    return source


def plugins(home: Path) -> set[str]:
    return {each.name for each in (home / "plugins").iterdir()}


def test_home_has_what_the_plugins_need_and_nothing_else(
    installation: Path, tmp_path: Path
) -> None:
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    assert plugins(tmp_path / "home") == {
        "rabbit-1.2.3", "rabbit_common-1.2.3", "rabbitmq_mqtt-1.2.3", "ranch-1.2.3",
    }  # fmt: skip
    assert (tmp_path / "home/sbin/rabbitmq-server").exists()


def test_home_has_everything_when_a_plugin_is_packed(installation: Path, tmp_path: Path) -> None:
    (installation / "plugins/rabbitmq_top-1.2.3.ez").touch()
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    assert "rabbitmq_stomp-1.2.3" in plugins(tmp_path / "home")


def test_home_is_made_anew_when_the_plugins_change(installation: Path, tmp_path: Path) -> None:
    make_home(installation, tmp_path / "home", ["rabbitmq_mqtt"])
    make_home(installation, tmp_path / "home", [])
    assert plugins(tmp_path / "home") == {"rabbit-1.2.3", "rabbit_common-1.2.3"}


def test_plugin_that_is_not_installed_is_named(installation: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="rabbitmq_none"):
        make_home(installation, tmp_path / "home", ["rabbitmq_none"])
