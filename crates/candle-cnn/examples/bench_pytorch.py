"""PyTorch's side of bench.rs: answers each line "mode batch steps" with "seconds peak-MiB".

    python bench_pytorch.py contiguous|channels_last|compiled THREADS [cpu|cuda f32|tf32|bf16]
"""

import contextlib
import sys
import time

import torch
import torch.nn.functional as F


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        channels = [3, 32, 64, 128, 256]
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(channels[i], channels[i + 1], 3, padding=1) for i in range(4)
        )
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(channels[i + 1]) for i in range(4))
        self.fc1 = torch.nn.Linear(1024, 512)
        self.fc2 = torch.nn.Linear(512, 128)
        self.fc3 = torch.nn.Linear(128, 10)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2, 2)
        x = torch.flatten(x, 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


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
    kind, threads, (device, precision) = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["cpu", "f32"])
    torch.set_num_threads(threads)
    memory_format = torch.channels_last if kind == "channels_last" else torch.contiguous_format
    # Convolutions would take TF32 by default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    reduced = torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    torch.manual_seed(0)
    net = Net().to(device, memory_format=memory_format)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3)
    # A program for each batch size, as fast as it gets, in place of one for all.
    forward = torch.compile(net, dynamic=False) if kind == "compiled" else net
    images = labels = None
    for line in sys.stdin:
        mode, batch, steps = line.split()
        batch, steps = int(batch), int(steps)
        if images is None or len(images) != batch:
            images = (torch.rand(batch, 3, 32, 32) * 2 - 1).to(device, memory_format=memory_format)
            labels = torch.arange(batch, device=device) % 10
        net.train(mode == "training")
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            if mode == "training":
                optimizer.zero_grad()
                with reduced:
                    loss = F.cross_entropy(forward(images), labels)
                loss.backward()
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
