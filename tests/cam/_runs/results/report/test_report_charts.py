"""The axes and the bars of a report's charts."""

import numpy as np
import pytest

from cam._runs.results.report.report_charts import choose_ticks, group_alike


def test_bars_join_ranks_that_differ_by_less():
    """Demšar's figure: of 1, 2, 2.5 and 4 with 1.2, the first three are not one stretch."""
    assert group_alike([1, 2, 2.5, 4], 1.2) == [(0, 1), (1, 2)]
    assert group_alike([1, 2, 3], 5) == [(0, 2)]
    assert group_alike([1, 2, 3], 0.5) == []


@pytest.mark.parametrize("parts", [3, 5])
@pytest.mark.parametrize(
    ("low", "high"),
    [(0.123, 0.804), (-0.2, 0.3), (0.249, 0.2508), (0.5, 0.5), (0.0, 0.0), (-3, -3)],
)
def test_an_axis_has_round_numbers_around_all_values(low, high, parts):
    ticks = np.array(choose_ticks(low, high, parts))
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 3 <= len(ticks) <= parts + 3
    step = ticks[1] - ticks[0]
    np.testing.assert_allclose(np.diff(ticks), step, rtol=1e-6)
    # A whole number of steps from zero, each of one, two or a half of five of the last digit.
    np.testing.assert_allclose(ticks / step, np.round(ticks / step), atol=1e-6)
    assert f"{step:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")
