"""Build network, optimizer, loss and average of the weights from a plan; a checkpoint holds their state."""

from __future__ import annotations

import logging
import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gcsam_med.config import RunConfig
from gcsam_med.devices import pick_device, pick_precision
from gcsam_med.errors import ConfigError
from gcsam_med.losses import build_loss, class_weights
from gcsam_med.networks import build_network, load_pretrained
from gcsam_med.optim import OPTIMIZERS, Sharpness, build
from gcsam_med.training.batches import MicroBatch
from gcsam_med.training.plan import Plan, ascent_options

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Parts:
    """What a run trains, and what it trains with."""

    fabric: Any  #: Device and processes.
    network: nn.Module  #: The bare network; its weights are saved.
    #: The network as training calls it: compiled if asked for, wrapped for DDP where there are processes.
    model: nn.Module
    optimizer: torch.optim.Optimizer  #: Takes the step.
    sharpness: Sharpness | None  #: Ascends before it; None for plain optimizers.
    scaler: torch.amp.GradScaler  #: Scales the loss in fp16; else does nothing.
    averaged: AveragedModel | None  #: Average of the weights, where the run keeps one.
    loss: nn.Module  #: Is minimized.
    precision: torch.dtype | None  #: Type that autocast computes in; None for none.
    initial: str  #: Where the first weights come from.

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.fabric.device

    @property
    def to_save(self) -> nn.Module:
        """The network whose weights are validated and saved: the average as soon as there is one."""
        if self.averaged is None or not self.averaged.n_averaged:
            return self.network
        return self.averaged.module

    def autocast(self) -> AbstractContextManager[Any]:
        """Context for a forward pass in the run's precision.

        Fabric's own would also demand its ``backward``, which the two passes of an ascent cannot use.
        """
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """Forward pass in training: a micro-batch's share of the step's loss, no dimension."""
        with self.autocast():
            logits = self.model(batch.images)
        share: torch.Tensor = self.loss(logits.float(), batch.targets) * batch.share
        return share

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sharpness": None if self.sharpness is None else self.sharpness.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state made by `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.sharpness is not None:
            self.sharpness.load_state_dict(state["sharpness"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])


def synchronized(network: nn.Module, device: torch.device, processes: int) -> nn.Module:
    """Let BatchNorm count over the batches of all processes; its weights keep their names.

    Raises
    ------
    ConfigError
        On a device for which PyTorch has no such layer.
    """
    if device.type != "cuda":
        raise ConfigError(
            f"sync_batchnorm needs CUDA, but the run is on {device.type}.",
            "Leave it out, or choose a network without BatchNorm (unet has InstanceNorm).",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if processes > 1 else network


def build_parts(plan: Plan) -> Parts:
    """Build network, optimizer and loss on the run's device.

    The seed is set before the weights are drawn, so that two runs that differ in their optimizer alone start
    from the same weights.
    """
    config = plan.config
    device = pick_device(config.device)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    if config.deterministic or torch.are_deterministic_algorithms_enabled():  # the call imports a compiler
        # What has no such algorithm says so in a warning.
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    fabric = _fabric(device)
    torch.manual_seed(config.seed)
    network = build_network(
        str(config.model),
        task=plan.task,
        in_channels=plan.preprocessing.channels,
        outputs=plan.outputs,
        size=plan.dataset.info.size,
        dropout=config.dropout,
    )
    initial = "random start"
    if plan.starts_from_imagenet:
        initial = "start from " + load_pretrained(network, str(config.model), weights=config.weights).source
    if plan.task == "segmentation":
        start_from_prior(network, foreground_fraction(plan))
    network = network.to(fabric.device).to(memory_format=torch.channels_last)
    if config.sync_batchnorm:
        network = synchronized(network, fabric.device, fabric.world_size)
    averaged = AveragedModel(network, device=fabric.device) if config.ema or config.swa else None
    optimizer, sharpness = build(
        config.optimizer,
        _groups(network, config.weight_decay),
        base=config.base,
        rho=float(config.rho or 0),
        base_options=_base_options(config, fabric.device),
        **(ascent_options(config) if OPTIMIZERS[config.optimizer].ascent else {}),
    )
    precision = pick_precision(config.precision, device)
    model = fabric.setup_module(torch.compile(network) if config.compile else network)
    return Parts(
        fabric=fabric,
        network=network,
        model=model,
        optimizer=optimizer,
        sharpness=sharpness,
        scaler=torch.amp.GradScaler(fabric.device.type, enabled=precision == "fp16"),
        averaged=averaged,
        loss=_loss(plan).to(fabric.device),
        precision=AUTOCAST[precision],
        initial=initial,
    )


def _fabric(device: torch.device) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    local, world = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    alone = world == 1
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index or 0] if alone and device.type == "cuda" else local,
        num_nodes=world // local,
        strategy="auto"
        if alone
        else DDPStrategy(process_group_backend="nccl" if device.type == "cuda" else "gloo"),
    )
    fabric.launch()
    return fabric


def _loss(plan: Plan) -> nn.Module:
    config = plan.config
    weighted = plan.task == "classification" and config.class_weights
    weights = class_weights(plan.class_counts()) if weighted else None
    return build_loss(str(config.loss), weights, config.label_smoothing)


def _base_options(config: RunConfig, device: torch.device) -> dict[str, Any]:
    method = OPTIMIZERS[config.optimizer]
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if "sgd" in (config.optimizer, config.base if method.ascent else ""):
        options["momentum"] = config.momentum
    if device.type == "cuda":
        options["fused"] = True  # one kernel, which can also skip a step without the host
    return options


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay weights, but neither biases nor the scales of norm layers, which have one dimension."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not weight_decay:
        return [{"params": parameters}]
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


# Enough for a fraction; a large data set need not be read twice for it.
MOST_MASKS = 512


def foreground_fraction(plan: Plan) -> float:
    """Fraction of the training masks' pixels that is foreground, kept away from 0 and 1."""
    chosen = plan.train_rows[:: math.ceil(len(plan.train_rows) / MOST_MASKS)]
    parts = [plan.dataset.masks(rows).mean() for rows in np.array_split(chosen, math.ceil(len(chosen) / 64))]
    return min(max(float(np.mean(parts)), 0.001), 0.999)


@torch.no_grad()
def start_from_prior(network: nn.Module, prior: float) -> None:
    """Set the last bias of one element, the output layer's, so that an untrained network answers `prior`.

    A network that begins at probability one half spends its first epochs learning that most pixels are
    background. Lin et al., "Focal Loss for Dense Object Detection" (2017), section 4.1, set the bias instead.
    """
    biases = [
        b for m in network.modules() if isinstance(b := getattr(m, "bias", None), Tensor) and b.shape == (1,)
    ]
    biases[-1].fill_(math.log(prior / (1 - prior)))
