"""Whether a trained model's prior fits its codes, judged against the case that it does."""

from dpvae_cli.diagnosis.record import Diagnosis
from dpvae_cli.diagnosis.run import DiagnosisBudget, diagnose

__all__ = ["Diagnosis", "DiagnosisBudget", "diagnose"]
