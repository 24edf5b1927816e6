@triton.jit(do_not_specialize=['H', 'L'])
def step_kernel(H, L, attend_1_1_logs_ptr, q_ptr, q_h, q_b, k_ptr, k_h, k_b, v_ptr, v_h, v_b, dt_ptr, dt_b, lam_ptr, lam_h, lam_b, A_log_ptr, dt_bias_ptr, D_ptr, state_positions_ptr, attend_1_1_states_ptr, o_new_ptr):
    """One token of one head of a sequence."""
    pid = tl.program_id(0)
    h = (pid % H).to(tl.int64)
    b = (pid // H).to(tl.int64)
    row = b
    m_ = 1 + tl.arange(0, 16)
    k_ = tl.arange(0, 128)
    v_ = tl.arange(0, 64)
    pos = tl.load(state_positions_ptr + row).to(tl.int64)
    logs = tl.load(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + ((m_ - 1)), mask=(m_ < L), other=0.0)
    q = tl.load(q_ptr + b * q_b + h * q_h + k_).to(tl.float32)
    k = tl.load(k_ptr + b * k_b + h * k_h + k_).to(tl.float32)
    v = tl.load(v_ptr + b * v_b + h * v_h + v_).to(tl.float32)
    dt = tl.load(dt_ptr + b * dt_b + h).to(tl.float32)
    lam = tl.load(lam_ptr + b * lam_b + h * lam_h + 0).to(tl.float32)
    A_log = tl.load(A_log_ptr + h).to(tl.float32)
    dt_bias = tl.load(dt_bias_ptr + h).to(tl.float32)
    D = tl.load(D_ptr + h).to(tl.float32)
    # -- semiseparable(-exp(A_log)*softplus(dt + dt_bias)) * fenwick(lam)
    g = -tl.exp2(1.4426950408889634*A_log)*tiles.softplus(dt + dt_bias)
    g_1 = tl.maximum(-10000.0, g, propagate_nan=tl.PropagateNan.ALL)
    g_double = g_1.to(tl.float64)
    v_1 = v*tiles.softplus(dt_bias + dt)
    written_ = k[:, None]*v_1[None, :]
    o_far = tl.zeros([16, 64], tl.float32)
    reach = tiles.reach(pos, 2)
    carried = tl.zeros([128, 64], tl.float32)
    left = tiles.held_levels(pos, L - 1, 2, False)
    for _ in tl.range(0, tiles.count_levels(left), num_stages=4):
        level = tiles.lowest_level(left)
        left &= left - 1
        logs_v2 = tl.load(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + (level - 1))
        logs_new = g_double + logs_v2
        factor = tiles.narrow_exp(logs_new)
        lam_v2 = tl.load(lam_ptr + b * lam_b + h * lam_h + level).to(tl.float32)
        states = tl.load(attend_1_1_states_ptr + (row * H + h) * (L - 1) * 8192 + ((level - 1) * 8192) + ((k_ * 64)[:, None] + v_[None, :])).to(tl.float32)
        o_far += factor * lam_v2 * tiles.folded(q[:, None] * states, 16)
        joins = tl.where(level <= reach, factor, 0.0)
        carried += joins * states
    o_far_v2 = tl.sum(o_far, 0)
    if reach < L:
        tl.debug_barrier()
        tl.store(attend_1_1_states_ptr + (row * H + h) * (L - 1) * 8192 + ((reach - 1) * 8192) + ((k_ * 64)[:, None] + v_[None, :]), (carried + written_))
    score = tl.sum(q * k, 0)
    o_near = score*v_1*lam
    o_row = o_far_v2 + o_near
    # -- output
    o = D*v + o_row
    tl.store(o_new_ptr + (b * H + h) * 64 + v_, o)
    reach = tiles.reach(pos, 2)
    # -- semiseparable(-exp(A_log)*softplus(dt + dt_bias)) * fenwick(lam)
    logs_new_v2 = g_double + logs
    regrouped_1 = tl.where((m_ <= reach), 0.0, logs_new_v2)
    tl.debug_barrier()
    tl.store(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + ((m_ - 1)), regrouped_1, mask=(m_ < L))


def step(at, q, k, v, dt, lam, A_log, dt_bias, D, attend_1_1_states, attend_1_1_logs, state_positions):
    o_new = at.output(at.B, 1, at.H, 64)
    at.launch(step_kernel, at.B * at.H, at.H, at.L, attend_1_1_logs, q, q.stride(2), q.stride(0), k, k.stride(2), k.stride(0), v, v.stride(2), v.stride(0), dt, dt.stride(0), lam, lam.stride(2), lam.stride(0), A_log, dt_bias, D, state_positions, attend_1_1_states, o_new, warps=4, stages=1)
    return o_new
