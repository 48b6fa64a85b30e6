"""Text in Erlang's notation, for configuration files and expressions."""

from collections.abc import Mapping, Sequence


class Atom(str):
    """An atom, written as it stands."""

    __slots__ = ()


def term(value: object) -> str:
    """Return ``value`` as an Erlang term.

    Text becomes a string, bytes a binary, a list a list, a tuple a tuple, a mapping a list of pairs
    of an atom and a value, as Erlang's configuration files have it.

    Raises:
        TypeError: there is no such term.
    """
    match value:
        case Atom():
            return str(value)
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case bytes():
            return "<<" + ",".join(map(str, value)) + ">>"
        case Mapping():
            return "[" + ",".join(f"{{{key},{term(each)}}}" for key, each in value.items()) + "]"
        case tuple():
            return "{" + ",".join(term(each) for each in value) + "}"
        case Sequence():
            return "[" + ",".join(term(each) for each in value) + "]"
        case _:
            raise TypeError(f"no Erlang term for {value!r}")
