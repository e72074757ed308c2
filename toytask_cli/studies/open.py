"""Find the study that a command means: a new one, or one to go on with or to extend."""

from dataclasses import replace
from pathlib import Path

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files
from toytask_cli.runs.study_directory import StudyDirectory
from toytask_cli.studies.plan import Plan


def read_plan(study: StudyDirectory) -> Plan:
    """Read the plan of a study.

    Raises:
        ToytaskError: it is missing, cut, changed, or of another version of toytask.
    """
    values = study.read_plan()
    with files.reading(study.plan_file, "begin a new study with --out"):
        return Plan.from_json(values)


def find_study(asked: Plan, out: Path | None, extend: bool) -> tuple[Plan, StudyDirectory | None]:
    """Return the plan to follow, and the study that has it already, if there is one.

    A study that exists keeps its number of threads: its runs are to be comparable.

    Args:
        asked: the plan that the command asks for.
        out: a study's directory; None to look for the same plan among the numbered studies.
        extend: whether an existing study's plan may become the one asked for, if that only adds
            runs.

    Raises:
        ToytaskError: the study at `out` has another plan.
    """
    if out is None:
        return _study_of(asked) or (asked, None)
    study = StudyDirectory(out)
    if not study.plan_file.exists():
        return asked, None
    plan = read_plan(study)
    asked = replace(asked, threads=plan.threads)
    if asked == plan:
        return plan, study
    changed = _change(plan, asked)
    if changed is not None:
        raise ToytaskError(
            f"{out} has another plan ({changed}): begin a new study with another --out, or go on "
            f"with `toytask study {study.shell_path}`"
        )
    if not extend:
        added = len(asked.runs) - len(plan.runs)
        raise ToytaskError(f"{out} has {added} runs less than this: add them with --extend")
    return asked, study


def _study_of(asked: Plan) -> tuple[Plan, StudyDirectory] | None:
    """Return the newest numbered study of this plan, with its number of threads."""
    for study in StudyDirectory.existing():
        try:
            plan = read_plan(study)
        except ToytaskError:
            continue  # another version's, or damaged: not this one
        if replace(asked, threads=plan.threads) == plan:
            return plan, study
    return None


def _change(plan: Plan, asked: Plan) -> str | None:
    """Return in words how a plan differs from the one asked for; None if it only lacks runs."""
    for name in ("precision", "tolerances"):
        if getattr(plan, name) != getattr(asked, name):
            return f"{name} {getattr(plan, name)}, not {getattr(asked, name)}"
    by_id = {run.id: run for run in asked.runs}
    for run in plan.runs:
        if run.id not in by_id:
            return f"with {run.id}"
        if by_id[run.id] != run:
            return f"with another recipe for {run.id}"
    return None
