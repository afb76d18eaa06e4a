"""Work in threads: on several processors, since numpy and pandas let go of the interpreter while they compute, or on
questions to several servers.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> list[Result]:
    """What a function makes of each item, in the items' order. What it raises is raised here.

    Args:
        function: of one item.
        items: them.
        threads: at most; by default as many as there are processors.
    """
    items = list(items)
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return list(pool.map(function, items))
