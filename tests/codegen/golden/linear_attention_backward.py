def backward(sizes, q, k, v, scores_causal, before, d_o):
    B, T, H, K, V, L = sizes
    # -- causal
    q_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(q, max=0)) + torch.relu(q), size=64)
    k_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(k, max=0)) + torch.relu(k), size=64)
    operator = q.new_full((1, 1, 1, 1, 1), 1).expand(1, 1, -(-T // 64), 1, 1)
    v_chunks = torch_ops.chunk(v, size=64)
    # -- gradient of causal
    d_o_chunks = torch_ops.chunk(d_o, size=64)
    d_q_1_chunks = d_o_chunks @ before.mT
    d_before = q_1_chunks.mT @ d_o_chunks
    d_states = torch_ops.scan(operator, d_before, reverse=True)
    del operator, d_before
    d_k_1_chunks = v_chunks @ d_states.mT
    d_v_chunks = k_1_chunks @ d_states
    del d_states
    d_scores_causal = d_o_chunks @ v_chunks.mT
    del v_chunks
    d_v_chunks_1 = scores_causal.mT @ d_o_chunks
    del d_o_chunks
    d_v = torch_ops.unchunk(d_v_chunks + d_v_chunks_1, T)
    del d_v_chunks, d_v_chunks_1
    d_scores_dots = d_scores_causal.tril(0)
    del d_scores_causal
    d_q_1_chunks_1 = d_scores_dots @ k_1_chunks
    del k_1_chunks
    d_k_1_chunks_1 = d_scores_dots.mT @ q_1_chunks
    del q_1_chunks, d_scores_dots
    d_k_1 = torch_ops.unchunk(d_k_1_chunks + d_k_1_chunks_1, T)
    del d_k_1_chunks, d_k_1_chunks_1
    d_k = d_k_1 * ((1 / 2 - torch.sign(k) / 2) * torch.exp(torch.clamp(k, max=0)) + torch.where(k > 0, 1.0, 0.0))
    del d_k_1
    d_q_1 = torch_ops.unchunk(d_q_1_chunks + d_q_1_chunks_1, T)
    del d_q_1_chunks, d_q_1_chunks_1
    d_q = d_q_1 * ((1 / 2 - torch.sign(q) / 2) * torch.exp(torch.clamp(q, max=0)) + torch.where(q > 0, 1.0, 0.0))
    del d_q_1
    return (d_q, d_k, d_v,)
