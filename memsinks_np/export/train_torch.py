"""Sinks, standard and retrained: a GPT-2 of Hugging Face on the English of Python's help.

    python -m memsinks_np.export.train_torch [--quick] [--steps 400] [--out result.json]
    torchrun --nproc-per-node 2 -m memsinks_np.export.train_torch

A byte-pair vocabulary and three models are trained from scratch; nothing is downloaded. The models
see the same windows in the same order; `retrained` never sees the repeated ones. Training is that
of transformers' Trainer: `collate` hands on IDs, `IdTrainer` opens `sinks_of` around the loss. It
runs on a GPU if there is one, and under torchrun in several processes, each with its part of every
batch.

Under DistributedDataParallel (DDP) the processes exchange the gradients of all parameters. Those of
a pool are dense: every process sends the rows of all sinks, although those of inactive ones are
zero. The command prints how much that is.
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from memsinks_np._internal.files import write_atomic
from memsinks_np._internal.tables import number, table
from memsinks_np.config import ConfigError, DataConfig, Method, SinkConfig, require
from memsinks_np.data.corpus import Corpus, Sequences, windows_corpus
from memsinks_np.data.text import read_text
from memsinks_np.export.hf import LazyAdamW, SinkParameter, attach, sinks_of
from memsinks_np.train import visible_sequences

IDS = "memsinks_ids"  # a batch's entry


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The settings of a comparison. The seed of the data chooses windows, weights and sinks."""

    data: DataConfig
    n_vocab: int
    d_model: int
    n_layers: int
    n_heads: int
    width: int  # MLP neurons of standard and retrained
    n_shared: int
    sinks: SinkConfig
    steps: int
    warmup: int
    lr: float  # peak; cosine decay to lr/10

    def methods(self) -> list[Method]:
        """Return the methods to compare."""
        sinks = replace(self.sinks, seed=self.data.seed)
        return [
            Method(name="standard", n_shared=self.width),
            Method(name="retrained", n_shared=self.width, max_showings=0),
            Method(name="sinks", n_shared=self.n_shared, sinks=sinks),
        ]


FULL = Sizes(  # 300 showings of each repeated window, as in the experiment `text`
    data=DataConfig(corpus="pydoc", n_repeated=32, n_heldout=128),
    n_vocab=2048,
    d_model=128,
    n_layers=4,
    n_heads=4,
    width=512,
    n_shared=448,
    sinks=SinkConfig(n_sink=4096, n_active=128),
    steps=1200,
    warmup=100,
    lr=3e-3,
)
QUICK = replace(
    FULL,
    data=replace(FULL.data, n_repeated=16, n_heldout=16),
    n_vocab=512,
    d_model=32,
    n_layers=2,
    width=64,
    n_shared=48,
    sinks=SinkConfig(n_sink=128, n_active=16),
    steps=20,
    warmup=5,
)


def token_corpus(sizes: Sizes) -> Corpus:
    """Return a text as windows of tokens, with a byte-pair vocabulary that is trained on it."""
    from tokenizers import ByteLevelBPETokenizer

    text = read_text(sizes.data.corpus)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([text], vocab_size=sizes.n_vocab, show_progress=False)
    tokens = np.array(tokenizer.encode(text).ids)
    vocab = tuple(tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size()))
    return windows_corpus(sizes.data, tokens, vocab)


class Places(Dataset[dict[str, NDArray[np.int64]]]):
    """The sequences of all steps in a row, those of a step side by side: read it in order."""

    def __init__(self, corpus: Corpus, method: Method, steps: int) -> None:
        self.step = lru_cache(maxsize=2)(
            lambda i: visible_sequences(method, corpus.batch(i), i, corpus.cfg.seed)
        )
        self.n = len(self.step(0).ids)  # sequences in a step
        self.steps = steps

    def __len__(self) -> int:
        return self.steps * self.n

    def __getitem__(self, place: int) -> dict[str, NDArray[np.int64]]:
        step, i = divmod(place, self.n)
        sequences: Sequences = self.step(step)
        return {"tokens": sequences.tokens[i], IDS: sequences.ids[i]}


def collate(rows: list[dict[str, NDArray[np.int64]]]) -> dict[str, Tensor]:
    """Return a batch: tokens, the same as labels (the model shifts them), and IDs."""
    require(all(IDS in row for row in rows), f"rows have no {IDS}; set remove_unused_columns=False")
    tokens = torch.as_tensor(np.stack([row["tokens"] for row in rows]))
    ids = torch.as_tensor(np.array([row[IDS] for row in rows]))
    return {"input_ids": tokens, "labels": tokens, IDS: ids}


class IdTrainer(Trainer):
    """A Trainer that computes the loss with the sinks of a batch's IDs, if the model has sinks."""

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the loss. Raises ConfigError if the batch has no IDs."""
        require(IDS in inputs, f"the batch has no {IDS}; use the data_collator `collate`")
        others = {name: x for name, x in inputs.items() if name != IDS}
        with sinks_if_any(model, inputs[IDS]):
            return super().compute_loss(model, others, *args, **kwargs)


class Bar(transformers.TrainerCallback):
    """A progress bar with the loss of the last step, in the first process."""

    def __init__(self, name: str, steps: int) -> None:
        self.bar = tqdm(total=steps, desc=name, unit="step", disable=rank() > 0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move on by a step, since every step is logged."""
        logs = kwargs["logs"]
        if "loss" in logs:  # else a summary
            self.bar.set_postfix_str(f"loss {logs['loss']:.2f}")
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the bar."""
        self.bar.close()


def rank() -> int:
    """Return the number of this process under torchrun, or 0."""
    return int(os.environ.get("RANK", 0))


def has_sinks(model: nn.Module) -> bool:
    """Return whether a model has sinks; it may be wrapped by DDP."""
    return any(isinstance(w, SinkParameter) for w in model.parameters())


def sinks_if_any(model: nn.Module, ids: Any) -> AbstractContextManager[None]:
    """Return `sinks_of(model, ids)`, which does nothing for a model without sinks."""
    return sinks_of(model, ids) if has_sinks(model) else nullcontext()


def make_model(sizes: Sizes, method: Method) -> GPT2LMHeadModel:
    """Return an untrained GPT-2, with sinks if the method has them."""
    torch.manual_seed(sizes.data.seed)
    config = GPT2Config(
        vocab_size=sizes.n_vocab,
        n_positions=sizes.data.n_ctx + 1,
        n_embd=sizes.d_model,
        n_layer=sizes.n_layers,
        n_head=sizes.n_heads,
        n_inner=method.n_shared,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # else transformers warns that it guesses
    return attach(model, method.sinks) if method.sinks else model


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return AdamW that leaves inactive sinks untouched; weight decay on matrices only."""
    if has_sinks(model):
        return LazyAdamW(model.parameters(), lr=lr)
    groups = [
        {"params": [w for w in model.parameters() if (w.ndim > 1) == is_matrix], "weight_decay": d}
        for is_matrix, d in ((True, 0.1), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))


def train(sizes: Sizes, corpus: Corpus, method: Method) -> tuple[nn.Module, list[float]]:
    """Train a model with the Trainer; return it, and the loss of each step over all processes."""
    model: nn.Module = make_model(sizes, method)
    places = Places(corpus, method, sizes.steps)
    require(sizes.steps > 0, f"--steps {sizes.steps} is below 1")
    n_processes, on_gpu = int(os.environ.get("WORLD_SIZE", 1)), torch.cuda.is_available()
    require(places.n % n_processes == 0, f"{n_processes} processes do not divide {places.n}")
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=sizes.steps,
            per_device_train_batch_size=places.n // n_processes,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,  # else the rows lose their IDs
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.1},
            warmup_steps=sizes.warmup,
            max_grad_norm=1.0,
            seed=sizes.data.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            ddp_backend=("nccl" if on_gpu else "gloo") if n_processes > 1 else None,
            ddp_find_unused_parameters=False,
        )
        trainer = IdTrainer(
            model=model,
            args=args,
            train_dataset=places,
            data_collator=collate,
            optimizers=(make_optimizer(model, sizes.lr), None),
            callbacks=[Bar(method.name, sizes.steps)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return model.eval(), losses


def loss(model: Any, tokens: NDArray[np.int64], ids: NDArray[np.int64] | None) -> float:
    """Return the mean loss in nats per token, with the sinks of `ids` or without."""
    device, losses = next(model.parameters()).device, []
    for i in range(0, len(tokens), 64):
        part = torch.as_tensor(tokens[i : i + 64], device=device)
        with torch.no_grad(), sinks_if_any(model, None if ids is None else ids[i : i + 64]):
            losses += [model(part, labels=part).loss.item()] * len(part)
    return float(np.mean(losses))


def count(model: nn.Module) -> dict[str, int]:
    """Return the number of parameters: of the pool, and of everything."""
    pool = sum(w.numel() for w in model.parameters() if isinstance(w, SinkParameter))
    return {"pool": pool, "all": sum(w.numel() for w in model.parameters())}


def compare(sizes: Sizes) -> dict[str, Any]:
    """Train all methods; return their losses as plain values."""
    corpus, rows = token_corpus(sizes), {}
    for method in sizes.methods():
        start = time.perf_counter()
        model, losses = train(sizes, corpus, method)
        own = loss(model, corpus.repeated, corpus.repeated_ids) if method.sinks else None
        rows[method.name] = {
            "repeated, own sinks": own,
            "repeated, removed": loss(model, corpus.repeated, None),
            "held-out": loss(model, corpus.heldout, None),
            "parameters": count(model),
            "seconds": round(time.perf_counter() - start),
            "losses": losses,
        }
        say(f"{method.name}: {sizes.steps} steps, {rows[method.name]['seconds']} s")
    return {"sizes": asdict(sizes), "torch": torch.__version__, "methods": rows}


def tabulate(results: dict[str, Any]) -> str:
    """Return the losses as a table, and what the pool costs under DDP."""
    methods, columns = results["methods"], ("repeated, own sinks", "repeated, removed", "held-out")
    rows = [[name, *(number(row[column]) for column in columns)] for name, row in methods.items()]
    names = ("standard", "retrained", "sinks")
    standard, retrained, sinks = (methods[name]["repeated, removed"] for name in names)
    gap = retrained - standard
    closed = number((sinks - standard) / gap if gap > 0 else None)
    n, plain = methods["sinks"]["parameters"], methods["standard"]["parameters"]["all"]
    return (
        f"{table(['nats per token', *columns], rows)}\n\n"
        f"removal closes {closed} of the gap from standard to retrained\n"
        f"a step of DDP exchanges {n['all']:,} gradients, {n['pool']:,} of them of the pool "
        f"(standard: {plain:,})"
    )


def say(text: str) -> None:
    """Print a text in the first process only."""
    if rank() == 0:
        print(text, flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m memsinks_np.export.train_torch")
    parser.add_argument("--quick", action="store_true", help="tiny: its numbers mean nothing")
    seed_help = "of windows, weights and sinks (default: 0)"
    parser.add_argument("--seed", type=int, default=0, help=seed_help)
    steps_help = f"of each method (default: {FULL.steps}, with --quick {QUICK.steps})"
    parser.add_argument("--steps", type=int, help=steps_help)
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    a = parser.parse_args(argv)
    if a.out and not os.access(a.out.parent, os.W_OK):  # before the training, not after it
        parser.error(f"--out {a.out}: cannot write there; choose another folder")
    sizes = QUICK if a.quick else FULL
    steps = sizes.steps if a.steps is None else a.steps
    try:
        sizes = replace(sizes, data=replace(sizes.data, seed=a.seed), steps=steps)
        results = compare(sizes)
    except ConfigError as e:
        parser.error(str(e))
    if a.out and rank() == 0:
        write_atomic(a.out, json.dumps(results, indent=1) + "\n")
    say(tabulate(results))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
