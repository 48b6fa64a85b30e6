"""Schemas as types, so that a rule's mistakes are found before it is ever evaluated.

CEL's checker takes its object types from protobuf descriptors: each object of a schema becomes a
message, which nothing is ever encoded in.
"""

from typing import Any, Final

from cel_expr_python import cel
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool

from fedge_apiserver.rules._source import field_name

_PACKAGE: Final = "schema"
_MANY: Final = FieldDescriptorProto.LABEL_REPEATED
_ONE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_MESSAGE: Final = FieldDescriptorProto.TYPE_MESSAGE
_ANYTHING: Final = "google.protobuf.Value"
_SCALARS: Final = {
    "boolean": (FieldDescriptorProto.TYPE_BOOL, cel.Type.BOOL),
    "integer": (FieldDescriptorProto.TYPE_INT64, cel.Type.INT),
    "number": (FieldDescriptorProto.TYPE_DOUBLE, cel.Type.DOUBLE),
    "string": (FieldDescriptorProto.TYPE_STRING, cel.Type.STRING),
}
_FORMATS: Final = {
    "date": ("google.protobuf.Timestamp", cel.Type.TIMESTAMP),
    "date-time": ("google.protobuf.Timestamp", cel.Type.TIMESTAMP),
    "duration": ("google.protobuf.Duration", cel.Type.DURATION),
}
_NAME: Final = {"type": "string"}
_META: Final = {
    "apiVersion": _NAME,
    "kind": _NAME,
    "metadata": {"type": "object", "properties": {"name": _NAME, "generateName": _NAME}},
}


class SchemaTypes:
    """Types of the parts of one schema. All are to be declared before the pool is asked for."""

    def __init__(self) -> None:
        self._file = FileDescriptorProto(name="schema.proto", package=_PACKAGE, syntax="proto2")
        self._file.dependency.extend(
            module.DESCRIPTOR.name for module in (duration_pb2, struct_pb2, timestamp_pb2)
        )
        self._known: dict[int, str] = {}

    def pool(self) -> DescriptorPool:
        """Return what describes the types."""
        pool = DescriptorPool()
        for module in (duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(self._file.SerializeToString())
        return pool

    def type_of(self, schema: dict[str, Any], *, is_root: bool = False) -> cel.Type:
        """Return the type of a value."""
        kind = schema.get("type")
        if schema.get("x-kubernetes-int-or-string") or kind is None:
            return cel.Type.DYN
        if kind == "array":
            return cel.Type.List(self.type_of(schema.get("items") or {}))
        if kind == "object":
            if isinstance(additional := schema.get("additionalProperties"), dict):
                return cel.Type.Map(cel.Type.STRING, self.type_of(additional))
            return cel.Type(f"{_PACKAGE}.{self._message(schema, is_root=is_root)}")
        if kind == "string" and (form := schema.get("format")):
            if form == "byte":
                return cel.Type.BYTES
            if form in _FORMATS:
                return _FORMATS[form][1]
        return _SCALARS[kind][1]

    def _message(self, schema: dict[str, Any], *, is_root: bool = False) -> str:
        """Return the name of an object's message."""
        if (known := self._known.get(id(schema))) is not None:
            return known
        name = f"Object{len(self._known)}"
        self._known[id(schema)] = name
        properties = dict(schema.get("properties") or {})
        if is_root or schema.get("x-kubernetes-embedded-resource"):
            properties.update(_META)
        message = DescriptorProto(name=name)
        # Names that differ in case and underscores only are the same in protobuf's own JSON.
        message.options.deprecated_legacy_json_field_conflicts = True
        for property_name, inner in properties.items():
            shown = field_name(property_name)
            is_typed = inner.get("type") or inner.get("x-kubernetes-int-or-string")
            if shown is not None and is_typed:
                self._add(message, shown, inner)
        self._file.message_type.append(message)
        return name

    def _add(self, message: DescriptorProto, name: str, schema: dict[str, Any]) -> None:
        number, label = len(message.field) + 1, _ONE
        additional = schema.get("additionalProperties")
        entry = f"{_camel(name)}Entry"
        is_known = any(each.name == entry for each in message.nested_type)
        if schema.get("type") == "array":
            kind, type_name = self._field(schema.get("items") or {})
            label = _MANY
        elif schema.get("type") == "object" and isinstance(additional, dict) and not is_known:
            self._add_entry(message, entry, additional)
            kind, type_name, label = _MESSAGE, f"{_PACKAGE}.{message.name}.{entry}", _MANY
        else:
            kind, type_name = self._field(schema)
        field = message.field.add(name=name, json_name=name, number=number, type=kind, label=label)
        if type_name:
            field.type_name = f".{type_name}"

    def _add_entry(self, message: DescriptorProto, name: str, schema: dict[str, Any]) -> None:
        """Add the type of a map's entries, which protobuf names after the field."""
        entry = message.nested_type.add(name=name)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_STRING, label=_ONE)
        kind, type_name = self._field(schema)
        value = entry.field.add(name="value", number=2, type=kind, label=_ONE)
        if type_name:
            value.type_name = f".{type_name}"

    def _field(self, schema: dict[str, Any]) -> tuple["FieldDescriptorProto.Type.ValueType", str]:
        """Return a single value's type; a list or map inside another is of anything."""
        kind = schema.get("type")
        if schema.get("x-kubernetes-int-or-string") or kind is None:
            return _MESSAGE, _ANYTHING
        if kind == "array":
            return _MESSAGE, "google.protobuf.ListValue"
        if kind == "object":
            if isinstance(schema.get("additionalProperties"), dict):
                return _MESSAGE, "google.protobuf.Struct"
            return _MESSAGE, f"{_PACKAGE}.{self._message(schema)}"
        if kind == "string" and (form := schema.get("format")):
            if form == "byte":
                return FieldDescriptorProto.TYPE_BYTES, ""
            if form in _FORMATS:
                return _MESSAGE, _FORMATS[form][0]
        return _SCALARS[kind][0], ""


def _camel(name: str) -> str:
    """Return a field's name as protobuf names the type of a map's entries."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
