"""Why a graph cannot be exported."""

from dpvae_cli.foundation.errors import UsageError


class ExportError(UsageError):
    """A module or a prior cannot be exported, or an extra is missing (exit code 2)."""
