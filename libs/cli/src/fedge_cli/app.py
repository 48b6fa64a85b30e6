"""The command line. Each command loads what it needs when it runs, so that help comes at once."""

import typer

from fedge_cli import machine_commands, object_commands
from fedge_cli.chaos import chaos
from fedge_cli.device import device
from fedge_cli.enrolling import ca, node, token

app = typer.Typer(
    name="fedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # laying help out with rich takes longer than all the rest
    # every option is an environment variable too: FEDGE_GET_SELECTOR, FEDGE_LOGS_TAIL, ...
    context_settings={"auto_envvar_prefix": "FEDGE", "help_option_names": ["-h", "--help"]},
    help="""Kubernetes workloads and devices on gateways whose network comes and goes.

    `fedge demo` starts a cloud and an edge on this machine and shows what they do.
    Try `fedge get nodes`, `fedge apply -f examples/hello/`, `fedge get pods -w` and
    `fedge logs hello` then.

    Data goes to standard output, all else to standard error. Exit codes: 0 all went well, 1 it did
    not, 2 wrong usage, 3 what was asked for is not there, 4 the server or the node cannot be
    reached.""",
)
app.add_typer(machine_commands.commands)
app.add_typer(object_commands.commands)
app.add_typer(device, name="device")
app.add_typer(token, name="token")
app.add_typer(node, name="node")
app.add_typer(ca, name="ca")
app.add_typer(chaos, name="chaos")
