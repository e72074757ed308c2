"""Copy a run, so that commands can write into it."""

import shutil

from toytask_cli.runs import files, paths, tensor_files
from toytask_cli.runs.run import Run

# What was trained and measured. Figures can be drawn again, and a checkpoint goes on with one run.
COPIED = (
    paths.MODEL,
    "metrics.jsonl",
    "reports/*.json",
    "reports/*.safetensors",
    "ablations/*.json",
)


def copy_run(run: Run) -> Run:
    """Copy a run to the next free number under `runs/`, without figures and checkpoint.

    Raises:
        ToytaskError: a file cannot be read, or the system refuses to write.
    """
    copy = Run.create(run.config)
    try:
        for pattern in COPIED:
            for source in sorted(run.path.glob(pattern)):
                content = files.read_bytes(source, tensor_files.MAX_BYTES)
                files.write_bytes(copy.path / source.relative_to(run.path), content)
        copy.write_config()  # last: a directory with a configuration is a run
    except BaseException:
        shutil.rmtree(copy.path)  # on a full disk, every try would leave one
        raise
    return copy
