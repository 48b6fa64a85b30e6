"""Objects as rows, for ``kubectl get``.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from fedge_apiserver.tables._age import human_age
from fedge_apiserver.tables._table import make_table

__all__ = ["human_age", "make_table"]
