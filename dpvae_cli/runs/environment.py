"""What a run's numbers may depend on besides its recipe."""

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpvae_cli.version import __version__


def environment_info(device: torch.device) -> dict[str, Any]:
    """Return versions, device and threads: what a number may depend on beside the recipe."""
    return {
        "dpvae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
