"""Where the API server is and as whom to speak to it.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedge_cli.errors import AwayError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One cluster as one user. Secrets are never printed.

    Attributes:
        path: the file that it comes from.
        server: URL of the API server.
        context: for TLS; None for plain HTTP.
        token: bearer token, or empty.
        namespace: used where none is named.
    """

    path: Path
    server: str
    context: ssl.SSLContext | None
    token: str = field(repr=False)
    namespace: str


def find(explicit: Path | None, running: Path | None) -> Path:
    """Return the kubeconfig to use: named, the environment's, the running demo's, the user's.

    Args:
        explicit: named on the command line.
        running: that of a system that runs on this machine.

    Raises:
        UsageError: the named file is not there.
        AwayError: there is none at all.
    """
    if explicit is not None:
        if not explicit.exists():
            raise UsageError(f"there is no kubeconfig at {explicit}")
        return explicit
    named = os.environ.get("KUBECONFIG", "").split(":")[0]
    candidates = [Path(named)] if named else []
    candidates += [running] if running is not None else []
    candidates.append(Path.home() / ".kube" / "config")
    for path in candidates:
        if path.exists():
            return path
    tried = ", ".join(map(str, candidates))
    raise AwayError(f"no kubeconfig found (tried {tried}): run `make demo`, or set KUBECONFIG")


def load(path: Path) -> Access:
    """Read a kubeconfig's current context.

    Raises:
        UsageError: the file is damaged or names something that it does not hold.
    """
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"]).get("user") or {}
        server = str(cluster["server"])
        return Access(
            path=path,
            server=server.rstrip("/"),
            context=_tls(cluster, user, path.parent) if server.startswith("https") else None,
            token=_token(user, path.parent),
            namespace=str(context.get("namespace") or "default"),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, OSError) as exc:
        raise UsageError(f"kubeconfig {path} cannot be used: {exc!r}") from exc


def _named(config: Any, kind: str, name: str) -> dict[str, Any]:
    for each in config.get(kind) or ():
        if each["name"] == name:
            return dict(each)
    raise KeyError(f"{kind} has no {name!r}")


def _token(user: dict[str, Any], folder: Path) -> str:
    if "tokenFile" in user:
        return (folder / str(user["tokenFile"])).read_text().strip()
    return str(user.get("token", ""))


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "certificate-authority-data" in cluster:
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context.load_verify_locations(cadata=authority)
    elif "certificate-authority" in cluster:
        context.load_verify_locations(cafile=folder / cluster["certificate-authority"])
    if "client-certificate-data" in user:
        # the ssl module reads certificates from files only
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            for part in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[part]) + b"\n")
            file.flush()
            context.load_cert_chain(file.name)
    elif "client-certificate" in user:
        context.load_cert_chain(folder / user["client-certificate"], folder / user["client-key"])
    return context
