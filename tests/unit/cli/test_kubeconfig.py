import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_cli import kubeconfig
from fedge_cli.errors import AwayError, UsageError


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a kubeconfig on a machine without a local system."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FEDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return home


def written(path: Path, user: Any = None, **cluster: Any) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://api.test:8080/", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


def test_named_file_goes_first_and_must_be_there(tmp_path: Path) -> None:
    named = written(tmp_path / "named")
    assert kubeconfig.find(named) == named
    with pytest.raises(UsageError, match="there is no kubeconfig at"):
        kubeconfig.find(tmp_path / "no")


def test_first_file_of_the_environment_that_is_there_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = written(tmp_path / "second")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/first:{second}")
    assert kubeconfig.find(None) == second
    second.unlink()
    with pytest.raises(UsageError, match=r"KUBECONFIG names .*first"):
        kubeconfig.find(None)


def test_local_system_goes_before_the_users_own_only_while_it_runs(
    tmp_path: Path, nobody: Path
) -> None:
    local = written(tmp_path / "data" / "kubeconfig")
    assert kubeconfig.find(None) == local, "stopped, but there is no other to mean"
    own = written(nobody / ".kube" / "config")
    assert kubeconfig.find(None) == own


def test_error_without_any_says_what_was_tried_and_what_to_do(nobody: Path) -> None:
    with pytest.raises(AwayError, match=rf"tried {nobody}/.kube/config.*make demo"):
        kubeconfig.find(None)


def test_token_is_read_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    access = kubeconfig.load(written(tmp_path / "k", {"tokenFile": "token"}))
    assert (access.server, access.token) == ("http://api.test:8080", "from-a-file")
    assert access.namespace == "default"
    assert "from-a-file" not in repr(access)


def test_check_of_the_server_is_skipped_only_when_asked(tmp_path: Path) -> None:
    https = "https://api.test"
    strict = kubeconfig.load(written(tmp_path / "k", server=https)).context
    lax = kubeconfig.load(
        written(tmp_path / "k", server=https, **{"insecure-skip-tls-verify": True})
    ).context
    assert strict is not None
    assert lax is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert lax.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("way", ["exec", "auth-provider"])
def test_login_by_a_program_is_refused_with_a_remedy(tmp_path: Path, way: str) -> None:
    with pytest.raises(UsageError, match=f"user 'u' logs in by '{way}'.*token"):
        kubeconfig.load(written(tmp_path / "k", {way: {}}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "cannot be used"),
        ("", "it holds no mapping"),
        ("{}", "it has no current-context"),
        ("{current-context: x, contexts: []}", "it has no 'x' among its contexts"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        kubeconfig.load(path)
    assert str(path) in str(caught.value)


def test_certificate_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    cluster = {"server": "https://api.test", "certificate-authority-data": "bm9uZQ=="}
    with pytest.raises(UsageError, match="cannot be used"):
        kubeconfig.load(written(tmp_path / "k", **cluster))
