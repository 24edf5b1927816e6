@triton.jit(do_not_specialize=['H', 'L'])
def step_kernel(H, D_ptr, A_log_ptr, dt_ptr, dt_b, dt_bias_ptr, q_ptr, q_h, q_b, k_ptr, k_h, k_b, v_ptr, v_h, v_b, state_positions_ptr, L, attend_1_1_logs_ptr, lam_ptr, lam_h, lam_b, attend_1_1_states_ptr, o_new_ptr):
    """One token of one head of a sequence."""
    pid = tl.program_id(0)
    h = (pid % H).to(tl.int64)
    b = (pid // H).to(tl.int64)
    row = b
    k_ = tl.arange(0, 128)
    v_ = tl.arange(0, 64)
    pos = tl.load(state_positions_ptr + row).to(tl.int64)
    m_ = 1 + tl.arange(0, 16)
    D = tl.load(D_ptr + h).to(tl.float32)
    A_log = tl.load(A_log_ptr + h).to(tl.float32)
    dt = tl.load(dt_ptr + b * dt_b + h).to(tl.float32)
    dt_bias = tl.load(dt_bias_ptr + h).to(tl.float32)
    # -- semiseparable(-exp(A_log)*softplus(dt + dt_bias)) * fenwick(lam)
    g = -tl.exp2(1.4426950408889634*A_log)*tiles.softplus(dt + dt_bias)
    g_1 = tl.maximum(-10000.0, g, propagate_nan=tl.PropagateNan.ALL)
    g_double = g_1.to(tl.float64)
    q = tl.load(q_ptr + b * q_b + h * q_h + k_).to(tl.float32)
    k = tl.load(k_ptr + b * k_b + h * k_h + k_).to(tl.float32)
    v = tl.load(v_ptr + b * v_b + h * v_h + v_).to(tl.float32)
    v_1 = v*tiles.softplus(dt_bias + dt)
    written_ = k[:, None]*v_1[None, :]
    o_far = tl.zeros([64], tl.float32)
    reach = tiles.reach(pos, 2)
    carried = tl.zeros([128, 64], tl.float32)
    rest = pos
    for level in range(1, L):
        held = rest % 2 != 0
        if held:
            logs = tl.load(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + (level - 1))
            logs_new = g_double + logs
            decays = tl.exp2(1.4426950408889634*logs_new)
            decays_narrow = decays.to(tl.float32)
            lam = tl.load(lam_ptr + b * lam_b + h * lam_h + level).to(tl.float32)
            pulled_ = decays_narrow*q*lam
            states = tl.load(attend_1_1_states_ptr + (row * H + h) * (L - 1) * 8192 + ((level - 1) * 8192) + ((k_ * 64)[:, None] + v_[None, :])).to(tl.float32)
            reads_ = tl.sum(pulled_[:, None] * states, 0)
            o_far += reads_
            factor = (tl.exp2(1.4426950408889634*logs_new)).to(tl.float32)
            factor_v2 = tl.where(level <= reach, factor, 0.0)
            carried += factor_v2 * states
        rest //= 2
    if reach < L:
        tl.debug_barrier()
        tl.store(attend_1_1_states_ptr + (row * H + h) * (L - 1) * 8192 + ((reach - 1) * 8192) + ((k_ * 64)[:, None] + v_[None, :]), (carried + written_))
    score = tl.sum(q * k, 0)
    lam_v2 = tl.load(lam_ptr + b * lam_b + h * lam_h + 0).to(tl.float32)
    o_near = score*v_1*lam_v2
    o_row = o_far + o_near
    # -- output
    o = D*v + o_row
    tl.store(o_new_ptr + (b * H + h) * 64 + v_, o)
    reach = tiles.reach(pos, 2)
    logs_v2 = tl.load(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + ((m_ - 1)), mask=(m_ < L), other=0.0)
    # -- semiseparable(-exp(A_log)*softplus(dt + dt_bias)) * fenwick(lam)
    logs_new_v2 = g_double + logs_v2
    regrouped_1 = tl.where((m_ <= reach), 0.0, logs_new_v2)
    tl.debug_barrier()
    tl.store(attend_1_1_logs_ptr + (row * H + h) * (L - 1) + ((m_ - 1)), regrouped_1, mask=(m_ < L))


def step(at, q, k, v, dt, lam, A_log, dt_bias, D, attend_1_1_states, attend_1_1_logs, state_positions):
    o_new = at.output(at.B, 1, at.H, 64)
    at.launch(step_kernel, at.B * at.H, at.H, D, A_log, dt, dt.stride(0), dt_bias, q, q.stride(2), q.stride(0), k, k.stride(2), k.stride(0), v, v.stride(2), v.stride(0), state_positions, at.L, attend_1_1_logs, lam, lam.stride(2), lam.stride(0), attend_1_1_states, o_new, warps=8, stages=1)
    return o_new
