"""One layer, the same batches, three ways to store its frames: how trajectories differ modulo gauge.

A spectral tensor train layer with all singular values 1 learns a fixed random one of the same ranks by regression, from
one start and at one learning rate, four times: on Stiefel manifolds with the gauge fixed every 10 steps, on Stiefel
manifolds without, as Householder reflectors whose first rows lead, as in the paper, and as Householder reflectors whose
leading rows are looked at every 10 steps and chosen anew where their margin is low.

Prints at the end of training, and plots over the steps into ``ablation.png`` in the folder given by ``--output``: the
loss; the chart margin, which is the smallest singular value of a leading block; the gauge drift, which is how far the
cores are from their representatives in St_U; the orthogonality error; and the distance on the quotient to the first
run, which is the least distance of the cores over all orthogonal changes of basis on the bonds. Prints, too, how far
the weights are from the first run's: gauge fixing leaves the trajectory of W as it is, up to rounding in float32.

Where the first rows lead, the loss stays high: at a margin of 0 their chart folds, a wall that no step crosses (see
walls.py). Other rows lead past it. For whole networks see `sttp-riemann ablate`.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

import sttp_riemann as sr

STEPS, EVERY = 250, 5
RUNS = {
    "Riemannian, gauge fixed": ("riemannian", False, 10),
    "Riemannian, not fixed": ("riemannian", False, 0),
    "Householder, first rows lead": ("householder", False, 0),
    "Householder, pivoted": ("householder", True, 10),
}


def chain(layer: nn.Module) -> list[Tensor]:
    """All cores in one chain, from the outer end of U to that of V, each as (rank before, mode, rank after)."""
    left, _, right = layer.core_frames()
    cores: list[Tensor] = []
    for core in left:
        before = cores[-1].shape[2] if cores else 1
        cores.append(core.detach().double().reshape(before, -1, core.shape[1]))
    outer = 1
    for core in right:
        # Matricized as (mode and outer rank) x inner rank; the next core is nearer to the spectrum
        cores.insert(len(left), core.detach().double().reshape(-1, outer, core.shape[1]).permute(2, 0, 1))
        outer = core.shape[1]
    return cores


def distance(ours: list[Tensor], others: list[Tensor]) -> float:
    """Frobenius distance of the cores as they are."""
    return float(sum((a - b).square().sum() for a, b in zip(ours, others, strict=True)) ** 0.5)


def quotient_distance(ours: list[Tensor], others: list[Tensor]) -> float:
    """Least distance over all changes of basis on the bonds, one bond after the other, each by a polar factor."""
    moving = list(others)
    for bond in [k for _ in range(10) for k in range(len(ours) - 1)]:
        before = torch.einsum("amb,amc->bc", moving[bond], ours[bond])
        after = torch.einsum("bmc,dmc->bd", moving[bond + 1], ours[bond + 1])
        u, _, vh = torch.linalg.svd(before + after)
        moving[bond] = torch.einsum("amb,bc->amc", moving[bond], u @ vh)
        moving[bond + 1] = torch.einsum("bc,bmd->cmd", u @ vh, moving[bond + 1])
    return distance(ours, moving)


def train(frames: str, pivots: bool, gauge_fix_every: int) -> tuple[Tensor, list[list[Tensor]], dict[str, list[float]]]:
    """Give the last weight, the cores at every fifth step, and what was measured there."""
    layer, teacher = (nn.Linear(64, 96, bias=False) for _ in range(2))
    target = sr.reparameterize(teacher, rank=8, spectrum="identity", init="orthogonal", seed=1).weight.detach()
    # On the Riemannian path, representatives in St_U are those whose first rows lead: drift is measured from there
    sr.reparameterize(layer, rank=8, frames=frames, spectrum="identity", init="orthogonal", seed=0, pivots=pivots)
    optimizer = sr.RiemannianAdam(layer.parameters(), lr=1e-2)
    if gauge_fix_every:
        sr.register_gauge_fix(layer, optimizer, every=gauge_fix_every)
    generator = torch.Generator().manual_seed(0)
    path: list[list[Tensor]] = []
    names = ("loss", "chart margin", "gauge drift", "orthogonality error")
    found: dict[str, list[float]] = {name: [] for name in names}
    for step in range(STEPS + 1):
        x = torch.randn(128, 64, generator=generator)
        loss = (layer(x) - x @ target.mT).square().sum(1).mean()
        if step % EVERY == 0:
            # Representatives in St_U: from there the search for the nearest change of basis is short
            path.append(chain(sr.gauge_fix(copy.deepcopy(layer))))
            found["loss"].append(loss.item())
            found["chart margin"].append(sr.chart_margin(layer))
            found["gauge drift"].append(distance(path[-1], chain(layer)))
            found["orthogonality error"].append(sr.orthogonality_error(layer))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer.weight.detach(), path, found


def plot(results: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Draw one panel for each thing that was measured."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(next(iter(results.values())))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        for (name, found), style in zip(results.items(), ("-", "--", ":", "-."), strict=True):
            axis.plot(range(0, STEPS + 1, EVERY), found[panel], style, label=name)
        axis.set(title=panel, xlabel="step", yscale="log" if panel in ("loss", "orthogonality error") else "linear")
    axes[0].legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run all three, measure them against the first, print and plot."""
    parser = argparse.ArgumentParser(description="Riemannian against Householder training of one layer.")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for ablation.png")
    output = parser.parse_args().output
    runs = {name: train(*options) for name, options in RUNS.items()}
    weight, reference, _ = runs["Riemannian, gauge fixed"]
    for name, (own, path, found) in runs.items():
        found["quotient distance"] = [quotient_distance(a, b) for a, b in zip(reference, path, strict=True)]
        print(f"{name}: {', '.join(f'{panel} {values[-1]:.3g}' for panel, values in found.items())}")
        print(f"  weight apart by {float((own - weight).norm() / weight.norm()):.1e} of its norm")
    output.mkdir(parents=True, exist_ok=True)
    plot({name: found for name, (_, _, found) in runs.items()}, output / "ablation.png")
    print(f"plotted in {output / 'ablation.png'}")


if __name__ == "__main__":
    main()
