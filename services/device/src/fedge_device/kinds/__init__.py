"""The kinds of ``devices.kubeedge.io/v1beta1``.

https://kubeedge.io/docs/developer/device_crd
"""
