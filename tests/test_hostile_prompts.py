"""Any text gets an answer or one line of error, and none of it controls the terminal.

The full count: python -m pytest tests/test_hostile_prompts.py --rounds 10000
"""

import json
import random
import subprocess
from pathlib import Path

import pexpect
import pytest
from conftest import Command
from memorised_run import memorised_run
from processes import spawn, start

from toytask_cli.cli.safe_console import printable

ALPHABETS = [
    "0123456789+CBE ",
    "".join(map(chr, range(128))),
    "".join(map(chr, [*range(0x80, 0xA0), *range(0x2000, 0x2070), 0xFEFF, 0x061C, 0xE0001])),
    "٤٧४७ß²½ſıİⅫ𝟜𝟟＋Ｃ",
    "".join(map(chr, [*range(0xD800, 0xD810), *range(0xDC80, 0xDC90), 0x10FFFF, 0xFFFE])),
]  # fmt: skip
PHRASES = [
    "4+7", "4C7", "B4+7E", "\x1b[2J", "\x1b]0;owned\x07", "\x9b2J", "\x1bP1$r", "\r", "\b\b",
    "\x00", "\u202e", "[red]", "[/]", "[/red]", "[link=https://x.y]z[/link]", ":boom:", ":why",
    "%s", "{0}", "$(id)", "`id`", "';--", "../../etc/passwd", "NaN", "1e9", "-1", "--help", "é",
    "👩\u200d👧", "9" * 5000,
]  # fmt: skip


def prompts(seed: str, n: int) -> list[str]:
    """Random text of many kinds, no newlines in it."""
    draw = random.Random(seed)
    texts = []
    for _ in range(n):
        if draw.random() < 0.2:
            texts.append(f"{draw.choice(['', 'B', ' '])}{draw.randrange(12)}{draw.choice('+C')}7 ")
            continue
        alphabet = draw.choice(ALPHABETS)
        parts = [draw.choice(PHRASES) for _ in range(draw.randrange(3))]
        parts += ["".join(draw.choices(alphabet, k=draw.randrange(12)))]
        if draw.random() < 0.5:
            parts.append("".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(5))))
        draw.shuffle(parts)
        texts.append("".join(parts).replace("\n", ""))
    return texts


def is_harmless(text: str) -> bool:
    return all(c == "\n" or c.isprintable() for c in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memorised")
    memorised_run(folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [["data"], ["data", "--json"], ["sparsity", "--no-figures", "--prompt"]],
    ids=" ".join,
)
def test_a_command_gives_an_answer_or_one_line(
    toytask: Command, folder, monkeypatch, rounds, command
):
    monkeypatch.chdir(folder)
    for prompt in prompts(" ".join(command), rounds or 25):
        result = toytask(*command, prompt)
        case = f"{command} {prompt!r}: {result}"
        assert is_harmless(result.out + result.err), case
        if result.code == 0:
            assert result.out, case
        else:
            assert result.code in (1, 2), case
            assert result.out == "", case
            assert result.err.startswith("error: "), case
            assert result.err.count("\n") == 1, case
            assert len(result.err) < 400 or "No such option" in result.err, case


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_chat_answers_each_line_of_a_pipe_or_says_what_is_wrong(folder, rounds, options):
    lines = prompts("chat", rounds or 1_000)
    prompt = "\n".join(lines).encode(errors="surrogatepass")
    with start("chat", *options, cwd=folder, stdin=subprocess.PIPE, text=False) as process:
        out, err = (printed.decode() for printed in process.communicate(prompt))
    assert process.returncode in (0, 1)
    assert is_harmless(out + err)
    assert all(line.startswith("error: line ") and len(line) < 400 for line in err.splitlines())
    answers = out.splitlines()
    assert len(answers) > len(lines) / 10
    for answer in answers:
        if options:
            assert json.loads(answer)["answers"]
        else:
            assert " = " in answer
    asked = sum(bool(line.strip()) for line in lines)
    assert len(answers) + len(err.splitlines()) == asked


def test_a_chat_in_a_terminal_repeats_no_control_characters(folder):
    child = spawn("chat", cwd=folder, echo=False, codec_errors="replace")
    child.expect("> ")
    for typed, shown in [
        ("4+\u202e7", r"\\u202e"),
        ("[/red] 4+7", r"'\[' in '\[/red\] 4\+7'"),
        (":\u009b2J", r"unknown command ':\\x9b2j'"),
        ("4+\udc807", "vocabulary"),
    ]:
        child.sendline(typed.encode(errors="replace").decode())
        child.expect(shown if "\udc80" not in typed else r"'\?' in")
        child.expect("> ")
        printed = str(child.before) + str(child.after)
        assert "\u202e" not in printed.split("error", 1)[-1]
        assert "\x9b" not in printed
    child.sendline(":quit")
    child.expect(pexpect.EOF)


# Names of files, and values in JSON

NASTY = "r\x1b[31m\u202e[red]un"


def test_names_of_files_are_shown_escaped(toytask: Command, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NASTY).symlink_to(folder / "runs" / "01", target_is_directory=True)
    for command in ("eval", "sparsity", "importance"):
        result = toytask(command, NASTY, "--no-figures")
        assert result.code == 0, result
        assert is_harmless(result.out + result.err)
        assert printable(NASTY) in result.out + result.err
    for args in (["eval", f"{NASTY}2"], ["data", "--out", NASTY], ["train", "--recipe", NASTY]):
        result = toytask(*args)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert is_harmless(result.err)


def test_values_in_json_are_shown_escaped(toytask: Command, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for number, recipe in enumerate([{NASTY: 1}, {"split_by": NASTY}, {"tasks": [NASTY]}]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(recipe))
        result = toytask("train", "--recipe", path)
        assert result.code in (1, 2)
        assert result.err.count("\n") == 1
        assert is_harmless(result.err)


def test_printable_text_stays_and_all_else_is_escaped():
    assert printable("47 + é 漢 ✓") == "47 + é 漢 ✓"
    assert printable("\x1b[2J\n\udcff\u202e\xa0") == r"\x1b[2J\n\udcff\u202e\xa0"
