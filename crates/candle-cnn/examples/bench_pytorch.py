"""PyTorch's side of bench.rs: answers each line "mode batch steps" with "seconds peak-MiB", and "check batch file" with the
errors of logits and gradients there.

    python bench_pytorch.py contiguous|channels_last|compiled THREADS cpu|cuda f32|tf32|bf16 record|LAYERS

LAYERS is as in bench/networks.rs.
"""

import contextlib
import functools
import math
import sys
import time

import torch
import torch.nn.functional as F


def conv(inputs, outputs, kernel=3, stride=1, bias=False):
    own = torch.nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return torch.nn.Sequential(own, torch.nn.BatchNorm2d(outputs))


class BasicBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv(inputs, outputs, stride=stride)
        self.second = conv(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = torch.nn.Sequential() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def network_of(layers):
    if layers == "record":
        return Record()
    net, channels, side, linears = torch.nn.Sequential(), 3, 32, 0
    for word in layers.split():
        kind, size, stride = word[0], word[1:].split("/")[0], 2 if "/" in word else 1
        outputs = int(size.rstrip("+") or channels)
        if kind == "c":
            net.extend([conv(channels, outputs, bias="+" in size), torch.nn.ReLU()])
        elif kind == "m":
            net.append(torch.nn.MaxPool2d(2))
            side //= 2
        elif kind == "r":
            net.append(BasicBlock(channels, outputs, stride))
            side //= stride
        elif kind == "a":
            net.append(torch.nn.AdaptiveAvgPool2d(1))
            side = 1
        else:
            net.append(torch.nn.ReLU() if linears else torch.nn.Flatten())
            net.append(torch.nn.Linear(channels if linears else channels * side**2, outputs))
            linears += 1
        channels = outputs
    return net


class Record(torch.nn.Module):
    """The network of the CIFAR-10 record, as in bench/record.rs."""

    def __init__(self, channels=(64, 256, 256)):
        super().__init__()
        channels = [24, *channels]
        self.whiten = torch.nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        pairs = [(a, b, b) for a, b in zip(channels, channels[1:])]
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 3, padding=1, bias=False) for group in pairs for a, b in zip(group, group[1:])
        )
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm2d(conv.out_channels, eps=1e-12, momentum=0.4) for conv in self.convs
        )
        for conv, norm in zip(self.convs, self.norms):
            norm.weight.requires_grad_(False)
            torch.nn.init.dirac_(conv.weight.data[: conv.in_channels])
        self.head = torch.nn.Linear(channels[-1], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = F.gelu(norm(F.max_pool2d(x, 2) if i % 2 == 0 else x))
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


def errors(layers, batch, path):
    """How far logits and weights' gradients in a file are from ours in f64, as shares of their norms. (A value that rounding
    takes past a ReLU's 0 changes single gradients by a few percent, in f32 PyTorch's too.)
    """
    net = network_of(layers).double()
    images = torch.zeros(batch, 3, 32, 32, dtype=torch.double)
    parameters = list(net.parameters())
    shapes = [p.shape for p in parameters]
    shapes = [*shapes, images.shape, (batch, 10), *shapes]
    sizes = [math.prod(shape) for shape in shapes]
    values = torch.from_file(path, size=sum(sizes)).double().split(sizes)
    values = [part.view(shape) for part, shape in zip(values, shapes)]
    for p, value in zip([*(p.data for p in parameters), images], values):
        p.copy_(value)
    found = values[len(parameters) + 1 :]
    logits = net(images)
    F.cross_entropy(logits, torch.arange(batch) % 10).backward()
    # Others are sums that may be 0 but for rounding, as of a bias before a batch norm.
    wanted = [logits.detach(), *(p.grad for p in parameters)]
    off = [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted) if b.dim() > 1]
    return off[0], max(off[1:])


def peak_mib():
    with open("/proc/self/status") as status:
        kib = next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
    except OSError:
        pass
    return kib / 1024


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def main():
    kind, threads = sys.argv[1], int(sys.argv[2])
    device, precision, network = sys.argv[3:]
    torch.set_num_threads(threads)
    memory_format = torch.channels_last if kind == "channels_last" else torch.contiguous_format
    # Convolutions would take TF32 by default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    reduced = torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    torch.manual_seed(0)
    net = network_of(network).to(device, memory_format=memory_format)
    if network == "record":
        filters = [conv.weight for conv in net.convs]
        others = [p for p in net.parameters() if p.requires_grad and not any(p is f for f in filters)]
        sgd = torch.optim.SGD(others, lr=1e-4, momentum=0.85, nesterov=True)
        optimizers = [sgd, Muon(filters, lr=0.24, momentum=0.6)]
        loss_of = functools.partial(F.cross_entropy, label_smoothing=0.2, reduction="sum")
    else:
        optimizers = [torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3)]
        loss_of = F.cross_entropy
    # A program for each batch size, as fast as it gets, in place of one for all.
    forward = torch.compile(net, dynamic=False) if kind == "compiled" else net
    images = labels = None
    for line in sys.stdin:
        mode, batch, rest = line.rstrip("\n").split(" ", 2)
        batch = int(batch)
        if mode == "check":
            print(*errors(network, batch, rest), flush=True)
            continue
        if images is None or len(images) != batch:
            images = (torch.rand(batch, 3, 32, 32) * 2 - 1).to(device, memory_format=memory_format)
            labels = torch.arange(batch, device=device) % 10
        net.train(mode == "training")
        synchronize(device)
        start = time.perf_counter()
        for _ in range(int(rest)):
            if mode == "training":
                for optimizer in optimizers:
                    optimizer.zero_grad()
                with reduced:
                    loss = loss_of(forward(images), labels)
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                if device == "cpu":
                    loss.item()
            else:
                with torch.no_grad(), reduced:
                    forward(images)
        synchronize(device)
        print(time.perf_counter() - start, peak_mib(), flush=True)


if __name__ == "__main__":
    main()
