"""The original notebook's training by PyTorch, for its accuracy and wall time beside notebook 00's on the same machine.

    python train_pytorch.py BINARY [--device cuda] [--compile] [--epochs 20] [--images 50000]

BINARY is the folder of CIFAR-10's binary layout. The data set lies on the device, batches are taken there, no step reads
its loss, and TF32 is off. Accuracy is that of eval mode on all test images; the time covers the epochs, compilation
included, and not the evaluation.
"""

import argparse
import pathlib
import time

import torch
import torch.nn.functional as F

RECORD = 1 + 3 * 32 * 32


def read(folder, names, device):
    data = b"".join((pathlib.Path(folder) / name).read_bytes() for name in names)
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, RECORD).to(device)
    images = records[:, 1:].reshape(-1, 3, 32, 32).float().div_(255).sub_(0.5).div_(0.5)
    return images, records[:, 0].long()


def network():
    layers, channels = [], [3, 32, 64, 128, 256]
    for inputs, outputs in zip(channels, channels[1:]):
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]
        layers += [torch.nn.MaxPool2d(2)]
    layers += [torch.nn.Flatten(), torch.nn.Linear(1024, 512), torch.nn.ReLU()]
    layers += [torch.nn.Linear(512, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)]
    return torch.nn.Sequential(*layers)


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    device = options.device
    images, labels = read(options.binary, [f"data_batch_{i}.bin" for i in range(1, 6)], device)
    images, labels = images[: options.images], labels[: options.images]
    test_images, test_labels = read(options.binary, ["test_batch.bin"], device)
    net = network().to(device)
    forward = torch.compile(net) if options.compile else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3)
    seconds = 0.0
    for epoch in range(options.epochs):
        net.train()
        start, total = time.perf_counter(), torch.zeros((), device=device)
        for batch in torch.randperm(len(images), device=device).split(options.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(forward(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        synchronize(device)
        seconds += time.perf_counter() - start
        net.eval()
        with torch.no_grad():
            answers = torch.cat([net(part).argmax(1) for part in test_images.split(1000)])
        accuracy = (answers == test_labels).float().mean().item()
        print(f"epoch {epoch + 1:2}: loss {total.item() / len(images):.3f}, test accuracy {100 * accuracy:.2f} %, "
              f"{seconds:.1f} s so far, {(epoch + 1) * len(images) / seconds:.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
