"""``icl-bayes glm``: a CSV file and a formula in, a certified posterior out."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from icl_bayes.config.errors import ConfigError

if TYPE_CHECKING:
    from icl_bayes.config.schemas import GlmSettings
    from icl_bayes.regression import RegressionPosterior

FORMATS = (".nc", ".csv")


def glm(settings: GlmSettings) -> RegressionPosterior:
    """Read the data, fit, print the summary and the certificate, write posterior and report.

    Raises:
        ValueError: for data, formulas and priors that do not fit together, with what to do.
    """
    started = time.perf_counter()
    if settings.out and Path(settings.out).suffix not in FORMATS:
        raise ConfigError(f"The posterior can be written as {', '.join(FORMATS)}; received out={settings.out!r}.")
    for path in (settings.out, settings.report):
        if path and not Path(path).parent.is_dir():
            raise ConfigError(f"There is no directory {str(Path(path).parent)!r} to write {path!r} to.")
    priors = settings.stated_priors()

    import jax

    from icl_bayes.regression import glm as fit

    # Programs that run once are sooner compiled plainly; draws are equal to rounding.
    jax.config.update("jax_disable_most_optimizations", True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = fit(
            settings.formula,
            settings.file,
            settings.family,
            priors,
            offset=settings.offset,
            weights=settings.weights,
            precision=settings.precision,
            trials=settings.trials,
            missing=settings.missing,
            engine=settings.engine,
            num_draws=settings.draws,
            rng_key=jax.random.key(settings.seed),
        )
    _print(model)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"warning: {warning.message}")
    if settings.out:
        _write(model, Path(settings.out))
        print(f"{settings.draws} draws written to {settings.out}")
    if settings.report:
        from icl_bayes.regression.report import write_report

        write_report(model, Path(settings.report))
        print(f"report written to {settings.report}")
    print(f"{settings.draws} draws by {model.engine}; everything took {time.perf_counter() - started:.2f} s")
    return model


def _print(model: RegressionPosterior) -> None:
    from icl_bayes.tasks.regression import FAMILIES

    dataset = model.posterior.dataset
    counted = int(dataset["weight"].sum())
    print(f"{model.formula}, {model.family} with {FAMILIES[model.family].link} link, {counted} rows")
    table = model.summary()
    width = max(12, *(len(name) for name in table.index))
    numeric = [name for name in table.columns if name != "prior"]
    print(f"{'':<{width}}" + "".join(f"{head:>11}" for head in numeric) + "  prior")
    for name, row in table.iterrows():
        print(f"{name:<{width}}" + "".join(f"{row[head]:>11.4g}" for head in numeric) + f"  {row['prior']}")
    print(f"certificate: {model.certificate}")


def _write(model: RegressionPosterior, path: Path) -> None:
    if path.suffix == ".nc":
        model.to_inference_data().to_netcdf(str(path))
    else:
        model.draws.to_csv(path, index=False)
