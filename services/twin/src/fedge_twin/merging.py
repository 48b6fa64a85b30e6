"""Who wins when the manifest and the edge wish different values of a property.

The edge's wish holds until the manifest speaks again; then the property's rule decides
(``fedge_devices.MergeRule``). A wish that loses without its maker's knowing is not lost silently:
the property carries both values as a conflict until the next wish is made.

Pure: a property and a word in, the property out.
"""

from msgspec.structs import replace

from fedge_devices import Declared, MergeRule, Model, ModelProperty, Problem, Stamp, problem_of
from fedge_objects import JsonObject
from fedge_twin.device import Conflict, Property, Side, Wish


def declared(before: Property, said: Declared, model: Model | None, now: int) -> Property:
    """Return a property as the manifest now says.

    Args:
        before: as it was.
        said: what the manifest says about it.
        model: the device's model; None if it has none, or it is not known yet.
        now: a stamp.
    """
    wish = _wish(said)
    problem = None if wish is None else _problem(said.name, wish, model)
    after = replace(
        before,
        in_manifest=True,
        is_told=said.is_told,
        report_cycle_ms=said.report_cycle_ms,
        rule=said.rule,
        wish=wish,
        problem=(problem.reason, problem.text) if problem else None,
    )
    if problem is not None:
        return after  # what held before goes on holding
    if not _is_new(before, wish):
        return after
    standing = before.desired
    if wish is None:
        is_ours = standing is not None and standing.by == "cloud"
        return replace(after, desired=None if is_ours else standing, conflict=None)
    if standing is None or standing.by == "cloud" or standing.text == _taken(wish, None).text:
        return replace(after, desired=_taken(wish, standing), conflict=None)
    return _decided(after, wish, standing, said.stamp, rule_of(after, model), now)


def wished_at_edge(before: Property, value: object, metadata: JsonObject, now: int) -> Property:
    """Return a property after somebody at the edge wished a value; it must be a good one."""
    old = before.desired
    side = Side(
        value=value,
        by="edge",
        metadata=metadata,
        cloud=old.cloud if old else 0,
        edge=old.edge + 1 if old else 1,
        at=now,
    )
    return replace(before, desired=side, conflict=None)


def withdrawn_at_edge(before: Property) -> Property:
    """Return a property after the edge took its wish back: the manifest's holds, if it has one."""
    old = before.desired
    if old is None or old.by != "edge":
        return before
    wish = before.wish if before.problem is None else None
    return replace(before, desired=_taken(wish, old) if wish else None, conflict=None)


def rule_of(each: Property, model: Model | None) -> MergeRule:
    """Return the rule of a property: the manifest's, else the model's, else the cloud wins."""
    of_model = (model or {}).get(each.name, ModelProperty()).rule
    return each.rule or of_model or MergeRule.CLOUD_WINS


def _decided(
    after: Property, wish: Wish, standing: Side, stamp: Stamp, rule: MergeRule, now: int
) -> Property:
    is_clouds = rule is MergeRule.CLOUD_WINS or (
        rule is MergeRule.LAST_WRITE and stamp.at > standing.at
    )
    if not is_clouds:
        lost = Conflict(standing.value, "edge", wish.value, "cloud", rule, now)
        return replace(after, conflict=lost)
    is_known = stamp.seen >= standing.at  # whoever wrote the manifest could see the edge's wish
    lost = Conflict(wish.value, "cloud", standing.value, "edge", rule, now)
    return replace(after, desired=_taken(wish, standing), conflict=None if is_known else lost)


def _is_new(before: Property, wish: Wish | None) -> bool:
    """Whether the manifest speaks anew, be it to say the same again."""
    if before.problem is not None or before.wish is None or wish is None:
        return before.problem is not None or before.wish != wish
    if (before.wish.value, before.wish.metadata) != (wish.value, wish.metadata):
        return True
    return 0 < before.wish.at < wish.at


def _taken(wish: Wish, before: Side | None) -> Side:
    return Side(
        value=wish.value,
        by="cloud",
        metadata=wish.metadata,
        cloud=before.cloud + 1 if before else 1,
        edge=before.edge if before else 0,
        at=wish.at,
    )


def _wish(said: Declared) -> Wish | None:
    if said.wish is None:
        return None
    metadata = said.wish.get("metadata")
    return Wish(
        value=said.wish["value"],
        metadata=metadata if isinstance(metadata, dict) else {},
        at=said.stamp.at,
    )


def _problem(name: str, wish: Wish, model: Model | None) -> Problem | None:
    if model is None:
        return None
    rule = model.get(name)
    if rule is None:
        return Problem("UnknownProperty", f"the model has no property {name!r}")
    return problem_of(name, wish.value, wish.metadata, rule, is_desired=True)
