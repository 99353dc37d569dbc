"""Every built-in table: the shipped config beside scikit-learn's best on the same rows. Run by `scripts/bench tables`.

A seed is another split and another training. scikit-learn's candidates are tuned by inner folds (5, or 3 of more than
1,000 rows) of the rows that ours trains and validates on, scaled or not as those folds prefer; the candidate that is
best in the inner folds is what ours is compared with. Times are CPU seconds of the process, one thread.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = {  # the dataset, and what it is judged by
    "digits": ["accuracy"],
    "breast_cancer": ["accuracy"],
    "wine": ["accuracy"],
    "iris": ["accuracy"],
    "diabetes": ["r2", "rmse"],
}
SEEDS = range(5)


@dataclass
class Outcome:
    """The result of a method with a seed.

    Args:
        metrics: of the test.
        seconds: of training with the chosen settings.
        inner_score: of the inner folds.
        search_seconds: of choosing the settings.
    """

    metrics: dict[str, float]
    seconds: float = 0.0
    inner_score: float = 0.0
    search_seconds: float = 0.0


def main() -> None:
    """Measure all; print the results of each seed as they come, then the tables in markdown."""
    use_one_thread()
    ours("iris", 0)  # the first call of everything is not training
    comparisons, candidates = [], []
    for dataset, metrics in TABLES.items():
        own, others = [], []
        for seed in SEEDS:
            own.append(ours(dataset, seed))
            others.append(theirs(dataset, seed))
            results = {"aibig": own[-1], **others[-1]}
            shown = ", ".join(f"{name} {outcome.metrics[metrics[0]]:.3f}" for name, outcome in results.items())
            print(f"{dataset}, seed {seed}: {shown}; best by inner folds: {best_of(others[-1])}", flush=True)
        for metric in metrics:
            comparisons.append([dataset, metric, *compare(metric, own, others)])
            methods = {"aibig": own, **{name: [seed_outcomes[name] for seed_outcomes in others] for name in others[0]}}
            candidates.append([dataset, metric, *(spread(metric, outcomes) for outcomes in methods.values())])
    headers = ["aibig", "scikit-learn's best", "difference", "which", "s, aibig", "s, fit", "s, search"]
    print(markdown(["dataset", "metric", *headers], comparisons))
    print(markdown(["dataset", "metric", *methods], candidates))


def compare(metric: str, own: list[Outcome], others: list[dict[str, Outcome]]) -> list[str]:
    """A row: ours, their best of each seed, the difference seed by seed, which that was, and mean seconds.

    Args:
        metric: the metric.
        own: our outcomes, by seed.
        others: outcomes of the candidates, by seed.
    """
    names = [best_of(candidates) for candidates in others]
    best = [candidates[name] for name, candidates in zip(names, others, strict=True)]
    differences = [Outcome({metric: a.metrics[metric] - b.metrics[metric]}) for a, b in zip(own, best, strict=True)]
    search = statistics.mean(sum(outcome.search_seconds for outcome in candidates.values()) for candidates in others)
    return [
        spread(metric, own),
        spread(metric, best),
        spread(metric, differences, sign="+"),
        ", ".join(f"{name} {names.count(name)}" for name in sorted({*names}, key=names.count, reverse=True)),
        *(f"{statistics.mean(outcome.seconds for outcome in outcomes):.2f}" for outcomes in (own, best)),
        f"{search:.0f}",
    ]


def best_of(candidates: dict[str, Outcome]) -> str:
    """The candidate that the inner folds prefer.

    Args:
        candidates: outcomes by name.
    """
    return max(candidates, key=lambda name: candidates[name].inner_score)


def use_one_thread() -> None:
    """Must be called before NumPy is imported."""
    assert "numpy" not in sys.modules
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def ours(dataset: str, seed: int) -> Outcome:
    """The shipped config, as the command trains it: with evaluations, checkpoints and export.

    Args:
        dataset: name of the table.
        seed: of the split and of the training.
    """
    import aibig

    overrides = {"seed": seed, "data.split_seed": seed, "trainer.threads": 1}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        result = aibig.train(f"nets/{dataset}", overrides, out=Path(folder) / "run").result
        seconds = time.process_time() - begun
    assert result is not None
    return Outcome(result["metrics"], seconds)


def theirs(dataset: str, seed: int) -> dict[str, Outcome]:
    """scikit-learn's candidates, each tuned by inner folds, then fitted once more on all rows but the test split's.

    Args:
        dataset: name of the table.
        seed: of the split and of the training.
    """
    from sklearn.base import clone
    from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error
    from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

    from aibig.data import bundled
    from aibig.data.splits import split_rows

    arrays = getattr(bundled, dataset)()
    classes = bool(arrays.class_names)
    by_class = arrays.targets if classes else None
    rows = split_rows(len(arrays.targets), 0.0, 0.2, seed, classes=by_class, class_names=arrays.class_names)
    train, test = ((arrays.features[rows[split]], arrays.targets[rows[split]]) for split in ("train", "test"))
    count = 5 if len(rows["train"]) < 1000 else 3
    folds = (StratifiedKFold if classes else KFold)(count, shuffle=True, random_state=seed)
    outcomes = {}
    for name, (pipeline, grid) in (classifiers(seed) if classes else regressors(seed)).items():
        search = GridSearchCV(pipeline, grid, scoring="accuracy" if classes else "r2", cv=folds, refit=False, n_jobs=1)
        begun = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # settings that do not converge lose
            search.fit(*train)
            chosen = clone(pipeline).set_params(**search.best_params_)
            searched = time.process_time()
            chosen.fit(*train)
        fitted = time.process_time()
        predicted = chosen.predict(test[0])
        if classes:
            metrics = {"accuracy": accuracy_score(test[1], predicted)}
        else:
            error = root_mean_squared_error(test[1], predicted)
            metrics = {"r2": r2_score(test[1], predicted), "rmse": error}
        outcomes[name] = Outcome(metrics, fitted - searched, search.best_score_, searched - begun)
    return outcomes


def classifiers(seed: int) -> dict[str, tuple[Any, Any]]:
    """Name -> pipeline and grid.

    Args:
        seed: of what is random.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    forest = RandomForestClassifier(random_state=seed, n_jobs=1)
    boosting = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
    return {
        "linear": scaled_or_not(LogisticRegression(max_iter=1000), {"C": [0.001, 0.01, 0.1, 1, 10, 100]}),
        "svm": scaled_or_not(SVC(), {"C": [0.1, 1, 10, 100], "gamma": ["scale", 0.0001, 0.001, 0.01, 0.1]}),
        "forest": unscaled(forest, {"max_features": ["sqrt", 0.3], "min_samples_leaf": [1, 3]}),
        "boosting": unscaled(boosting, {"learning_rate": [0.05, 0.2], "max_iter": [50, 150]}),
        "mlp": scaled_or_not(
            MLPClassifier(random_state=seed),
            {"hidden_layer_sizes": [(100,), (100, 100)], "alpha": [1e-3, 0.1, 1]},
        ),
    }


def regressors(seed: int) -> dict[str, tuple[Any, Any]]:
    """Name -> pipeline and grid; targets are scaled for those that need it.

    Args:
        seed: of what is random.
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    def scaled_targets(model: Any, grid: dict[str, list[Any]]) -> tuple[Any, Any]:
        inner = {f"regressor__{key}": values for key, values in grid.items()}
        return scaled_or_not(TransformedTargetRegressor(model, transformer=StandardScaler()), inner)

    forest = RandomForestRegressor(random_state=seed, n_jobs=1)
    boosting = HistGradientBoostingRegressor(random_state=seed, early_stopping=False)
    return {
        "linear": scaled_or_not(Ridge(), {"alpha": [0.001, 0.01, 0.1, 1, 3, 10, 30, 100, 300]}),
        "svm": scaled_targets(
            SVR(), {"C": [0.1, 1, 10, 100], "gamma": ["scale", 0.0001, 0.001, 0.01, 0.1], "epsilon": [0.1, 0.3]}
        ),
        "forest": unscaled(forest, {"max_features": [0.3, 0.6, 1.0], "min_samples_leaf": [1, 3, 10]}),
        "boosting": unscaled(
            boosting, {"learning_rate": [0.03, 0.1], "max_iter": [50, 150], "max_leaf_nodes": [4, 8, 31]}
        ),
        "mlp": scaled_targets(
            MLPRegressor(random_state=seed),
            {"hidden_layer_sizes": [(100,), (100, 100)], "alpha": [0.1, 1, 10]},
        ),
    }


def scaled_or_not(model: Any, grid: dict[str, list[Any]]) -> tuple[Any, Any]:
    """A pipeline and its grid: the inner folds choose whether features are scaled.

    Args:
        model: the estimator.
        grid: settings to try.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    settings = {f"model__{key}": values for key, values in grid.items()}
    return Pipeline([("scaling", None), ("model", model)]), {"scaling": ["passthrough", StandardScaler()], **settings}


def unscaled(model: Any, grid: dict[str, list[Any]]) -> tuple[Any, Any]:
    """A pipeline and its grid for trees, which scaling does not change.

    Args:
        model: the estimator.
        grid: settings to try.
    """
    pipeline, settings = scaled_or_not(model, grid)
    return pipeline, {**settings, "scaling": ["passthrough"]}


def spread(metric: str, outcomes: list[Outcome], sign: str = "") -> str:
    """Mean and standard deviation over the seeds.

    Args:
        metric: the metric.
        outcomes: by seed.
        sign: "+" to show the sign of positive means too.
    """
    values = [outcome.metrics[metric] for outcome in outcomes]
    decimals = 2 if metric == "rmse" else 4
    mean = round(statistics.mean(values), decimals) + 0.0  # no -0.0
    return f"{mean:{sign}.{decimals}f} ± {statistics.stdev(values):.{decimals}f}"


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A table in markdown.

    Args:
        headers: of the columns.
        rows: cells.
    """
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
