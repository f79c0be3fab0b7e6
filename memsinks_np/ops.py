"""The parts of a transformer: each forward directly above its backward.

    y, cache      = op_forward(xp, x, *params)    pure: arguments are never written to
    dx, *dparams  = op_backward(xp, dy, cache)    gradients in the order of the forward's arguments

`dz` is dLoss/dz and has the shape of `z`. `xp` is the array namespace (NumPy, CuPy, autograd.numpy,
...). In-place operators are used only on temporaries that the function itself created. Docstrings
state the formula and its derivative; comments in a backward mark only the lines that differ.

Sizes in the shape comments
    B sequences   T positions   C residual width   H heads   K head width (C = H*K)
    G neurons of the MLP        V vocabulary
"""

from math import pi, sqrt

from memsinks_np._internal.typing import Array, Cache, Xp


def flatten_positions(xp: Xp, x: Array) -> Array:  # (B,T,C) -> (BT,C)
    """Return all positions of all sequences as rows of one matrix."""
    return xp.reshape(x, (-1, x.shape[-1]))


def sum_keepdims(xp: Xp, x: Array) -> Array:  # (...,N) -> (...,1)
    """Sum over the last axis, as a product with ones.

    Equal to xp.sum(x, axis=-1, keepdims=True), and several times faster on a short axis. The two
    sums save about 3 % of a training step.
    """
    x2 = flatten_positions(xp, x)
    return xp.reshape(x2 @ xp.ones_like(x2[0, :]), (*x.shape[:-1], 1))


def sum_rows(xp: Xp, x: Array) -> Array:  # (...,N) -> (N,)
    """Sum over all axes but the last, as a product with ones."""
    x2 = flatten_positions(xp, x)
    return xp.ones_like(x2[:, 0]) @ x2


def mean_keepdims(xp: Xp, x: Array) -> Array:  # (...,N) -> (...,1)
    """Return the mean over the last axis."""
    return sum_keepdims(xp, x) / x.shape[-1]


def transpose(xp: Xp, x: Array) -> Array:  # (...,I,J) -> (...,J,I)
    """Transpose each matrix of a stack."""
    n = len(x.shape)
    return xp.permute_dims(x, (*range(n - 2), n - 1, n - 2))


# Up to this vocabulary, a product with one-hot rows is as fast as add.at (1,024 tokens, C = 64:
# 0.2 and 0.7 ms at V = 100, 1.1 and 0.8 at 512, 99 and 2.7 at 4,096), and gives the usual bits.
SMALL_VOCAB = 512


def one_hot_rows(xp: Xp, index: Array, W: Array) -> Array:  # (N,), (V,C) -> (N,V)
    """Return one row for each index: 1 at its place and 0 elsewhere."""
    rows = xp.zeros_like(index, dtype=W.dtype)[:, None] + xp.zeros_like(W[:, 0])
    xp.put_along_axis(rows, index[:, None], 1.0, axis=-1)
    return rows


def embedding_forward(xp: Xp, W: Array, tokens: Array) -> tuple[Array, Cache]:
    # (V,C), (B,T) -> (B,T,C)
    """y = W[tokens]; a row of dW is the sum of dy over all places of its token."""
    index = xp.reshape(tokens, (-1,))
    y = xp.take(W, index, axis=0)
    return xp.reshape(y, (*tokens.shape, W.shape[-1])), (index, W)


def embedding_backward(xp: Xp, dy: Array, cache: Cache) -> Array:  # (B,T,C) -> (V,C)
    index, W = cache
    dy2 = flatten_positions(xp, dy)
    V, _ = W.shape
    if V <= SMALL_VOCAB:
        return one_hot_rows(xp, index, W).T @ dy2
    dW = xp.zeros_like(W)
    xp.add.at(dW, index, dy2)  # adds, where `dW[index] += dy2` would count a token once
    return dW


def linear_forward(xp: Xp, x: Array, W: Array) -> tuple[Array, Cache]:
    # (B,T,C), (C,N) -> (B,T,N)
    """y = x W at every position; dx = dy W^T, dW = x^T dy summed over all positions."""
    y = flatten_positions(xp, x) @ W
    return xp.reshape(y, (*x.shape[:-1], W.shape[-1])), (x, W)


def linear_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, Array]:
    # (B,T,N) -> (B,T,C), (C,N)
    x, W = cache
    dy2 = flatten_positions(xp, dy)
    dx = dy2 @ W.T
    dW = flatten_positions(xp, x).T @ dy2
    return xp.reshape(dx, x.shape), dW


def layernorm_forward(
    xp: Xp, x: Array, g: Array, b: Array, eps: float = 1e-5
) -> tuple[Array, Cache]:  # (B,T,C), (C,), (C,) -> (B,T,C)
    """y = g n + b, n = (x - mean) / sqrt(var + eps) over the last axis (Ba et al. 2016, eq. 4).

    dx = (dn - mean(dn) - n mean(dn n)) / sqrt(var + eps), dn = g dy: x reaches n directly, through
    the mean and through the variance.
    """
    centred = x - mean_keepdims(xp, x)
    rstd = 1.0 / xp.sqrt(mean_keepdims(xp, centred * centred) + eps)
    n = centred * rstd
    return n * g + b, (n, rstd, g)


def layernorm_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    # (B,T,C) -> (B,T,C), (C,), (C,)
    n, rstd, g = cache
    dn = dy * g
    dx = dn - mean_keepdims(xp, dn)
    dx -= n * mean_keepdims(xp, dn * n)
    dx *= rstd
    return dx, sum_rows(xp, dy * n), sum_rows(xp, dy)


GELU_A = sqrt(2.0 / pi)
GELU_B = 0.044715 * GELU_A


def gelu_forward(xp: Xp, x: Array) -> tuple[Array, Cache]:  # any shape
    """y = x s, s = (1 + tanh u) / 2, u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016).

    dy/dx = s + x ds/dx, ds/dx = 2 s (1 - s) du/dx, du/dx = sqrt(2/pi) (1 + 3 * 0.044715 x^2).
    """
    u = x * (GELU_A + GELU_B * (x * x))
    s = 0.5 * (1.0 + xp.tanh(u))
    y = x * s
    return y, (x, s, y)


def gelu_backward(xp: Xp, dy: Array, cache: Cache) -> Array:
    x, s, y = cache
    du_2 = 2.0 * GELU_A + (6.0 * GELU_B) * (x * x)  # 2 du/dx
    return dy * (s + y * (1.0 - s) * du_2)  # x s is y


def softmax_forward(xp: Xp, s: Array) -> tuple[Array, Cache]:
    """p = exp(s) / sum exp(s) over the last axis; ds = p (dp - sum(dp p)).

    Subtracting the largest score changes nothing and prevents overflow.
    """
    p = xp.exp(s - xp.max(s, axis=-1, keepdims=True))
    p /= sum_keepdims(xp, p)
    return p, p


def softmax_backward(xp: Xp, dp: Array, p: Array) -> Array:
    return p * (dp - sum_keepdims(xp, dp * p))


def attention_forward(
    xp: Xp, q: Array, k: Array, v: Array, attn_mask: Array
) -> tuple[Array, Cache]:  # three (B,H,T,K), (T,T) -> (B,H,T,K)
    """y = softmax(q k^T / sqrt(K) + attn_mask) v (Vaswani et al. 2017, eq. 1).

    dv = p^T dy, dq = ds k / sqrt(K), dk = ds^T q / sqrt(K), where p is the softmax and ds the
    gradient of its argument. `attn_mask` is 0 where a query may look, else -inf: there p = 0, so
    ds = 0. It has no gradient.
    """
    scale = q.shape[-1] ** -0.5
    s = (scale * q) @ transpose(xp, k)  # (B,H,T,T)
    s += attn_mask
    p, _ = softmax_forward(xp, s)
    return p @ v, (q, k, v, p, scale)


def attention_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    # (B,H,T,K) -> three (B,H,T,K)
    q, k, v, p, scale = cache
    dv = transpose(xp, p) @ dy
    ds = softmax_backward(xp, dy @ transpose(xp, v), p)
    return scale * (ds @ k), scale * (transpose(xp, ds) @ q), dv


def split_heads(xp: Xp, qkv: Array, H: int) -> tuple[Array, Array, Array]:
    # (B,T,3C) -> three (B,H,T,K)
    """Return the queries, keys and values of each head."""
    B, T, N = qkv.shape
    parts = xp.permute_dims(xp.reshape(qkv, (B, T, 3, H, N // (3 * H))), (2, 0, 3, 1, 4))
    return parts[0, ...], parts[1, ...], parts[2, ...]


def split_heads_backward(xp: Xp, dq: Array, dk: Array, dv: Array) -> Array:
    # three (B,H,T,K) -> (B,T,3C)
    B, H, T, K = dq.shape
    parts = xp.permute_dims(xp.stack((dq, dk, dv)), (1, 3, 0, 2, 4))  # (B,T,3,H,K)
    return xp.reshape(parts, (B, T, 3 * H * K))


def merge_heads(xp: Xp, z: Array) -> Array:  # (B,H,T,K) -> (B,T,C)
    """Concatenate the heads of each position."""
    B, H, T, K = z.shape
    return xp.reshape(xp.permute_dims(z, (0, 2, 1, 3)), (B, T, H * K))


def merge_heads_backward(xp: Xp, dx: Array, H: int) -> Array:  # (B,T,C) -> (B,H,T,K)
    B, T, C = dx.shape
    return xp.permute_dims(xp.reshape(dx, (B, T, H, C // H)), (0, 2, 1, 3))


def mlp_forward(
    xp: Xp, x: Array, W_in: Array, b_in: Array, W_out: Array, b_out: Array
) -> tuple[Array, Cache]:  # (B,T,C), (C,G), (G,), (G,C), (C,) -> (B,T,C)
    """y = gelu(x W_in + b_in) W_out + b_out; a bias has the sum of its output's gradients."""
    pre, c_in = linear_forward(xp, x, W_in)
    pre += b_in
    post, c_act = gelu_forward(xp, pre)
    y, c_out = linear_forward(xp, post, W_out)
    y += b_out
    return y, (c_in, c_act, c_out)


def mlp_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    # (B,T,C) -> dx, dW_in, db_in, dW_out, db_out
    c_in, c_act, c_out = cache
    dpost, dW_out = linear_backward(xp, dy, c_out)
    dpre = gelu_backward(xp, dpost, c_act)
    dx, dW_in = linear_backward(xp, dpre, c_in)
    return dx, dW_in, sum_rows(xp, dpre), dW_out, sum_rows(xp, dy)


def cross_entropy_forward(xp: Xp, logits: Array, target: Array) -> tuple[Array, Cache]:
    # (B,T,V), (B,T) -> (B,T)
    """nll = -log softmax(logits)[target], in nats; dlogits = (softmax(logits) - one_hot) dnll.

    `one_hot` is 1 at the target and 0 elsewhere; it is never built.
    """
    z = logits - xp.max(logits, axis=-1, keepdims=True)  # prevents overflow, as in softmax
    e = xp.exp(z)
    total = sum_keepdims(xp, e)
    nll = xp.log(total) - xp.take_along_axis(z, target[..., None], axis=-1)
    e /= total
    return nll[..., 0], (e, target)


def cross_entropy_backward(xp: Xp, dnll: Array, cache: Cache) -> Array:  # (B,T) -> (B,T,V)
    p, target = cache
    index, dnll = target[..., None], dnll[..., None]
    dlogits = p * dnll
    at_target = (xp.take_along_axis(p, index, axis=-1) - 1.0) * dnll
    xp.put_along_axis(dlogits, index, at_target, axis=-1)
    return dlogits
