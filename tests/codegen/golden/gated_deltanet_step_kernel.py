@triton.jit(do_not_specialize=['H'])
def step_kernel(H, attend_1_1_state_ptr, q_ptr, q_h, q_b, k_ptr, k_h, k_b, v_ptr, v_h, v_b, a_ptr, a_b, b__ptr, b__b, A_log_ptr, dt_bias_ptr, o_new_ptr, state_positions_ptr):
    """One token of one head of a sequence."""
    pid = tl.program_id(0)
    v_ = pid % 2 * 32 + tl.arange(0, 32)
    pid = pid // 2
    h = (pid % H).to(tl.int64)
    b = (pid // H).to(tl.int64)
    row = b
    k_ = tl.arange(0, 128)
    state_ = tl.load(attend_1_1_state_ptr + (row * H + h) * 8192 + ((k_ * 64)[:, None] + v_[None, :])).to(tl.float32)
    q = tl.load(q_ptr + b * q_b + h * q_h + k_).to(tl.float32)
    k = tl.load(k_ptr + b * k_b + h * k_h + k_).to(tl.float32)
    v = tl.load(v_ptr + b * v_b + h * v_h + v_).to(tl.float32)
    a = tl.load(a_ptr + b * a_b + h).to(tl.float32)
    b_ = tl.load(b__ptr + b * b__b + h).to(tl.float32)
    A_log = tl.load(A_log_ptr + h).to(tl.float32)
    dt_bias = tl.load(dt_bias_ptr + h).to(tl.float32)
    # -- l2norm_1
    l2norm_1_square = (q*q)
    l2norm_1_total = tl.sum(l2norm_1_square, 0)
    l2norm_1 = q*tl.rsqrt(l2norm_1_total + 1e-06)
    # -- kn
    kn_square = (k*k)
    kn_total = tl.sum(kn_square, 0)
    kn = k*tl.rsqrt(kn_total + 1e-06)
    # -- delta(kn, sigmoid(b)) @ semiseparable(-exp(A_log)*softplus(a + dt_bias))
    a_1 = -kn*tl.sigmoid(b_)
    g = -tl.exp2(1.4426950408889634*A_log)*tiles.softplus(a + dt_bias)
    g_1 = tl.maximum(-10000.0, g, propagate_nan=tl.PropagateNan.ALL)
    moved = state_*tl.exp2(1.4426950408889634*g_1)
    read_ = tl.sum(kn[:, None] * moved, 0)
    moved_1 = a_1[:, None]*read_[None, :] + moved
    v_1 = v*tl.sigmoid(b_)
    written_ = kn[:, None]*v_1[None, :]
    state_new = moved_1 + written_
    o_row = tl.sum(l2norm_1[:, None] * state_new, 0)
    # -- attend
    attend_1 = 0.08838834764831845*o_row
    tl.store(o_new_ptr + (b * H + h) * 64 + v_, attend_1)
    tl.debug_barrier()
    tl.store(attend_1_1_state_ptr + (row * H + h) * 8192 + ((k_ * 64)[:, None] + v_[None, :]), state_new)
    if tl.program_id(0) % (H * 2) == 0:
        tl.store(state_positions_ptr + row, tl.load(state_positions_ptr + row) + 1)


def step(at, q, k, v, a, b_, A_log, dt_bias, attend_1_1_state, state_positions):
    o_new = at.output(at.B, 1, at.H, 64)
    at.launch(step_kernel, at.B * at.H * 2, at.H, attend_1_1_state, q, q.stride(2), q.stride(0), k, k.stride(2), k.stride(0), v, v.stride(2), v.stride(0), a, a.stride(0), b_, b_.stride(0), A_log, dt_bias, o_new, state_positions, warps=4, stages=1)
    return o_new
