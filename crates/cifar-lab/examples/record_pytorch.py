"""The recipe of record.rs by PyTorch on the CPU, for accuracy and wall time beside it on the same machine.

    python record_pytorch.py BINARY [--precision bf16] [--channels-last] [--compile] [--epochs 8] [--images 50000]

BINARY is the folder of CIFAR-10's binary layout. The time covers the epochs, compilation included, and not the evaluation.
"""

import argparse
import contextlib
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

sys.path.append(str(pathlib.Path(__file__).parents[2] / "candle-cnn/examples"))
from bench_pytorch import Muon, Record  # noqa: E402

RECORD = 1 + 3 * 32 * 32


def read(folder, names):
    data = b"".join((pathlib.Path(folder) / name).read_bytes() for name in names)
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).float() / 255, records[:, 0].long()


def whiten(net, images, eps=5e-4):
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + eps).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
    net.whiten.weight.data.copy_(torch.cat([filters, -filters]))


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

    net = Record(options.channels)
    whiten(net, images[:5000])
    net = net.to(memory_format=layout)
    forward = torch.compile(net, dynamic=False) if options.compile else net
    batch, steps = options.batch_size, len(images) // options.batch_size
    decay = 2e-6 * batch
    biases = [norm.bias for norm in net.norms]
    groups = [dict(params=p, lr=rate, weight_decay=decay / rate)
              for p, rate in [([net.whiten.bias], 0.053), (biases, 0.053), ([net.head.weight], 0.67)]]
    sgd = torch.optim.SGD(groups, lr=0.1, momentum=0.85, nesterov=True)
    muon = Muon([conv.weight for conv in net.convs], lr=0.24, momentum=0.6)
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
