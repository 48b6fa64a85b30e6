"""The kinds of ``devices.kubeedge.io/v1beta1`` (https://kubeedge.io/docs/developer/device_crd)."""

from typing import Final

GROUP: Final = "devices.kubeedge.io"
VERSION: Final = "v1beta1"

DEVICES: Final = "devices.devices.kubeedge.io"
DEVICE_MODELS: Final = "devicemodels.devices.kubeedge.io"
DEVICE_STATUSES: Final = "devicestatuses.devices.kubeedge.io"
