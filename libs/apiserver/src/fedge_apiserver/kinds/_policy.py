"""Pod disruption budgets.

https://kubernetes.io/docs/tasks/run-application/configure-pdb/
"""

import re
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._rules import Rules
from fedge_objects import JsonObject

_PERCENT: Final = re.compile(r"[0-9]+%")


def _check(value: JsonObject, causes: Causes) -> None:
    spec: dict[str, Any] = value.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        causes.invalid("spec", dict(spec), "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        held = spec.get(field)
        if isinstance(held, int) and held < 0:
            causes.invalid(f"spec.{field}", held, "must be greater than or equal to 0")
        elif isinstance(held, str) and not _PERCENT.fullmatch(held):
            causes.invalid(
                f"spec.{field}",
                held,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                "'1%',  or '93%', regex used for validation is '[0-9]+%')",
            )


DISRUPTION_BUDGET_RULES: Final = Rules(check=_check, counts_generation=True)
