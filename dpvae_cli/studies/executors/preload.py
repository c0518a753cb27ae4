"""What workers are forked with; a process that has one thread only can be forked."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch._dynamo  # noqa: F401 - the first optimizer imports it

import dpvae_cli.studies.run_cell  # noqa: F401
