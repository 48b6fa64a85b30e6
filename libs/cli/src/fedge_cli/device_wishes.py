"""What is to be set of a device: as people write it, checked, and as the manifest has it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedge_cli.errors import CommandError, UsageError
from fedge_devices import Access, Model, ModelProperty, problem_of

_NAME = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,128}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a property should be.

    Attributes:
        name: of the property.
        value: None withdraws what was wished before.
    """

    name: str
    value: str | None


def parse_wishes(words: Iterable[str]) -> list[Wish]:
    """Return what ``PROPERTY=VALUE`` and ``PROPERTY-`` mean.

    Raises:
        UsageError: a word is neither, or two are about one property.
    """
    wishes: dict[str, Wish] = {}
    for word in words:
        wish = _parsed(word)
        if not _NAME.fullmatch(wish.name):
            raise UsageError(
                f"{wish.name!r} is no name of a property: use 1 to 128 of letters, digits, -_.,:/@#"
            )
        if wish.name in wishes:
            raise UsageError(f"property {wish.name!r} is named twice")
        wishes[wish.name] = wish
    if not wishes:
        raise UsageError("say what to set: PROPERTY=VALUE, or PROPERTY- to withdraw a wish")
    return list(wishes.values())


def _parsed(word: str) -> Wish:
    name, equals, value = word.partition("=")
    if equals and value:
        return Wish(name, value)
    if equals:
        raise UsageError(f"{name!r} cannot be set to nothing: `{name}-` withdraws the wish")
    if word.endswith("-"):
        return Wish(word[:-1], None)
    raise UsageError(f"{word!r} is neither PROPERTY=VALUE nor PROPERTY- (withdraws the wish)")


def check(
    wishes: Iterable[Wish], model: Model | None, properties: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Make sure that a device can be what is wished.

    Args:
        wishes: what is wished.
        model: of the device; None if it has none: then everything is possible.
        properties: what the manifest declares, as it is there.

    Raises:
        CommandError: a property is not in the model, or cannot have the value.
    """
    declared = {str(each.get("name")): each for each in properties}
    for wish in wishes:
        rule = None if model is None else model.get(wish.name)
        if (
            model is not None
            and rule is None
            and not (wish.value is None and wish.name in declared)
        ):
            raise CommandError(
                f"property {wish.name!r} is not in the device's model: {_known(model)}"
            )
        if rule is None or model is None or wish.value is None:
            continue
        metadata = _metadata(declared.get(wish.name, {}))
        problem = problem_of(wish.name, wish.value, metadata, rule, is_desired=True)
        if problem is not None:
            remedy = _remedy(rule, model)
            raise CommandError(f"{problem.text}; {remedy}" if remedy else problem.text)


def with_wishes(
    properties: Sequence[Mapping[str, Any]], wishes: Iterable[Wish]
) -> list[dict[str, Any]]:
    """Return ``spec.properties`` of a Device with what is wished; all else stays as it is."""
    after = [dict(each) for each in properties]
    by_name = {str(each.get("name")): each for each in after}
    for wish in wishes:
        entry = by_name.get(wish.name)
        if wish.value is None:
            if entry is not None:
                entry.pop("desired", None)
            continue
        if entry is None:
            entry = by_name[wish.name] = {"name": wish.name}
            after.append(entry)
        desired = entry.get("desired")
        entry["desired"] = {**(desired if isinstance(desired, dict) else {}), "value": wish.value}
    return after


def range_of(rule: ModelProperty) -> str:
    """Return the range of a property: ``16..30``, ``16..``; empty if there is none."""
    if rule.minimum is None and rule.maximum is None:
        return ""
    least = "" if rule.minimum is None else f"{rule.minimum:g}"
    most = "" if rule.maximum is None else f"{rule.maximum:g}"
    return f"{least}..{most}"


def _remedy(rule: ModelProperty, model: Model) -> str:
    if rule.access is Access.READ_ONLY:
        names = [name for name, each in model.items() if each.access is not Access.READ_ONLY]
        return f"what can be set: {', '.join(names)}" if names else "nothing of it can be set"
    if rule.type == "boolean":
        return "say true or false"
    limits = range_of(rule)
    unit = f" {rule.unit}" if rule.unit else ""
    return f"say a value of {limits}{unit}" if limits else f"say a value of type {rule.type}"


def _known(model: Model) -> str:
    return f"it has {', '.join(model)}" if model else "it has no properties"


def _metadata(entry: Mapping[str, Any]) -> dict[str, Any]:
    desired = entry.get("desired")
    metadata = desired.get("metadata") if isinstance(desired, dict) else None
    return metadata if isinstance(metadata, dict) else {}
