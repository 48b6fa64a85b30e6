"""Where the API keeps devices."""

from typing import Final

from fedge_kube import Resource

GROUP: Final = "devices.kubeedge.io"
VERSION: Final = "v1beta1"

DEVICES: Final = Resource(GROUP, VERSION, "devices")
DEVICE_MODELS: Final = Resource(GROUP, VERSION, "devicemodels")
DEVICE_STATUSES: Final = Resource(GROUP, VERSION, "devicestatuses")
