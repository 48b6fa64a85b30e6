"""Where the API keeps devices."""

from typing import Final

from fedge_devices import GROUP, VERSION
from fedge_kube import Resource

DEVICES: Final = Resource(GROUP, VERSION, "devices")
DEVICE_MODELS: Final = Resource(GROUP, VERSION, "devicemodels")
DEVICE_STATUSES: Final = Resource(GROUP, VERSION, "devicestatuses")
