import re
from pathlib import Path

import pytest
from conftest import Command

from toytask_cli.cli.app import COMMANDS, MORE_COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "tests" / "benchmarks").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)]+)\)")
LINKS = [(path, link) for path in DOCUMENTS for link in LINK.findall(path.read_text())]


def test_ci_runs_the_readmes_own_test_command():
    commands = [line for line in README.splitlines() if "bin/pytest" in line]
    assert len(commands) == 1
    assert "grep -m1 'bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_two_commands_do_all_set_up():
    assert len(re.findall(r"^python3 -m venv", README, re.MULTILINE)) == 2


def test_the_first_paragraph_says_what_separates_the_tasks():
    first = " ".join(README.split("\n\n")[1].split())
    assert "β" in first
    assert "this project's, not the source's" in first
    assert "sees which task each example is of" in first


def test_every_main_command_has_a_section_and_every_section_a_command(toytask: Command):
    panels = toytask("--help").out.split("Commands")[1]
    main, known = (
        set(re.findall(r"^│ (\w+) ", text, re.MULTILINE)) for text in (panels.split("╰")[0], panels)
    )
    sections = set(re.findall(r"^### `toytask (\w+)`", README, re.MULTILINE))
    assert {"train", "chat"} < main
    assert main <= sections <= known


def test_every_option_that_a_document_names_exists(toytask: Command):
    helps = [toytask("--help"), *(toytask(name, "--help") for name in COMMANDS | MORE_COMMANDS)]
    of_toytask = "".join(help.out for help in helps)
    of_scripts = "".join(
        script.read_text() for script in (ROOT / "tests/benchmarks").glob("*/*.py")
    )
    others = {"--check", "--rounds"}  # of ruff and of the tests
    others |= {"--nthreads", "--nworkers", "--ntasks", "--wrap"}  # of Dask and SLURM
    for line in (line for path in DOCUMENTS for line in path.read_text().splitlines()):
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)) - others
        known = of_toytask + of_scripts if ".py" in line else of_toytask
        assert not {option for option in options if option not in known}, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_script_that_a_document_names_exists(path: Path):
    for script in re.findall(r"tests/[\w/]+\.py", path.read_text()):
        assert (ROOT / script).exists(), script


def test_what_data_shows_in_the_readme_is_what_it_shows(toytask: Command):
    shown = README.split('$ toytask data "12C34"\n')[1].split("```")[0]
    printed = toytask("data", "12C34").out
    assert [line.split() for line in shown.splitlines() if line.strip()] == [
        line.split() for line in printed.splitlines() if line.strip()
    ]


def test_what_python_prints_in_the_readme_is_what_it_prints(monkeypatch, capsys):
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    monkeypatch.chdir(ROOT)
    exec(code, {})
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_every_link_leads_somewhere(path: Path, link: str):
    assert (path.parent / link).exists()
