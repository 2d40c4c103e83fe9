"""Evaluation: what policies cost, beside bounds on what any policy could reach."""

from aigc_opt.evaluation.report import Report
from aigc_opt.evaluation.runner import evaluate

__all__ = ["Report", "evaluate"]
