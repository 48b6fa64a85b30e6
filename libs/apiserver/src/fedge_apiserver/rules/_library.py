"""The functions that Kubernetes adds to CEL.

What Kubernetes has types of its own for, quantities, addresses and URLs, are texts in one written
form here: they compare alike, and have the same functions.

https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
"""

import ipaddress
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

from fedge_objects import parse_quantity

_T: Final = cel.Type
_LIST: Final = _T.List(_T.DYN)
_MOST_DIGITS: Final = 40


@cache
def extensions() -> list[cel.CelExtensionBase]:
    """Return what an environment takes, beside its variables."""
    return [
        ext_strings.ExtStrings(),
        ext_optional.ExtOptional(),
        cel.CelExtension("kubernetes", _functions()),
    ]


def _function(
    name: str,
    returns: cel.Type,
    *overloads: tuple[list[cel.Type], Callable[..., Any]],
    member: bool = False,
) -> cel.FunctionDecl:
    made = [
        cel.Overload(
            f"{name.replace('.', '_')}_{index}",
            return_type=returns,
            parameters=parameters,
            is_member=member,
            impl=work,
        )
        for index, (parameters, work) in enumerate(overloads)
    ]
    return cel.FunctionDecl(name, made)


def _functions() -> list[cel.FunctionDecl]:
    text, texts = [_T.STRING], [_T.STRING, _T.STRING]
    of_list, of_lists = [_LIST], [_LIST, _LIST]

    def member(
        name: str, returns: cel.Type, *overloads: tuple[list[cel.Type], Callable[..., Any]]
    ) -> cel.FunctionDecl:
        return _function(name, returns, *overloads, member=True)

    return [
        member("isSorted", _T.BOOL, (of_list, _is_sorted)),
        member("sum", _T.DYN, (of_list, sum)),
        member("min", _T.DYN, (of_list, min)),
        member("max", _T.DYN, (of_list, max)),
        _function("sets.contains", _T.BOOL, (of_lists, _contains)),
        _function(
            "sets.equivalent", _T.BOOL, (of_lists, lambda a, b: _contains(a, b) and _contains(b, a))
        ),
        _function(
            "sets.intersects", _T.BOOL, (of_lists, lambda a, b: any(item in b for item in a))
        ),
        _function("isQuantity", _T.BOOL, (text, lambda s: _succeeds(_quantity, s))),
        _function("quantity", _T.STRING, (text, _quantity)),
        member("isInteger", _T.BOOL, (text, lambda q: Decimal(q) == int(Decimal(q)))),
        member("asInteger", _T.INT, (text, _whole)),
        member("asApproximateFloat", _T.DOUBLE, (text, float)),
        member("sign", _T.INT, (text, lambda q: (Decimal(q) > 0) - (Decimal(q) < 0))),
        member("isGreaterThan", _T.BOOL, (texts, lambda a, b: Decimal(a) > Decimal(b))),
        member("isLessThan", _T.BOOL, (texts, lambda a, b: Decimal(a) < Decimal(b))),
        member(
            "compareTo",
            _T.INT,
            (texts, lambda a, b: (Decimal(a) > Decimal(b)) - (Decimal(a) < Decimal(b))),
        ),
        member("add", _T.STRING, (texts, lambda a, b: _written(Decimal(a) + Decimal(b)))),
        member("sub", _T.STRING, (texts, lambda a, b: _written(Decimal(a) - Decimal(b)))),
        _function("isIP", _T.BOOL, (text, lambda s: _succeeds(_address, s))),
        _function("ip", _T.STRING, (text, _address)),
        _function("ip.isCanonical", _T.BOOL, (text, lambda s: _address(s) == s)),
        member("family", _T.INT, (text, lambda s: ipaddress.ip_address(s).version)),
        member("isUnspecified", _T.BOOL, (text, lambda s: ipaddress.ip_address(s).is_unspecified)),
        member("isLoopback", _T.BOOL, (text, lambda s: ipaddress.ip_address(s).is_loopback)),
        _function("isCIDR", _T.BOOL, (text, lambda s: _succeeds(_network, s))),
        _function("cidr", _T.STRING, (text, _network)),
        member("containsIP", _T.BOOL, (texts, _contains_address)),
        member("containsCIDR", _T.BOOL, (texts, _contains_network)),
        member(
            "prefixLength", _T.INT, (text, lambda s: ipaddress.ip_interface(s).network.prefixlen)
        ),
        _function("isURL", _T.BOOL, (text, lambda s: _succeeds(_url, s))),
        _function("url", _T.STRING, (text, _url)),
        member("getScheme", _T.STRING, (text, lambda s: urlsplit(s).scheme)),
        member("getHost", _T.STRING, (text, lambda s: urlsplit(s).netloc.rpartition("@")[2])),
        member("getHostname", _T.STRING, (text, lambda s: urlsplit(s).hostname or "")),
        member("getPort", _T.STRING, (text, lambda s: str(urlsplit(s).port or ""))),
        member("getEscapedPath", _T.STRING, (text, lambda s: urlsplit(s).path)),
        member("getQuery", _T.Map(_T.STRING, _LIST), (text, lambda s: parse_qs(urlsplit(s).query))),
    ]


def _succeeds(work: Callable[[str], str], text: str) -> bool:
    try:
        work(text)
    except ValueError:
        return False
    return True


def _is_sorted(items: list[Any]) -> bool:
    return all(first <= second for first, second in pairwise(items))


def _contains(items: list[Any], others: list[Any]) -> bool:
    return all(item in items for item in others)


def _written(amount: Decimal) -> str:
    if amount and abs(amount.adjusted()) > _MOST_DIGITS:
        raise ValueError("quantity is out of range")
    return f"{amount.normalize():f}"


def _quantity(text: str) -> str:
    return _written(parse_quantity(text))


def _whole(text: str) -> int:
    amount = Decimal(text)
    if amount != int(amount):
        raise ValueError("cannot convert value to integer")
    return int(amount)


def _address(text: str) -> str:
    if "%" in text or text.startswith("::ffff:"):
        raise ValueError(
            f"IP Address {text!r} parse error: zones and mapped addresses are not allowed"
        )
    return str(ipaddress.ip_address(text))


def _network(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"network address parse error during conversion from string: {text!r}")
    return str(ipaddress.ip_interface(text))


def _contains_address(network: str, address: str) -> bool:
    held, wanted = ipaddress.ip_interface(network).network, ipaddress.ip_address(address)
    return held.version == wanted.version and wanted in held


def _contains_network(network: str, other: str) -> bool:
    held = ipaddress.ip_interface(network).network
    wanted = ipaddress.ip_interface(other).network
    if isinstance(held, ipaddress.IPv4Network):
        return isinstance(wanted, ipaddress.IPv4Network) and wanted.subnet_of(held)
    return isinstance(wanted, ipaddress.IPv6Network) and wanted.subnet_of(held)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError(f"URL parse error during conversion from string: {text!r}")
    if parts.scheme and not parts.netloc and not parts.path.startswith("/"):
        raise ValueError(f"URL parse error during conversion from string: {text!r}")
    return text
