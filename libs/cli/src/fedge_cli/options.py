"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        envvar="FEDGE_KUBECONFIG",
        help="Cluster to use. Else $KUBECONFIG, the local system that runs, ~/.kube/config.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option("-n", "--namespace", envvar="FEDGE_NAMESPACE", help="Namespace of the objects."),
]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="In all namespaces.")]
Output = Annotated[
    str, typer.Option("-o", "--output", envvar="FEDGE_OUTPUT", help="json, yaml, wide or name.")
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--filename", help="File, folder, or - for standard input; may be repeated."
    ),
]
RuntimeSocket = Annotated[
    Path, typer.Option("--runtime", help="Socket of the container runtime (CRI).")
]
SystemNamespace = Annotated[
    str, typer.Option("--system-namespace", help="Namespace of hub and its records.")
]
EdgeSocket = Annotated[
    Path | None,
    typer.Option(
        "--edge-socket",
        envvar="FEDGE_EDGE_SOCKET",
        help="On a node itself: edged's socket, in place of the API server.",
    ),
]
