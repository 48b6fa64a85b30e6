"""``Device.status``: a device in one line, what holds of it, and since when its manifest wishes."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fedge_device.findings import Finding, conflict, sync_of, synced, valid
from fedge_device.known import KnownDevice
from fedge_device.words import Words
from fedge_devices import Model, as_text
from fedge_objects import JsonObject

MAX_SHOWN: Final = 60
UNKNOWN: Final = "unknown"


def status_of(
    device: KnownDevice,
    model: Model | None,
    words: Words | None,
    stamps: JsonObject,
    now: str,
    account: Finding | None = None,
) -> JsonObject:
    """Return the status that a Device should have.

    Args:
        device: with the status that it has: a condition that stays keeps its time.
        model: which it names; None if that is not there.
        words: what its node says; None if nothing.
        stamps: of its wishes, as they are kept.
        now: the time.
        account: whether it has the account that it names; None if it names none.
    """
    is_valid = valid(device.declared, device.model.name if device.model else "", model)
    is_synced = synced(device.declared, device.node, words, is_valid=bool(is_valid.holds))
    findings = (is_valid, is_synced, conflict(words))
    status: JsonObject = {
        "state": (words.state if words else "") or UNKNOWN,
        "desired": _line(
            {
                name: as_text(said.wish["value"])
                for name, said in device.declared.items()
                if said.wish is not None
            }
        ),
        "reported": _line(_reported(device, words) if words else {}),
        "sync": str(sync_of(*findings)),
        "conditions": _conditions([*findings, *([account] if account else [])], device, now),
        "desiredStamps": stamps,
    }
    if words is not None and words.last_online:
        status["lastOnlineTime"] = words.last_online
    return status


def what_matters(status: JsonObject) -> tuple[Any, ...]:
    """Return the part of a status whose change should be seen soon."""
    conditions = status.get("conditions")
    return (
        status.get("state"),
        status.get("sync"),
        status.get("desired"),
        status.get("desiredStamps"),
        [
            [each.get(part) for part in ("type", "status", "reason", "observedGeneration")]
            for each in (conditions if isinstance(conditions, list) else ())
            if isinstance(each, dict)
        ],
    )


def _reported(device: KnownDevice, words: Words) -> dict[str, str]:
    """Return what the device reported: what the manifest names first, in its order."""
    names = [*device.declared, *(name for name in words.properties if name not in device.declared)]
    return {
        name: word.reported
        for name in names
        if (word := words.properties.get(name)) and word.reported is not None
    }


def _conditions(findings: Iterable[Finding], device: KnownDevice, now: str) -> list[JsonObject]:
    found = device.status.get("conditions")
    before: dict[str, JsonObject] = {
        str(each.get("type")): each
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict)
    }
    conditions = []
    for each in findings:
        old = before.get(each.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == each.status else None
        conditions.append(
            {
                "type": each.type,
                "status": each.status,
                "reason": each.reason,
                "message": each.message,
                "lastTransitionTime": since or now,
                "observedGeneration": device.generation,
            }
        )
    return conditions


def _line(values: Mapping[str, str]) -> str:
    text = ",".join(f"{name}={value}" for name, value in values.items())
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
