def backward(sizes, q, k, v, scores_causal, before, d_o):
    B, T, H, K, V, L = sizes
    # -- causal
    q_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(q, max=0)) + torch.relu(q), size=64)
    k_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(k, max=0)) + torch.relu(k), size=64)
    operator = q.new_full((1, 1, 1, 1, 1), 0).expand(1, 1, -(-T // 64), 1, 1)
    v_chunks = torch_ops.chunk(v, size=64)
    # -- gradient of causal
    d_o_chunks = torch_ops.chunk(d_o, size=64)
    d_states = torch_ops.scan(operator, q_1_chunks.mT @ d_o_chunks, reverse=True)
    del operator
    d_v = torch_ops.unchunk(k_1_chunks @ d_states + scores_causal.mT @ d_o_chunks, T)
    d_scores_dots = (d_o_chunks @ v_chunks.mT).tril(0)
    d_k_1 = torch_ops.unchunk(v_chunks @ d_states.mT + d_scores_dots.mT @ q_1_chunks, T)
    del v_chunks, q_1_chunks, d_states
    d_k = d_k_1 * (1 / 2 - torch.sign(k) / 2) * torch.exp(torch.clamp(k, max=0)) + d_k_1 * torch.where(k > 0, 1.0, 0.0)
    del d_k_1
    d_q_1 = torch_ops.unchunk(d_o_chunks @ before.mT + d_scores_dots @ k_1_chunks, T)
    del d_o_chunks, d_scores_dots, k_1_chunks
    d_q = d_q_1 * (1 / 2 - torch.sign(q) / 2) * torch.exp(torch.clamp(q, max=0)) + d_q_1 * torch.where(q > 0, 1.0, 0.0)
    del d_q_1
    return (d_q, d_k, d_v,)
