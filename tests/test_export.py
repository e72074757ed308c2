"""`toytask export`: other tools compute from its files what the model computes."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import TINY, Command, options
from safetensors.torch import load_file
from torch import Tensor

from toytask_cli.dataset import build_grid
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import SAE_KINDS, resolve
from toytask_cli.runs import tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.run import Run
from toytask_cli.tokenizer import PAD

CPU = torch.device("cpu")
K = 5


@pytest.fixture(params=SAE_KINDS)
def model(here: Path, request: pytest.FixtureRequest) -> Transformer:
    """The model of `runs/01`, of each kind, no weight of which is zero."""
    recipe = resolve("default", TINY, {"sae": request.param, "k": K})
    model = new_model(recipe, len(build_grid(recipe).tokenizer))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    run = Run.create(Config.here(recipe, CPU, torch.float32))
    run.write_config()
    tensor_files.write(run.model_file, model.state_dict())
    return model


@pytest.fixture
def exported(model: Transformer, toytask: Command) -> dict[str, Tensor]:
    """The tensors of `sae/`, with x [n, d_model] of the validation split."""
    result = toytask("export", "--to", "saelens", "--out", "sae", "--activations", "validation")
    assert result.code == 0, result.err
    return load_file("sae/sae_weights.safetensors") | load_file("sae/activations.safetensors")


def published_activations(tensors: dict[str, Tensor]) -> Tensor:
    """f by the formulas of SAELens for the architecture that `cfg.json` names."""
    config = json.loads(Path("sae/cfg.json").read_text())
    assert config["apply_b_dec_to_input"] is False
    pre_acts = tensors["x"] @ tensors["W_enc"] + tensors["b_enc"]
    if config["architecture"] == "standard":
        return pre_acts.relu()
    if config["architecture"] == "topk":
        smallest = pre_acts.sort(descending=True).values[:, config["k"] - 1, None]
        return torch.where(pre_acts >= smallest, pre_acts.relu(), 0)
    assert config["architecture"] == "jumprelu"
    return pre_acts.relu() * (pre_acts > tensors["threshold"])


def test_the_published_formula_gives_the_same_activations_and_reconstruction(model, exported):
    acts = published_activations(exported)
    recon = acts @ exported["W_dec"] + exported["b_dec"]
    with torch.no_grad():
        expected = model.sae(exported["x"])
    assert (acts > 0).any(dim=1).all()
    torch.testing.assert_close(acts, expected.acts)
    torch.testing.assert_close(recon, expected.recon)


def test_nothing_but_the_tensors_and_settings_of_its_architecture_is_written(model, toytask):
    assert toytask("export", "--out", "sae").code == 0
    assert {path.name for path in Path("sae").iterdir()} == {"sae_weights.safetensors", "cfg.json"}
    kind = Run.open(None).config.recipe.sae
    shapes = {name: tuple(t.shape) for name, t in load_file("sae/sae_weights.safetensors").items()}
    shared = {"W_enc": (32, 48), "b_enc": (48,), "W_dec": (48, 32), "b_dec": (32,)}
    assert shapes == shared | ({"threshold": (48,)} if kind == "jumprelu" else {})
    config = json.loads(Path("sae/cfg.json").read_text())
    assert config.get("k") == (K if kind == "topk" else None)
    assert (config["d_in"], config["d_sae"], config["dtype"]) == (32, 48, "float32")
    measured = json.loads(toytask("sparsity", "--json", "--no-figures").out)["all"]
    for name in ("l0", "dead_neurons", "explained_variance"):
        assert config["metadata"][name] == measured[name]


def test_the_activations_are_x_at_every_answer_position_of_the_split(model, exported):
    grid = Run.open(None).grid()
    real = grid.split("validation").answers[:, 1:] != PAD
    assert len(exported["x"]) == real.sum()
    examples = grid.examples(exported["task"], exported["pair"])
    with torch.no_grad():
        resid = model.residual(examples.prompts, examples.answers[:, :-1])
    rows = torch.arange(len(resid))
    torch.testing.assert_close(exported["x"], resid[rows, exported["position"]])


SCRIPT = """
import sys
import torch
from safetensors.torch import load_file
from sae_lens import SAE

sae = SAE.load_from_disk("sae")
x = load_file("sae/activations.safetensors")["x"]
expected = load_file("expected.safetensors")
with torch.no_grad():
    acts = sae.encode(x)
    recon = sae.decode(acts)
print(float((acts - expected["acts"]).abs().max()), float((recon - expected["recon"]).abs().max()))
print(sae.cfg.architecture(), sae.cfg.metadata.hook_name, sae.cfg.metadata.l0)
"""


@pytest.mark.skipif(find_spec("sae_lens") is None, reason="sae_lens is not installed")
def test_saelens_loads_it_and_computes_the_same(model, exported):
    with torch.no_grad():
        out = model.sae(exported["x"])
    tensor_files.write(Path("expected.safetensors"), {"acts": out.acts, "recon": out.recon})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    differences, loaded = done.stdout.splitlines()
    assert max(map(float, differences.split())) < 1e-5, differences
    config = json.loads(Path("sae/cfg.json").read_text())
    assert loaded.split() == [config["architecture"], "decoder", str(config["metadata"]["l0"])]


@pytest.mark.parametrize("model", ["relu"], indirect=True)
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--to", "saelen", "--out", "new"], 2, "unknown format 'saelen': did you mean 'saelens'?"),
        (["--out", "new", "--activations", "tests"], 2, "unknown split 'tests': did you mean"),
        (["--out", "runs"], 1, "runs is not empty: name a new directory with --out"),
        ([], 2, "Missing option '--out'"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(model, toytask, args, code, message):
    result = toytask("export", *args)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert not Path("new").exists()


def test_a_split_without_examples_is_one_line(toytask: Command, here):
    article = [*options(TINY | {"train_fraction": 0.3, "epochs": 1}), "--preset", "article"]
    assert toytask("train", *article, "--validation-fraction", "0.7", "--no-figures").code == 0
    result = toytask("export", "--out", "new", "--activations", "test")
    assert (result.code, result.out) == (1, "")
    assert "the test split has no example: export another split" in result.err
    assert not Path("new").exists()
