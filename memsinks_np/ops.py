"""The parts of a transformer: every forward stands directly above its backward.

Contract of a pair
    y, cache        = op_forward(xp, x, *params)     pure: an argument is never written to
    dx, *dparams    = op_backward(xp, dy, cache)     one gradient per differentiable argument, same order

`dz` always means dLoss/dz and always has the shape of `z`.  `xp` is the array namespace (NumPy, CuPy,
autograd.numpy, ...).  In-place operators appear only on temporaries that the function itself has made.

Sizes in the shape comments
    B sequences   T positions   C residual width   H heads   K head width (C = H*K)
    G neurons of the MLP        V vocabulary
"""

from math import pi, sqrt

from memsinks_np._internal.typing import Array, Cache, Xp


def flatten_positions(xp: Xp, x: Array) -> Array:  # (B,T,C) -> (BT,C)
    """All positions of all sequences, one under the other."""
    return xp.reshape(x, (-1, x.shape[-1]))


def sum_keepdims(xp: Xp, x: Array) -> Array:  # (...,N) -> (...,1)
    """Sum over the last axis as a product with ones: BLAS reads a short axis several times faster than `sum`."""
    x2 = flatten_positions(xp, x)
    return xp.reshape(x2 @ xp.ones_like(x2[0, :]), (*x.shape[:-1], 1))


def sum_rows(xp: Xp, x: Array) -> Array:  # (...,N) -> (N,)
    """Sum over every axis but the last, again as a product with ones."""
    x2 = flatten_positions(xp, x)
    return xp.ones_like(x2[:, 0]) @ x2


def max_keepdims(xp: Xp, x: Array) -> Array:  # (...,N) -> (...,1)
    """Largest entry along the last axis, found down the columns of a transposed copy: three times faster than `max`."""
    half = (
        x.shape[-1] // 2
    )  # the larger of two halves first; of an odd number, they share the one in the middle
    x = xp.maximum(x[..., : x.shape[-1] - half], x[..., half:])
    columns = xp.reshape(xp.reshape(flatten_positions(xp, x).T, (-1,)), (x.shape[-1], -1))
    return xp.reshape(xp.max(columns, axis=0), (*x.shape[:-1], 1))


def transpose(xp: Xp, x: Array) -> Array:  # (...,I,J) -> (...,J,I)
    """Every matrix of a stack, transposed."""
    n = len(x.shape)
    return xp.permute_dims(x, (*range(n - 2), n - 1, n - 2))


def linear_forward(xp: Xp, x: Array, W: Array) -> tuple[Array, Cache]:  # (B,T,C), (C,N) -> (B,T,N)
    """y = x W at every position; no bias (a key's bias would have no gradient: softmax cancels it)."""
    y = flatten_positions(xp, x) @ W
    return xp.reshape(y, (*x.shape[:-1], W.shape[-1])), (x, W)


def linear_backward(
    xp: Xp, dy: Array, cache: Cache
) -> tuple[Array, Array]:  # (B,T,N) -> (B,T,C), (C,N)
    x, W = cache
    dy2 = flatten_positions(xp, dy)
    # forward: y[b,t] = x[b,t] @ W, so W collects from every (b, t)
    dW = flatten_positions(xp, x).T @ dy2
    dx = dy2 @ W.T
    return xp.reshape(dx, x.shape), dW


def layernorm_forward(
    xp: Xp, x: Array, g: Array, b: Array, eps: float = 1e-5
) -> tuple[Array, Cache]:
    # (B,T,C), (C,), (C,) -> (B,T,C)
    """y = g * (x - mean) / sqrt(var + eps) + b over the last axis (Ba, Kiros, Hinton 2016, eq. 4)."""
    C = x.shape[-1]
    n = x - sum_keepdims(xp, x) / C  # centred,
    rstd = 1.0 / xp.sqrt(sum_keepdims(xp, n * n) / C + eps)
    n *= rstd  # and now normalized
    y = n * g
    y += b
    return y, (n, rstd, g)


def layernorm_backward(
    xp: Xp, dy: Array, cache: Cache
) -> tuple[Array, Array, Array]:  # (B,T,C) -> (B,T,C), (C,), (C,)
    n, rstd, g = cache
    dyn, C = dy * n, dy.shape[-1]
    # x reaches n along three routes: directly, through the mean, through the variance
    dx = dy * g  # = dn, whose sum over the last axis is the product dy @ g
    dx -= (dy @ g)[..., None] / C
    dx -= n * ((dyn @ g)[..., None] / C)
    dx *= rstd
    return dx, sum_rows(xp, dyn), sum_rows(xp, dy)


GELU_SCALE, GELU_CUBIC = sqrt(2.0 / pi), 0.044715


def gelu_forward(xp: Xp, x: Array) -> tuple[Array, Cache]:  # any shape
    """y = x s, s = 1/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of Hendrycks & Gimpel 2016."""
    u = x * x
    u *= GELU_SCALE * GELU_CUBIC
    u += GELU_SCALE
    u *= x  # sqrt(2/pi) (x + 0.044715 x^3)
    s = xp.tanh(u)
    s += 1.0
    s *= 0.5
    y = x * s
    return y, (x, s, y)


def gelu_backward(xp: Xp, dy: Array, cache: Cache) -> Array:
    x, s, y = cache
    # forward: y = x s, where x appears twice: dy/dx = s + x ds/dx, and ds/dx = 2 s (1 - s) du/dx, so x s = y again
    dx = x * x
    dx *= 6.0 * GELU_SCALE * GELU_CUBIC
    dx += 2.0 * GELU_SCALE  # 2 du/dx
    dx *= y
    dx *= 1.0 - s
    dx += s
    dx *= dy
    return dx


def softmax_forward(xp: Xp, s: Array) -> tuple[Array, Cache]:  # over the last axis
    """p = exp(s) / sum exp(s); subtracting the largest score first changes nothing but the overflow."""
    p = xp.exp(s - max_keepdims(xp, s))
    p /= sum_keepdims(xp, p)
    return p, p


def softmax_backward(xp: Xp, dp: Array, p: Array) -> Array:
    # the Jacobian diag(p) - p p^T needs no matrix: centre dp under p, then weigh it by p
    ds = dp - sum_keepdims(xp, dp * p)
    ds *= p
    return ds


def attention_forward(
    xp: Xp, q: Array, k: Array, v: Array, attn_mask: Array
) -> tuple[Array, Cache]:
    # three (B,H,T,K), (T,T) -> (B,H,T,K)
    """Causal scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    `attn_mask` is 0 where a query may look and -inf where it may not; it is data, without a gradient.
    """
    scale = q.shape[-1] ** -0.5
    s = q @ transpose(xp, k)  # (B,H,T,T)
    s *= scale
    s += attn_mask
    p, _ = softmax_forward(xp, s)
    return p @ v, (q, k, v, p, scale)


def attention_backward(
    xp: Xp, dy: Array, cache: Cache
) -> tuple[Array, Array, Array]:  # (B,H,T,K) -> three (B,H,T,K)
    q, k, v, p, scale = cache
    dv = transpose(xp, p) @ dy  # forward: y = p @ v
    dp = dy @ transpose(xp, v)
    ds = softmax_backward(xp, dp, p)
    ds *= scale  # where masked, p = 0 and so ds = 0
    return ds @ k, transpose(xp, ds) @ q, dv  # forward: s = scale * q @ k^T


def split_heads(
    xp: Xp, qkv: Array, H: int
) -> tuple[Array, Array, Array]:  # (B,T,3C) -> three (B,H,T,K)
    """Queries, keys and values of every head."""
    B, T, N = qkv.shape
    parts = xp.permute_dims(xp.reshape(qkv, (B, T, 3, H, N // (3 * H))), (2, 0, 3, 1, 4))
    return parts[0, ...], parts[1, ...], parts[2, ...]


def split_heads_backward(
    xp: Xp, dq: Array, dk: Array, dv: Array
) -> Array:  # three (B,H,T,K) -> (B,T,3C)
    B, H, T, K = dq.shape
    parts = xp.permute_dims(xp.stack((dq, dk, dv)), (1, 3, 0, 2, 4))  # (B,T,3,H,K)
    return xp.reshape(parts, (B, T, 3 * H * K))


def merge_heads(xp: Xp, z: Array) -> Array:  # (B,H,T,K) -> (B,T,C)
    """What the heads found, side by side again."""
    B, H, T, K = z.shape
    return xp.reshape(xp.permute_dims(z, (0, 2, 1, 3)), (B, T, H * K))


def merge_heads_backward(xp: Xp, dx: Array, H: int) -> Array:  # (B,T,C) -> (B,H,T,K)
    B, T, C = dx.shape
    return xp.permute_dims(xp.reshape(dx, (B, T, H, C // H)), (0, 2, 1, 3))


def mlp_forward(
    xp: Xp, x: Array, W_in: Array, b_in: Array, W_out: Array, b_out: Array
) -> tuple[Array, Cache]:
    # (B,T,C), (C,G), (G,), (G,C), (C,) -> (B,T,C)
    """y = gelu(x W_in + b_in) W_out + b_out."""
    pre, c_in = linear_forward(xp, x, W_in)
    pre += b_in
    post, c_act = gelu_forward(xp, pre)
    y, c_out = linear_forward(xp, post, W_out)
    y += b_out
    return y, (c_in, c_act, c_out)


def mlp_backward(
    xp: Xp, dy: Array, cache: Cache
) -> tuple[Array, ...]:  # (B,T,C) -> dx, dW_in, db_in, dW_out, db_out
    c_in, c_act, c_out = cache
    dpost, dW_out = linear_backward(xp, dy, c_out)
    dpre = gelu_backward(xp, dpost, c_act)
    dx, dW_in = linear_backward(xp, dpre, c_in)
    return dx, dW_in, sum_rows(xp, dpre), dW_out, sum_rows(xp, dy)


def cross_entropy_forward(xp: Xp, logits: Array, target: Array) -> tuple[Array, Cache]:
    # (B,T,V), (B,T,V) one-hot -> (B,T)
    """-log softmax(logits)[target] in nats, kept per word because memorization is per sequence."""
    z = logits - max_keepdims(xp, logits)
    e = xp.exp(z)
    total = sum_keepdims(xp, e)
    nll = xp.log(total) - sum_keepdims(xp, target * z)
    return nll[..., 0], (e, total, target)


def cross_entropy_backward(xp: Xp, dnll: Array, cache: Cache) -> Array:  # (B,T) -> (B,T,V)
    e, total, target = cache
    dlogits = e / total  # "what you said"
    dlogits -= target  # minus "what was true"
    dlogits *= dnll[..., None]
    return dlogits
