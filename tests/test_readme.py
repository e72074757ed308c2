import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command, environment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_own_test_command():
    commands = [line for line in README.splitlines() if "bin/pytest" in line]
    assert len(commands) == 1
    assert "grep -m1 'bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_two_commands_do_all_set_up():
    assert len(re.findall(r"^python3 -m venv", README, re.MULTILINE)) == 2


def test_every_command_has_a_section_and_no_other_has_one(toytask: Command):
    commands = re.findall(r"^│ (\w+) ", toytask("--help").out.split("Commands")[1], re.MULTILINE)
    assert set(re.findall(r"^### `toytask (\w+)`", README, re.MULTILINE)) == set(commands)


def test_every_option_that_the_readme_names_exists(toytask: Command):
    commands = re.findall(r"^### `toytask (\w+)`", README, re.MULTILINE)
    helps = "".join(toytask(command, "--help").out for command in commands)
    own = [line for line in README.splitlines() if "tests/" not in line]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(own))) - {"--check"}
    assert not {option for option in named if option not in helps}


def test_what_data_shows_in_the_readme_is_what_it_shows(toytask: Command):
    shown = README.split('$ toytask data "12C34"\n')[1].split("```")[0]
    said = toytask("data", "12C34").out
    assert [line.split() for line in shown.splitlines() if line.strip()] == [
        line.split() for line in said.splitlines() if line.strip()
    ]


def test_what_python_prints_in_the_readme_is_what_it_prints():
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, shown), done.stderr


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()
