"""A Lightning training of one's own, with the one callback that brings it under Trimtab."""

import time
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

import trimtab
from trimtab.adapters.lightning import TrimtabCallback

warnings.filterwarnings("ignore")


class Line(LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(2, 1)

    def loss(self, batch):
        x, y = batch
        return (self.layer(x)[:, 0] - y).square().mean()

    def training_step(self, batch):
        return self.loss(batch)

    def validation_step(self, batch):
        self.log("val_loss", self.loss(batch))

    def on_train_epoch_start(self):
        time.sleep(0.05)  # so that it can be interrupted
        self.log("rate", self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


config = trimtab.params(lr=0.01)
seed_everything(0)
x = torch.randn(32, 2)
data = DataLoader(TensorDataset(x, x.sum(1)), batch_size=8)
tuning = TrimtabCallback()
Trainer(
    max_epochs=50, callbacks=[tuning], logger=False, enable_progress_bar=False, accelerator="cpu",
    enable_model_summary=False, enable_checkpointing=False,
).fit(Line(config["lr"]), data, data, ckpt_path=tuning.ckpt_path)  # fmt: skip
