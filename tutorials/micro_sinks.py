"""Memorization sinks in one file of NumPy: train a small transformer, then remove its memories.

A language model memorizes the sequences that it sees again and again, and it stores them in the
same weights as everything else. Memorization sinks (Ghosal, Maini, Raghunathan, ICML 2025) give
these memories a place of their own. Every MLP gets extra neurons, the sinks, and the ID of a
sequence activates a few of them. The other neurons see all sequences and learn what these have in
common. The sinks of a repeated sequence see it again and again and memorize it. Without its sinks,
the model is an ordinary transformer that still knows the language.

    python tutorials/micro_sinks.py

Equations, parameter names and shapes are those of memsinks_np. What the package adds is speed,
measurements and other methods to compare with.
"""

import numpy as np

B, T, C, H, L = 16, 23, 32, 4, 2  # sequences, positions, residual width, heads, layers
G, S, A = 64, 256, 16  # in each MLP: shared neurons, sinks, active sinks of one sequence
REPEATED, PER_BATCH, NEW = 8, 4, 256  # repeated sequences, how many in a batch, new sequences
STEPS, LR, DECAY = 500, 6e-3, 0.1


# --- Data: the grammar can be learned, the choice of words can only be memorized ------------------

LANGUAGE = """anna ben carl dora emil fay gus hana / found lost sold drew broke hid cut ate / the /
red old big tiny soft round cheap odd / kite cake drum bell coat lamp boat ring / ."""
SLOTS = [slot.split() for slot in LANGUAGE.split("/")]
VOCAB = [word for slot in SLOTS for word in slot]


def stories(rng, n):  # -> (n,T+1) tokens
    """Draw n stories of four sentences. The name stays the same throughout a story."""
    sizes = np.array([len(slot) for slot in SLOTS])
    choice = rng.integers(0, sizes, (n, (T + 1) // len(SLOTS), len(SLOTS)))
    choice[:, :, 0] = choice[:, :1, 0]
    return (np.cumsum(sizes) - sizes + choice).reshape(n, T + 1)


# --- Sinks: each ID owns A of the S sinks ---------------------------------------------------------


def masks_of(ids):  # (B,) -> (B,S)
    """Return 1 for the sinks that each ID owns and 0 for the others: a pure function of the ID.

    The pool is cut into A strata of S/A sinks, and a hash of (ID, stratum) picks one of each.
    """
    h = np.asarray(ids, np.uint64)[:, None] * A + np.arange(A, dtype=np.uint64)
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9  # two rounds of SplitMix64, modulo 2^64
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB
    pick = (h >> 32) % (S // A)  # (B,A)
    return np.eye(S // A, dtype=np.float32)[pick].reshape(-1, S)


# --- Model: a pre-LayerNorm GPT. The N = B*T positions of a batch are the rows of one matrix ------
# Every function returns its result and its backward function. That one takes the gradient of the
# loss with respect to the result and returns the gradients of the arguments, in the same order.


def softmax(s):  # over the last axis
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layernorm(x, g, b):  # (N,C), (C,), (C,) -> (N,C)
    rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    n = (x - x.mean(-1, keepdims=True)) * rstd

    def backward(dy):  # -> dx, dg, db
        dn = dy * g  # x reaches n directly, through the mean and through the variance
        dx = rstd * (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True))
        return dx, (dy * n).sum(0), dy.sum(0)

    return n * g + b, backward


def attention(x, W_QKV, W_O, T, H):  # (N,C), (C,3C), (C,C) -> (N,C)
    K = len(W_O) // H  # width of a head
    q, k, v = (x @ W_QKV).reshape(-1, T, 3, H, K).transpose(2, 0, 3, 1, 4)  # three (B,H,T,K)
    causal = np.tri(T, dtype=bool)  # each position attends to itself and to those before it
    p = softmax(np.where(causal, q @ k.mT * K**-0.5, -np.inf))  # (B,H,T,T)
    z = (p @ v).transpose(0, 2, 1, 3).reshape(x.shape)  # the heads side by side

    def backward(dy):  # -> dx, dW_QKV, dW_O
        dz = (dy @ W_O.T).reshape(-1, T, H, K).transpose(0, 2, 1, 3)  # (B,H,T,K)
        dp = dz @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * K**-0.5  # (B,H,T,T)
        dqkv = np.stack((ds @ k, ds.mT @ q, p.mT @ dz))  # (3,B,H,T,K)
        dqkv = dqkv.transpose(1, 3, 0, 2, 4).reshape(len(x), 3 * H * K)
        return dqkv @ W_QKV.T, x.T @ dqkv, z.T @ dy

    return z @ W_O, backward


def gelu(x):  # any shape
    s = (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x))) / 2
    ds = 2 * s * (1 - s) * (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)  # ds/dx
    return x * s, lambda dy: dy * (s + x * ds)


def mlp(x, mask, W_in, b_in, W_out):  # (N,C), (N,G) or 1, (C,G), (G,), (G,C) -> (N,C)
    post, gelu_backward = gelu(x @ W_in + b_in)  # (N,G)
    post = post * mask  # <- this line is the paper

    def backward(dy):  # -> dx, dW_in, db_in, dW_out
        dpre = gelu_backward((dy @ W_out.T) * mask)  # <- and its consequence
        return dpre @ W_in.T, x.T @ dpre, dpre.sum(0), post.T @ dy

    return post @ W_out, backward


def block(x, mask, w, T, H):  # (N,C), (N,S) or None -> (N,C)
    """Add attention, then shared neurons and sinks, to the residual stream."""
    a, ln1_backward = layernorm(x, w["ln1.g"], w["ln1.b"])
    z, attention_backward = attention(a, w["W_QKV"], w["W_O"], T, H)
    mid = x + z
    m, ln2_backward = layernorm(mid, w["ln2.g"], w["ln2.b"])
    y, mlp_backward = mlp(m, 1, w["mlp.W_in"], w["mlp.b_in"], w["mlp.W_out"])
    out = mid + y + w["mlp.b_out"]
    if mask is not None:
        y, sink_backward = mlp(m, mask, w["sink.W_in"].T, w["sink.b_in"], w["sink.W_out"])
        out = out + y

    def backward(dout):  # -> dx, {name: gradient}
        d = {"mlp.b_out": dout.sum(0)}
        dm, d["mlp.W_in"], d["mlp.b_in"], d["mlp.W_out"] = mlp_backward(dout)
        if mask is not None:
            dm_sink, dW_in, d["sink.b_in"], d["sink.W_out"] = sink_backward(dout)
            d["sink.W_in"] = dW_in.T
            dm = dm + dm_sink
        dmid, d["ln2.g"], d["ln2.b"] = ln2_backward(dm)
        dmid = dmid + dout
        da, d["W_QKV"], d["W_O"] = attention_backward(dmid)
        dx, d["ln1.g"], d["ln1.b"] = ln1_backward(da)
        return dx + dmid, d

    return out, backward


def model(p, tokens, mask, H=H):  # (B,T+1), (B,S) or None -> nats per token
    T, one_hot = len(p["wpe"]), np.eye(len(p["wte"]), dtype=p["wte"].dtype)
    inputs, targets = one_hot[tokens[:, :-1].ravel()], one_hot[tokens[:, 1:].ravel()]  # (N,V)
    mask = None if mask is None else mask.repeat(T, axis=0)  # (N,S)
    x, backwards = inputs @ p["wte"] + np.tile(p["wpe"], (len(tokens), 1)), []
    for layer in range(sum("W_QKV" in name for name in p)):
        prefix = f"h{layer}."
        w = {name.removeprefix(prefix): p[name] for name in p if name.startswith(prefix)}
        x, block_backward = block(x, mask, w, T, H)
        backwards.append((prefix, block_backward))
    n, ln_backward = layernorm(x, p["lnf.g"], p["lnf.b"])
    probs = softmax(n @ p["wte"].T)  # (N,V)

    def backward():  # -> {name: gradient}
        dlogits = (probs - targets) / len(probs)
        d = {"wte": dlogits.T @ n}
        dx, d["lnf.g"], d["lnf.b"] = ln_backward(dlogits @ p["wte"])
        for prefix, block_backward in reversed(backwards):
            dx, d_block = block_backward(dx)
            d |= {prefix + name: gradient for name, gradient in d_block.items()}
        d["wte"] += inputs.T @ dx  # the head is the token embedding
        return d | {"wpe": dx.reshape(-1, *p["wpe"].shape).sum(0)}

    return -np.log((targets * probs).sum(-1)).mean(), backward


def init_params(rng):
    shapes = {"wte": (len(VOCAB), C), "wpe": (T, C), "lnf.g": (C,), "lnf.b": (C,)}
    for layer in range(L):
        w = {"ln1.g": (C,), "ln1.b": (C,), "W_QKV": (C, 3 * C), "W_O": (C, C)}
        w |= {"ln2.g": (C,), "ln2.b": (C,), "mlp.W_in": (C, G), "mlp.b_in": (G,)}
        w |= {"mlp.W_out": (G, C), "mlp.b_out": (C,)}
        w |= {"sink.W_in": (S, C), "sink.b_in": (S,), "sink.W_out": (S, C)}  # one row per sink
        shapes |= {f"h{layer}.{name}": shape for name, shape in w.items()}
    p = {name: np.float32(0.1 * rng.standard_normal(shape)) for name, shape in shapes.items()}
    return p | {name: np.full_like(w, name[-1] == "g") for name, w in p.items() if w.ndim == 1}


# --- Optimizer: AdamW, which leaves inactive sinks alone ------------------------------------------


def adamw_step(p, grads, state, mask, lr, b1=0.9, b2=0.99):
    """Update p and state in place. Sinks that are inactive in the whole batch do not change.

    The state of a parameter is its first moment, its second moment and its number of updates.
    """
    for name, g in grads.items():
        rows = mask.any(0) if ".sink." in name else slice(None)
        w, g, (m, v, n) = p[name][rows], g[rows], state[name][:, rows]
        m, v, n = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g, n + 1
        change = m / (1 - b1**n) / (np.sqrt(v / (1 - b2**n)) + 1e-8)
        p[name][rows] = w - lr * (change + DECAY * (w.ndim == 2) * w)
        state[name][:, rows] = m, v, n


# --- Training: a quarter of each batch is repeated, every other sequence is seen once -------------


def train(repeated, use_sinks, seed=0):  # (REPEATED,T+1) -> params
    rng = np.random.default_rng(seed)
    p = init_params(rng)
    state = {name: np.zeros((3, *w.shape), w.dtype) for name, w in p.items()}
    for step in range(STEPS):
        again = rng.choice(REPEATED, PER_BATCH, replace=False)  # IDs
        once = REPEATED + step * B + np.arange(B - PER_BATCH)  # IDs that do not come back
        tokens = np.concatenate((repeated[again], stories(rng, len(once))))
        mask = masks_of(np.concatenate((again, once))) if use_sinks else None
        loss, backward = model(p, tokens, mask)
        adamw_step(p, backward(), state, mask, LR * min(1, (step + 1) / 50, 2 - 2 * step / STEPS))
        if step % 100 == 99:
            print(f"{'with' if use_sinks else 'no'} sinks, step {step + 1}: loss {loss:.3f}")
    return p


# --- Removal: drop the sinks, and an ordinary transformer remains ---------------------------------


def prune(p):
    return {name: w for name, w in p.items() if ".sink." not in name}


if __name__ == "__main__":
    rng = np.random.default_rng(1)
    repeated, new = stories(rng, REPEATED), stories(rng, NEW)
    own, untrained = masks_of(np.arange(REPEATED)), masks_of(10**9 + np.arange(NEW))
    print("a repeated sequence:", *(VOCAB[token] for token in repeated[0]))
    standard, sinks = train(repeated, use_sinks=False), train(repeated, use_sinks=True)
    print(f"\n{'nats per token':36}{'repeated':>9}{'new':>9}")
    for label, p, mask, mask_new in (
        ("standard model", standard, None, None),
        ("with own sinks (new: untrained IDs)", sinks, own, untrained),
        ("sinks removed", prune(sinks), None, None),
    ):
        print(f"{label:36}{model(p, repeated, mask)[0]:9.3f}{model(p, new, mask_new)[0]:9.3f}")
    entropy = sum(np.log(len(slot)) for slot in SLOTS[1:]) * (T + 1) / len(SLOTS) / T
    print(f"\nguessing {np.log(len(VOCAB)):.3f}, entropy of the language {entropy:.3f}")
