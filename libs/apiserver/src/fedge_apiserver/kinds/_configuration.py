"""ConfigMaps and Secrets.

https://kubernetes.io/docs/concepts/configuration/configmap/
https://kubernetes.io/docs/concepts/configuration/secret/
"""

import base64
import json
import re
from typing import Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._rules import Rules
from fedge_objects import JsonObject

_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_RULE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_LONGEST_KEY: Final = 253
_MOST_BYTES: Final = 1024 * 1024
_NEEDED_KEYS: Final = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _check_key(key: str, path: str, causes: Causes) -> None:
    if len(key) > _LONGEST_KEY:
        causes.invalid(path, key, f"must be no more than {_LONGEST_KEY} characters")
    if not _KEY.fullmatch(key):
        causes.invalid(path, key, _KEY_RULE)
    elif key in (".", "..") or key.startswith(".."):
        causes.invalid(
            path, key, f"must not be '{key}'" if key in (".", "..") else "must not start with '..'"
        )


def _check_config_map(value: JsonObject, causes: Causes) -> None:
    texts: dict[str, str] = value.get("data") or {}
    binaries: dict[str, str] = value.get("binaryData") or {}
    size = 0
    for key, text in texts.items():
        _check_key(key, f"data[{key}]", causes)
        if key in binaries:
            causes.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(text.encode())
    for key, text in binaries.items():
        _check_key(key, f"binaryData[{key}]", causes)
        size += _decoded_bytes(text)
    if size > _MOST_BYTES:
        causes.too_long("", f"may not be more than {_MOST_BYTES} bytes")


def _check_immutable(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        causes.forbidden("immutable", "field is immutable when `immutable` is set")
    for field in ("data", "binaryData"):
        if (new.get(field) or {}) != (old.get(field) or {}):
            causes.forbidden(field, "field is immutable when `immutable` is set")


def fold_plain_texts(value: JsonObject) -> None:
    """Turn a secret's ``stringData`` into ``data``, in place."""
    plain: dict[str, str] | None = value.pop("stringData", None)
    if plain:
        data = value.setdefault("data", {})
        for key, text in plain.items():
            data[key] = base64.b64encode(text.encode()).decode()


def _default_secret(value: JsonObject) -> None:
    value.setdefault("type", "Opaque")
    fold_plain_texts(value)


def _check_secret(value: JsonObject, causes: Causes) -> None:
    data: dict[str, str] = value.get("data") or {}
    for key in data:
        _check_key(key, f"data[{key}]", causes)
    if sum(map(_decoded_bytes, data.values())) > _MOST_BYTES:
        causes.too_long("data", f"may not be more than {_MOST_BYTES} bytes")
    for key in _NEEDED_KEYS.get(value["type"], ()):
        if key not in data:
            causes.required(f"data[{key}]")
    if value["type"] == "kubernetes.io/dockerconfigjson" and ".dockerconfigjson" in data:
        try:
            json.loads(base64.b64decode(data[".dockerconfigjson"]))
        except ValueError as exc:
            causes.invalid("data[.dockerconfigjson]", "<secret contents redacted>", str(exc))


def _check_secret_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    if new["type"] != old.get("type", "Opaque"):
        causes.invalid("type", new["type"], "field is immutable")
    _check_immutable(new, old, causes)


def _decoded_bytes(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


CONFIG_MAP_RULES: Final = Rules(check=_check_config_map, check_update=_check_immutable)
SECRET_RULES: Final = Rules(
    default=_default_secret, check=_check_secret, check_update=_check_secret_update
)
