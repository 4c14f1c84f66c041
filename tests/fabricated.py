"""Results of a study that nobody ran: every score is what a function says."""

from pathlib import Path
from types import SimpleNamespace

from benchmarks.studies.declaration import Study, Test
from benchmarks.studies.judging import RETUNED, Item, Judged
from benchmarks.studies.results import Results
from metarule.analysis.comparison import LEARNED
from metarule.runs.experiment import Experiment, to_tree
from metarule.sweeps.plan import Sweep, make_plan

WHERE = [0, 10, 20, 30, 40]


def results(kind, sweep, curve, tests=("own",), baselines=(), retuned=(), trained=None, seeds=3):
    """Judge by `curve(setting, test, contender, seed)`, and let the sweep have scored by `trained(setting, seed)`."""
    study = Study(
        kind=kind,
        sweep=Sweep(config="", **sweep),
        tests=tuple(Test(name=name) for name in tests),
        baselines=tuple(baselines),
        retuned=tuple(retuned),
    )
    plan = make_plan(study.sweep, to_tree(Experiment()))
    judged, rows = [], []
    for number, setting in enumerate(plan.settings):
        score = plan.score
        for seed in range(seeds):
            for test in tests:
                for who in (LEARNED, *baselines, *(name + RETUNED for name in retuned)):
                    line = curve(setting, test, who, seed)
                    item = Item(number, test, who, seed, setting.experiment, setting.experiment, None)
                    judged.append(Judged(item, {score: line[-1]}, WHERE, line))
            if trained:
                value = trained(setting, seed)
                rows.append({"setting": setting.label, "metric": f"training_{score}", "seed": seed, "value": value})
    made = Results(study, plan, judged, Path("nowhere"))
    made.__dict__["_report"] = SimpleNamespace(rows=rows)
    return made
