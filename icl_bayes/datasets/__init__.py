"""Real data: tables that ship with the package, the paper's OpenML suite, CSV files, and their preprocessing."""

from icl_bayes.datasets.bundled import bundled_description, bundled_names, eligible_tables, load_bundled
from icl_bayes.datasets.csv import Columns, load_columns, load_csv
from icl_bayes.datasets.eligibility import select_eligible
from icl_bayes.datasets.feature_rows import FeatureRowsInfo, prepare_features
from icl_bayes.datasets.openml336 import TableUnavailableError, load_openml336, load_suite336, openml336_names
from icl_bayes.datasets.preprocessing import PreparedInfo, prepare_glm
from icl_bayes.datasets.tables import RESPONSE_KINDS, Table, infer_response_kind
from icl_bayes.datasets.yeo_johnson import gaussianise, yeo_johnson

__all__ = [
    "RESPONSE_KINDS",
    "Columns",
    "FeatureRowsInfo",
    "PreparedInfo",
    "Table",
    "TableUnavailableError",
    "bundled_description",
    "bundled_names",
    "eligible_tables",
    "gaussianise",
    "infer_response_kind",
    "load_bundled",
    "load_columns",
    "load_csv",
    "load_openml336",
    "load_suite336",
    "openml336_names",
    "prepare_features",
    "prepare_glm",
    "select_eligible",
    "yeo_johnson",
]
