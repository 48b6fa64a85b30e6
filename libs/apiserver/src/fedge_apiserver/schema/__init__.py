"""What fields objects have: built-in kinds from a table, custom ones from their definition."""

from fedge_apiserver.schema._builtin import conform, fields_of, type_table
from fedge_apiserver.schema._definition import check_schema
from fedge_apiserver.schema._structural import check_structural, fill_defaults, prune

__all__ = [
    "check_schema",
    "check_structural",
    "conform",
    "fields_of",
    "fill_defaults",
    "prune",
    "type_table",
]
