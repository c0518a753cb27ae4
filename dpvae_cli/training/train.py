"""Train a recipe: the loss, one optimizer step, and the loop around it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from dpvae_cli.data import Dataset
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.distributed import (
    SINGLE_PROCESS,
    AsyncMax,
    ProcessGroup,
    process_group,
)
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.foundation.memory import explained
from dpvae_cli.foundation.randomness import seeded, stream
from dpvae_cli.foundation.shapes import Codes, Examples, Indices, Scalar
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe
from dpvae_cli.regularizers import Adversary, Batch, Regularizer, Term
from dpvae_cli.regularizers.base import DataSizes
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import (
    Checkpoint,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    units_facts,
    units_tensors,
)
from dpvae_cli.runs.fit_prior import fit_to
from dpvae_cli.runs.precision import Precision, refuse_device
from dpvae_cli.runs.resume import Start, continued
from dpvae_cli.runs.run_data import check_unchanged, data_facts
from dpvae_cli.runs.run_folder import RunFolder, folder_to_write
from dpvae_cli.sampling.encodings import EncodedTraining
from dpvae_cli.training.callback import Callback
from dpvae_cli.training.checks import check_data, check_divisible, check_ranks_agree
from dpvae_cli.training.compilation import compiled, should_compile
from dpvae_cli.training.ddp import convert_sync_batch_norm, data_parallel
from dpvae_cli.training.ema import EMA
from dpvae_cli.training.finite_check import FiniteCheck
from dpvae_cli.training.recorder import Recorder
from dpvae_cli.training.sampler import EpochSampler
from dpvae_cli.training.signals import graceful_shutdown
from dpvae_cli.training.validation import validate
