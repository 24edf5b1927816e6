"""A hand-made module of kernels: o[t] = sum over s <= t of exp(g (t - s)) v[s], g a number a head."""

import triton
import triton.language as tl

AXES = {"g": ("H",), "v": ("B", "T", "H", "V")}
OUTPUTS = ("o",)
GRADIENTS = ("d_o",)
FORWARD = ("g", "v")
BACKWARD = ("d_o", "g", "v")
STORED = ("sums",)


@triton.jit
def decay(g, x, h):
    return tl.exp(tl.load(g + h).to(tl.float32)) * x


@triton.jit(do_not_specialize=["T"])
def output_kernel(g, v, v_b, v_t, v_h, o, sums, T, H, V: tl.int32):
    b, h = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    lane = tl.arange(0, 16)
    total = tl.zeros([16], tl.float32)
    for t in range(T):
        new = tl.load(v + b * v_b + t * v_t + h * v_h + lane, mask=lane < V, other=0.0)
        total = decay(g, total, h) + new
        place = ((b * T + t) * H + h) * V + lane
        tl.store(o + place, total, mask=lane < V)
        tl.store(sums + place, total, mask=lane < V)


@triton.jit(do_not_specialize=["T"])
def gradient_kernel(d_o, d_b, d_t, d_h, g, sums, d_v, d_g, T, H, V: tl.int32):
    b, h = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    lane = tl.arange(0, 16)
    total = tl.zeros([16], tl.float32)
    slope = tl.zeros([16], tl.float32)
    for i in range(T):
        t = T - 1 - i
        new = tl.load(d_o + b * d_b + t * d_t + h * d_h + lane, mask=lane < V, other=0.0)
        total = decay(g, total, h) + new
        place = ((b * T + t) * H + h) * V + lane
        tl.store(d_v + place, total, mask=lane < V)
        before = tl.load(sums + place - H * V, mask=lane < tl.where(t > 0, V, 0), other=0.0)
        slope += decay(g, before, h) * total
    tl.store(d_g + b * H + h, tl.sum(slope, 0))


def forward(at, g, v):
    o = at.output(at.B, at.T, at.H, v.shape[-1])
    sums = at.float(at.B, at.T, at.H, v.shape[-1])
    args = g, v, *at.strides(v), o, sums, at.T, at.H, v.shape[-1]
    at.launch(output_kernel, at.B * at.H, *args, warps=1, stages=1)
    return (o,), (sums,)


def backward(at, d_o, g, v, stored):
    (sums,) = stored
    stored.clear()
    d_v = at.gradient("v")
    d_g = at.float(at.B, at.H)
    args = d_o, *at.strides(d_o), g, sums, d_v, d_g, at.T, at.H, v.shape[-1]
    at.launch(gradient_kernel, at.B * at.H, *args, warps=1, stages=1)
    return d_g.sum(0), d_v
