import pytest

from fedge_local.erlang import Atom, term


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (5, "5"),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        (Atom("none"), "none"),
        ([("127.0.0.1", 5672)], '[{"127.0.0.1",5672}]'),
        ({"rabbit": {"limit": (Atom("absolute"), 1)}}, "[{rabbit,[{limit,{absolute,1}}]}]"),
        ([], "[]"),
    ],
)
def test_term_is_written_in_erlangs_notation(value: object, written: str) -> None:
    assert term(value) == written


def test_term_refuses_what_erlang_has_not() -> None:
    with pytest.raises(TypeError, match="None"):
        term(None)
