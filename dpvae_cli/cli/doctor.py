"""`dpvae doctor`: versions, devices, and the paths of data, caches and weights."""

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import DataRoot, examples

EXAMPLES = examples("dpvae doctor", "dpvae doctor --data-root ~/data")


@handle_errors
def doctor(data_root: DataRoot = None) -> None:
    """Show versions, devices and the paths of data and weights."""
    from dpvae_cli.cli.checks import checks

    console.table(
        None, ["what", "where or which", "state"], [list(row) for row in checks(data_root)]
    )
