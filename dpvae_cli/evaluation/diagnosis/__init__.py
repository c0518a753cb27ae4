"""Whether a trained model's prior fits its codes, judged against the case that it does."""

from dpvae_cli.evaluation.diagnosis.examine import DiagnosisBudget, diagnose
from dpvae_cli.evaluation.diagnosis.record import Diagnosis

__all__ = ["Diagnosis", "DiagnosisBudget", "diagnose"]
