def step(sizes, q, k, v, f, lam, states, logs, positions):
    B, T, H, K, V, L = sizes
    # -- semiseparable(logsigmoid(f)/16) * fenwick(lam)
    q_row = q.squeeze((1,))[:, :, None, None, :]
    k_row = k.squeeze((1,))[:, :, None, None, :]
    v_row = v.squeeze((1,))[:, :, None, None, :]
    weights, weights_1 = lam.squeeze((1,))[:, :, :, None, None].split((1, L - 1), 2)
    g_1 = torch.clamp(-torch.nn.functional.softplus(-f, threshold=50.0) / 16, min=-10000.0)
    logs_new = g_1.squeeze((1,))[:, :, None, :, None].double() + logs[:, :, :, :, None]
    del g_1
    regrouped, regrouped_1 = torch_ops.regroup(positions, k_row.mT * v_row, states, logs_new, base=2, admissibility='weak')
    o_far = (torch.exp(logs_new).to(q.dtype).mT * q_row * weights_1 @ states).sum((2,), keepdim=True)
    del weights_1, logs_new
    logs_kept = regrouped_1.squeeze((4,))
    del regrouped_1
    # -- attend
    attend_1 = (o_far + q_row @ k_row.mT * v_row * weights).squeeze((2, 3))[:, None, :, :] / math.sqrt(K)
    del o_far, weights, v_row, q_row, k_row
    return attend_1, (regrouped, logs_kept,)
