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
from fedge_cli.local import running_kubeconfig


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


def find(explicit: Path | None) -> Path:
    """Return the kubeconfig to use: named, the environment's, the local system's, the user's.

    Args:
        explicit: named on the command line.

    Raises:
        UsageError: the named file is not there.
        AwayError: there is none at all.
    """
    if explicit is not None:
        if not explicit.exists():
            raise UsageError(f"there is no kubeconfig at {explicit}")
        return explicit
    named = [Path(each) for each in os.environ.get("KUBECONFIG", "").split(":") if each]
    own = Path.home() / ".kube" / "config"
    local = None if named else running_kubeconfig(instead=own)
    candidates = named or [*([local] if local is not None else []), own]
    for path in candidates:
        if path.exists():
            return path
    tried = ", ".join(map(str, candidates))
    if named:
        raise UsageError(f"KUBECONFIG names {tried}, which does not exist: correct or unset it")
    raise AwayError(
        f"no kubeconfig found (tried {tried}) and no local system runs: start one with `make demo`,"
        " or name yours with --kubeconfig or KUBECONFIG"
    )


def load(path: Path) -> Access:
    """Read a kubeconfig's current context.

    Raises:
        UsageError: the file is damaged, or names something that it does not hold or that is not
            supported here.
    """
    try:
        config = yaml.safe_load(path.read_text())
        if not isinstance(config, dict):
            raise TypeError("it holds no mapping")  # noqa: TRY301 - told below with the rest
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"]).get("user") or {}
        _refuse_programs(path, context["user"], user)
        server = str(cluster["server"])
        return Access(
            path=path,
            server=server.rstrip("/"),
            context=_tls(cluster, user, path.parent) if server.startswith("https") else None,
            token=_token(user, path.parent),
            namespace=str(context.get("namespace") or "default"),
        )
    except (yaml.YAMLError, TypeError, ValueError, OSError) as exc:
        raise UsageError(f"kubeconfig {path} cannot be used: {exc}") from exc
    except KeyError as exc:
        raise UsageError(f"kubeconfig {path} cannot be used: it has no {exc.args[0]}") from exc


def _refuse_programs(path: Path, name: str, user: dict[str, Any]) -> None:
    for way in ("exec", "auth-provider"):
        if way in user:
            raise UsageError(
                f"kubeconfig {path}: user {name!r} logs in by {way!r}, which fedge does not do: "
                "give it a token or a client certificate, or use kubectl"
            )


def _named(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for each in config.get(kind) or ():
        if each["name"] == name:
            return dict(each)
    raise KeyError(f"{name!r} among its {kind}")


def _token(user: dict[str, Any], folder: Path) -> str:
    if "tokenFile" in user:
        return (folder / str(user["tokenFile"])).read_text().strip()
    return str(user.get("token", ""))


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    # the authority that is named is the only one that is believed
    if "certificate-authority-data" in cluster:
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
    elif "certificate-authority" in cluster:
        context = ssl.create_default_context(cafile=folder / cluster["certificate-authority"])
    else:
        context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "client-certificate-data" in user:
        # the ssl module reads certificates from files only
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            for part in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[part]) + b"\n")
            file.flush()
            context.load_cert_chain(file.name)
    elif "client-certificate" in user:
        key = user.get("client-key") or user["client-certificate"]
        context.load_cert_chain(folder / user["client-certificate"], folder / key)
    return context
