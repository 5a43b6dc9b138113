"""``icl-bayes sample``: a CSV file in, draws out, and clear words for what can't be used."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from icl_bayes.cli import main
from icl_bayes.cli.arguments import line_overrides
from icl_bayes.config import ConfigError, compose

from .conftest import write_network


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def rows(count, text="1,2,3,4,5,6"):
    """Lines of numbers that vary."""
    values = np.array([float(part) for part in text.split(",")])
    generator = np.random.default_rng(1)
    return [",".join(f"{value:.4f}" for value in values + generator.normal(size=len(values))) for _ in range(count)]


def test_summary_and_draws(networks, table, tmp_path, capsys):
    out = tmp_path / "draws.csv"
    net = str(networks / "glm" / "1")
    command = ["sample", str(table), "--target", "y", "--net", net, "--draws", "200", "--seed", "3"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"Posterior of glm/1 by {net} given 40 rows of table" in printed
    assert "beta[1] b" in printed
    assert "200 draws in" in printed
    assert out.read_text().splitlines()[0] == "beta[0],beta[1],beta[2],beta[3],beta[4],sigma2"
    draws = np.loadtxt(out, delimiter=",", skiprows=1)
    assert draws.shape == (200, 6)
    # The generating coefficients lie within the posterior of forty informative rows.
    error = (draws[:, :5].mean(0) - [1.0, -0.5, 0.0, 0.3, 0.8]) / draws[:, :5].std(0)
    assert np.abs(error).max() < 5.0
    assert np.all(draws[:, 5] > 0.0)

    other = tmp_path / "draws.npz"
    assert main([*command, f"out={other}"]) == 0
    with np.load(other) as stored:
        assert {name: stored[name].shape for name in stored.files} == {"beta": (200, 5), "sigma2": (200,)}
        np.testing.assert_allclose(stored["beta"], draws[:, :5], rtol=1e-6)  # the same seed


def test_as_a_process(networks, table, tmp_path):
    """Output and exit code arrive although the process ends abruptly, and the second run prints the same."""
    command = [sys.executable, "-m", "icl_bayes", "sample", str(table), "--target=y", "--draws=50"]
    environment = {**os.environ, "ICL_BAYES_CACHE": str(tmp_path / "cache")}
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [*command, "--net", str(networks / "glm" / "1")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        outputs.append(done.stdout.split("50 draws in")[0])
        assert len(list((tmp_path / "cache" / "programs").iterdir())) == 2
    assert "beta[1] b" in outputs[0]
    assert outputs[0] == outputs[1]
    failed = subprocess.run([*command, "--net", "glm/99"], env=environment, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 2
    assert "no shipped network" in failed.stderr


def test_chosen_features_scaled(networks, tmp_path, capsys):
    header = "n,y,e,d,c,b,a"
    lines = rows(40, "0,500,1,2,30,4,5")
    path = write(tmp_path / "wide.csv", header, *lines)
    out = tmp_path / "draws.csv"
    command = ["sample", path, "--target=y", "--net", str(networks / "glm" / "1"), "--features", "a,b,c,d,e"]
    assert main([*command, "--standardize", "--draws=200", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "beta[0] a" in printed
    assert "Features are standardized" in printed
    assert "The response is standardized too: (y - 5" in printed


def test_data_unlike_the_training_data_are_warned_about(networks, tmp_path, capsys):
    path = write(tmp_path / "far.csv", "a,b,c,d,e,y", *rows(40, "900,2,3,4,5,6"))
    assert main(["sample", path, "--target", "y", "--net", str(networks / "glm" / "1"), "--draws", "200"]) == 0
    printed = capsys.readouterr().out
    assert "warning: Outside the training range" in printed
    assert "--standardize puts them on one scale" in printed


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["a,b,c,d,e,y", *rows(40)], ["--target", "z"], "no target column"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--features", "a,b,c,d,q"], "no feature column ['q']"),
        (["a,b,c,d,y", *rows(40, "1,2,3,4,5")], ["--target", "y"], "takes 5 features, the file has only 4: a, b, c, d"),
        (["a,b,c,d,e,f,y", *rows(40, "1,2,3,4,5,6,7")], ["--target", "y"], "e.g. --features a,b,c,d,e"),
        (["a,b,c,d,e,y", "1,2,3,4,5,red"], ["--target", "y"], "columns with text: 'y' (e.g. 'red')"),
        (["a,b,c,d,e,y", "1,2,3,4,5,"], ["--target", "y"], "missing or infinite values: 'y' in line 2"),
        (["a,b,c,d,e,y", "1,inf,3,4,5,6"], ["--target", "y"], "missing or infinite values: 'b' in line 2"),
        (["a,b,c,d,e,y"], ["--target", "y"], "but no rows"),
        ([""], ["--target", "y"], "is empty"),
        (["a,b,c,d,e,y", *rows(5)], ["--target", "y"], "fewer than the 10 that this network was trained for"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--draws", "0"], "num_draws must be at least 1"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--draws", "few"], "could not be converted to Integer"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--out", "draws.txt"], "written as .csv, .npz, .nc"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--out", "no/such/draws.csv"], "no directory 'no/such'"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--net", "glm/9"], "no shipped network and no directory"),
        (["a,b,c,d,e,y", *rows(40)], ["--target", "y", "--fast"], "Unknown option '--fast'; options: --target"),
        (["a,b,c,d,e,y", *rows(40)], ["--target"], "--target needs a value"),
    ],
)
def test_bad_input_is_named(lines, options, message, networks, tmp_path, capsys):
    path = write(tmp_path / "bad.csv", *lines)
    assert main(["sample", path, "--net", str(networks / "glm" / "1"), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_model_without_response_takes_columns_alone(networks, tmp_path, capsys):
    write_network(tmp_path / "fa1", 1, "fa_exact_start")
    path = write(
        tmp_path / "columns.csv", "a,b,c", *(f"{i % 7 - 3},{(i * i) % 5 - 2},{(i % 3) - 1}" for i in range(40))
    )
    command = ["sample", path, "--net", str(tmp_path / "fa1"), "--draws", "100"]
    out = tmp_path / "draws.csv"
    assert main([*command, "--standardize", "--polish", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Posterior of fa/1" in printed
    assert "z[2]" in printed
    assert "Columns are standardized" in printed
    assert np.loadtxt(out, delimiter=",", skiprows=1).shape == (100, 3)
    assert main([*command, "--target", "c"]) == 2
    assert "has no response: leave out --target, and choose columns with --features" in capsys.readouterr().err
    assert main([*command[:3], str(networks / "glm" / "1")]) == 2
    assert "answers a regression: name the response with --target, one of a, b, c" in capsys.readouterr().err


def test_refined_draws_come_with_a_certificate(networks, table, capsys):
    command = ["sample", str(table), "--target", "y", "--net", str(networks / "glm" / "1"), "--draws", "100"]
    assert main([*command, "--refine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("certificate: "))
    assert "log evidence" in lines[start]
    assert lines[start + 1].startswith("  weights: ")
    assert any(line.startswith(("  weights: passed", "  resample: passed", "  polish: passed")) for line in lines)


def test_a_missing_file_is_named(networks, capsys):
    assert main(["sample", "none.csv", "--target", "y", "--net", str(networks / "glm" / "1")]) == 2
    assert "There is no file none.csv" in capsys.readouterr().err


def test_constant_columns_are_not_divided_by_zero(networks, tmp_path, capsys):
    lines = [f"1,{line}" for line in rows(40, "2,3,4,5,6")]
    path = write(tmp_path / "constant.csv", "a,b,c,d,e,y", *lines)
    assert main(["sample", path, "--target", "y", "--net", str(networks / "glm" / "1"), "--standardize"]) == 2
    assert "Constant column(s) ['a']" in capsys.readouterr().err


def test_responses_that_do_not_fit_the_model_are_refused(tmp_path, capsys):
    write_network(tmp_path / "glm6", 6)
    path = write(tmp_path / "real.csv", "a,b,c,d,e,y", *rows(40))
    assert main(["sample", path, "--target", "y", "--net", str(tmp_path / "glm6")]) == 2
    assert "Bernoulli response takes values 0 and 1" in capsys.readouterr().err


def test_options_become_settings():
    arguments = ["my data=1.csv", "--target", "yield (t/ha)", "--net=glm/1", "--features", "a b,c", "--draws", "7"]
    settings = compose("sample", line_overrides("sample", [f"./{arguments[0]}", *arguments[1:]]))
    assert settings.file == "./my data=1.csv"
    assert (settings.target, settings.net, settings.features) == ("yield (t/ha)", "glm/1", ["a b", "c"])
    assert (settings.draws, settings.standardize) == (7, False)
    assert compose("sample", line_overrides("sample", ["d.csv", "target=y", "net=glm/1", "draws=9"])).draws == 9
    with pytest.raises(ConfigError, match="One file at a time; received another one, 'b.csv'"):
        line_overrides("sample", ["a.csv", "b.csv"])
