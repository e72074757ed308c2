"""Prompts from a pipe or a file, one a line, and as many answer lines."""

import json
import sys
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, cast

from toytask_cli.analysis.generate import Answer
from toytask_cli.cli.chat_render import one_line
from toytask_cli.cli.chat_session import Chat
from toytask_cli.cli.console import out, say_error
from toytask_cli.prompts import Prompt, PromptError

BLOCK = 8192  # bytes, some thousand prompts


def answer_lines(chat: Chat, as_json: bool) -> bool:
    """Answers standard input to its end; gives whether every line was a prompt.

    Whatever has arrived is answered at once, so that another program can wait for each answer.
    """
    well = True
    number = 0
    for block in _blocks():
        prompts = []
        for line in block:
            number += 1
            try:
                prompts += [chat.parse(line)] if line.strip() else []
            except PromptError as error:
                say_error(f"line {number}: {error}")
                well = False
        for prompt, answers in zip(prompts, chat.ask(prompts), strict=True):
            if as_json:
                sys.stdout.write(json.dumps(_as_json(prompt, answers), allow_nan=False) + "\n")
            else:
                out().print(one_line(prompt, answers), soft_wrap=True)
        sys.stdout.flush()
    return well


def _blocks() -> Iterator[list[str]]:
    """The lines as they arrive, some at a time."""
    if sys.stdin is None:  # closed by the caller
        return
    stdin = cast(BufferedReader, sys.stdin.buffer)
    rest = bytearray()
    while block := stdin.read1(BLOCK):
        rest += block
        if b"\n" in block:
            *lines, rest = rest.split(b"\n")
            yield [line.decode(errors="replace") for line in lines]
    yield [rest.decode(errors="replace")]


def _as_json(prompt: Prompt, answers: dict[str, Answer]) -> dict[str, Any]:
    return {
        "prompt": prompt.plain,
        "target": prompt.plain_target,
        "answers": {
            name: {
                "text": answer.text,
                "correct": answer.correct,
                "probabilities": answer.probabilities,
            }
            for name, answer in answers.items()
        },
    }
