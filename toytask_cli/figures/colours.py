"""The colours of figures, of the page and of the terminal; a colour means one thing everywhere."""

# For tasks in their order: seaborn's colour-blind safe palette, darker where it is too pale.
TASK_COLOURS = ("#0173b2", "#d17f00", "#029e73", "#d55e00", "#c46db3", "#b37d4e")
# Beside the colour, so that tasks can be told apart in grey.
TASK_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
TASK_MARKERS = ("o", "^", "s", "D", "v", "P")

COLOURS = {
    "train": "#4a9cae",
    "validation": "#17677c",
    "test": "#7b3294",
    "before": "#565656",
    "after": "#ad1457",
    "random": "#949494",
    "neurons": "#62628a",
}
WRONG, RIGHT = "#b2182b", "#c6d8e6"
# Activations from zero up; lightness falls evenly, so the scale is the same in grey.
MAP_COLOURS = ("#ffffff", "#c5ebd2", "#60ceac", "#3497a9", "#395d9c", "#382a54", "#0b0405")
