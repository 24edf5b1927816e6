"""Multi-query associative recall with log-linear Mamba-2 and with plain Mamba-2, in under two minutes on two cores.

The task is that of Arora et al., "Zoology" (arXiv 2312.04927), on which Guo et al. compare log-linear attention (arXiv
2506.04761). A sequence opens with key-value pairs; later on each key comes up again, somewhere among distractors (pairs
of other keys), and the model has to name the value it came with. The state of a head is too small for all the pairs of
the sequence: plain Mamba-2 can only forget the old in favour of the new, while a hierarchy keeps blocks of the past
apart and learns how much to read from each.

Everything about the two models is the same but the spec that is compiled.
"""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maskdsl
from maskdsl.mask.levels import levels
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.sampling import Shape, random_inputs

LENGTH, PAIRS, KEYS, VALUES = 256, 20, 64, 32
WIDTH, HEADS, KEY, VALUE, LAYERS = 64, 2, 8, 16, 2
BATCH, STEPS, REPORT, RATE = 16, 500, 50, 6e-3
PICTURE = Path(__file__).parent.parent / "build" / "mqar.png"


def batch(generator: torch.Generator, size: int = BATCH) -> tuple[Tensor, Tensor]:
    """Tokens [size, LENGTH], keys before values in the vocabulary, and the value wanted at each, -100 where none is.

    Pairs first; then distractor pairs, their keys none of the sequence's own, with each key at a random place in them.
    """
    order = torch.rand(size, KEYS, generator=generator).argsort(1)
    keys, values = order[:, :PAIRS], torch.randint(VALUES, (size, PAIRS), generator=generator)
    rest = LENGTH - 2 * PAIRS
    other_keys = order.gather(1, torch.randint(PAIRS, KEYS, (size, rest), generator=generator))
    other_values = KEYS + torch.randint(VALUES, (size, rest), generator=generator)
    distractors = torch.where(torch.arange(rest) % 2 == 0, other_keys, other_values)
    places = torch.rand(size, rest, generator=generator).argsort(1)[:, :PAIRS]
    asked = torch.full((size, rest), -100).scatter(1, places, values)
    pairs = torch.stack((keys, KEYS + values), dim=2).flatten(1)
    tokens = torch.cat((pairs, distractors.scatter(1, places, keys)), dim=1)
    return tokens, torch.cat((torch.full_like(pairs, -100), asked), dim=1)


class Layer(nn.Module):
    """One compiled attention between projections; a key is made from the token before its value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.attention = maskdsl.compile(name)
        self.hierarchical = any(given.name == "lam" for given in self.attention.spec.inputs)
        self.query = nn.Linear(WIDTH, HEADS * KEY, bias=False)
        self.key = nn.Linear(WIDTH, HEADS * KEY, bias=False)
        self.key.weight.data.copy_(self.query.weight.data)  # a query should find its own key from the start
        self.now = nn.Parameter(torch.zeros(WIDTH))  # how much of the present token goes into a key
        self.value = nn.Linear(WIDTH, HEADS * VALUE, bias=False)
        self.gate = nn.Linear(WIDTH, HEADS * VALUE, bias=False)
        self.step = nn.Linear(WIDTH, HEADS)
        self.weights = nn.Linear(WIDTH, HEADS * levels(LENGTH))
        nn.init.zeros_(self.weights.weight)
        nn.init.constant_(self.weights.bias, math.log(math.e - 1))  # every level counts 1: plain Mamba-2
        self.A_log = nn.Parameter(torch.full((HEADS,), -4.0))
        self.dt_bias = nn.Parameter(torch.zeros(HEADS))
        self.D = nn.Parameter(torch.zeros(HEADS))
        self.norm = nn.RMSNorm(VALUE)
        self.out = nn.Linear(HEADS * VALUE, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, WIDTH] to [B, T, WIDTH]."""
        before = F.pad(x, (0, 0, 1, -1))
        inputs: dict[str, Any] = {
            "q": self.query(x).unflatten(-1, (HEADS, KEY)),
            "k": self.key(before + self.now * x).unflatten(-1, (HEADS, KEY)),
            "v": self.value(x).unflatten(-1, (HEADS, VALUE)),
            "dt": self.step(x),
            "A_log": self.A_log,
            "dt_bias": self.dt_bias,
            "D": self.D,
        }
        if self.hierarchical:
            inputs["lam"] = F.softplus(self.weights(x)).unflatten(-1, (HEADS, levels(LENGTH)))
        return self.out(self.norm(self.attention(**inputs)).flatten(2) * F.silu(self.gate(x)))


class Model(nn.Module):
    """Token embedding, layers on a residual stream, one score for each value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(KEYS + VALUES, WIDTH)
        self.layers = nn.ModuleList(nn.Sequential(nn.RMSNorm(WIDTH), Layer(name)) for _ in range(LAYERS))
        self.head = nn.Sequential(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VALUES, bias=False))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] to [B, T, VALUES]."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def rate_at(step: int) -> float:
    """The share of the learning rate that a step gets: a short rise, then half a cosine."""
    return min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / STEPS)) / 2


@dataclass
class Run:
    """One model in training and what was seen of it; both models get the same batches."""

    name: str
    steps: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Build the model from a fixed seed."""
        torch.manual_seed(0)
        self.model = Model(self.name)
        self.batches, self.held_out = torch.Generator().manual_seed(1), batch(torch.Generator().manual_seed(2), 64)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate_at)

    def train(self, steps: int) -> float:
        """Train for some steps; the mean loss over them."""
        start, losses = time.perf_counter(), []
        for _ in range(steps):
            tokens, wanted = batch(self.batches)
            loss = F.cross_entropy(self.model(tokens).flatten(0, 1), wanted.flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.item())
        self.seconds += time.perf_counter() - start
        return sum(losses) / len(losses)

    @torch.no_grad()
    def accuracy(self) -> float:
        """The share of held-out questions answered right."""
        tokens, wanted = self.held_out
        right = self.model(tokens).argmax(-1) == wanted
        return float(right[wanted >= 0].float().mean())


def check(name: str) -> None:
    """Hold the compiled attention against its definition before anything is trained on it."""
    attention = maskdsl.compile(name)
    shape = Shape(B=1, T=100, H=HEADS, K=KEY, V=VALUE, L=max(1, needed_levels(attention.spec, 100)))
    inputs: dict[str, Any] = random_inputs(attention.spec, shape, dtype=torch.float64)
    for tensor in inputs.values():
        tensor.requires_grad_()
    output, exact = attention(**inputs), attention.reference(**inputs)
    ones = torch.ones_like(exact)
    pairs = zip(
        (output, *torch.autograd.grad(output, list(inputs.values()), ones)),
        (exact, *torch.autograd.grad(exact, list(inputs.values()), ones)),
        strict=True,
    )
    worst = max(float((one - other).abs().max() / (1 + other.abs().max())) for one, other in pairs)
    assert worst < 1e-9, f"{name} is {worst:.1e} off its definition"
    print(f"{name}: output and {len(inputs)} gradients agree with the definition, largest difference {worst:.1e}")


def draw(runs: list[Run]) -> None:
    """Accuracy over steps, if matplotlib is there."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    for run in runs:
        axis.plot(run.steps, run.accuracies, marker="o", markersize=4, label=run.name)
    axis.set(xlabel="training step", ylabel="accuracy on held-out questions", ylim=(0, 1), title="Associative recall")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE)
    print(f"wrote {PICTURE}")


def main() -> None:
    """Check, train both models side by side, and sum up."""
    print(
        f"{PAIRS} pairs in {LENGTH} tokens; {LAYERS} layers, {HEADS} heads with states of {KEY} x {VALUE}; chance "
        f"{1 / VALUES:.1%}"
    )
    runs = [Run("log_linear_mamba2"), Run("mamba2")]
    for run in runs:
        check(run.name)
    print(f"\n{'step':>5}   " + "   ".join(f"{run.name + ' loss, accuracy':>32}" for run in runs))
    for step in range(REPORT, STEPS + 1, REPORT):
        cells = []
        for run in runs:
            loss = run.train(REPORT)
            run.steps.append(step)
            run.accuracies.append(run.accuracy())
            cells.append(f"{loss:>23.3f} {run.accuracies[-1]:>8.1%}")
        print(f"{step:>5}   " + "   ".join(cells), flush=True)
    print()
    for run in runs:
        print(f"{run.name:<18} {run.accuracies[-1]:.1%} of held-out questions right, {run.seconds:.0f} s of training")
    draw(runs)


if __name__ == "__main__":
    main()
