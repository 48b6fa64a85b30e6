"""The generated pages of the reference say what the code says."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "generate_reference.py"))


@pytest.mark.parametrize("name", ["settings.md", "cli.md"])
def test_page_is_what_the_code_says(script: dict[str, Any], name: str) -> None:
    make: Callable[[], str] = script["PAGES"][name]
    committed = (ROOT / "docs" / "reference" / name).read_text()
    assert committed == make(), "run: python scripts/generate_reference.py"


def test_every_service_has_its_settings_on_the_page(script: dict[str, Any]) -> None:
    page: str = script["settings_page"]()
    for variable in (
        "FEDGE_HUB_REDIS_URL",
        "FEDGE_CONTROLLER_KUBECONFIG",
        "FEDGE_DEVICE_WRITE_EVERY_SECONDS",
        "FEDGE_APISERVER_DATA_DIR",
        "FEDGE_EDGE_NODE_NAME",
        "FEDGE_META_DIGEST_SECONDS",
        "FEDGE_EDGED_CRI_SOCKET",
        "FEDGE_TWIN_MQTT_URL",
    ):
        assert f"| `{variable}` |" in page


def test_every_page_of_the_site_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert f"- {name}\n" in navigation, f"{name} is missing in mkdocs.yml"
