"""Train the demo model: python -m tools.demo.train FOLDER --minutes 90.

FOLDER receives checkpoint.pt (weights, optimiser, counters; written atomically every few minutes), log.jsonl,
curves.png and at the end model.safetensors. The same command continues a run that was stopped in any way; asked to
stop (SIGTERM) it saves first, killed it goes back to the last checkpoint.
The learning rate follows a cosine over the training time (--minutes) or over the samples (--samples).
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from clipviz.demo.model import evaluate
from clipviz.demo.model.network import (
    CONFIG_FILE,
    BackgroundDropout,
    build,
    encode_short_texts,
    load_weights,
    preprocess,
    read_config,
    save_weights,
)
from clipviz.files import replacing
from tools.demo.batches import Batch, Mixture, stream
from tools.demo.objective import caption_contrast, fact_contrast, self_attention, truth_contrast

BACKGROUND_FIRST, WHOLE = 0.4, 0.75
"""Until when, as shares of a run, patches without things are left out first; from when on none is left out."""

WATCHED_SEED = 1_000_001
"""Seed of the small held-out set that the log follows; the reported numbers use another one."""


@dataclass
class Progress:
    """Counters that a resumed run continues from; typical: seconds of a step, a running mean."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    typical: float = math.inf

    def count(self, seconds: float) -> None:
        """Add the time of one step, of which a pause of the process (suspend, SIGSTOP) is no part."""
        self.seconds += min(seconds, 5 * self.typical)
        recent = seconds if math.isinf(self.typical) else min(seconds, 2 * self.typical)
        self.typical = recent if math.isinf(self.typical) else 0.95 * self.typical + 0.05 * recent

    def share(self, options: argparse.Namespace) -> float:
        """Return how much of the run is done, 0 to 1."""
        done = self.samples / options.samples if options.samples else self.seconds / (60 * options.minutes)
        return min(1.0, done)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=90, help="training time over all restarts")
    parser.add_argument("--samples", type=int, help="stop after so many images instead")
    parser.add_argument("--config", type=Path, default=CONFIG_FILE)
    parser.add_argument("--init", type=Path, help="weights of an earlier stage to start from (safetensors)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument(
        "--patch-dropout",
        type=float,
        default=0.5,
        help="share left out, background first; from 40%% on half of that, evenly; none from 75%%",
    )
    parser.add_argument("--themed", type=float, default=0.6, help="share of groups of hard negatives")
    parser.add_argument("--spotlight", type=float, default=0.25, help="share of groups of large plain forms")
    parser.add_argument(
        "--counting", type=float, default=0.15, help="share of groups of several copies on a plain background"
    )
    parser.add_argument(
        "--altered", type=float, default=0.5, help="share of the sprites that are drawn a little differently"
    )
    parser.add_argument(
        "--muon",
        action=argparse.BooleanOptionalAction,
        default=hasattr(torch.optim, "Muon"),
        help="orthogonal updates of the blocks' matrices; the default where torch has it (2.9 and later)",
    )
    parser.add_argument("--fact-weight", type=float, default=1.5, help="weight of the single facts")
    parser.add_argument(
        "--truth-weight", type=float, default=1.5, help="weight of the sentences of all families"
    )
    parser.add_argument(
        "--rarity", type=float, default=1.0, help="how far rare sentences come before common ones (0 to 1)"
    )
    parser.add_argument(
        "--reference", type=int, default=6000, help="free scenes that say how common a sentence is"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--ahead", type=int, default=3, help="batches drawn ahead by another process; 0: none"
    )
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument(
        "--watch-minutes", type=float, default=10, help="time between tests on held-out images"
    )
    parser.add_argument("--watched", type=int, default=600, help="held-out images in such a test")
    options = parser.parse_args(arguments)
    if options.muon and not hasattr(torch.optim, "Muon"):
        parser.error(
            f"--muon needs torch 2.9 or later, got {torch.__version__}; update torch or leave it out"
        )
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare_cpu(options)
    torch.manual_seed(options.seed)
    trainer = Trainer(options)
    trainer.resume()
    trainer.run()


def prepare_cpu(options: argparse.Namespace) -> None:
    """Threads, and an allocator that keeps the activations' memory: every step asks for the same sizes again."""
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device == "cpu" and sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            trim_threshold, top_pad, mmap_max = -1, -2, -4
            mallopt(mmap_max, 0)
            mallopt(trim_threshold, 2**31 - 1)
            mallopt(top_pad, 2**28)


class Trainer:
    """One run: the model, its optimiser, the counters and the files of a folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.config = read_config(options.config)
        self.model = build(self.config)
        if options.init:
            load_weights(self.model, options.init)
        self.dropout = BackgroundDropout(self.config["vision_cfg"]["patch_size"])
        self.model.visual.patch_dropout = self.dropout  # the network leaves it out
        self.model.to(options.device).train()
        for module in self.model.modules() if options.device == "cpu" else ():
            if isinstance(module, torch.nn.MultiheadAttention):
                module.forward = functools.partial(self_attention, module)  # type: ignore[method-assign]
        self.optimizers = optimizers(self.model, options)
        self.progress = Progress()
        self.averages: dict[str, float] = {}
        self.tokens_seen: set[int] = {0}
        self.stopping = False

    @property
    def checkpoint(self) -> Path:
        return self.options.folder / "checkpoint.pt"

    def resume(self) -> None:
        """Continue from the folder's checkpoint if there is one."""
        if not self.checkpoint.exists():
            return
        stored = torch.load(self.checkpoint, map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(stored["model"])
        for optimizer, state in zip(self.optimizers, stored["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.progress = Progress(**stored["progress"])
        self.averages = stored["averages"]
        self.tokens_seen = set(stored["tokens_seen"])
        print(f"resumed at step {self.progress.step}, {self.progress.samples} samples", flush=True)

    def save(self) -> None:
        """Replace the checkpoint at once."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": vars(self.progress),
            "averages": self.averages,
            "tokens_seen": sorted(self.tokens_seen),
        }
        with replacing(self.checkpoint) as stream:
            torch.save(state, stream)

    def run(self) -> None:
        options, progress = self.options, self.progress
        saved_at = watched_at = time.monotonic()
        batches = stream(
            options.seed,
            progress.step,
            options.batch_size,
            Mixture(options.themed, options.spotlight, options.counting, options.altered, options.reference),
            options.ahead,
        )
        previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        try:
            while progress.share(options) < 1 and not self.stopping:
                step_started = time.monotonic()
                self.step(next(batches))
                progress.count(time.monotonic() - step_started)
                if progress.step % 20 == 0:
                    self.report()
                if time.monotonic() - saved_at > 60 * options.checkpoint_minutes:
                    self.save()
                    saved_at = time.monotonic()
                if time.monotonic() - watched_at > 60 * options.watch_minutes:
                    self.watch()
                    watched_at = time.monotonic()
        finally:
            batches.close()
            signal.signal(signal.SIGTERM, previous)
        self.save()
        self.report()
        if self.stopping:
            return
        self.watch()
        save_weights(self.model, options.folder / "model.safetensors", keep_tokens=sorted(self.tokens_seen))
        draw_curves(options.folder)

    def step(self, batch: Batch) -> None:
        """One optimiser step on one batch."""
        share, options = self.progress.share(self.options), self.options
        torch.manual_seed(options.seed * 2**32 + self.progress.step)  # a resumed run drops the same patches
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(share, self.progress.step, options)
        self.dropout.prob = patch_dropout(share, options)
        self.dropout.things = batch.things.to(options.device) if share < BACKGROUND_FIRST else None
        loss, measured = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.tokens_seen.update(torch.cat([batch.caption_ids, batch.prompt_ids]).unique().tolist())
        self.progress.step += 1
        self.progress.samples += len(batch.images)
        for name, value in measured.items():
            self.averages[name] = 0.97 * self.averages.get(name, value) + 0.03 * value

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        device = self.options.device
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            images = self.model.visual(preprocess(batch.images.to(device)))
            captions, prompts = encode_short_texts(
                self.model, batch.caption_ids.to(device), batch.prompt_ids.to(device)
            )
        images, captions, prompts = (F.normalize(x.float(), dim=-1) for x in (images, captions, prompts))
        scale = self.model.logit_scale.exp()
        contrast = caption_contrast(images, captions, scale, batch.same.to(device))
        found = {family: rows.to(device) for family, rows in batch.fact_images.items()}
        values = {family: rows.to(device) for family, rows in batch.fact_values.items()}
        fact, accuracy = fact_contrast(images, prompts, scale, found, values)
        truth, true_first = truth_contrast(
            images,
            torch.cat([prompts, captions]),
            scale,
            batch.truth.to(device),
            batch.frequency.to(device),
            self.options.rarity,
        )
        measured = {"caption loss": contrast.item(), "fact loss": fact.item(), "truth loss": truth.item()}
        measured["true first"] = true_first
        loss = contrast + self.options.fact_weight * fact + self.options.truth_weight * truth
        return loss, {**measured, **accuracy}

    def report(self) -> None:
        """One line of progress: how far, how fast, how long still."""
        progress, options = self.progress, self.options
        share = progress.share(options)
        rate = progress.samples / max(progress.seconds, 1e-9)
        left = progress.seconds * (1 - share) / max(share, 1e-9)
        self.log({"rate": round(rate, 1), "minutes left": round(left / 60, 1), **self.averages})

    def watch(self) -> None:
        """Test on a small held-out set and log the accuracies."""
        if not self.options.watched:
            return
        self.model.eval()
        encoder = evaluate.encoder_of(self.model)
        results = evaluate.report(encoder, self.options.watched, WATCHED_SEED, n_large=144)
        self.model.train()
        self.log({"held out": {family: round(result["accuracy"], 3) for family, result in results.items()}})

    def log(self, entry: dict) -> None:
        entry = {"step": self.progress.step, "samples": self.progress.samples, **entry}
        entry["minutes"] = round(self.progress.seconds / 60, 1)
        line = json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in entry.items()})
        print(line, flush=True)
        with open(self.options.folder / "log.jsonl", "a") as log:
            log.write(line + "\n")


def optimizers(model: torch.nn.Module, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """AdamW, with weight decay for matrices only: not for embeddings, biases and norms.

    With --muon the matrices inside the blocks of both towers go to Muon (Jordan et al. 2024) instead, scaled to
    updates of AdamW's size (Liu et al. 2025, Muon is scalable for LLM training).
    """
    inner: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if options.muon and parameter.ndim == 2 and "resblocks" in name:
            inner.append(parameter)
        else:
            (decayed if parameter.ndim >= 2 and "embedding" not in name else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    ]
    if inner:
        found.append(
            torch.optim.Muon(
                inner, lr=options.learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
            )
        )
    return found


def learning_rate(share: float, step: int, options: argparse.Namespace) -> float:
    """Warm-up, then a cosine down to 1%."""
    warmup = min(1.0, (step + 1) / max(1, options.warmup))
    return options.learning_rate * warmup * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def patch_dropout(share: float, options: argparse.Namespace) -> float:
    """Return the share of the patches left out: backgrounds and faster steps first, all of the picture at the end.

    In between any patch may be missing, so that what tells an object may not rest on a few of its patches.
    """
    if share < BACKGROUND_FIRST:
        return options.patch_dropout
    return options.patch_dropout / 2 if share < WHOLE else 0.0


def draw_curves(folder: Path) -> None:
    """curves.png: losses and held-out accuracies over samples."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    for name in ("caption loss", "fact loss"):
        points = [(entry["samples"], entry[name]) for entry in entries if name in entry]
        losses.plot(*zip(*points, strict=True), label=name) if points else None
    tests = [entry for entry in entries if "held out" in entry]
    for family in tests[-1]["held out"] if tests else ():
        accuracies.plot(
            *zip(*[(e["samples"], e["held out"][family]) for e in tests], strict=True), label=family
        )
    for axes, title in ((losses, "training loss"), (accuracies, "held-out accuracy")):
        axes.set(xlabel="samples", title=title)
        if axes.lines:
            axes.legend(fontsize=6)
    figure.savefig(folder / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
