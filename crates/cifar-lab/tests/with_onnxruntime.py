#!/usr/bin/env python3
"""Checks ONNX files against onnxruntime: python3 crates/cifar-lab/tests/with_onnxruntime.py

Needs onnx, onnxruntime and numpy, and cargo. `examples/onnx_logits.rs` writes networks of odd kinds and what they say of
random images; onnx's checker takes the files, and onnxruntime says the same of the images, in batches of 1 and of all.
"""
import glob
import json
import os
import subprocess
import tempfile

import numpy
import onnx
import onnxruntime

TOLERANCE = 1e-4


def check(path, images, wanted):
    """The model in `path`, which says `wanted` of `images`; both are numpy's."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    card = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "model_card"))
    assert len(card["class_names"]) == 10
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in [1, len(images)]:
        parts = [session.run(["logits"], {"images": images[at:at + batch]})[0] for at in range(0, len(images), batch)]
        found = numpy.concatenate(parts)
        assert found.shape[0] == len(images) and found.size == wanted.size, (path, found.shape)
        difference = abs(found.reshape(-1) - wanted).max()
        assert difference <= TOLERANCE * min(1, abs(wanted).max()), (path, batch, difference)
    parameters = [tensor.name for tensor in model.graph.initializer]
    largest = abs(wanted).max()
    print(f"{os.path.basename(path)}: differs by at most {difference:.2e} (the largest is {largest:.2f}); {parameters}")


def read(path):
    return numpy.fromfile(path, dtype="<f4")


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "run", "--quiet", "-p", "cifar-lab", "--example", "onnx_logits", folder]
        subprocess.run(command, check=True, cwd=os.path.dirname(os.path.abspath(__file__)))
        written = sorted(glob.glob(os.path.join(folder, "*.onnx")))
        assert written
        for path in written:
            images = read(path.replace(".onnx", ".images.f32"))
            shape = [side.dim_value for side in onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1:]]
            check(path, images.reshape(-1, *shape), read(path.replace(".onnx", ".f32")))


if __name__ == "__main__":
    main()
