"""Stand-ins for drawn signs that a terminal's encoding lacks, so that pictures stay pictures."""

import codecs

# Each is as wide as what it stands for: tables and heatmaps keep their columns.
STAND_INS = dict(zip("·░▒▓█▁▂▃▄▅▆▇→−–…", ".:+%#1234567>--~", strict=True))


def use_encoding_fallback() -> str:
    """Makes the way of handling such signs known, and gives its name, for a stream's `errors`."""
    codecs.register_error("toytask", _stand_in)
    return "toytask"


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""For a sign that cannot be written; any other, or a byte that cannot be read, as `\xff`."""
    if isinstance(error, UnicodeEncodeError):
        sign = error.object[error.start]
        if sign in STAND_INS:
            return STAND_INS[sign], error.start + 1
        error.end = error.start + 1
    return codecs.backslashreplace_errors(error)
