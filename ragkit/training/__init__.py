"""The one trainer: a method brings rows, a collator and an objective, never a second loop."""

from ragkit.training.held_out import HeldOut
from ragkit.training.objective import NextToken, Objective
from ragkit.training.options import TrainingOptions
from ragkit.training.report import TrainingReport
from ragkit.training.run import train

__all__ = ["HeldOut", "NextToken", "Objective", "TrainingOptions", "TrainingReport", "train"]
