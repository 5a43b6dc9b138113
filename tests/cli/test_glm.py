"""``icl-bayes glm``: a CSV file and a formula in, estimates, files and clear words out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icl_bayes.cli import main
from icl_bayes.cli.arguments import line_overrides
from icl_bayes.config import ConfigError, compose


@pytest.fixture
def file(tmp_path):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=40), "site": generator.choice(["a", "b"], size=40)})
    frame["y"] = generator.poisson(np.exp(0.5 + 0.5 * frame.x))
    frame.to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def test_estimates_draws_and_report(file, tmp_path, capsys):
    arguments = ["--family", "poisson", "--prior", "x=normal(0, 1)", "--draws", "400"]
    outputs = ["--out", str(tmp_path / "draws.csv"), "--report", str(tmp_path / "report.html")]
    assert main(["glm", str(file), "y ~ x + C(site)", *arguments, *outputs]) == 0
    printed = capsys.readouterr().out
    assert "y ~ x + C(site), poisson with log link, 40 rows" in printed
    assert "normal(0, 1)" in printed
    assert "certificate: " in printed
    draws = pd.read_csv(tmp_path / "draws.csv")
    assert list(draws.columns) == ["Intercept", "x", "C(site)[T.b]"]
    assert len(draws) == 400
    assert abs(draws.x.mean() - 0.5) < 4.0 * draws.x.std()
    page = (tmp_path / "report.html").read_text()
    assert "Can these draws be trusted?" in page
    assert "data:image/png;base64," in page


def test_options_become_settings():
    line = ["d.csv", "y ~ x", "--prior", "x=normal(0, 1)", "--prior=Intercept=laplace(0, 1)", "draws=9"]
    settings = compose("glm", line_overrides("glm", line))
    assert (settings.file, settings.formula, settings.draws) == ("d.csv", "y ~ x", 9)
    assert settings.stated_priors() == {"x": "normal(0, 1)", "Intercept": "laplace(0, 1)"}
    with pytest.raises(ConfigError, match="One file and one formula"):
        line_overrides("glm", ["a.csv", "y ~ x", "z"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["y ~ speed"], "lack the column(s) speed"),
        (["y ~ x", "--prior", "normal(0, 1)"], "given as NAME=PRIOR"),
        (["y ~ x", "--out", "draws.txt"], "can be written as .nc, .csv"),
        (["y ~ x", "--engine", "fast"], "Unknown engine 'fast'; choices: auto, gaussian, network"),
        (["y ~ x", "--speed", "3"], "Unknown option '--speed'"),
        ([], "formula=..."),
    ],
)
def test_mistakes_are_named(file, arguments, message, capsys):
    assert main(["glm", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err
