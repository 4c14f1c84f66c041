"""Loggers: what writes the metrics of meta-training beside `metrics.jsonl`."""

from metarule.runs.loggers.base import Logger, Row
from metarule.runs.loggers.csv import CSV
from metarule.runs.loggers.names import check_names, make_logger, require_packages
from metarule.runs.loggers.tensorboard import TensorBoard
from metarule.runs.loggers.wandb import Wandb

__all__ = ["CSV", "Logger", "Row", "TensorBoard", "Wandb", "check_names", "make_logger", "require_packages"]
