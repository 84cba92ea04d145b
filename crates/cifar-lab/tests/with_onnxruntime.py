#!/usr/bin/env python3
"""Checks ONNX files against onnxruntime: python3 crates/cifar-lab/tests/with_onnxruntime.py CIFAR10_FOLDER

Needs onnx, onnxruntime and numpy, cargo, and CIFAR-10 in the folder. `examples/onnx_logits.rs` writes two networks and what
they say of the first 1,000 test pictures; onnx's checker takes the files, and onnxruntime says the same of the
pictures, in batches of 1, 7 and 1,000.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime

IMAGES = 1000
TOLERANCE = 1e-4


def main(data):
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "run", "--quiet", "-p", "cifar-lab", "--example", "onnx_logits", os.path.abspath(data), folder]
        subprocess.run(command, check=True, cwd=os.path.dirname(os.path.abspath(__file__)))
        read = lambda name, *shape: numpy.fromfile(os.path.join(folder, name), dtype="<f4").reshape(IMAGES, *shape)
        images = read("images.f32", 3, 32, 32)
        for name in ["net", "sequential"]:
            path = os.path.join(folder, f"{name}.onnx")
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            card = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "model_card"))
            assert len(card["class_names"]) == 10
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            wanted = read(f"{name}.f32", 10)
            for batch in [1, 7, IMAGES]:
                parts = [session.run(["logits"], {"images": images[at:at + batch]})[0] for at in range(0, IMAGES, batch)]
                found = numpy.concatenate(parts)
                difference = abs(found - wanted).max()
                assert found.shape == wanted.shape and difference <= TOLERANCE * min(1, abs(wanted).max()), (name, batch)
            parameters = [tensor.name for tensor in model.graph.initializer]
            print(f"{name}.onnx: logits differ by at most {difference:.2e} (the largest is {abs(wanted).max():.2f}); {parameters}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
