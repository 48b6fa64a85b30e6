"""Validation rules of custom resources: ``x-kubernetes-validations``, in CEL.

``cel-expr-python``, the CEL project's own binding of its C++ library, compiles and evaluates them.
It is imported when the first rule is met, and need not be installed: then a definition with rules
is refused, and the rules of stored definitions are not evaluated, which is logged. An edge does
without: the cloud evaluates the rules of whatever it is sent.

A rule is checked against the schema when its definition is written. Evaluation is bounded by the
size of what it looks at, and by the library's own limit of iterations.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from fedge_apiserver.rules._checking import check_rules
from fedge_apiserver.rules._evaluation import RuleTree, rule_tree

__all__ = ["RuleTree", "check_rules", "rule_tree"]
