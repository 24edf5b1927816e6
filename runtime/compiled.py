"""A compiled spec: what `maskdsl.compile` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, overload

import torch
from torch import Tensor

from maskdsl.codegen.extract import function_source
from maskdsl.codegen.kernels.programs import BOUNDS
from maskdsl.diagnostics import CallError
from maskdsl.explain.report import explain
from maskdsl.lowering.hand import ALONE
from maskdsl.lowering.memory import memories
from maskdsl.runtime import cache
from maskdsl.runtime.arguments import Bound, bind, result_dtype
from maskdsl.runtime.build import Signature, ratios_of
from maskdsl.runtime.checked import Checked, states_layout, without_tensors
from maskdsl.runtime.function import apply, apply_laid_out, differentiated
from maskdsl.runtime.oracle import dense, recurrent
from maskdsl.runtime.sequences import Sequences, sequences
from maskdsl.runtime.state import State, empty_state
from maskdsl.runtime.step import StepRoute, Token, bind_token, run_token, step_route
from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.token import StepConfiguration
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

if TYPE_CHECKING:
    from maskdsl.runtime.triton.program import Program

Backend = Literal["auto", "torch", "triton"]
Direction = Literal["forward", "backward", "step"]
Oracle = Literal["dense", "recurrent"]
Kernels = TypeVar("Kernels", Configuration, StepConfiguration)
"""What generated kernels depend on."""

ROUTES = 1024
"""How many layouts of calls are remembered; beyond that all are checked anew."""


@dataclass(frozen=True)
class _Route:
    """How checked calls run whose tensors have the same shapes, dtypes and device, all or none with gradients.

    `run` takes the inputs, states among them, and, where sequences are packed, where they are; it returns
    the output and the states after it, whose names are `kept`. `checked` is what is known of calls with states.
    """

    choice: Signature | Configuration
    run: Callable[[dict[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, ...]]
    kept: tuple[str, ...] = ()
    checked: Checked | None = None


class Attention:
    """A compiled spec.

    Called with the inputs by name or in declared order it returns o [B, T, H, V], in the dtype that the key and value
    inputs promote to, with gradients for every input. Computation is in float64 where an input is, else in float32;
    Triton kernels multiply in the precision of the output and accumulate in float32.

    `backend` "auto" takes Triton on a GPU for what it has kernels for, and PyTorch for everything else.
    """

    def __init__(self, spec: Spec, backend: Backend = "auto", chunk: int | None = None) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"Unknown backend '{backend}': choose one of {', '.join(get_args(Backend))}.")
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int)):
            raise ValueError(f"A chunk is a whole number of positions, not {chunk!r}.")
        self.spec = spec
        self.backend = backend
        self._signature = Signature(chunk=chunk)
        self._latest: Signature | Configuration = self._signature
        self._latest_step: Signature | StepConfiguration = Signature()
        self._modules: dict[Signature, Any] = {}
        self._steps: dict[Signature, Any] = {}
        self._programs: dict[Configuration | StepConfiguration, Program | str] = {}
        self._routes: dict[tuple[Any, ...], _Route] = {}
        self._step_routes: dict[tuple[Any, ...] | None, StepRoute] = {}
        self._names = tuple(each.name for each in spec.inputs)
        self._memories = memories(spec)
        self._signature.lower(spec)

    def __repr__(self) -> str:
        return f"<maskdsl attention '{self.spec.name}' ({', '.join(i.name for i in self.spec.inputs)})>"

    def __getstate__(self) -> dict[str, Any]:
        # modules cannot be copied or pickled, and come from the cache again
        return vars(self) | {"_modules": {}, "_steps": {}, "_programs": {}, "_routes": {}, "_step_routes": {}}

    @overload
    def __call__(
        self,
        /,
        *args: Tensor,
        check_inputs: bool = False,
        initial_state: State | None = None,
        output_final_state: Literal[False] = False,
        cu_seqlens: Tensor | None = None,
        **kwargs: Tensor,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        /,
        *args: Tensor,
        check_inputs: bool = False,
        initial_state: State | None = None,
        output_final_state: Literal[True],
        cu_seqlens: Tensor | None = None,
        **kwargs: Tensor,
    ) -> tuple[Tensor, State]: ...

    def __call__(
        self,
        /,
        *args: Tensor,
        check_inputs: bool = False,
        initial_state: State | None = None,
        output_final_state: bool = False,
        cu_seqlens: Tensor | None = None,
        **kwargs: Tensor,
    ) -> Tensor | tuple[Tensor, State]:
        """The output of a call; raises `CallError` naming the input that is wrong, or what "triton" cannot do.

        `check_inputs` also holds the values against the declared ranges.

        Sequences go on from `initial_state`, each from its own position, as if all their tokens had come in one call.
        With `output_final_state` the result is (o, the state after the call). Gradients flow into the one and out of
        the other. With `cu_seqlens` [S + 1], int32 or int64, S sequences lie one after another in a single batch row,
        sequence s from token cu_seqlens[s] up to cu_seqlens[s + 1]; a state has one row for each of them, and for
        tokens beyond the last one the output is 0. Kernels take at most `SHORT` tokens without gradients as steps.
        """
        training = differentiated((*args, *kwargs.values()))
        layout = training, len(args), *kwargs, *(_layout(x) for x in (cu_seqlens, *args, *kwargs.values()))
        states = initial_state is not None or output_final_state
        if states:
            layout = *layout, *states_layout(self.spec, initial_state, output_final_state)
        route = None if check_inputs else self._routes.get(layout)
        given = dict(zip(self._names, args, strict=False)) | kwargs
        if route is not None and route.checked is not None:
            call = route.checked.another({name: given[name] for name in self._names}, initial_state, cu_seqlens)
            if call is not None:
                return self._by_route(route, call, cu_seqlens)
            route = None
        if route is None:
            if states or cu_seqlens is not None:
                call = sequences(self.spec, args, kwargs, initial_state, output_final_state, cu_seqlens, check_inputs)
                return self._with_sequences(call, layout, cu_seqlens)
            route = self._route(bind(self.spec, args, kwargs, check_inputs), training)
            self._remember(layout, route)
        self._latest = route.choice
        places = {} if cu_seqlens is None else {BOUNDS: cu_seqlens}
        return route.run({name: given[name] for name in self._names}, places)[0]

    def _remember(self, layout: tuple[Any, ...], route: _Route) -> None:
        if len(self._routes) >= ROUTES:
            self._routes.clear()
        self._routes[layout] = route

    def _with_sequences(
        self, call: Sequences, layout: tuple[Any, ...], cu_seqlens: Tensor | None
    ) -> Tensor | tuple[Tensor, State]:
        by_kernels = self.backend == "triton" or (self.backend == "auto" and call.layout.positions.is_cuda)
        if by_kernels and call.short:
            state = call.begin()
            o = torch.cat([self.step(state, **token) for token in call.tokens()], 1)
            return (o, state) if call.hand.final else o
        sizes, result = call.bound.sizes, result_dtype(self.spec, call.bound)
        configuration = None if call.empty else self._configuration(call.bound, result, call.training, call)
        if configuration is not None:
            route = self._by_kernels(configuration, call.for_kernels.bound, result)
            if call.hand != ALONE:
                route = dataclasses.replace(route, checked=without_tensors(call))
            if call.layout.whole or call.layout.positions.is_cuda:  # on a processor bounds are looked at in every call
                self._remember(layout, route)
            return self._by_route(route, call, cu_seqlens)
        hand = dataclasses.replace(call.hand, laid=True)
        signature = Signature(ratios_of(dict(sizes.key_heads), sizes.H), self._signature.chunk, hand)
        self._latest = signature
        o, final = apply_laid_out(self._module(signature), sizes.known, call.layout, call.tensors, result)
        rows = {name: x.transpose(1, 2).flatten(0, 1).contiguous() for name, x in final.items()}
        return (call.output(o), call.state(rows)) if call.hand.final else call.output(o)

    def _by_route(self, route: _Route, call: Sequences, cu_seqlens: Tensor | None) -> Tensor | tuple[Tensor, State]:
        """A call with sequences by kernels."""
        sizes, taken = call.bound.sizes, call.for_kernels
        self._latest = route.choice
        given = {} if cu_seqlens is None else {BOUNDS: cu_seqlens}
        o, *kept = route.run(taken.rows, {**taken.places, **given})
        o = o.view(sizes.B, sizes.T, *o.shape[2:])
        return (o, call.state(dict(zip(route.kept, kept, strict=True)))) if call.hand.final else o

    def init_state(
        self,
        batch: int,
        *,
        heads: int | None = None,
        key: int | None = None,
        value: int | None = None,
        levels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> State:
        """The state before the first token of `batch` sequences, for `step`.

        `heads` are the value heads H, `key` and `value` the sizes K and V, `levels` the level weights L that the inputs
        will have, which bounds how many tokens there can be. `dtype` is float32, bfloat16 or float64. Raises CallError
        for a size that the spec's state needs and is not given, or is given and has no use.
        """
        sizes = {"heads": heads, "key": key, "value": value, "levels": levels}
        return empty_state(self.spec, batch, sizes, device, dtype)

    def step(self, state: State, /, *args: Tensor, slots: Tensor | None = None, **kwargs: Tensor) -> Tensor:
        """The output for one more token of every sequence; `state` is one token further afterwards, in place.

        Inputs are as in a call with T = 1, or all of those by token come without the time axis, and then so does the
        output: [B, 1, H, V] or [B, H, V]. `slots` [B] are the sequences of a larger state that the batch goes on with,
        each once; the others stay as they are. Nothing is differentiated.

        On a GPU a step is one kernel, which reads the levels that hold something and writes the one that changes. It
        can be captured in a CUDA graph: each replay is one token more, for as long as the levels last.

        Raises CallError, before anything changes, for what does not fit: an input, the state of another spec, a batch
        of another size, slots that are not there or named twice (seen on a CPU only), a position beyond the levels. On
        a GPU positions are read back only where `state.furthest` has come to the last one that the levels allow. With
        the backend "triton", also for what there are no kernels for: float64, or a CPU.
        """
        layout = None
        if isinstance(state, State) and state.spec is self.spec:
            layout = *state.layout, len(args), *kwargs, *(_layout(x) for x in (slots, *args, *kwargs.values()))
        route = self._step_routes.get(layout)
        if route is not None and route.serves(state, slots):
            given = dict(zip(self._names, args, strict=False)) | kwargs
            token = route.token({name: given[name] for name in self._names})
        else:
            token = bind_token(self.spec, self._memories, state, args, kwargs, slots)
            route = self._step_route(token, state, slots)
            if len(self._step_routes) >= ROUTES:
                self._step_routes.clear()
            if layout is None:
                state.spec = self.spec  # an equal one, found faster from now on
            else:
                self._step_routes[layout] = route
        self._latest_step = route.choice
        return route.run(state, token, slots)

    def reference(self, /, *args: Tensor, oracle: Oracle = "dense", **kwargs: Tensor) -> Tensor:
        """The output in float64 by an oracle, differentiable.

        `dense` builds M[t, s] from its definition, `recurrent` goes token by token.
        """
        if oracle not in get_args(Oracle):
            raise ValueError(f"Unknown oracle '{oracle}': choose 'dense' or 'recurrent'.")
        tensors = bind(self.spec, args, kwargs).tensors
        run = dense if oracle == "dense" else recurrent
        return run(self.spec, {name: x.to(torch.float64) for name, x in tensors.items()})

    def explain(self) -> str:
        """The recurrence as mathematics, the normal form, and what training and decoding cost."""
        return explain(self.spec)

    def source(self, direction: Direction = "forward") -> str:
        """The generated program of the latest call (before any: of one whose key inputs have all heads)."""
        if direction not in get_args(Direction):
            raise ValueError(f"Unknown direction '{direction}': choose 'forward', 'backward' or 'step'.")
        if direction == "step":
            step = self._latest_step
            made = self._step_module(step) if isinstance(step, Signature) else self._program(step).module
            return _source(made, direction)
        latest = self._latest
        if isinstance(latest, Configuration) and direction == "backward":
            latest = dataclasses.replace(latest, training=True)
        module: Any = self._program(latest).module if isinstance(latest, Configuration) else self._module(latest)
        return _source(module, direction)

    def _route(self, bound: Bound, training: bool) -> _Route:
        """How calls with tensors like these run. Raises CallError where "triton" cannot do it."""
        sizes, result = bound.sizes, result_dtype(self.spec, bound)
        configuration = self._configuration(bound, result, training)
        if configuration is not None:
            return self._by_kernels(configuration, bound, result)
        signature = Signature(ratios_of(dict(sizes.key_heads), sizes.H), self._signature.chunk)
        module = self._module(signature)
        return _Route(signature, lambda tensors, _: (apply(module, sizes.known, tensors, result),))

    def _by_kernels(self, configuration: Configuration, bound: Bound, result: torch.dtype) -> _Route:
        from maskdsl.runtime.triton.function import apply as apply_kernels

        program, sizes = self._program(configuration), bound.sizes.known
        return _Route(
            configuration,
            lambda tensors, places: apply_kernels(program, sizes, tensors, result, places),
            program.module.OUTPUTS[1:],
        )

    def _step_route(self, token: Token, state: State, slots: Tensor | None) -> StepRoute:
        """How steps like this one run. Raises CallError where "triton" cannot do it."""
        configuration = self._step_configuration(token, state, slots)
        if configuration is not None:
            from maskdsl.runtime.triton.step import given_of
            from maskdsl.runtime.triton.step import run_token as run_by_kernel

            by_kernel = partial(run_by_kernel, self._program(configuration), given_of(self.spec, token))
            return step_route(self.spec, token, configuration, by_kernel)
        sizes = token.bound.sizes
        signature = Signature(ratios_of(dict(sizes.key_heads), sizes.H))
        run = partial(run_token, self._step_module(signature), self.spec)
        return step_route(self.spec, token, signature, run)

    def _configuration(
        self, bound: Bound, result: torch.dtype, training: bool, call: Sequences | None = None
    ) -> Configuration | None:
        """That of the kernels for a call; None where PyTorch takes it. Raises CallError where "triton" cannot do it."""
        packed, hand = False, ALONE
        if call is not None:
            packed = not call.layout.whole or call.by_position
            hand = dataclasses.replace(call.hand, laid=call.by_position)

        def find() -> Configuration:
            from maskdsl.runtime.triton.build import configuration_of, device_kind

            kind = device_kind(bound.tensors)
            if call is not None and call.wide:
                raise Unsupported("A state of float64 goes with PyTorch: there are no Triton kernels for it.")
            return configuration_of(bound, result, self._signature.chunk, kind, training, packed, hand)

        return self._kernels(find, next(iter(bound.tensors.values())).device)

    def _step_configuration(self, token: Token, state: State, slots: Tensor | None) -> StepConfiguration | None:
        """The same for a step."""

        def find() -> StepConfiguration:
            from maskdsl.runtime.triton.build import device_kind
            from maskdsl.runtime.triton.step import step_configuration

            device_kind(token.bound.tensors)
            return step_configuration(token, state, slots)

        return self._kernels(find, state.device)

    def _kernels(self, find: Callable[[], Kernels], device: torch.device) -> Kernels | None:
        """What `find` names, with its program at hand; None where PyTorch takes the call."""
        if self.backend == "torch" or (self.backend == "auto" and device.type != "cuda"):
            return None
        try:
            configuration = find()
            self._program(configuration)
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            unsupported = "The backend 'triton' needs the package 'triton', which is not installed."
        except Unsupported as error:
            unsupported = str(error)
        else:
            return configuration
        if self.backend == "triton":
            raise CallError(unsupported)
        return None

    def _program(self, configuration: Configuration | StepConfiguration) -> Program:
        """The program of a configuration, made once. Raises Unsupported, every time, where there is none."""
        from maskdsl.runtime.triton.build import load

        if configuration not in self._programs:
            try:
                self._programs[configuration] = load(self.spec, configuration)
            except Unsupported as error:
                self._programs[configuration] = str(error)
        found = self._programs[configuration]
        if isinstance(found, str):
            raise Unsupported(found)
        return found

    def _module(self, signature: Signature) -> Any:
        if signature in self._modules:
            return self._modules[signature]
        loaded = cache.module(self.spec.name, signature.key(self.spec), lambda: signature.source(self.spec))
        self._modules[signature] = loaded
        return loaded

    def _step_module(self, signature: Signature) -> Any:
        if signature not in self._steps:
            make = lambda: signature.step_source(self.spec)  # noqa: E731
            self._steps[signature] = cache.module(self.spec.name, signature.step_key(self.spec), make)
        return self._steps[signature]


def _source(module: Any, function: str) -> str:
    return function_source(Path(module.__file__).read_text(encoding="utf-8"), function)


def _layout(given: object) -> tuple[Any, ...]:
    """All of an argument that decides whether a call is right and how it runs, but for its values and gradients."""
    return (given.shape, given.dtype, given.device) if isinstance(given, Tensor) else (type(given),)
