"""The headline's methods in PyTorch eager, as fast as it goes: same batches, same evaluations.

Only active sinks are computed, where their number is fixed. Both layers' sinks are the columns of
one matrix and one of biases, so that one lookup gathers them and one update changes them. AdamW is
fused; for a pool it repeats the rule of optim.py and changes only active rows. All sequences
that are evaluated without sinks go through the model together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from memsinks_np import optim
from memsinks_np.config import Method, ModelConfig, Settings, require
from memsinks_np.data.corpus import PADDING, Corpus
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments.recall import KS
from memsinks_np.metrics import values_right
from memsinks_np.model import block_params, init_params
from memsinks_np.sinks import is_sink, own
from memsinks_np.train import visible_sequences

CHUNK = 128  # sequences per forward pass of an evaluation


class Outcome(NamedTuple):
    """What a training gives: the numbers of the headline."""

    losses: list[float]  # of every step
    heldout: list[float]  # in every row of the history, sinks removed
    recall: list[float]  # by k in KS: of facts in new documents, sinks removed
    own: list[float]  # by k in GROUPS: recall in the documents themselves, own sinks on


class Net:
    """The model as tensors, and its two optimizers."""

    def __init__(self, method: Method, settings: Settings, n_vocab: int) -> None:
        self.cfg = settings.model(method, n_vocab)
        self.train, self.routing = settings.train, method.routing
        params = init_params(self.cfg, settings.train.seed)
        self.p = {
            name: torch.tensor(w, requires_grad=True)
            for name, w in params.items()
            if not is_sink(name)
        }
        dense = list(self.p.values())
        self.pool: list[Any] = []  # (S,L,2,C) weights and (S,L) biases
        if self.cfg.sinks:
            self.pool = stacked_pool(params, self.cfg)
            n = torch.zeros(self.cfg.sinks.n_sink, 1)
            self.moments = [[torch.zeros_like(w), torch.zeros_like(w), n] for w in self.pool]
            if self.cfg.sinks.density == 1:  # every row changes in every step
                dense += self.pool
        decay = settings.train.weight_decay
        groups = [
            {"params": [w for w in dense if matrix == is_matrix(w)], "weight_decay": decay * matrix}
            for matrix in (True, False)
        ]
        beta, eps = settings.train.betas, settings.train.eps
        self.adamw = torch.optim.AdamW(groups, lr=1.0, betas=beta, eps=eps, fused=True)
        self.all = [*self.p.values(), *self.pool]
        self.blocks = [block_params(self.p, i) for i in range(self.cfg.n_layers)]

    def step(self, number: int, tokens: Any, sinks: Any, n_repeated: int) -> float:
        """Take one step on (B,T+1) tokens, the repeated sequences first, and return the loss."""
        for w in self.all:
            w.grad = None
        logits = self.logits(tokens[:, :-1], sinks, n_repeated)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.all, self.train.clip)
        lr = optim.learning_rate(self.train, number)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        if sinks is not None and self.cfg.sinks and self.cfg.sinks.density < 1:
            rows = sinks.any(dim=0).nonzero()[:, 0] if sinks.is_floating_point() else sinks.unique()
            self.lazy_adamw(rows, lr)
        return loss.item()

    @torch.no_grad()
    def lazy_adamw(self, rows: Any, lr: float) -> None:
        """Update the active rows of the pool; each has its own number of updates."""
        (b1, b2), eps = self.train.betas, self.train.eps
        n = self.moments[0][2]
        n[rows] += 1
        count = n[rows]
        first, second = 1 - b1**count, 1 - b2**count
        for w, (m, v, _) in zip(self.pool, self.moments, strict=True):
            decay = self.train.weight_decay * is_matrix(w)
            w, m, v, g = (x.flatten(1) for x in (w, m, v, w.grad))
            g, new_m, new_v, new_w = g[rows], m[rows], v[rows], w[rows]
            new_m.lerp_(g, 1 - b1)
            new_v.mul_(b2).addcmul_(g, g, value=1 - b2)
            root = (new_v / second).sqrt_().add_(eps).mul_(first)
            new_w.mul_(1 - lr * decay).addcdiv_(new_m, root, value=-lr)
            m[rows], v[rows], w[rows] = new_m, new_v, new_w

    def logits(self, inputs: Any, sinks: Any, n_repeated: int = 0) -> Any:
        """Return logits, (B,T) -> (B,T,V). `sinks`: None, an index (B,A) or a mask (B,S)."""
        p, H, C = self.p, self.cfg.n_heads, self.cfg.d_model
        x = F.embedding(inputs, p["wte"]) + p["wpe"][: inputs.shape[1]]
        for w, active in zip(self.blocks, self.gather(sinks), strict=True):
            a = F.layer_norm(x, (C,), w["ln1.g"], w["ln1.b"])
            qkv = (a @ w["W_QKV"]).unflatten(-1, (3, H, -1)).permute(2, 0, 3, 1, 4)
            z = F.scaled_dot_product_attention(*qkv, is_causal=True)
            x = x + z.transpose(1, 2).flatten(2) @ w["W_O"]
            m = F.layer_norm(x, (C,), w["ln2.g"], w["ln2.b"])
            x = x + self.mlp(m, w, active, n_repeated)
        return F.layer_norm(x, (C,), p["lnf.g"], p["lnf.b"]) @ p["wte"].T

    def gather(self, sinks: Any) -> list[Any]:
        """Return W_in, b_in, W_out and the mask of the selected sinks for each layer, or None.

        The active rows (B,A,C) and no mask for an index; all rows (S,C) for a mask, and for an
        index of all sinks. Each weight is used once, so that autograd stacks gradients once.
        """
        if sinks is None:
            return [None] * self.cfg.n_layers
        W, b = (x.flatten(1) for x in self.pool)
        mask = sinks if sinks.is_floating_point() else None
        if mask is None and self.cfg.sinks and self.cfg.sinks.density < 1:
            W, b = F.embedding(sinks, W), F.embedding(sinks, b)
        weights = W.unflatten(-1, (-1, self.cfg.d_model)).unbind(-2)
        masks = [mask] * self.cfg.n_layers
        return list(zip(weights[0::2], b.unbind(-1), weights[1::2], masks, strict=True))

    def mlp(self, m: Any, w: Any, sinks: Any, n_repeated: int) -> Any:
        """Return what MLP and sinks add; under gradient masking each sequence trains one of them.

        Paper, section 4: repeated sequences train the sinks, all others the shared MLP.
        """
        if self.routing != "gradient_masking" or not n_repeated:
            y = shared(m, w)
            return y if sinks is None else y + pool(m, sinks)
        *weights, mask = sinks
        fixed = {name: x.detach() for name, x in w.items()}
        frozen = (*(x.detach() for x in weights), mask)
        repeated, once = m[:n_repeated], m[n_repeated:]
        parts = [shared(repeated, fixed) + pool(repeated, sinks), shared(once, w)]
        parts[1] = parts[1] + pool(once, frozen)
        return torch.cat(parts)

    @torch.inference_mode()
    def predict(self, tokens: Any, ids: Any) -> tuple[Any, Any]:
        """Return the loss of every token and the likeliest token; ids=None removes the sinks."""
        selection = None if ids is None else as_tensor(own(self.cfg.sinks, ids))
        losses, likeliest = [], []
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            given = torch.from_numpy(tokens[part])
            logits = self.logits(given[:, :-1], None if selection is None else selection[part])
            nll = F.cross_entropy(logits.flatten(0, 1), given[:, 1:].flatten(), reduction="none")
            losses.append(nll.view(len(given), -1).numpy())
            likeliest.append(logits.argmax(-1).numpy())
        return np.concatenate(losses), np.concatenate(likeliest)


def stacked_pool(params: Any, cfg: ModelConfig) -> list[Any]:
    """Return a pool's weights (S,L,2,C), into and out of a neuron, and its biases (S,L)."""
    layers = range(cfg.n_layers)
    both = [
        np.stack([params[f"h{i}.sink.{name}"] for name in ("W_in", "W_out")], 1) for i in layers
    ]
    biases = np.stack([params[f"h{i}.sink.b_in"] for i in layers], 1)
    return [torch.tensor(x, requires_grad=True) for x in (np.stack(both, 1), biases)]


def is_matrix(w: Any) -> bool:
    """Return whether weight decay applies: of a pool, (S,L) are the biases of all layers."""
    return w.ndim == 4 or (w.ndim == 2 and w.shape[1] > 2)


def shared(m: Any, w: Any) -> Any:
    """Return the shared MLP's output."""
    hidden = F.gelu(torch.addmm(w["mlp.b_in"], m.flatten(0, 1), w["mlp.W_in"]), approximate="tanh")
    return torch.addmm(w["mlp.b_out"], hidden, w["mlp.W_out"]).view_as(m)


def pool(m: Any, sinks: Any) -> Any:
    """Return the output of one layer's sinks: active ones (B,A,C), all, or all under a mask."""
    w_in, b, w_out, mask = sinks
    if w_in.ndim == 3:
        pre = torch.baddbmm(b[:, None], m, w_in.transpose(1, 2))
        return F.gelu(pre, approximate="tanh") @ w_out
    post = F.gelu(F.linear(m, w_in, b), approximate="tanh")
    return (post if mask is None else post * mask[:, None]) @ w_out


def as_tensor(selection: Any) -> Any:
    """Return a selection of sinks as an index (B,A) or a mask (B,S)."""
    return None if selection is None else torch.from_numpy(selection[0])


def evaluator(net: Net, corpus: Corpus) -> Callable[[], tuple[float, list[float]]]:
    """Return a function that evaluates what a row of the history has.

    It returns the loss of held-out documents and the recall of new ones, sinks removed.
    """
    n = corpus.n_evaluated
    assert corpus.facts
    parts = [corpus.repeated[:n], corpus.heldout, *(corpus.facts.documents(k) for k in GROUPS)]
    ends = np.cumsum([len(part) for part in parts])
    tokens = np.concatenate(parts)

    def evaluate() -> tuple[float, list[float]]:
        losses, likeliest = net.predict(tokens, None)
        right = values_right(tokens, likeliest)
        if net.cfg.sinks:
            net.predict(corpus.repeated[:n], corpus.repeated_ids[:n])
            if net.cfg.sinks.density == 1:
                net.predict(corpus.heldout, corpus.heldout_ids)
        recall = [float(x.mean()) for x in np.split(right, ends)[2:-1]]
        return float(losses[ends[0] : ends[1]].mean(dtype=np.float64)), recall

    return evaluate


def train(method: Method, settings: Settings, corpus: Corpus) -> Outcome:
    """Train one method and measure it, as train.train and recall.measure do."""
    torch.set_num_threads(1)
    plain = method.loss_mask == "all" and not method.random_sinks and method.routing != "sgtm"
    require(plain and corpus.repeated.min() != PADDING, f"{method.name} has no peer in PyTorch")
    net = Net(method, settings, len(corpus.vocab))
    evaluate = evaluator(net, corpus)
    losses, heldout = [], [evaluate()[0]]
    for step in range(settings.train.steps):
        batch = visible_sequences(method, corpus.batch(step), step, settings.train.seed)
        sinks = as_tensor(own(net.cfg.sinks, batch.ids))
        n_repeated = int(batch.repeated.sum())
        losses.append(net.step(step, torch.from_numpy(batch.tokens), sinks, n_repeated))
        if (step + 1) % settings.train.eval_every == 0:
            heldout.append(evaluate()[0])
    assert corpus.facts
    facts = corpus.facts
    recall = [mean_recall(net, facts.documents(k)) for k in KS]
    ids = corpus.repeated_ids if net.cfg.sinks else None
    _, likeliest = net.predict(corpus.repeated, ids)
    right = values_right(corpus.repeated, likeliest)
    group = facts.world.group[facts.repeated[:, 0]]
    return Outcome(losses, heldout, recall, [float(right[group == k].mean()) for k in GROUPS])


def mean_recall(net: Net, tokens: Any) -> float:
    """Return how many facts of new documents are completed correctly, sinks removed."""
    return float(values_right(tokens, net.predict(tokens, None)[1]).mean())
