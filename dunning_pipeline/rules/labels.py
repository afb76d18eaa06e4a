"""Texts that stand for codes: how columns of few different texts are made without a text per row."""

from collections.abc import Iterable

import numpy as np
import pandas as pd


def labelled(codes: np.ndarray, labels: Iterable[str]) -> pd.Categorical:
    """The label of each code; -1 stands for an empty one."""
    return pd.Categorical.from_codes(codes.astype("int64"), pd.Index(list(labels), dtype="str"))
