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


def rows(xp, x):  # (B,T,C) -> (BT,C)
    """All positions of all sequences, one under the other."""
    return xp.reshape(x, (-1, x.shape[-1]))


def linear_forward(xp, x, W):  # (B,T,C), (C,N) -> (B,T,N)
    """y = x W at every position; no bias (a key's bias would have no gradient: softmax cancels it)."""
    y = rows(xp, x) @ W
    return xp.reshape(y, (*x.shape[:-1], W.shape[-1])), (x, W)


def linear_backward(xp, dy, cache):  # (B,T,N) -> (B,T,C), (C,N)
    x, W = cache
    dy2 = rows(xp, dy)
    # forward: y[b,t] = x[b,t] @ W, so W collects from every (b, t)
    dW = xp.moveaxis(rows(xp, x), 0, 1) @ dy2
    dx = dy2 @ xp.moveaxis(W, 0, 1)
    return xp.reshape(dx, x.shape), dW


def layernorm_forward(xp, x, g, b, eps=1e-5):  # (B,T,C), (C,), (C,) -> (B,T,C)
    """y = g * (x - mean) / sqrt(var + eps) + b over the last axis (Ba, Kiros, Hinton 2016, eq. 4)."""
    xc = x - xp.mean(x, axis=-1, keepdims=True)
    rstd = 1.0 / xp.sqrt(xp.mean(xc * xc, axis=-1, keepdims=True) + eps)
    n = xc * rstd
    return n * g + b, (n, rstd, g)


def layernorm_backward(xp, dy, cache):  # (B,T,C) -> (B,T,C), (C,), (C,)
    n, rstd, g = cache
    dg = xp.sum(rows(xp, dy * n), axis=0)
    db = xp.sum(rows(xp, dy), axis=0)
    # x reaches n along three routes: directly, through the mean, through the variance
    dn = dy * g
    dx = rstd * (dn - xp.mean(dn, axis=-1, keepdims=True) - n * xp.mean(dn * n, axis=-1, keepdims=True))
    return dx, dg, db


GELU_SCALE, GELU_CUBIC = sqrt(2.0 / pi), 0.044715


def gelu_forward(xp, x):  # any shape
    """y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of Hendrycks & Gimpel 2016."""
    t = xp.tanh(x * (GELU_SCALE + (GELU_SCALE * GELU_CUBIC) * (x * x)))
    return 0.5 * x * (1.0 + t), (x, t)


def gelu_backward(xp, dy, cache):
    x, t = cache
    du = GELU_SCALE + (3.0 * GELU_SCALE * GELU_CUBIC) * (x * x)  # derivative of tanh's argument
    # forward: y = x/2 (1 + t), where x appears twice and dt/dx = (1 - t^2) du
    return dy * 0.5 * (1.0 + t + x * (1.0 - t * t) * du)


def softmax_forward(xp, s):  # over the last axis
    """p = exp(s) / sum exp(s); subtracting the largest score first changes nothing but the overflow."""
    e = xp.exp(s - xp.max(s, axis=-1, keepdims=True))
    p = e / xp.sum(e, axis=-1, keepdims=True)
    return p, p


def softmax_backward(xp, dp, p):
    # the Jacobian diag(p) - p p^T needs no matrix: centre dp under p, then weigh it by p
    return p * (dp - xp.sum(dp * p, axis=-1, keepdims=True))


def attention_forward(xp, q, k, v, hidden):  # three (B,H,T,K), (T,T) -> (B,H,T,K)
    """Causal scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    `hidden` is 0 where a query may look and -inf where it may not; it is data, without a gradient.
    """
    scale = q.shape[-1] ** -0.5
    s = (q @ xp.moveaxis(k, -1, -2)) * scale + hidden  # (B,H,T,T)
    p, _ = softmax_forward(xp, s)
    return p @ v, (q, k, v, p, scale)


def attention_backward(xp, dy, cache):  # (B,H,T,K) -> three (B,H,T,K)
    q, k, v, p, scale = cache
    dv = xp.moveaxis(p, -1, -2) @ dy  # forward: y = p @ v
    dp = dy @ xp.moveaxis(v, -1, -2)
    ds = softmax_backward(xp, dp, p) * scale  # where hidden, p = 0 and so ds = 0
    return ds @ k, xp.moveaxis(ds, -1, -2) @ q, dv  # forward: s = scale * q @ k^T


def split_heads(xp, x, H):  # (B,T,C) -> (B,H,T,K)
    B, T, C = x.shape
    return xp.moveaxis(xp.reshape(x, (B, T, H, C // H)), 2, 1)


def merge_heads(xp, x):  # (B,H,T,K) -> (B,T,C), the inverse and so also the gradient of split_heads
    B, H, T, K = x.shape
    return xp.reshape(xp.moveaxis(x, 1, 2), (B, T, H * K))


def mlp_forward(xp, x, W_in, b_in, W_out, b_out):  # (B,T,C), (C,G), (G,), (G,C), (C,) -> (B,T,C)
    """y = gelu(x W_in + b_in) W_out + b_out."""
    pre, c_in = linear_forward(xp, x, W_in)
    post, c_act = gelu_forward(xp, pre + b_in)
    y, c_out = linear_forward(xp, post, W_out)
    return y + b_out, (c_in, c_act, c_out)


def mlp_backward(xp, dy, cache):  # (B,T,C) -> dx, dW_in, db_in, dW_out, db_out
    c_in, c_act, c_out = cache
    dpost, dW_out = linear_backward(xp, dy, c_out)
    dpre = gelu_backward(xp, dpost, c_act)
    dx, dW_in = linear_backward(xp, dpre, c_in)
    return dx, dW_in, xp.sum(rows(xp, dpre), axis=0), dW_out, xp.sum(rows(xp, dy), axis=0)


def cross_entropy_forward(xp, logits, target):  # (B,T,V), (B,T,V) one-hot -> (B,T)
    """-log softmax(logits)[target] in nats, kept per word because memorization is per sequence."""
    z = logits - xp.max(logits, axis=-1, keepdims=True)
    e = xp.exp(z)
    total = xp.sum(e, axis=-1, keepdims=True)
    nll = xp.log(total)[..., 0] - xp.sum(target * z, axis=-1)
    return nll, (e / total, target)


def cross_entropy_backward(xp, dnll, cache):  # (B,T) -> (B,T,V)
    p, target = cache
    return (p - target) * dnll[..., None]  # "what you said" minus "what was true"
