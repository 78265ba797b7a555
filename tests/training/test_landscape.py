"""Loss surfaces are what a plain computation gives, on any number of ranks; test_surfaces.py has their figures."""

from __future__ import annotations

import json
import math

import pytest
import torch
from matrices import Expand
from tiny_models import batch_for
from tuned_models import tuned

from bench import board
from bench.checks.preflight.probes import reduce
from bench.core.settings import InputError
from bench.matrix.cell import rebuild
from bench.matrix.landscape_settings import Landscape
from bench.methods.tuned_model import TunedModel
from bench.models.heads import Linear
from bench.models.stack import Batch
from bench.records.record import Surface
from bench.training.landscape import embeddings, grid, weights

METHODS = [{"kind": "full"}, {"kind": "prompt_tuning", "length": 3}, {"kind": "late_prompt", "depth": 2}]


def in_eval(family: str = "bert", method: dict | None = None, **options) -> tuple[TunedModel, Batch]:
    model = tuned(family, method or METHODS[1], **options).eval()
    return model, batch_for(model.stack.backbone)


def in_double(*arguments) -> tuple[TunedModel, Batch]:
    model, batch = in_eval(*arguments)
    return model.double(), batch


def test_the_scalars_of_a_quadratic_are_its_own() -> None:
    slope, hessian = torch.tensor([0.3, -0.4]).double(), torch.tensor([[2.0, 0.5], [0.5, -1.0]]).double()
    points = grid.points(1.5, 7)
    losses = 1 + points @ slope + ((points @ hessian) * points).sum(1) / 2
    found = grid.surface(losses.tolist(), 1.5)
    assert found.grid == 7 and found.loss[3][3] == 1
    assert found.rise == pytest.approx((losses.max().item() - 1) / 1.5)
    assert found.slope == pytest.approx(0.5)
    assert found.curvature == pytest.approx(torch.linalg.eigvalsh(hessian).max().item())
    assert found.loss[6][0] == pytest.approx(1 + 1.5 * 0.3 + 1.5 * 0.4 + 2.25 * (2 - 1 - 2 * 0.5) / 2, rel=1e-5)


def test_a_loss_that_is_not_finite_is_unknown() -> None:
    corner = grid.surface([math.inf] + [1.0] * 24, 1.0)
    assert corner.loss[0][0] is None and corner.rise is None and corner.curvature == 0
    assert grid.surface([1.0] * 12 + [math.nan] * 13, 1.0).curvature is None
    assert Surface.model_validate_json(corner.model_dump_json()) == corner


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "gemma", "t5"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["kind"])
def test_directions_are_orthonormal_and_move_eligible_tokens_only(family: str, method: dict) -> None:
    model, batch = in_eval(family, method)
    plane = embeddings.plane(model, batch)
    for direction in (plane.first, plane.second):
        assert torch.allclose(direction.flatten(1).norm(dim=1), torch.ones(3), atol=1e-6)
        assert torch.equal(direction.abs().sum(-1) > 0, batch.perturbable_mask)
    assert (plane.first * plane.second).sum((1, 2)).abs().max() < 1e-6
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_example_has_the_same_plane_alone_and_among_others() -> None:
    model, batch = in_double()
    together = embeddings.plane(model, batch)
    for i, length in enumerate(batch.text_mask.sum(1).tolist()):
        one = Batch(**{k: v[i : i + 1, :length] if v.dim() == 2 else v[i : i + 1] for k, v in vars(batch).items()})
        alone = embeddings.plane(model, one)
        for name in ("first", "second"):
            difference = (getattr(alone, name)[0] - getattr(together, name)[i, :length]).abs().max()
            assert difference < 1e-6, (i, name, difference)


def test_a_gradient_of_zero_gives_no_direction() -> None:
    model, batch = in_eval(method={"kind": "linear_probe"}, head=Linear())
    torch.nn.init.zeros_(model.head.linear.weight)
    plane = embeddings.plane(model, batch)
    assert not plane.first.any() and not plane.slopes.any()
    assert torch.allclose(plane.second.flatten(1).norm(dim=1), torch.ones(3))
    assert embeddings.at(model, plane, grid.points(1.0, 3)).isfinite().all()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["kind"])
def test_the_middle_is_the_clean_loss(method: dict) -> None:
    model, batch = in_eval(method=method)
    with torch.no_grad():
        clean = model.loss(model.logits(batch), batch, reduction="none")
    middle = embeddings.at(model, embeddings.plane(model, batch), torch.zeros(1, 2))
    assert torch.allclose(middle[0], clean.double(), atol=1e-6)


def test_losses_are_those_of_the_backbones_own_forward() -> None:
    """Its word embeddings moved from outside, at points all over the plane."""
    model, batch = in_double("bert", {"kind": "full"})
    backbone, plane, points = model.stack.backbone, embeddings.plane(model, batch), grid.points(2.0, 5)[::3]
    found = embeddings.at(model, plane, points)
    targets = model.head.targets(batch)
    for (a, b), losses in zip(points.tolist(), found, strict=True):
        words = backbone.get_input_embeddings()(batch.ids) + a * plane.first + b * plane.second
        with torch.no_grad():
            logits = backbone(inputs_embeds=words, attention_mask=batch.text_mask.long()).logits
        own = torch.nn.functional.cross_entropy(logits[torch.arange(3), batch.answer], targets, reduction="none")
        assert torch.allclose(losses, own), (a, b, losses, own)
    assert found.std(0).min() > 1e-4, "the loss changes over the plane"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["kind"])
def test_slope_and_curvature_are_derivatives_of_the_loss(method: dict) -> None:
    model, batch = in_double("bert", method)
    plane, step = embeddings.plane(model, batch), 1e-3
    there, back = embeddings.at(model, plane, torch.tensor([[step, 0.0], [-step, 0.0]]))
    assert torch.allclose((there - back) / (2 * step), plane.slopes, rtol=1e-4)
    found = embeddings.hessian(model, plane, step) / 3

    def mean(point: torch.Tensor) -> torch.Tensor:
        shift = point[0] * plane.first + point[1] * plane.second
        moved = plane.prefix._replace(stream=plane.prefix.stream._replace(states=plane.prefix.stream.states + shift))
        return model.loss(model.logits(batch, gradient_from=-1, below=moved), batch)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # has a second derivative
        exact = torch.autograd.functional.hessian(mean, torch.zeros(2, dtype=torch.float64))
    bound = 1e-4 * exact.abs().max()  # differences of gradients are off by step^2 / 6 fourth derivatives
    assert (found - exact).abs().max() < bound, (found, exact)
    on_grid = grid.surface((embeddings.losses(model, plane, grid.points(step, 3), 0, 1) / 3).tolist(), step)
    made = grid.surface([0.0] * 9, step, plane.slopes.mean().item(), found)
    assert on_grid.slope == pytest.approx(made.slope, rel=1e-3)
    assert on_grid.curvature == pytest.approx(made.curvature, rel=1e-2), "through the rounding of the loss"


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_points_and_make_the_same_number_of_forwards(ranks: int, monkeypatch) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 12)  # four points a forward: seven forwards for 25 points
    model, batch = in_eval()
    plane, points = embeddings.plane(model, batch), grid.points(1.0, 5)
    alone = embeddings.at(model, plane, points).sum(1)
    forwards: list[int] = []
    model.stack.layers[0].register_forward_hook(lambda *_: forwards.append(rank))
    parts = []
    for rank in range(ranks):
        parts.append(embeddings.losses(model, plane, points, rank, ranks))
    assert torch.allclose(torch.stack(parts).sum(0), alone, atol=1e-5)
    assert [forwards.count(rank) for rank in range(ranks)] == [-(-7 // ranks)] * ranks


def test_filters_keep_their_norms_and_vectors_stay() -> None:
    trained = {
        "prompt": torch.randn(3, 8),
        "bias": torch.randn(8),
        "cube": torch.randn(2, 3, 4),
        "dead": torch.zeros(2, 4),
    }
    found = weights.directions(trained, 0)
    assert found.keys() == {"prompt", "cube", "dead"}
    for name, pair in found.items():
        for direction in pair:
            assert torch.allclose(direction.flatten(1).norm(dim=1), trained[name].flatten(1).norm(dim=1), atol=1e-6)
        assert name == "dead" or not torch.equal(*pair)
    moved = weights.Slice(trained, found, 0.5, -1.0)
    assert torch.equal(moved["bias"], trained["bias"])
    assert torch.allclose(moved["cube"], trained["cube"] + 0.5 * found["cube"][0] - found["cube"][1])
    middle = weights.Slice(trained, found, 0.0, 0.0)
    assert len(middle) == 4 and all(torch.equal(middle[name], trained[name]) for name in middle)


def test_ranks_and_stages_give_the_same_surfaces(write_matrix, ranks) -> None:
    """On real ranks; weights.py compares what it puts back, bit for bit, on every stage."""
    file = write_matrix(
        {"zero": ["zero0", "zero3"], "ranks": [1, 2], "steps": 2, "evaluate_every": 2},
        exclude=[{"zero": "zero3", "ranks": 1}],
        include=[{"method": "bitfit", "ranks": 2, "steps": 2}],
    )
    matrix = json.loads(file.read_text())
    matrix["defaults"] |= {"method": {"kind": "late_prompt", "depth": 1, "generator": "none"}}
    matrix["defaults"] |= {"landscape": {"radius": 3, "grid": 3, "examples": 7, "weights": True}}
    file.write_text(json.dumps(matrix))
    made = list(ranks.serve(file).values())
    assert "| sharpness |" in board.markdown(made, details=False).replace("  ", "")
    (vectors,) = [one for one in made if one.labels.method == "bitfit"]
    assert vectors.landscape.weights is None and vectors.landscape.embeddings.rise > 0
    surfaces = [one.landscape for one in made if one is not vectors]
    assert len(surfaces) == 3 and all(one.cost.seconds["landscape"] > 0 for one in made)
    for kind in ("embeddings", "weights"):
        first, *others = [getattr(one, kind) for one in surfaces]
        assert (first.grid, surfaces[0].examples) == (3, 7) and first.rise > 0
        for other in others:
            difference = (torch.tensor(first.loss) - torch.tensor(other.loss)).abs().max().item()
            assert difference < 1e-4, (kind, difference)
            assert other.slope == pytest.approx(first.slope, rel=1e-2, abs=1e-4)
            # the slice's is a difference of losses over the square of a step of 1
            assert other.curvature == pytest.approx(first.curvature, rel=1e-2, abs=4 * 1e-4)


def test_a_matrix_says_what_is_wrong_with_a_landscape(expand: Expand) -> None:
    for value, message in {
        "yes": "found 'yes', expected a mapping with radius, grid, examples, weights, weights_radius",
        "grid": "landscape.grid: found 20, expected: an odd number, so that the trained point is in the middle",
        "radius": "landscape.radius: found 0, expected: input should be greater than 0",
        "raduis": "(did you mean radius?)",
    }.items():
        given = {"grid": {"grid": 20}, "radius": {"radius": 0}, "raduis": {"raduis": 1}}.get(value, value)
        with pytest.raises(InputError) as error:
            expand({"landscape": given})
        assert message in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_cell_keeps_its_landscape_and_a_probe_drops_it(expand: Expand) -> None:
    without, plain, wide = expand({"landscape": [None, {}, {"radius": 2, "weights": True}]})
    assert without.landscape is None and plain.landscape == Landscape()
    assert wide.landscape == Landscape(radius=2, weights=True)
    assert len({without.name, plain.name, wide.name}) == 3
    for cell in (without, plain, wide):
        again = rebuild(json.loads(json.dumps(cell.content())))
        assert again == cell and again.name == cell.name
        assert reduce(cell).landscape is None
