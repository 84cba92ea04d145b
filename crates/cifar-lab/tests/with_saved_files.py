#!/usr/bin/env python3
"""Checks load_pth against PyTorch on files in the shapes that people save: python3 crates/cifar-lab/tests/with_saved_files.py

Needs torch, numpy and cargo. Writes more than a hundred files, loads each in PyTorch (`torch.load`, the state dict taken
out as its user would, `load_state_dict(strict=True)`) and in cifar-lab (`examples/load_pth.rs`), and compares: what
PyTorch takes is taken, with the same bytes in the network afterwards; what it refuses is refused. With --show, prints why.
"""
import argparse
import collections
import dataclasses
import datetime
import io
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import warnings

import numpy
import torch
from torch import nn

warnings.filterwarnings("ignore")


class Net(nn.Module):
    """cifar-lab's Net with channels 4 and 8, a dense layer of 16, for 8×8 pictures."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


@dataclasses.dataclass
class Settings:
    epochs: int = 3


class Dictionary(dict):
    """A dict of one's own, as configuration libraries have."""


def network(seed):
    torch.manual_seed(seed)
    net = Net()
    # One step of training, so that running statistics and counts are not what they were at first.
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    return net


net = network(1)
state = net.state_dict()
with_momentum = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
adam = torch.optim.AdamW(net.parameters())
with_momentum.step(), adam.step()
names = list(state)


def each(change):
    """A plain dict of changed tensors: without PyTorch's versions of the modules."""
    return {name: change(tensor) for name, tensor in state.items()}


def floats(change):
    return each(lambda tensor: change(tensor) if tensor.is_floating_point() else tensor)


def matrices(change):
    return each(lambda tensor: change(tensor) if tensor.dim() > 1 else tensor)


def flat():
    """All floats as views of one storage."""
    tensors = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    whole, at, views = torch.cat([tensor.flatten() for tensor in tensors.values()]), 0, {}
    for name, tensor in tensors.items():
        views[name] = whole[at:at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    return {**state, **views}


def without(suffix, like=dict):
    return like((name, tensor) for name, tensor in state.items() if not name.endswith(suffix))


def with_versions(suffix):
    changed = net.state_dict()
    for name in [name for name in changed if name.endswith(suffix)]:
        del changed[name]
    return changed


def attributed(tensor):
    tensor = tensor.clone()
    tensor.note = "mine"
    return tensor


# How the state dict itself may look.
STATES = {
    "as_it_is": state,
    "dict": dict(state),
    "ordered": collections.OrderedDict(state.items()),
    "default_dict": collections.defaultdict(list, state),
    "own_dict": Dictionary(state),
    "half": floats(torch.Tensor.half),
    "bfloat16": floats(torch.Tensor.bfloat16),
    "double": floats(torch.Tensor.double),
    "int8": floats(lambda tensor: (tensor * 20).to(torch.int8)),
    "int16": floats(lambda tensor: (tensor * 20).to(torch.int16)),
    "int32": floats(lambda tensor: (tensor * 20).to(torch.int32)),
    "bool": floats(lambda tensor: tensor > 0),
    "parameters": {**dict(net.named_parameters()), **dict(net.named_buffers())},
    "attributes": each(attributed),
    "parameters_with_attributes": floats(lambda tensor: attributed(nn.Parameter(tensor))),
    "transposed": matrices(lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1)),
    "channels_last": each(lambda tensor: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor),
    "strided": matrices(lambda tensor: torch.stack([tensor, tensor], -1)[..., 1]),
    "one_storage": flat(),
    "expanded": each(lambda tensor: tensor[:1].expand(tensor.shape) if tensor.dim() == 1 else tensor),
    "one_tensor_twice": {**state, "bn1.bias": state["bn1.weight"], "bn2.bias": state["bn2.weight"]},
    "no_count_of_batches": without("num_batches_tracked"),
    "no_count_of_batches_ordered": without("num_batches_tracked", collections.OrderedDict),
    "count_with_a_dimension": each(lambda tensor: tensor[None] if tensor.dim() == 0 else tensor),
    "count_as_float": each(lambda tensor: tensor.float()),
    "other_order": dict(reversed(state.items())),
    # Refused by PyTorch too.
    "count_deleted": with_versions("num_batches_tracked"),
    "no_running_mean": without("running_mean"),
    "no_bias": without("fc2.bias"),
    "one_more": {**state, "fc3.weight": torch.ones(2)},
    "wrong_shape": {**state, "fc2.bias": torch.ones(9)},
    "a_number_in_it": {**state, "epoch": 3},
    "none_in_it": {**state, "fc2.bias": None},
    "empty": {},
}

history = [{"loss": 1 / (i + 1), "accuracy": 0.5} for i in range(50)]
schedulers = torch.optim.lr_scheduler

# Where it may lie: what is saved, how a user takes the state dict out, and the keys where it must be named.
first = lambda saved: next(iter(saved.values()))
CONTAINERS = {
    "state_dict": ({"state_dict": state, "epoch": 3, "best_acc": 0.7, "arch": "net"}, first),
    "model_state_dict": ({"model_state_dict": state, "optimizer_state_dict": with_momentum.state_dict(), "loss": 0.5}, first),
    "model": ({"model": state, "optimizer": adam.state_dict(), "epoch": 3}, first),
    "net": ({"net": state, "acc": 75.0, "epoch": 3}, first),
    "network": ({"network": state, "optimizer": adam.state_dict()}, first),
    "weights": ({"weights": state, "seed": 1 << 70}, first),
    "any_key": ({"für später": state}, first),
    "number_key": ({"models": {0: state}}, lambda saved: saved["models"][0], ["models", "0"]),
    "nested": ({"trainer": {"module": {"student": state}}, "step": 9}, lambda saved: saved["trainer"]["module"]["student"]),
    "best_and_last": ({"state_dict": state, "best_state_dict": network(2).state_dict()}, first),
    "ema": ({"model": network(2).state_dict(), "ema": {"weights": state}}, lambda saved: saved["ema"]["weights"], ["ema", "weights"]),
    "two": ({"generator": state, "discriminator": network(2).state_dict()}, first, ["generator"]),
    "the_same_twice": ({"student": state, "teacher": state}, first),
    "list": ([state, 3], lambda saved: saved[0]),
    "tuple": ((3, state, with_momentum.state_dict()), lambda saved: saved[1]),
    "multi_step": ({"net": state, "scheduler": schedulers.MultiStepLR(with_momentum, [10, 20]).state_dict()}, first),
    "one_cycle": ({"net": state, "scheduler": schedulers.OneCycleLR(with_momentum, 0.1, 10).state_dict()}, first),
    "cosine": ({"net": state, "scheduler": schedulers.CosineAnnealingLR(with_momentum, 10).state_dict()}, first),
    "plateau": ({"net": state, "scheduler": schedulers.ReduceLROnPlateau(with_momentum).state_dict()}, first),
    "scheduler_itself": ({"net": state, "scheduler": schedulers.StepLR(with_momentum, 10)}, first),
    "optimizer_itself": ({"net": state, "optimizer": adam}, first),
    "scaler": ({"net": state, "scaler": torch.amp.GradScaler("cpu").state_dict()}, first),
    "namespace": ({"net": state, "args": argparse.Namespace(lr=0.1, folder="runs")}, first),
    "data_class": ({"net": state, "settings": Settings()}, first),
    "own_class": ({"net": state, "config": Dictionary(lr=0.1)}, first),
    "path_and_date": ({"net": state, "path": pathlib.Path("runs"), "date": datetime.datetime(2020, 1, 2)}, first),
    "bytes": ({"net": state, "x": b"abc", "y": bytearray(b"abc"), "git": "abc".encode()}, first),
    "collections": ({"net": state, "c": collections.Counter("aab"), "d": collections.deque([1, 2], 5), "s": {1}, "f": frozenset([2])}, first),
    "types": ({"net": state, "t": torch.float32, "d": torch.device("cpu"), "l": nn.Linear, "s": torch.Size([1]), "c": 1 + 2j}, first),
    "slices": ({"net": state, "r": range(3), "s": slice(1, 2), "e": Ellipsis, "n": NotImplemented, "p": print}, first),
    "numpy_scalars": ({"net": state, "loss": numpy.float64(0.5), "epoch": numpy.int64(3), "best": numpy.float32(1)}, first),
    "numpy_arrays": ({"net": state, "a": numpy.arange(3), "o": numpy.array(["a", None], dtype=object), "f": numpy.asfortranarray(numpy.ones((2, 3)))}, first),
    "random_states": ({"net": state, "torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy.random.get_state()}, first),
    "history": ({"net": state, "history": history, "losses": [0.5] * 3000}, first),
    "other_tensors": ({"net": state, "confusion": torch.ones(10, 10), "mean": torch.ones(3)}, first),
    "odd_tensors": ({"net": state, "x": [torch.ones(2, dtype=torch.complex64), torch.ones(2).to_sparse(),
                                         torch.ones(2).to(torch.float8_e4m3fn), torch.ones(2, dtype=torch.uint16),
                                         torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)]}, first),
    "itself": (lambda saved: (saved.update(me=saved, net=state), saved)[1])({}),
    "module_too": ({"state_dict": state, "model": net}, first),
}
CONTAINERS["itself"] = (CONTAINERS["itself"], lambda saved: saved["net"])

PREFIXES = {"DataParallel": "module.", "compiled": "_orig_mod.", "lightning": "model.", "both": "module._orig_mod."}


def python2(folder):
    """A file as Python 2 with PyTorch 0.3 wrote it: texts are bytes, the OrderedDict gets pairs, no counts of batches."""
    short = lambda text: b"U" + bytes([len(text)]) + text
    numbers = lambda values: b"(" + b"".join(b"M" + struct.pack("<H", value) for value in values) + b"t"
    pairs, keys, data = b"", b"", b""
    for index, (name, tensor) in enumerate(without("num_batches_tracked").items()):
        key = short(str(70 + index).encode())
        storage = b"(" + short(b"storage") + b"ctorch\nFloatStorage\n" + key + short(b"cpu")
        storage += b"M" + struct.pack("<H", tensor.numel()) + b"NtQ"
        pairs += b"](" + short(name.encode()) + b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00"
        pairs += numbers(tensor.shape) + numbers(tensor.stride()) + b"tRe"
        keys += key
        data += struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    out = b"".join(pickle.dumps(value, 2) for value in (0x1950a86a20f9469cfc6c, 1001, system))
    out += b"\x80\x02ccollections\nOrderedDict\nq\x01](" + pairs + b"e\x85Rq\x02.\x80\x02](" + keys + b"e." + data
    open(os.path.join(folder, "python2.pth"), "wb").write(out)


def write_all(folder):
    """Writes the files; gives how the state dict is taken out of each."""
    take = {}
    path = lambda name: os.path.join(folder, f"{name}.pth")
    itself = lambda saved: saved

    def save(name, saved, taken=itself, keys=None, prefix=None, **options):
        torch.save(saved, path(name), **options)
        take[name] = taken
        for extension, text in [("keys", keys and "\n".join(keys)), ("prefix", prefix)]:
            if text:
                open(os.path.join(folder, f"{name}.{extension}"), "w").write(text)

    for name, value in STATES.items():
        save(f"state_{name}", value)
        save(f"state_{name}_in_checkpoint", {"epoch": 3, "state_dict": value}, lambda saved: saved["state_dict"])
    for name, (value, taken, *keys) in CONTAINERS.items():
        save(f"under_{name}", value, taken, *keys)
    for protocol in (2, 3, 4, 5):
        save(f"zip_protocol{protocol}", {"epoch": 3, "net": state}, lambda saved: saved["net"], pickle_protocol=protocol)
    for protocol in (1, 2, 3, 4, 5):
        for name, value in [("plain", state), ("views", STATES["transposed"]), ("half", STATES["half"]), ("one_storage", flat())]:
            save(f"legacy{protocol}_{name}", {"epoch": 3, "model": value}, lambda saved: saved["model"],
                 pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    for name in ("collections", "numpy_arrays", "random_states", "namespace", "multi_step"):
        value, taken = CONTAINERS[name]
        save(f"legacy_under_{name}", value, taken, _use_new_zipfile_serialization=False)
    for name, prefix in PREFIXES.items():
        renamed = {prefix + key: tensor for key, tensor in state.items()}
        strip = lambda saved, prefix=prefix: {key.removeprefix(prefix): tensor for key, tensor in saved.items()}
        save(f"prefix_{name}", renamed, strip, prefix=prefix)
        save(f"prefix_{name}_left_on", renamed)
    python2(folder)
    take["python2"] = itself

    # What is no state dict.
    save("whole_model", net)
    save("whole_model_legacy", net, _use_new_zipfile_serialization=False)
    save("whole_model_inside", {"model": net, "epoch": 3}, lambda saved: saved["model"])
    save("optimizer_only", adam.state_dict())
    save("tensor", torch.ones(3))
    save("number", 3)
    save("list_of_tensors", list(state.values()))
    save("state_of_numpy", {name: tensor.numpy() for name, tensor in state.items()})
    torch.jit.script(net).save(path("script"))
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole = buffer.getvalue()
    for name, content in {
        "cut": whole[:len(whole) // 2], "nothing": b"", "page": b"<!DOCTYPE html><html></html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "pickled": pickle.dumps({"a": [1]}),
    }.items():
        open(path(name), "wb").write(content)
    for name in ("script", "cut", "nothing", "page", "lfs", "pickled"):
        take[name] = itself
    return take


def in_pytorch(path, take):
    """The network's tensors after loading, or why not."""
    try:
        try:
            saved = torch.load(path, weights_only=True)
        except Exception:
            saved = torch.load(path, weights_only=False)
        loaded = network(3)
        loaded.load_state_dict(take(saved), strict=True)
        return loaded.state_dict()
    except Exception as error:
        return error


def raw(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def main(show):
    crate = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as folder:
        first, second = os.path.join(folder, "pytorch"), os.path.join(folder, "rust")
        os.mkdir(first), os.mkdir(second)
        take = write_all(first)
        command = ["cargo", "run", "--quiet", "-p", "cifar-lab", "--example", "load_pth", first, second]
        subprocess.run(command, check=True, cwd=crate)
        taken, refused, wrong = 0, [], []
        for name in take:
            theirs = in_pytorch(os.path.join(first, f"{name}.pth"), take[name])
            path = os.path.join(second, f"{name}.pth")
            error = os.path.join(second, f"{name}.error")
            ours = torch.load(path, weights_only=True) if os.path.exists(path) else open(error).read()
            if isinstance(theirs, Exception):
                if isinstance(ours, str):
                    refused.append((name, ours))
                else:
                    wrong.append(f"{name}: taken, and PyTorch says {theirs}")
            elif isinstance(ours, str):
                wrong.append(f"{name}: PyTorch takes it; here {ours}")
            else:
                # A count of batches that the file lacks stays what it was in the network: zero here, one there.
                lacking = "python2" in name or "no_count" in name
                same = [key for key in theirs if lacking and key.endswith("num_batches_tracked") or
                        theirs[key].dtype == ours[key].dtype and raw(theirs[key]) == raw(ours[key])]
                if same == names and list(theirs) == names:
                    taken += 1
                else:
                    wrong.append(f"{name}: other values in {sorted(set(names) - set(same))}")
        for name, error in refused if show else []:
            print(f"refused {name}: {error}")
        print("\n".join(wrong) or "no differences")
        print(f"PyTorch {torch.__version__}: {len(take)} files, {taken} taken by both, {len(refused)} refused by both")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--show" in sys.argv))
