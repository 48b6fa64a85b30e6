r"""What a device's account may do at the edge's broker, as RabbitMQ's regular expressions.

https://www.rabbitmq.com/docs/access-control. An account may declare, fill and read the queues of
its own MQTT sessions, publish what a device says and hear what it is told.

- A session belongs to whoever uses its client id. The account's are ``namespace/name`` and whatever
  follows after another ``/``: no name of a device has one, so one device's are never another's.
- A topic is matched as AMQP has it, ``/`` become ``.`` and ``+`` become ``*``. Dots in names are
  kept: ``pump`` with ``1/twin/update`` after it is what ``pump.1`` says. So what follows the name
  is a closed list, of which no entry is the end of another after more levels, whatever is in place
  of a ``*``: ``*.*`` is none, which after ``pump.twin`` is what ``pump`` is answered too. And
  ``#`` matches too much.
- ``\z`` and not ``$``, before which a line may end.
"""

import hashlib
import re
from dataclasses import astuple, dataclass
from typing import Final

from fedge_twin.listeners import MQTT_EXCHANGE

_GROUP: Final = r"(twin|state|\*)"
_VERB: Final = r"(update|get|\*)"
_ANSWER: Final = r"(result|delta|document)"
SAYS: Final = r"(twin\.(update|get)|state\.update)"
HEARS: Final = rf"({_GROUP}\.{_VERB}\.{_ANSWER}|(twin|state)\.{_VERB}|\*\.(update|get))"


@dataclass(frozen=True, slots=True)
class Rights:
    """Regular expressions, of names of queues and exchanges, and of routing keys.

    Attributes:
        configure, write, read: which queues and exchanges.
        says, hears: which routing keys of the exchange of MQTT.
    """

    configure: str
    write: str
    read: str
    says: str
    hears: str

    def digest(self, password_hash: str) -> str:
        """Return a hash of these rights and a password's hash: equal if and only if they are."""
        return hashlib.sha256("\0".join([password_hash, *astuple(self)]).encode()).hexdigest()


def rights_of(namespace: str, name: str) -> Rights:
    """Return what the device's account may do."""
    user = f"{re.escape(namespace)}/{re.escape(name)}"
    queue = rf"mqtt-subscription-{user}(/.*)?qos[01]"
    own = rf"\$hw\.events\.device\.{re.escape(namespace)}\.{re.escape(name)}"
    both = rf"^({re.escape(MQTT_EXCHANGE)}|{queue})\z"
    return Rights(
        configure=rf"^{queue}\z",
        write=both,
        read=both,
        says=rf"^{own}\.{SAYS}\z",
        hears=rf"^{own}\.{HEARS}\z",
    )
