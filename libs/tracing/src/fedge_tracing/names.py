"""Names of attributes: OpenTelemetry's where it has any, and a few of our own.

https://opentelemetry.io/docs/specs/semconv/registry/attributes/
"""

from typing import Final

SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
ERROR_TYPE: Final = "error.type"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"

DB_SYSTEM_NAME: Final = "db.system.name"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_COLLECTION_NAME: Final = "db.collection.name"

HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
URL_PATH: Final = "url.path"

K8S_NODE_NAME: Final = "k8s.node.name"
K8S_NAMESPACE_NAME: Final = "k8s.namespace.name"
K8S_POD_NAME: Final = "k8s.pod.name"
K8S_POD_UID: Final = "k8s.pod.uid"
K8S_CONTAINER_NAME: Final = "k8s.container.name"
CONTAINER_ID: Final = "container.id"
CONTAINER_IMAGE_NAME: Final = "container.image.name"

OBJECT: Final = "fedge.object"
"""The object that a span is about: ``pods/default/hello``. Traces are found by it."""

WAIT_SECONDS: Final = "fedge.wait_seconds"
"""How long a message, or what a stored object asks for, had waited by then. Between two machines it
holds as far as their clocks agree."""

NODE: Final = "fedge.node"
"""The node that a span of the cloud is about."""

EVENT_TYPE: Final = "cloudevents.event_type"
"""The type of a message, as CloudEvents calls it."""
