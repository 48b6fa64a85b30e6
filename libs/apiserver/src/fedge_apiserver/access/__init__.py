"""Who asks, what they ask for, and whether they may.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from fedge_apiserver.access._attributes import Attributes, attributes_of
from fedge_apiserver.access._bootstrap import bootstrap_roles
from fedge_apiserver.access._escalation import check_escalation
from fedge_apiserver.access._rbac import Authorizer, Decision
from fedge_apiserver.access._users import ADMINISTRATOR, AUTHENTICATED, MASTERS, User, account_user

__all__ = [
    "ADMINISTRATOR",
    "AUTHENTICATED",
    "MASTERS",
    "Attributes",
    "Authorizer",
    "Decision",
    "User",
    "account_user",
    "attributes_of",
    "bootstrap_roles",
    "check_escalation",
]
