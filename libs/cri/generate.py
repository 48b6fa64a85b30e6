"""Generates the stubs of the protocol into ``src/fedge_cri/_generated``.

Called by the build and by ``python libs/cri/generate.py``. Needs grpcio-tools and mypy-protobuf.
"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTOS = HERE / "proto"
TARGET = HERE / "src" / "fedge_cri" / "_generated"
_IMPORT = re.compile(r"^import (\w+_pb2)", re.MULTILINE)


def generate() -> None:
    """Write the stubs anew.

    Raises:
        RuntimeError: the compiler refused a .proto file; its output says why.
    """
    import grpc_tools  # noqa: PLC0415 - a build tool
    from grpc_tools import protoc  # noqa: PLC0415

    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    well_known = Path(next(iter(grpc_tools.__path__))) / "_proto"
    plugins = Path(sys.executable).parent
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            f"--python_out={TARGET}",
            f"--grpc_python_out={TARGET}",
            f"--mypy_out={TARGET}",
            f"--mypy_grpc_out={TARGET}",
            *map(str, sorted(PROTOS.glob("*.proto"))),
        ]
    )
    if code:
        raise RuntimeError(f"protoc ended with {code}")
    (TARGET / "__init__.py").write_text('"""Generated from libs/cri/proto; do not edit."""\n')
    for path in TARGET.glob("*_pb2*.py*"):
        # the compiler writes imports as if the stubs lay at the root of the path
        text = _IMPORT.sub(r"from fedge_cri._generated import \1", path.read_text())
        path.write_text(text)


if __name__ == "__main__":
    generate()
