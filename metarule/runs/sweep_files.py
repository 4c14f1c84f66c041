"""Names of the files of a sweep.

sweep.toml                 the sweep file
plan.json                  settings, points and cells
cells/<cell>/cell.lock     lock of a process that works on a cell
cells/<cell>/done/         results of a finished cell, with a directory for each member
cells/<cell>/failed/       error of a cell
"""

__all__ = ["CELLS", "CELL_LOCK", "DONE", "FAILED", "PLAN", "RESULT", "SWEEP_FILE"]

SWEEP_FILE, PLAN, CELLS, CELL_LOCK = "sweep.toml", "plan.json", "cells", "cell.lock"
DONE, FAILED, RESULT = "done", "failed", "result.json"
