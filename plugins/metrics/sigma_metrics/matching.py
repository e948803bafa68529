"""One-to-one matching of largest total (Kuhn 1955, Munkres 1957), by shortest augmenting paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_matching(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each row its column, each column once, so that the sum of scores is as large as can be.

    Args:
        scores: (N, N), finite.

    Returns:
        (N,) column of row i.
    """
    costs = -np.asarray(scores, np.float64)
    count = len(costs)
    row_price, column_price = np.zeros(count + 1), np.zeros(count + 1)
    row_of = np.full(count + 1, count)  # row that holds column j; column `count` stands for the row being placed
    for row in range(count):
        row_of[count] = row
        _place(row_of, row_price, column_price, costs)
    found = np.empty(count, np.int64)
    found[row_of[:count]] = np.arange(count)
    return found


def _place(
    row_of: NDArray[np.int64], row_price: NDArray[np.float64], column_price: NDArray[np.float64], costs: NDArray
) -> None:
    """Finds the cheapest path from the unplaced row to a free column and moves the rows along it."""
    count = len(costs)
    cheapest = np.full(count, np.inf)
    came_from = np.full(count, count)
    seen = np.zeros(count + 1, bool)
    column = count
    while row_of[column] != count:
        seen[column] = True
        row = row_of[column]
        open_ = np.flatnonzero(~seen[:count])
        reduced = costs[row, open_] - row_price[row] - column_price[open_]
        better = reduced < cheapest[open_]
        cheapest[open_[better]], came_from[open_[better]] = reduced[better], column
        nearest = open_[np.argmin(cheapest[open_])]
        step = cheapest[nearest]
        row_price[row_of[seen]] += step
        column_price[seen] -= step
        cheapest[open_] -= step
        column = nearest
    while column != count:
        row_of[column] = row_of[came_from[column]]
        column = came_from[column]
