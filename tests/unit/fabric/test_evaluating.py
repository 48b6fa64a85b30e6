"""Nothing that comes from elsewhere can break out of an expression."""

import base64
import json
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_fabric import UnavailableError
from fedge_fabric.evaluating import carried, evaluate, read_sent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
WHOLE = re.compile(
    r'rabbit_json:decode\(zlib:uncompress\(base64:decode\(<<"([A-Za-z0-9+/=]*)">>\)\)\)'
)


@given(value=JSON | st.text(alphabet='">),.}]\\\n%$'))
def test_an_expression_carries_any_value_as_base64_alone(value: object) -> None:
    found = WHOLE.fullmatch(carried(value))
    assert found is not None
    assert json.loads(zlib.decompress(base64.b64decode(found[1]))) == value


@given(value=JSON, width=st.integers(1, 80))
def test_an_answer_is_read_in_as_many_lines_as_it_is_printed(value: object, width: int) -> None:
    text = base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()
    parts = [text[at : at + width] for at in range(0, len(text), width)]
    assert read_sent("<<" + "\n  ".join(f'"{each}"' for each in parts) + ">>") == value


@pytest.mark.parametrize("text", ["", "undef", '<<"AAAA">>', "{badrpc,nodedown}", '<<"é">>'])
def test_another_answer_is_an_error_that_is_tried_again(text: str) -> None:
    with pytest.raises(UnavailableError):
        read_sent(text)


async def test_a_command_that_is_not_there_or_fails_is_tried_again() -> None:
    with pytest.raises(UnavailableError, match="did not reach"):
        await evaluate(["/none"], "1")
    with pytest.raises(UnavailableError, match="oh no"):
        await evaluate(["/bin/sh", "-c", "echo oh no; exit 3", "sh"], "1")
    assert "begin 1 + 1 end" in await evaluate(["/bin/echo"], "1 + 1")
