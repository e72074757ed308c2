"""Every kind of SAE is trained, measured, removed and talked to by the same commands."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Command

from toytask_cli.runs import files

KINDS = {"topk": ("--k", "6"), "jumprelu": ("--target-l0", "6")}


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_works_on_it(toytask: Command, here, monkeypatch, kind):
    def report(*args: str) -> dict:
        result = toytask(*args, "--json", "--no-figures")
        assert result.code == 0, result.err
        return json.loads(result.out)

    trained = report("train", "--sae", kind, *KINDS[kind], *TINY_OPTIONS, "--epochs", "24")
    assert report("eval")["tasks"]["sum"]["accuracy"] == trained["tasks"]["sum"]["accuracy"]
    sparsity = report("sparsity")["all"]
    assert 0 < sparsity["l0"] < 8
    by_hooks, top = (report("importance", *args)["top"] for args in (["--method", "hooks"], []))
    for one, other in zip(by_hooks["sum"], top["sum"], strict=True):
        found = (row["tasks"]["sum"]["importance"] for row in (one, other))
        assert next(found) == pytest.approx(next(found), rel=1e-3, abs=1e-6)
    ablation = report("ablate", "--remove", "concat", "--tolerance", "0.3")
    assert ablation["neurons"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"4+3\n4C3\n")))
    chat = toytask("chat", "runs/01", "--ablation", "remove-concat-tol0.3")
    assert (chat.code, len(chat.out.splitlines())) == (0, 2)


def test_the_weights_of_one_kind_never_load_as_another(toytask: Command, here):
    for kind, *options in (("relu",), ("topk", "--k", "6")):
        args = ["--sae", kind, *options, *TINY_OPTIONS, "--epochs", "2", "--no-figures"]
        assert toytask("train", *args, "--out", kind).code == 0
    shutil.copy("topk/model.safetensors", "relu/model.safetensors")
    foreign = toytask("eval", "relu")
    assert foreign.code == 1
    assert "model.safetensors: does not fit relu/config.json" in foreign.err

    config = files.read_json(Path("topk/config.json"))
    assert config["recipe"]["k"] == 6
    del config["recipe"]["k"]
    config["recipe"] |= {"sae": "relu", "lambda": 0.001}
    files.write_json(Path("topk/config.json"), config)
    renamed = toytask("eval", "topk")
    assert renamed.code == 1
    assert "model.safetensors: does not fit topk/config.json" in renamed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "8"], "k is only for sae topk: leave it out, or choose topk"),
        (["--sae", "topk", "--lambda", "0.1"], "lambda is only for sae relu"),
        (["--sae", "topk", "--k", "49"], "k is 49: must be at most d_sae, 48"),
        (["--sae", "jumprelu", "--target-l0", "0"], "target_l0 is 0.0: must be more than 0"),
        (["--sae", "jump"], "did you mean 'jumprelu'? choose from relu, topk, jumprelu"),
        (["--recipe", "r.json"], "target_l0 is only for sae jumprelu"),
    ],
)
def test_a_setting_of_another_kind_is_refused_before_anything_is_written(
    toytask: Command, here, options, message
):
    Path("r.json").write_text('{"target_l0": 8}')
    result = toytask("train", *TINY_OPTIONS, *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not Path("runs").exists()


def test_the_recipe_of_one_kind_trains_another(toytask: Command, here):
    args = ["train", *TINY_OPTIONS, "--epochs", "1", "--no-figures"]
    assert toytask(*args, "--sae", "topk", "--k", "6").code == 0
    assert toytask(*args, "--recipe", "runs/01/config.json", "--sae", "jumprelu").code == 0
    recipes = [files.read_json(Path(f"runs/0{n}/config.json"))["recipe"] for n in (1, 2)]
    assert recipes[0].keys() - recipes[1].keys() == {"k"}
    assert recipes[1].keys() - recipes[0].keys() == {"target_l0"}


def test_a_configuration_with_a_setting_of_another_kind_is_refused(toytask: Command, here):
    assert toytask("train", *TINY_OPTIONS, "--epochs", "1", "--no-figures").code == 0
    path = Path("runs/01/config.json")
    config = files.read_json(path)
    config["recipe"]["k"] = 8
    files.write_json(path, config)
    result = toytask("eval")
    assert result.code == 1
    assert "runs/01/config.json: k is only for sae topk" in result.err
