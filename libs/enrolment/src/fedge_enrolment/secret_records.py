"""Records as Kubernetes Secrets: who may make tokens is who may make Secrets in that namespace.

https://kubernetes.io/docs/concepts/configuration/secret/
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from fedge_enrolment.records import KINDS, Record, RecordsAwayError
from fedge_objects import JsonObject

NAMESPACE: Final = "fedge-system"
LABEL: Final = "fedge.io/enrolment"
SECRET_TYPE: Final = "fedge.io/enrolment"  # noqa: S105 - a type of Secret
_NAME: Final = "fedge.io/record-name"
_MAX_NAME: Final = 253


def secret_name(kind: str, name: str) -> str:
    """Return the name of the Secret that holds a record."""
    full = f"fedge-{kind}-{name}"
    if len(full) <= _MAX_NAME:
        return full
    return f"fedge-{kind}-{hashlib.sha256(name.encode()).hexdigest()}"


def secret_of(record: Record, namespace: str) -> JsonObject:
    """Return a record as a Secret; with its revision, if it has one, as a condition."""
    metadata: dict[str, Any] = {
        "name": secret_name(record.kind, record.name),
        "namespace": namespace,
        "labels": {LABEL: record.kind},
        "annotations": {_NAME: record.name},
    }
    if record.revision:
        metadata["resourceVersion"] = record.revision
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": SECRET_TYPE,
        "data": {
            key: base64.b64encode(value.encode()).decode() for key, value in record.data.items()
        },
    }


def record_of(secret: Mapping[str, Any]) -> Record:
    """Return the record in a Secret.

    Raises:
        RecordsAwayError: there is none in it.
    """
    metadata = secret["metadata"]
    try:
        kind = metadata["labels"][LABEL]
        if kind not in KINDS:
            raise KeyError(kind)  # noqa: TRY301 - told below
        return Record(
            kind=kind,
            name=metadata["annotations"][_NAME],
            data={
                key: base64.b64decode(value, validate=True).decode()
                for key, value in (secret.get("data") or {}).items()
            },
            revision=metadata["resourceVersion"],
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as exc:
        raise RecordsAwayError(
            f"Secret {metadata.get('name')!r} holds no record of fedge's ({exc!r}): was it changed "
            "by hand? restore it, or delete it"
        ) from exc
