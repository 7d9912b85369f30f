"""A training with ``transformers.Trainer`` of one's own, with the callback that brings it under Trimtab."""

import time

import torch
from torch.utils.data import TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import trimtab
from trimtab.adapters.huggingface import TrimtabCallback

config = trimtab.params(lr=0.01)
set_seed(0)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8,
    )
)  # fmt: skip
tokens = torch.randint(0, 16, (32, 8))
data = TensorDataset(tokens, (tokens[:, 0] > 7).long())


def collate(rows):
    time.sleep(0.02)  # so that it can be interrupted
    return {
        "input_ids": torch.stack([row[0] for row in rows]),
        "labels": torch.stack([row[1] for row in rows]),
    }


tuning = TrimtabCallback()
Trainer(
    model,
    TrainingArguments(
        tuning.output_dir, max_steps=50, learning_rate=config["lr"], eval_strategy="steps", eval_steps=2,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
    ),
    data_collator=collate,
    train_dataset=data,
    eval_dataset=data,
    callbacks=[tuning],
).train(resume_from_checkpoint=tuning.resume_from)  # fmt: skip
