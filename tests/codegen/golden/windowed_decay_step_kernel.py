@triton.jit(do_not_specialize=['H'])
def step_kernel(H, q_ptr, q_h, q_b, k_ptr, k_h, k_b, v_ptr, v_h, v_b, f_ptr, f_b, attend_1_1_logs_ptr, attend_1_1_keys_ptr, attend_1_1_values_ptr, o_new_ptr, state_positions_ptr):
    """One token of one head of a sequence."""
    pid = tl.program_id(0)
    h = (pid % H).to(tl.int64)
    b = (pid // H).to(tl.int64)
    row = b
    k_ = tl.arange(0, 128)
    v_ = tl.arange(0, 64)
    pos = tl.load(state_positions_ptr + row).to(tl.int64)
    q = tl.load(q_ptr + b * q_b + h * q_h + k_).to(tl.float32)
    k = tl.load(k_ptr + b * k_b + h * k_h + k_).to(tl.float32)
    v = tl.load(v_ptr + b * v_b + h * v_h + v_).to(tl.float32)
    f = tl.load(f_ptr + b * f_b + h).to(tl.float32)
    # -- semiseparable(logsigmoid(f)) * window(128)
    g = -tiles.softplus(-f)
    g_1 = tl.maximum(-10000.0, g, propagate_nan=tl.PropagateNan.ALL)
    g_double = g_1.to(tl.float64)
    o_far = tl.zeros([64], tl.float32)
    for first_slot in range(0, 127, 32):
        r_ = first_slot + tl.arange(0, 32)
        logs = tl.load(attend_1_1_logs_ptr + (row * H + h) * 127 + (r_), mask=(r_ < 127), other=0.0)
        logs_new = g_double + logs
        factor = tiles.narrow_exp(logs_new)
        keys = tl.load(attend_1_1_keys_ptr + (row * H + h) * 16256 + ((r_ * 128)[:, None] + k_[None, :]), mask=(r_ < 127)[:, None], other=0.0).to(tl.float32)
        keys_moved = factor[:, None]*keys
        scores = tl.sum(q[None, :] * keys_moved, 1)
        values = tl.load(attend_1_1_values_ptr + (row * H + h) * 8128 + ((r_ * 64)[:, None] + v_[None, :]), mask=(r_ < 127)[:, None], other=0.0).to(tl.float32)
        o_far_v2 = tl.sum(scores[:, None] * values, 0)
        o_far += o_far_v2
    score = tl.sum(q * k, 0)
    o_near = score*v
    o_row = o_far + o_near
    # -- attend
    attend_1 = 0.08838834764831845*o_row
    tl.store(o_new_ptr + (b * H + h) * 64 + v_, attend_1)
    slot = pos % 127
    tl.debug_barrier()
    tl.store(attend_1_1_values_ptr + (row * H + h) * 8128 + (slot * 64) + (v_), v)
    slot_v2 = pos % 127
    tl.debug_barrier()
    tl.store(attend_1_1_keys_ptr + (row * H + h) * 16256 + (slot_v2 * 128) + (k_), k)
    slot_v3 = pos % 127
    # -- semiseparable(logsigmoid(f)) * window(128)
    no_decay = tl.full((), 0.0, tl.float32)
    for first_slot in range(0, 127, 32):
        r_ = first_slot + tl.arange(0, 32)
        logs_v2 = tl.load(attend_1_1_logs_ptr + (row * H + h) * 127 + (r_), mask=(r_ < 127), other=0.0)
        logs_new_v2 = g_double + logs_v2
        entered = tl.where((r_ == slot_v3), no_decay, logs_new_v2)
        tl.debug_barrier()
        tl.store(attend_1_1_logs_ptr + (row * H + h) * 127 + (r_), entered, mask=(r_ < 127))


def step(at, q, k, v, f, attend_1_1_keys, attend_1_1_values, attend_1_1_logs, state_positions):
    o_new = at.output(at.B, 1, at.H, 64)
    at.launch(step_kernel, at.B * at.H, at.H, q, q.stride(2), q.stride(0), k, k.stride(2), k.stride(0), v, v.stride(2), v.stride(0), f, f.stride(0), attend_1_1_logs, attend_1_1_keys, attend_1_1_values, o_new, state_positions, warps=4, stages=1)
    return o_new
