"""Made-up results of a study, with scores from functions."""

from pathlib import Path
from types import SimpleNamespace

from benchmarks.studies.declaration import Study, Test
from benchmarks.studies.evaluation import RETUNED, Item, Scores
from benchmarks.studies.results import Results
from metarule.analysis.comparison import LEARNED
from metarule.runs.experiment import Experiment, to_tree
from metarule.sweeps.declaration import Sweep
from metarule.sweeps.plan import make_plan

STEPS = [0, 10, 20, 30, 40]


def results(kind, sweep, curve, tests=("own",), baselines=(), retuned=(), trained=None, seeds=3):
    """Results with scores `curve(setting, test, contender, seed)` and, of the sweep, `trained(setting, seed)`."""
    study = Study(
        kind=kind,
        sweep=Sweep(config="", **sweep),
        tests=tuple(Test(name=name) for name in tests),
        baselines=tuple(baselines),
        retuned=tuple(retuned),
    )
    plan = make_plan(study.sweep, to_tree(Experiment()))
    scores, rows = [], []
    for number, setting in enumerate(plan.settings):
        score = plan.score
        for seed in range(seeds):
            for test in tests:
                for contender in (LEARNED, *baselines, *(name + RETUNED for name in retuned)):
                    line = curve(setting, test, contender, seed)
                    item = Item(number, test, contender, seed, setting.experiment, setting.experiment, None)
                    scores.append(Scores(item, {score: line[-1]}, STEPS, line))
            if trained:
                value = trained(setting, seed)
                rows.append({"setting": setting.label, "metric": f"training_{score}", "seed": seed, "value": value})
    study_results = Results(study, plan, scores, Path("nowhere"))
    study_results.__dict__["_report"] = SimpleNamespace(rows=rows)
    return study_results
