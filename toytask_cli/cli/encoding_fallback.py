"""Replace the characters of tables and heatmaps where a terminal's encoding lacks them."""

import codecs

# Each is as wide as the character that it replaces, so tables and heatmaps keep their columns.
REPLACEMENTS = dict(zip("·░▒▓█▁▂▃▄▅▆▇→−–…", ".:+%#1234567>--~", strict=True))


def register_encoding_fallback() -> str:
    """Register the error handler with Python; return its name, for the `errors` of a stream."""
    codecs.register_error("toytask", _replace)
    return "toytask"


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Replace one character that cannot be written; write any other, or a byte, as `\xff`."""
    if isinstance(error, UnicodeEncodeError):
        character = error.object[error.start]
        if character in REPLACEMENTS:
            return REPLACEMENTS[character], error.start + 1
        error.end = error.start + 1
    return codecs.backslashreplace_errors(error)
