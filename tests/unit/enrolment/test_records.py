"""Records in a folder, and as Secrets of a Kubernetes API, keep the same promises."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_enrolment.records import NODE, FolderRecords, Records, RecordsAwayError
from fedge_hub.kube_records import KubeRecords
from fedge_kube import KubeClient
from tests.contract.records import RecordsContract


def files_below(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


class TestFolderRecords(RecordsContract):
    """Files."""

    @pytest.fixture
    def records(self, tmp_path: Path) -> Records:
        return FolderRecords(tmp_path / "records")

    @pytest.fixture
    def others(self, tmp_path: Path) -> Records:
        return FolderRecords(tmp_path / "records")

    async def test_nobody_else_can_read_them_and_names_lead_nowhere_else(
        self, records: Records, tmp_path: Path
    ) -> None:
        for name in ("a", "../../out", "/etc/passwd", ".."):
            await records.create(NODE, name, {"key": "open sesame"})
        files = files_below(tmp_path)
        assert {each.parent.name for each in files} == {NODE, "records"}
        assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files if each.suffix)
        assert stat.S_IMODE((tmp_path / "records").stat().st_mode) == 0o700

    async def test_a_damaged_file_is_named(self, records: Records, tmp_path: Path) -> None:
        await records.create(NODE, "a", {})
        [file] = (tmp_path / "records").rglob("*.json")
        file.write_text("{")
        with pytest.raises(RecordsAwayError, match=str(file)):
            await records.get(NODE, "a")


class TestKubeRecords(RecordsContract):
    """Secrets."""

    @pytest.fixture
    async def kubeconfig(self, tmp_path: Path) -> AsyncIterator[Path]:
        async with running_server(ApiServerSettings(data_dir=tmp_path / "api", port=0)):
            yield tmp_path / "api" / "kubeconfig"

    @pytest.fixture
    async def records(self, kubeconfig: Path) -> AsyncIterator[Records]:
        async with KubeClient.connected(kubeconfig) as client:
            yield KubeRecords(client, "fedge-system")

    @pytest.fixture
    async def others(self, kubeconfig: Path) -> AsyncIterator[Records]:
        async with KubeClient.connected(kubeconfig) as client:
            yield KubeRecords(client, "fedge-system")
