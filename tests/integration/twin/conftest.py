"""The broker of these tests."""

from tests.fixtures.mqtt_broker import mqtt_broker

__all__ = ["mqtt_broker"]
