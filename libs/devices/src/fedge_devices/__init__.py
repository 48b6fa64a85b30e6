"""What a Device and its DeviceModel say, as cloud and edge read them alike."""

from fedge_devices._credentials import (
    DEVICE_CREDENTIALS,
    SECRET_ANNOTATION,
    SECRET_KEY,
    SECRET_TYPE,
    Credential,
    credential_for,
    is_name,
    read_credential,
    write_credential,
)
from fedge_devices._kinds import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, GROUP, VERSION
from fedge_devices._models import Access, MergeRule, Model, ModelProperty, read_model
from fedge_devices._stamps import HybridClock, milliseconds
from fedge_devices._values import Problem, as_text, problem_of
from fedge_devices._wishes import (
    MAX_PROPERTIES,
    STAMPS_ANNOTATION,
    Declared,
    Stamp,
    read_declared,
    read_stamps,
    write_stamps,
)

__all__ = [
    "DEVICES",
    "DEVICE_CREDENTIALS",
    "DEVICE_MODELS",
    "DEVICE_STATUSES",
    "GROUP",
    "MAX_PROPERTIES",
    "SECRET_ANNOTATION",
    "SECRET_KEY",
    "SECRET_TYPE",
    "STAMPS_ANNOTATION",
    "VERSION",
    "Access",
    "Credential",
    "Declared",
    "HybridClock",
    "MergeRule",
    "Model",
    "ModelProperty",
    "Problem",
    "Stamp",
    "as_text",
    "credential_for",
    "is_name",
    "milliseconds",
    "problem_of",
    "read_credential",
    "read_declared",
    "read_model",
    "read_stamps",
    "write_credential",
    "write_stamps",
]
