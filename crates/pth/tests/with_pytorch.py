#!/usr/bin/env python3
"""Checks crates/pth against PyTorch, both ways: python3 crates/pth/tests/with_pytorch.py  (needs torch and cargo)

Writes 200 random state dicts with torch.save, has `examples/rewrite.rs` read and rewrite each, and compares the result
of torch.load(weights_only=True) with the original, bit for bit; files of plain OrderedDicts are also compared byte for
byte. The older format, later protocols and views are covered too.
"""
import collections
import os
import random
import subprocess
import sys
import tempfile
import zipfile

import torch

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool]
COUNT = 200


def raw(tensor):
    """The tensor's bytes: NaNs compare equal, -0 and 0 do not."""
    tensor = tensor.detach().contiguous()
    return bytes(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def random_tensor(rng):
    dtype = rng.choice(DTYPES)
    shape = rng.choice([(), (0,), (3, 0, 2), (1,), (7,), (64, 3, 3, 3), (130, 70), (2, 1, 3, 1, 2), (300, 1000)])
    if rng.random() < 0.5:
        shape = tuple(rng.randrange(6) for _ in range(rng.randrange(6)))
    size = torch.Size(shape).numel() * torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)


def random_name(rng):
    letters = "abcwxyz019_.-/ üßéñ重みж😀\n\"'\\"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 300 if rng.random() < 0.1 else 20)))


def view(tensor, rng):
    choice = rng.randrange(4)
    if choice == 0 and tensor.dim() >= 2:
        return tensor.transpose(0, -1)
    if choice == 1 and tensor.dim() and tensor.shape[0] > 1:
        return tensor[1:]
    if choice == 2:
        return tensor.unsqueeze(0).expand(2, *tensor.shape)
    return tensor


def main():
    crate = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    rng = random.Random(5)
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as folder:
        first, second = os.path.join(folder, "pytorch"), os.path.join(folder, "rust")
        os.mkdir(first), os.mkdir(second)
        plain, seen = [], set()
        for index in range(COUNT):
            state = collections.OrderedDict()
            for _ in range(1200 if index == 0 else rng.randrange(40)):
                state[random_name(rng)] = random_tensor(rng) if index else torch.tensor(rng.random())
            seen |= {tensor.dtype for tensor in state.values()}
            name, kind = f"net{index}.pth", index % 5
            path = os.path.join(first, name)
            if kind < 2:
                torch.save(state, path)
                plain.append(name)
            elif kind == 2:
                torch.save({"epoch": 1, "state_dict": state}, path, _use_new_zipfile_serialization=False)
            elif kind == 3:
                torch.save({"loss": 0.5, "model": state}, path, pickle_protocol=4)
            else:
                torch.save(collections.OrderedDict((k, view(v, rng)) for k, v in state.items()), path)
        command = ["cargo", "run", "--quiet", "-p", "pth", "--example", "rewrite", first, second]
        subprocess.run(command, check=True, cwd=crate)
        tensors = 0
        for index in range(COUNT):
            name = f"net{index}.pth"
            ours = torch.load(os.path.join(second, name), weights_only=True)
            # PyTorch's weights-only reader accepts protocol 2 only.
            theirs = torch.load(os.path.join(first, name), weights_only=index % 5 != 3)
            theirs = theirs.get("state_dict", theirs.get("model", theirs))
            assert isinstance(ours, collections.OrderedDict) and list(ours) == list(theirs), name
            for key, tensor in theirs.items():
                assert ours[key].dtype == tensor.dtype and ours[key].shape == tensor.shape, (name, key)
                assert raw(ours[key]) == raw(tensor), (name, key)
                tensors += 1
        for name in plain:
            files = [open(os.path.join(place, name), "rb").read() for place in (first, second)]
            assert len(files[0]) == len(files[1]), name
            archives = [zipfile.ZipFile(os.path.join(place, name)) for place in (first, second)]
            for a, b in zip(archives[0].infolist(), archives[1].infolist(), strict=True):
                assert (a.filename, a.header_offset) == (b.filename, b.header_offset), name
                if not a.filename.endswith("serialization_id"):
                    assert archives[0].read(a) == archives[1].read(b), (name, a.filename)
                else:
                    assert archives[0].read(a)[20:] == archives[1].read(b)[20:], name
    print(f"PyTorch {torch.__version__}: {COUNT} state dicts, {tensors} tensors, {len(seen)} types: identical bit for bit;")
    print(f"{len(plain)} files written by both: identical but for the fingerprint's first half")


if __name__ == "__main__":
    sys.exit(main())
