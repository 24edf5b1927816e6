"""A byte-level language model on log-linear gated DeltaNet: trained for a few minutes, then sampled with states.

It learns the Python sources of this package, all but one file. The opening of that file is the prompt, which the model
goes on from. A spec is a recurrent model as well: a prompt can be read in one call, in pieces of any lengths, each from
the state that the piece before left, or a byte at a time. The example does all three, holds what the model writes then
against each other, and samples several continuations of one state in a batch. A step costs the same wherever it is in
the text.
"""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maskdsl
from maskdsl.mask.levels import levels
from maskdsl.runtime.state import State

ROOT = Path(__file__).parent.parent
HELD_OUT = ROOT / "runtime" / "state.py"
LENGTH, PROMPT, CONTINUATION = 1024, 569, 160  # the levels are enough for LENGTH bytes, prompt and continuation in all
PIECES = (1, 62, 64, 137)  # all but the last; none begins where a chunk of the whole prompt does
SAMPLES, TEMPERATURE = 3, 0.7
BYTES, WIDTH, HEADS, KEY, VALUE, LAYERS = 256, 128, 4, 32, 32, 2
BATCH, STEPS, REPORT, RATE = 4, 300, 25, 4e-3


def text() -> Tensor:
    """All sources but the one held out, one after another, as bytes."""
    folders = (ROOT / name for name in ("maskdsl", "codegen", "runtime"))
    files = sorted(file for folder in folders for file in folder.rglob("*.py") if file != HELD_OUT)
    return as_tokens(b"".join(file.read_bytes() for file in files))


def as_tokens(written: bytes) -> Tensor:
    """Bytes as int64 numbers."""
    return torch.tensor(list(written))


class Mixer(nn.Module):
    """One compiled attention between projections; each looks at one byte, so that a call and a step share them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = maskdsl.compile("log_linear_gated_deltanet")
        self.query = nn.Linear(WIDTH, HEADS * KEY, bias=False)
        self.key = nn.Linear(WIDTH, HEADS * KEY, bias=False)
        self.value = nn.Linear(WIDTH, HEADS * VALUE, bias=False)
        self.decay = nn.Linear(WIDTH, HEADS)
        self.write = nn.Linear(WIDTH, HEADS)
        self.weights = nn.Linear(WIDTH, HEADS * levels(LENGTH))
        nn.init.zeros_(self.weights.weight)
        nn.init.constant_(self.weights.bias, math.log(math.e - 1))  # every level counts 1: plain gated DeltaNet
        self.A_log = nn.Parameter(torch.linspace(-5.0, 0.0, HEADS))  # some heads forget slowly, some at once
        self.dt_bias = nn.Parameter(torch.zeros(HEADS))
        self.gate = nn.Linear(WIDTH, HEADS * VALUE, bias=False)
        self.norm = nn.RMSNorm(VALUE)
        self.out = nn.Linear(HEADS * VALUE, WIDTH, bias=False)

    def start(self, batch: int) -> State:
        """What is kept of `batch` sequences before their first byte."""
        device, dtype = self.A_log.device, self.A_log.dtype
        return self.attention.init_state(
            batch, heads=HEADS, key=KEY, value=VALUE, levels=levels(LENGTH), device=device, dtype=dtype
        )

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """[B, T, WIDTH], or [B, WIDTH] for one more byte of each sequence, to as much, and the state after it."""
        inputs = {
            "q": self.query(x).unflatten(-1, (HEADS, KEY)),
            "k": self.key(x).unflatten(-1, (HEADS, KEY)),
            "v": self.value(x).unflatten(-1, (HEADS, VALUE)),
            "a": self.decay(x),
            "b": self.write(x),
            "lam": F.softplus(self.weights(x)).unflatten(-1, (HEADS, levels(LENGTH))),
            "A_log": self.A_log,
            "dt_bias": self.dt_bias,
        }
        if state is None:
            o = self.attention(**inputs)
        elif x.ndim == 3:
            o, state = self.attention(**inputs, initial_state=state, output_final_state=True)
        else:
            o = self.attention.step(state, **inputs)  # the state moves on in place
        return self.out(self.norm(o).flatten(-2) * F.silu(self.gate(x))), state


class Layer(nn.Module):
    """Attention and a gated perceptron, each with its norm on the residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mixer = nn.RMSNorm(WIDTH), Mixer()
        self.up = nn.Sequential(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH, bias=False))
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """See `Mixer`."""
        mixed, state = self.mixer(self.norm(x), state)
        x = x + mixed
        gate, up = self.up(x).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up), state


class Model(nn.Module):
    """Byte embedding, layers, one score for each byte that may come next."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Sequential(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, BYTES, bias=False))

    def start(self, batch: int) -> list[State]:
        """A state for each layer, before the first byte."""
        return [module.start(batch) for module in self.modules() if isinstance(module, Mixer)]

    def forward(self, tokens: Tensor, states: list[State] | None = None) -> Tensor:
        """Tokens [B, T] to scores [B, T, BYTES], or [B] to [B, BYTES], one more byte of each sequence.

        The sequences go on from `states`, where they are given, and afterwards the list has the states after them.
        """
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            x, state = layer(x, None if states is None else states[number])
            if states is not None:
                states[number] = state
        return self.head(x)


def train(model: Model, steps: int, device: str) -> None:
    """Train on random places of the text, and print the bits a byte that the model needs, there and held out."""
    learned, held_out = text(), as_tokens(HELD_OUT.read_bytes())
    places = torch.Generator().manual_seed(1)
    unseen = held_out[: len(held_out) // LENGTH * LENGTH].view(-1, LENGTH).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    print(f"{len(learned):,} bytes to learn, {LENGTH} x {BATCH} a step\n\n step   bits a byte   held out   seconds")
    start, losses = time.perf_counter(), []
    for step in range(1, steps + 1):
        begins = torch.randint(len(learned) - LENGTH, (BATCH, 1), generator=places)
        loss = bits(model, learned[begins + torch.arange(LENGTH)].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % REPORT == 0 or step == steps:
            with torch.no_grad():
                other = float(bits(model, unseen))
            seconds = time.perf_counter() - start
            print(f"{step:>5}   {sum(losses) / len(losses):>11.2f}   {other:>8.2f}   {seconds:>7.0f}", flush=True)
            losses.clear()


def bits(model: Model, tokens: Tensor) -> Tensor:
    """The bits a byte that the model needs for each byte [B, T] but the first, given those before it."""
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()) / math.log(2)


def ways(prompt: Tensor) -> dict[str, list[Tensor]]:
    """A prompt [1, PROMPT] in pieces [1, T], or in single bytes [1], by what that is called."""
    pieces = prompt.split([*PIECES, PROMPT - sum(PIECES)], dim=1)
    lengths = ", ".join(str(piece.shape[1]) for piece in pieces)
    return {"one call": [prompt], f"calls of {lengths}": list(pieces), "steps": list(prompt.unbind(1))}


def read(model: Model, pieces: list[Tensor]) -> tuple[Tensor, list[State]]:
    """The scores [1, BYTES] for what follows a prompt in pieces, and the states after it."""
    states = model.start(batch=1)
    for piece in pieces:
        scores = model(piece, states)
    return scores if scores.ndim == 2 else scores[:, -1], states


def write(
    model: Model, scores: Tensor, states: list[State], choose: Callable[[Tensor], Tensor]
) -> tuple[list[bytes], Tensor]:
    """What every sequence goes on with, a step a byte, and the scores [B, CONTINUATION, BYTES] that decided."""
    chosen, decided = [], []
    for _ in range(CONTINUATION):
        decided.append(scores)
        chosen.append(choose(scores))
        scores = model(chosen[-1], states)
    return [bytes(row) for row in torch.stack(chosen, dim=1).tolist()], torch.stack(decided, dim=1)


def best(scores: Tensor) -> Tensor:
    """The likeliest byte of each row."""
    return scores.argmax(-1)


def compare(model: Model, prompt: Tensor) -> None:
    """Read the prompt in every way, write the likeliest continuation of each, and see that they are the same."""
    found = []
    for name, pieces in ways(prompt).items():
        start = time.perf_counter()
        (written,), scores = write(model, *read(model, pieces), best)
        print(f"prompt in {name}: read and gone on from in {time.perf_counter() - start:.1f} s", flush=True)
        found.append((written, scores))
    (known, exact), *others = found
    assert all(written == known for written, _ in others), "the continuation depends on how the prompt was read"
    difference = max(float((scores - exact).abs().max()) for _, scores in others)
    print(f"the likeliest {CONTINUATION} bytes are the same after each, their scores within {difference:.0e}:")
    print(shown(known))


def sample(model: Model, prompt: Tensor) -> None:
    """Read the prompt once, copy the states, and draw continuations of the copies in one batch."""
    scores, states = read(model, [prompt])
    print(f"\na layer keeps: {states[0]}")
    copies, draws = [0] * SAMPLES, torch.Generator().manual_seed(2)

    def drawn(scores: Tensor) -> Tensor:
        chances = torch.softmax(scores / TEMPERATURE, dim=-1).cpu()
        return torch.multinomial(chances, 1, generator=draws).squeeze(1).to(scores.device)

    written, _ = write(model, scores[copies], [state.select(copies) for state in states], drawn)
    for number, continuation in enumerate(written, start=1):
        print(f"\nsample {number} of {SAMPLES}, temperature {TEMPERATURE}:\n{shown(continuation)}")


def shown(written: bytes) -> str:
    """Bytes as text, set in from the left; a dot for what has no sign of its own."""
    text = "".join(sign if sign.isprintable() or sign == "\n" else "." for sign in written.decode(errors="replace"))
    return textwrap.indent(text, "    | ", lambda line: True)


@click.command()
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="Training steps.")
@click.option("--device", default="cpu", show_default=True, help="Where the model is, as PyTorch names it.")
def main(steps: int, device: str) -> None:
    """Train, compare ways to read a prompt, and sample."""
    torch.manual_seed(0)
    model = Model().to(device)
    train(model, steps, device)
    prompt = as_tokens(HELD_OUT.read_bytes()[:PROMPT])[None].to(device)
    model.double()  # in float64 rounding does not choose between two bytes that are nearly as likely
    with torch.no_grad():
        end = bytes(prompt[0, -CONTINUATION:].tolist())
        print(f"\nthe prompt, the first {PROMPT} bytes of {HELD_OUT.relative_to(ROOT)}, ends in:\n{shown(end)}\n")
        compare(model, prompt)
        sample(model, prompt)


if __name__ == "__main__":
    main()
