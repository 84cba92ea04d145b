#!/usr/bin/env python3
"""Checks saved networks against PyTorch, both ways: python3 crates/cifar-lab/tests/with_pytorch.py CIFAR10_FOLDER

Needs torch and numpy, cargo, and CIFAR-10's binary layout in the folder (or in cifar-10-batches-bin in it). The original's
network is trained for a few steps and saved in PyTorch and by cifar-lab; each side opens the other's file, and both say
the same of the first 1,000 test pictures. What goes from PyTorch through cifar-lab and back is the same bit for bit.
"""
import os
import subprocess
import sys
import tempfile

import numpy
import torch
from torch import nn

IMAGES = 1000
TOLERANCE = 1e-4


class Net(nn.Module):
    """The original's network, as in the notebook that is mirrored here."""

    def __init__(self):
        super().__init__()
        channels = [3, 32, 64, 128, 256]
        for i in range(4):
            setattr(self, f"conv{i + 1}", nn.Conv2d(channels[i], channels[i + 1], 3, padding=1))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        self.fc1 = nn.Linear(1024, 512)
        self.fc2 = nn.Linear(512, 128)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = nn.functional.max_pool2d(torch.relu(x), 2)
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))


def records(folder, name, count):
    """Normalized images [N, 3, 32, 32] and labels of a file of the binary layout."""
    with open(os.path.join(folder, name), "rb") as f:
        rows = numpy.frombuffer(f.read(3073 * count), dtype=numpy.uint8).reshape(count, 3073)
    images = torch.from_numpy(rows[:, 1:].reshape(count, 3, 32, 32).copy()).float() / 255
    return (images - 0.5) / 0.5, torch.from_numpy(rows[:, 0].astype(numpy.int64))


def logits(net, images):
    net.eval()
    with torch.no_grad():
        return net(images).numpy()


def compare(what, found, wanted):
    difference = abs(found - wanted).max()
    print(f"{what}: logits of {len(wanted)} pictures differ by at most {difference:.2e} (the largest is {abs(wanted).max():.2f})")
    # Of small logits, small differences are asked for.
    assert difference <= TOLERANCE * min(1, abs(wanted).max()), what
    assert (found.argmax(1) == wanted.argmax(1)).all(), what


def main(data):
    inner = os.path.join(data, "cifar-10-batches-bin")
    data = inner if os.path.isdir(inner) else data
    test, _ = records(data, "test_batch.bin", IMAGES)
    images, labels = records(data, "data_batch_1.bin", 3200)
    torch.manual_seed(0)
    theirs = Net()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=5e-2, momentum=0.9, weight_decay=1e-3)
    for x, y in zip(images.split(32), labels.split(32)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        torch.save(theirs.state_dict(), path("theirs.pth"))
        command = ["cargo", "run", "--quiet", "-p", "cifar-lab", "--example", "pytorch_logits", os.path.abspath(data), folder]
        subprocess.run(command, check=True, cwd=os.path.dirname(os.path.abspath(__file__)))
        read = lambda name: numpy.fromfile(path(name), dtype="<f4").reshape(IMAGES, 10)

        compare("PyTorch's file in cifar-lab", read("theirs_here.f32"), logits(theirs, test))
        ours = Net()
        ours.load_state_dict(torch.load(path("ours.pth"), weights_only=True), strict=True)
        compare("cifar-lab's file in PyTorch", logits(ours, test), read("ours.f32"))

        again = torch.load(path("theirs_again.pth"), weights_only=True)
        assert set(again) == set(theirs.state_dict())
        for name, tensor in theirs.state_dict().items():
            assert again[name].dtype == tensor.dtype and again[name].shape == tensor.shape, name
            assert again[name].numpy().tobytes() == tensor.numpy().tobytes(), name
        print(f"{len(again)} tensors there and back: the same bit for bit (PyTorch {torch.__version__})")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
