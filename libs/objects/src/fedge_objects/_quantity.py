"""Kubernetes quantities (``500m``, ``64Mi``) as numbers.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from decimal import Decimal, InvalidOperation

_MAX_CHARACTERS = 64
_MAX_EXPONENT = 30
"""More is no amount of anything, and takes long to count with."""
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def parse_quantity(text: str | float) -> Decimal:
    """Return a quantity's value in its base unit (cores, bytes).

    Raises:
        ValueError: ``text`` is not a quantity.
    """
    if isinstance(text, int | float):
        text = str(text)
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"{text[:_MAX_CHARACTERS]!r}... is no quantity: it is too long")
    number = text.rstrip("numkKMGTPEi")
    suffix = text[len(number) :]
    if suffix == "E" and number.endswith(("e", "E")):
        number, suffix = text, ""
    try:
        value = Decimal(number)
        if not value.is_finite() or abs(value.adjusted()) > _MAX_EXPONENT:
            raise ValueError(f"{text!r} is no quantity: it is beyond all bounds")
        return value * _SUFFIXES[suffix]
    except (InvalidOperation, KeyError) as exc:
        raise ValueError(f"{text!r} is no quantity: expected e.g. 2, 500m, 64Mi") from exc
