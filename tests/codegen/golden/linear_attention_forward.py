def forward(sizes, q, k, v):
    B, T, H, K, V, L = sizes
    # -- causal
    q_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(q, max=0)) + torch.relu(q), size=64)
    k_1_chunks = torch_ops.chunk(torch.exp(torch.clamp(k, max=0)) + torch.relu(k), size=64)
    scores_dots = q_1_chunks @ k_1_chunks.mT
    scores_causal = scores_dots.tril(0)
    del scores_dots
    operator = q.new_full((1, 1, 1, 1, 1), 1).expand(1, 1, -(-T // 64), 1, 1)
    v_chunks = torch_ops.chunk(v, size=64)
    inside = scores_causal @ v_chunks
    states = k_1_chunks.mT @ v_chunks
    del v_chunks, k_1_chunks
    before = torch_ops.scan(operator, states, reverse=False)
    del operator, states
    carried_over = q_1_chunks @ before
    del q_1_chunks
    o_term = torch_ops.unchunk(carried_over + inside, T)
    del carried_over, inside
    return o_term, (scores_causal, before,)
