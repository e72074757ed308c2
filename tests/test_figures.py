"""What holds for all figures."""

import seaborn as sns

from toytask_cli.figures.style import COLOURS
from toytask_cli.tasks import TASKS


def test_a_colour_has_one_meaning():
    of_tasks = sns.color_palette("deep").as_hex()[: len(TASKS)]
    assert len({*of_tasks, *COLOURS.values()}) == len(TASKS) + len(COLOURS)
