"""The chat, through a pipe and through a pseudo-terminal."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import processes
import pytest
from conftest import TOYTASK, Command, environment
from memorised_run import memorised_run

from toytask_cli.cli.chat import session
from toytask_cli.cli.chat.io import state_directory
from toytask_cli.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return memorised_run(tmp_path_factory.mktemp("chat"))


# A pipe


@pytest.fixture
def feed(toytask: Command, run, monkeypatch):
    """Runs `toytask chat ARGS` beside `runs/` with this text on its standard input."""

    def ask(text: str | bytes, *args: object):
        raw = text if isinstance(text, bytes) else text.encode()
        monkeypatch.chdir(run.path.parent.parent)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return toytask("chat", *args)

    return ask


def test_every_form_of_a_prompt_gets_one_answer_line(feed):
    result = feed("4+7\n4C7\n 4 c 7 \n\nB4+7E\nb4c7e")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "4+7 = 11 ✓", "4C7 = 47 ✓", "4C7 = 47 ✓", "4+7 = 11 ✓", "4C7 = 47 ✓",
    ]  # fmt: skip
    assert re.fullmatch(r"4\+7 = 11 ✓ \(11 \d+\.\d %, E \d+\.\d %\)", lines[0])


def test_an_ablation_stands_beside_the_model_as_trained(feed):
    result = feed("4C7\n4+7\n", "runs/01", "--ablation", "no-concat")
    concat, plain = result.out.splitlines()
    assert re.search(r"^4C7 = trained 47 ✓ .* \| no-concat \S+ ✗ .*; the target is 47$", concat)
    assert re.search(r"^4\+7 = trained 11 ✓ .* \| no-concat 11 ✓ ", plain)


def test_json_is_one_object_a_line_of_the_promised_shape(feed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    result = feed("4c7\n4+7\n", "--json", "--ablation", "no-concat")
    first, second = map(json.loads, result.out.splitlines())
    assert (first["prompt"], first["target"]) == ("4C7", "47")
    assert first.keys() == second.keys() == {"prompt", "target", "answers"}
    assert list(first["answers"]) == ["trained", "no-concat"]
    for answer in first["answers"].values():
        assert answer.keys() == {"text", "correct", "probabilities"}
        assert all(0 < p <= 1 for p in answer["probabilities"])
    assert first["answers"]["trained"]["correct"] is True
    assert first["answers"]["no-concat"]["correct"] is False
    assert second["answers"]["no-concat"]["text"] == "11"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_lines_that_are_no_prompt_are_named_and_the_others_answered(feed, options):
    result = feed("4+7\n[red]4\n\n47+2\n" + 500 * "9" + "\n:why\n4C7\n\xff\n", *options)
    assert result.code == 1
    assert len(result.out.splitlines()) == 2
    errors = result.err.splitlines()
    assert [line.split(":")[1] for line in errors] == [f" line {n}" for n in (2, 4, 5, 6, 8)]
    assert "'[' in '[red]4' is not in the vocabulary: use digits and one of" in errors[0]
    assert "47 is out of range: operands go from 0 to 9" in errors[1]
    assert "500 characters are too many" in errors[2]
    assert "':why' is a command, which needs a terminal" in errors[3]


def test_the_byte_order_mark_of_a_file_is_no_part_of_its_first_prompt(feed):
    result = feed(b"\xef\xbb\xbf4+7\r\n4C7\r\n")
    assert (result.code, result.err) == (0, "")
    assert [line.split(" ✓")[0] for line in result.out.splitlines()] == ["4+7 = 11", "4C7 = 47"]


def test_many_lines_are_answered_in_their_order(feed):
    prompts = [f"{a}{symbol}{b}" for a in range(10) for b in range(10) for symbol in "+C"] * 5
    out = feed("\n".join(prompts)).out
    assert [line.split(" = ")[0] for line in out.splitlines()] == prompts


def test_nothing_in_gives_nothing_out(feed):
    assert feed("") == feed("\n \n")
    assert (feed("").code, feed("").out, feed("").err) == (0, "", "")


def test_an_answer_does_not_wait_for_the_next_prompt(run):
    with processes.start("chat", run.path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for prompt, answer in (("4+7", "4+7 = 11 ✓"), ("4C7", "4C7 = 47 ✓")):
            process.stdin.write(f"{prompt}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line.startswith(answer)
            assert "\x1b" not in line
        process.stdin.close()
    assert process.returncode == 0


def test_without_characters_for_marks_they_are_words(run):
    done = subprocess.run(
        [*TOYTASK, "chat", str(run.path)], env=environment(PYTHONIOENCODING="ascii"),
        input=b"4+7\n", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(b"4+7 = 11 right (")


def test_no_run_at_all_says_how_to_train(toytask: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = toytask("chat")
    assert (result.code, result.out) == (1, "")
    assert "there is no run under runs/ yet: train a model with `toytask train`" in result.err


def test_without_a_run_of_ones_own_the_reference_answers(toytask, run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "reference").symlink_to(run.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"4+7")))
    assert toytask("chat").out.startswith("4+7 = 11 ✓")


def test_a_misspelt_ablation_is_suggested_before_anything_is_asked(feed):
    result = feed("4+7", "--ablation", "no-cncat")
    assert (result.code, result.out) == (1, "")
    assert "did you mean 'no-concat'" in result.err


# A terminal


@pytest.fixture
def spawn(run, tmp_path):
    """`toytask chat ARGS` in a pseudo-terminal, its state kept in a directory of its own."""

    def start(*args: str, columns: int = 80, **more: str) -> pexpect.spawn:
        child = processes.spawn(
            "chat", run.path, *args, columns=columns, codec_errors="backslashreplace",
            variables={"XDG_STATE_HOME": str(tmp_path / "state"), **more},
        )  # fmt: skip
        child.expect(":help lists.*\n.*> ")
        return child

    return start


def ask(child: pexpect.spawn, line: str) -> str:
    """Types a line; gives what is shown until the next prompt of the chat, without colours."""
    child.sendline(line)
    child.expect("\r\n((?:.*\r\n)?)(?:\x1b\\[\\?2004h)?> ")
    return re.sub("\x1b\\[[0-9;?]*[a-z]", "", child.match[1])


def test_a_person_whose_answers_go_through_a_pipe_gets_a_prompt(run):
    child = pexpect.spawn(
        "sh", ["-c", '"$@" | cat', "sh", *TOYTASK, "chat", str(run.path)],
        env=environment(), encoding="utf-8", timeout=30,
    )  # fmt: skip
    for prompt, answer in (("4+7", "11 ✓"), ("4C7", "47 ✓")):
        child.expect("(^|\n)> ")
        child.sendline(prompt)
        child.expect_exact(f"{prompt} = {answer}")
    child.expect("\n> ")
    child.sendeof()
    assert leave(child) == 0
    assert child.before.endswith("\r\n")


def test_ctrl_c_ends_a_slow_command_and_not_the_chat(spawn, monkeypatch):
    def take_a_minute(*_, **__):
        for _ in range(600):
            time.sleep(0.1)

    monkeypatch.setattr(session, "score_neurons", take_a_minute)
    child = spawn()
    for _ in range(2):
        child.sendline(":ablate concat 0.1")
        child.expect("measuring every neuron")
        child.sendintr()
        child.expect("\r\nstopped; :quit leaves the chat\r\n.*> ")
    assert "11 ✓" in ask(child, "4+7")
    child.sendintr()
    assert leave(child) == 0


def leave(child: pexpect.spawn) -> int | None:
    """Return its exit code, after it has left."""
    child.expect(pexpect.EOF)
    assert "Traceback" not in child.before
    child.close()
    return child.exitstatus


def test_bytes_that_are_no_text_are_answered_and_the_chat_goes_on(spawn):
    child = spawn(PYTHONIOENCODING="utf-8:strict")  # as in a terminal of any locale but C
    os.write(child.child_fd, b"47C23\xff")
    assert "is not in the vocabulary" in ask(child, "")
    assert "11 ✓" in ask(child, "4 + 7")
    child.sendeof()
    assert leave(child) == 0


def test_a_conversation_with_every_command(spawn, run):
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    child = spawn()
    assert "ask something first" in ask(child, ":why")
    assert re.search(r"11 ✓ +11 \d+\.\d %  E \d+\.\d %", ask(child, "4 + 7"))
    assert "'X' in '4x7' is not in the vocabulary" in ask(child, "4x7")
    assert "operands go from 0 to 9" in ask(child, "47+3")
    assert "did you mean ':score'" in ask(child, ":scroe")
    assert "commands begin with a colon: :help" in ask(child, "help")
    assert "'x' is no neuron" in ask(child, ":off x")
    assert "47 ✓" in ask(child, "4C7")
    assert re.search(
        r"trained +remove-concat-tol0.1.*47 ✓ .*✗", ask(child, ":ablate concat 0.1"), re.S
    )
    shown = ask(child, ":why")
    assert re.search(r"4 \d+\.\d %: \d+ neurons fired", shown)
    assert re.search(r"neuron +act\. +logit +sum +concat +up +down", shown)
    number = re.search(r"(\d+) off", shown)
    assert number
    assert f"neuron {number[1]} on" in (one := ask(child, f":neuron {number[1]}"))
    assert re.search(
        r"sum +\d+\.\d\d % .*concat +\d+\.\d\d % .*raises the logits of .*fires most for",
        one, re.S,
    )  # fmt: skip
    assert "by hand" in ask(child, f":on {number[1]}")
    assert re.search(
        r"\d[+C]\d.*trained +remove-concat-tol0.1 +by hand", ask(child, ":random"), re.S
    )
    assert re.search(r"trained +\d of \d +\d of \d", ask(child, ":score"))
    assert "left: trained\r\n" in ask(child, ":restore")
    assert "no-concat" in ask(child, ":ablate no-concat")
    assert "did you mean 'concat'" in ask(child, ":ablate cncat")
    assert ":random [TASK]" in ask(child, ":help")
    child.sendline(":quit")
    assert leave(child) == 0
    assert before == {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}


def test_ctrl_d_leaves_and_the_next_chat_remembers_the_lines(spawn, run, tmp_path):
    child = spawn()
    ask(child, "4C7")
    child.sendeof()
    assert leave(child) == 0
    assert (tmp_path / "state" / "toytask" / "history").read_text().endswith("4C7\n")
    child = spawn()
    assert "47 ✓" in ask(child, "\x1b[A")
    child.send(":abl\tno\t")
    child.expect(":ablate no-concat ")
    child.sendintr()
    assert leave(child) == 0


def test_a_narrow_terminal_without_colours_gets_the_answers_under_each_other(spawn):
    child = spawn("--ablation", "no-concat", columns=30, NO_COLOR="1")
    child.sendline("4C7")
    child.expect("4C7\r\n(.*)> ")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", child.match[1])
    shown = re.sub("\x1b\\[[0-9;?]*[a-z]", "", child.match[1]).splitlines()
    assert shown[0] == "trained"
    assert shown[1].startswith("47 ✓")
    assert "no-concat" in shown
    assert max(map(len, shown)) <= 30
    child.sendeof()
    assert leave(child) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms keep state elsewhere")
def test_history_is_kept_where_the_platform_keeps_state(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_directory() == tmp_path / ".local" / "state" / "toytask"
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert state_directory() == Path("/elsewhere/toytask")
