"""Two values of every key of a recipe, and what each needs beside it: for what grids may share between runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from idsnn_cli.recipe import Recipe

# Two values of every key of a recipe, where the recipe below has a third one or one of them.
VALUES = {
    "seed": "1,2",
    "data.dataset": "digits,cifar10",
    "data.root": "here,there",
    "data.download": "true,false",
    "data.subset": "60,70",
    "data.test_subset": "20,30",
    "data.validation": "10,20",
    "data.normalise": "cifar10,cifar100",
    "data.augment.crop": "1,2",
    "data.augment.flip": "true,false",
    "data.augment.autoaugment": "none,cifar10",
    "data.augment.cutout": "0,2",
    "data.seed": "1,2",
    "teacher.arch": "resnet14,resnet20",
    "teacher.width": "4,8",
    "teacher.stem": "3x3,7x7",
    "teacher.shortcut": "projection,pad",
    "teacher.lr": "0.1,0.2",
    "teacher.activation": "relu,qcfs",
    "teacher.epochs": "1,3",
    "teacher.batch_size": "10,40",
    "teacher.checkpoint": "a.pt,b.pt",
    "teacher.keep": "last,best",
    "teacher.seed": "1,2",
    "student.arch": "spiking-resnet8,spiking-resnet14",
    "student.width": "4,8",
    "student.stem": "3x3,7x7",
    "student.shortcut": "projection,pad",
    "student.stem_padding": "1,3",
    "student.timesteps": "2,3",
    "student.block": "spiking,sew,ms",
    "student.v_threshold": "0.5,1",
    "student.decay": "0.25,0.5",
    "student.tau": "1,2",
    "student.reset": "hard,soft",
    "student.start": "zero,half",
    "student.surrogate": "triangle,arctan",
    "student.surrogate_scale": "1,2",
    "student.coding": "direct,poisson",
    "student.amplitude": "one,channel",
    "init.rule": "loop,best",
    "init.blocks": "first,last",
    "init.channels": "loop,uniform",
    "init.head": "random,copy",
    "init.reestimate": "0,2",
    "init.source": "a.pt,b.pt",
    "pretrain.epochs": "1,2",
    "pretrain.alpha": "0.1,0.2",
    "distill.epochs": "1,3",
    "distill.batch_size": "10,40",
    "distill.optimizer": "sgd,adamw",
    "distill.lr": "0.1,0.2",
    "distill.momentum": "0.5,0.9",
    "distill.nesterov": "true,false",
    "distill.weight_decay": "0,0.1",
    "distill.decay_norm_and_bias": "true,false",
    "distill.schedule": "constant,cosine",
    "distill.warmup_epochs": "0,1",
    "distill.label_smoothing": "0,0.1",
    "distill.clip_norm": "1,2",
    "distill.keep": "last,best",
    "distill.evaluate_every": "1,2",
    "distill.alpha": "0.1,0.2",
    "distill.temperature": "1,2",
    "distill.loss_on": "mean,steps",
    "distill.features": "mse,attention",
    "distill.baseline": "plain,distilled",
    "eval.split": "test,validation",
    "eval.batch_size": "64,128",
    "eval.measure": "[energy],[latency]",
    "eval.timesteps": "3,5",
    "runtime.device": "cpu,cuda",
    "runtime.precision": "fp32,fp64",
    "runtime.threads": "1,2",
    "runtime.save_every_minutes": "1,2",
    "runtime.max_memory_gb": "1,2",
    "runtime.cuda_graph": "true,false",
    "claims.table": "2,3",
    "data.path": "a.npz,b.npz",
    "data.image_size": "16,32",
    "data.select": "test,validation",
    "student.join": "add,and",
    "init.percentile": "99,99.5",
    "init.calibrate": "1,2",
    "distill.milestones": "[1],[2]",
    "distill.step_every": "1,2",
    "distill.gamma": "0.1,0.2",
    "distill.tet_weight": "0.1,0.2",
    "distill.tet_mean": "0.5,0.6",
    "distill.feature_weight": "1,2",
    "distill.class_weights": "none,balanced",
    "data.channels": "1,3",
    "data.frames": "2",
    "data.slicing": "count,time",
    "data.sensor": "[20,20],[24,24]",
    "data.augment.eventdrop": "true,false",
    "init.input": "loop,mean",
    "runtime.track": "[],[tensorboard]",
    "student.threshold": "fixed,layer,channel",
    "student.reset_gradient": "detached,full",
    "student.learn_decay": "none,layer",
    "student.learn_start": "none,channel",
    "distill.source_rates": "true,false",
    "data.augment.scale": "[0.1,1],[0.2,1]",
    "data.augment.ratio": "[0.5,2],[0.8,1.25]",
    "data.decode": "once,always",
    "data.nvjpeg": "true,false",
    "data.resize": "32,64",
    "data.workers": "1,2",
    "data.window": "2,4",
    "data.shards.train": "a.tar,b.tar",
    "data.shards.test": "a.tar,b.tar",
    "data.shards.validation": "a.tar,b.tar",
    "data.shards.classes": "a.txt,b.txt",
}
# No part of a record, as of files that count by their content, and of the machine: never shared nevertheless.
APART = {"data.root", "data.path", "data.download", "eval.batch_size", "runtime.device", "runtime.threads"}
APART |= {"runtime.save_every_minutes", "runtime.max_memory_gb", "runtime.cuda_graph", "runtime.track"}
APART |= {"data.workers", *(f"data.shards.{key}" for key in ("train", "test", "validation", "classes"))}
_FILES = ("data.dataset=folder", "data.path=here", "data.image_size=32")
_SHARDS = ("data.dataset=webdataset", "data.image_size=32", "data.shards.train=train.tar", "data.shards.test=test.tar")
# What a key needs beside it to be allowed.
BESIDE = {
    "distill.source_rates": ("init.convert=weight-normalisation",),
    "data.augment.scale": (*_FILES, "data.augment.crop=0"),
    "data.augment.ratio": (*_FILES, "data.augment.crop=0", "data.augment.scale=[0.1,1]"),
    "data.decode": _FILES,
    "data.nvjpeg": (*_FILES, "data.decode=always"),
    "data.resize": _FILES,
    "data.workers": _FILES,
    "data.window": _SHARDS,
    "data.shards.train": (*_SHARDS[:2], _SHARDS[3]),
    "data.shards.test": _SHARDS[:3],
    "data.shards.validation": _SHARDS,
    "data.shards.classes": _SHARDS,
    "data.path": ("data.dataset=npz",),
    "data.image_size": ("data.dataset=folder", "data.path=here"),
    "data.select": ("data.validation=10",),
    "data.frames": ("data.dataset=nmnist", "student.coding=frames"),
    "data.slicing": ("data.dataset=nmnist", "student.coding=frames"),
    "data.sensor": ("data.dataset=events", "data.path=here", "student.coding=frames"),
    "data.augment.eventdrop": ("data.dataset=nmnist", "student.coding=frames"),
    "student.join": ("student.block=sew",),
    "init.percentile": ("init.rescale=threshold",),
    "init.calibrate": ("init.convert=weight-normalisation",),
    "student.stem_padding": ("student.stem=3x3",),
    "distill.milestones": ("distill.schedule=step",),
    "distill.step_every": ("distill.schedule=step",),
    "distill.gamma": ("distill.schedule=step", "distill.step_every=1"),
    "distill.tet_weight": ("distill.loss_on=steps",),
    "distill.tet_mean": ("distill.loss_on=steps", "distill.tet_weight=0.1"),
    "distill.feature_weight": ("distill.features=mse",),
    "eval.split": ("data.validation=10",),
    "claims.table": ("claims.row=both",),
}


def keys_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys_of(inner, f"{before}{name}.")
        else:
            yield before + name


def plain_value(recipe: Recipe, key: str) -> Any:
    found: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        found = found[part]
    return found
