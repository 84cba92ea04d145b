"""The recipe of record.rs by PyTorch on the CPU, for accuracy and wall time beside it on the same machine.

    python record_pytorch.py BINARY [--precision bf16] [--channels-last] [--compile] [--epochs 8] [--images 50000]

BINARY is the folder of CIFAR-10's binary layout. The time covers the epochs, compilation included, and not the evaluation.
"""

import argparse
import contextlib
import pathlib
import time

import torch
import torch.nn.functional as F

RECORD = 1 + 3 * 32 * 32


def read(folder, names):
    data = b"".join((pathlib.Path(folder) / name).read_bytes() for name in names)
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).float() / 255, records[:, 0].long()


class Group(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = (torch.nn.BatchNorm2d(outputs, eps=1e-12, momentum=0.4) for _ in range(2))
        for conv in [self.conv1, self.conv2]:
            same = min(conv.weight.shape[:2])
            torch.nn.init.dirac_(conv.weight.data[:same])
        for norm in [self.norm1, self.norm2]:
            norm.weight.requires_grad_(False)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.whiten = torch.nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        widths = [24, *channels]
        self.groups = torch.nn.ModuleList(Group(a, b) for a, b in zip(widths, channels))
        self.head = torch.nn.Linear(channels[-1], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def initialize(self, images, eps=5e-4):
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + eps).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        for group in self.groups:
            x = group(x)
        x = F.max_pool2d(x, 3).flatten(1)
        return self.head(x) / x.shape[1]


def orthogonalized(matrix, steps=3):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr, momentum):
        super().__init__(parameters, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                direction = p.grad + group["momentum"] * buffer
                p.mul_(len(p) ** 0.5 / p.norm())
                update = orthogonalized(direction.reshape(len(p), -1)).view(p.shape)
                p.add_(update, alpha=-group["lr"])


def translated(images, by=2):
    padded = F.pad(images, (by,) * 4, mode="reflect")
    out = torch.empty_like(images)
    moves = torch.randint(0, 2 * by + 1, (len(images), 2))
    for down in range(2 * by + 1):
        for right in range(2 * by + 1):
            those = (moves[:, 0] == down) & (moves[:, 1] == right)
            out[those] = padded[those, :, down : down + 32, right : right + 32]
    return out


def views(net, images):
    def both(x):
        return 0.5 * net(x) + 0.5 * net(x.flip(3))

    padded = F.pad(images, (1,) * 4, mode="reflect")
    moved = both(padded[:, :, 0:32, 0:32]) + both(padded[:, :, 2:34, 2:34])
    return 0.5 * both(images) + 0.25 * moved


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=2000)
    parser.add_argument("--channels", type=lambda text: [int(part) for part in text.split(",")], default=[64, 256, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    reduced = options.precision == "bf16"
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if reduced else contextlib.nullcontext
    images, labels = read(options.binary, [f"data_batch_{i}.bin" for i in range(1, 6)])
    images, labels = images[: options.images], labels[: options.images]
    test_images, test_labels = read(options.binary, ["test_batch.bin"])
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images, test_images = (images - mean) / std, (test_images - mean) / std

    net = Net(options.channels)
    net.initialize(images[:5000])
    net = net.to(memory_format=layout)
    forward = torch.compile(net, dynamic=False) if options.compile else net
    batch, steps = options.batch_size, len(images) // options.batch_size
    decay = 2e-6 * batch
    biases = [norm.bias for group in net.groups for norm in [group.norm1, group.norm2]]
    groups = [dict(params=p, lr=rate, weight_decay=decay / rate)
              for p, rate in [([net.whiten.bias], 0.053), (biases, 0.053), ([net.head.weight], 0.67)]]
    sgd = torch.optim.SGD(groups, lr=0.1, momentum=0.85, nesterov=True)
    muon = Muon([conv.weight for group in net.groups for conv in [group.conv1, group.conv2]], lr=0.24, momentum=0.6)
    first_rates = [group["lr"] for group in sgd.param_groups + muon.param_groups]
    lasting = [3 * steps] + 3 * [options.epochs * steps]

    def accuracy(answer):
        net.eval()
        with torch.no_grad(), autocast():
            parts = [answer(part.to(memory_format=layout)).argmax(1) for part in test_images.split(500)]
        return 100 * (torch.cat(parts) == test_labels).float().mean().item()

    flipped = torch.rand(len(images)) < 0.5
    images[flipped] = images[flipped].flip(3)
    seconds, step = 0.0, 0
    for epoch in range(options.epochs):
        net.train()
        start, total = time.perf_counter(), 0.0
        if epoch > 0:
            images = images.flip(3)
        epoch_images = translated(images)
        for places in torch.randperm(len(images))[: steps * batch].split(batch):
            for group, rate, last in zip(sgd.param_groups + muon.param_groups, first_rates, lasting):
                group["lr"] = rate * max(0.0, 1 - step / last)
            inputs = epoch_images[places].contiguous(memory_format=layout)
            with autocast():
                logits = forward(inputs)
            loss = F.cross_entropy(logits.float(), labels[places], label_smoothing=0.2, reduction="sum")
            sgd.zero_grad()
            muon.zero_grad()
            loss.backward()
            sgd.step()
            muon.step()
            total += loss.item()
            step += 1
        took = time.perf_counter() - start
        seconds += took
        print(f"epoch {epoch + 1}: loss {total / (steps * batch):.4f}, test accuracy {accuracy(net):.2f} %, "
              f"{took:.1f} s, {steps * batch / took:.0f} images/s", flush=True)
    print(f"with six views {accuracy(lambda x: views(net, x)):.2f} %; trained in {seconds:.1f} s")


if __name__ == "__main__":
    main()
