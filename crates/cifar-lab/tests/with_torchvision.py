#!/usr/bin/env python3
"""Checks ImageFolder against torchvision's: python3 crates/cifar-lab/tests/with_torchvision.py

Needs torchvision, Pillow, numpy and cargo. Makes odd folders of pictures, of 32×32 pixels so that nothing is scaled, and
opens each with both: the same classes, the same pictures in the same order (once ours, which come one of each class in
turn, are put class by class), the same pixels. Where we differ on purpose, the case says how.
"""
import io
import json
import os
import subprocess
import sys
import tempfile
import zlib

import numpy
import PIL
import torchvision
from PIL import Image, ImageOps, PngImagePlugin

RNG = numpy.random.default_rng(0)
CIFAR10_CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# Two decoders of JPEG round differently: in the cosine transform, in upsampling color, and in converting it to RGB.
JPEG_TOLERANCE = 4


def encode(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(mode="RGB", size=32, smooth=8):
    """A picture that no other is like; smooth, as photographs are."""
    small = RNG.integers(0, 256, (max(1, size // smooth), max(1, size // smooth), 3), dtype=numpy.uint8)
    return Image.fromarray(small).resize((size, size), Image.BICUBIC).convert(mode)


def png(**options):
    return encode(noise(), "png", **options)


def jpeg(mode="RGB", picture=None, **options):
    return encode(picture or noise(mode), "jpeg", **options)


def make(root, files, links=()):
    """Both splits get the files, whose paths start at the split's folder."""
    for split in ["train", "test"]:
        for path, content in files.items():
            path = os.path.join(os.fsencode(root), split.encode(), os.fsencode(path))
            os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)
            if content is not None:
                with open(path, "wb") as file:
                    file.write(content)
        for path, target in links:
            path = os.path.join(root, split, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)


def alike(count=2, classes=("cat", "dog"), pattern="{}/{}.png"):
    return {pattern.format(name, index): png() for name in classes for index in range(count)}


def theirs(root):
    """Classes, and the files of each class in order; or the error."""
    data = torchvision.datasets.ImageFolder(os.path.join(root, "train"))
    return data.classes, [[path for path, label in data.samples if label == c] for c in range(len(data.classes))]


def shown(name):
    """How we write a name that is no UTF-8."""
    return "".join(f"\\x{ord(c) - 0xdc00:02X}" if 0xdc80 <= ord(c) <= 0xdcff else c for c in name)


def loaded(path, prepare):
    with Image.open(path) as picture:
        return numpy.asarray(prepare(picture)).transpose(2, 0, 1)


def rgb(picture):
    return picture.convert("RGB")


def on_white(picture):
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def high_bytes(picture):
    """16 bits to the nearest 8, where Pillow takes what fits in 8."""
    wide = numpy.asarray(picture).astype(numpy.uint32)
    return Image.fromarray(((wide + 128) // 257).astype(numpy.uint8)).convert("RGB")


def upright(picture):
    return ImageOps.exif_transpose(picture).convert("RGB")


def scaled(picture):
    return picture.convert("RGB").resize((32, 32), Image.BICUBIC)


def cases():
    """Name, files, links, and what is asked: "same", a difference, how a file is read, or who refuses it with what."""
    cut = jpeg()
    progressive = jpeg(progressive=True)
    dense = jpeg(picture=noise(smooth=1), quality=95)
    whole_png = png()
    exif = Image.Exif()
    exif[0x112] = 6
    yield "plain", alike(), [], "same"
    yield "one class", alike(classes=["cat"]), [], "same"
    inside = {"cat/more/8.png": png(), "cat/more/9.png": png()}
    yield "pictures in a folder inside a class's", alike() | inside, [], "same"
    yield "tiny-imagenet", alike(3, ["n01443537", "n01629819"], "{}/images/{}.png"), [], "same"
    yield "deeper", {"cat/a/b/c/d/0.png": png(), "cat/0.png": png(), "dog/z/0.png": png()}, [], "same"
    names = ["0", "a/0", "a.b/0", "a/0/0", "a b/0", "A/0", "b", "B", "a-b/0", "Z"]
    yield "order of folders", {f"cat/{name}.png": png() for name in names}, [], "same"
    names = ["10", "9", "1", "01", "_", "a", "B", "é", "ä", "中"]
    yield "order of files", {f"cat/{name}.png": png() for name in names}, [], "same"
    yield "numbers as classes", alike(2, [str(n) for n in [1, 2, 3, 10, 11, 20, 100]]), [], "same"
    yield "upper case before lower", alike(1, ["zebra", "Zebra", "ant", "Ant"]), [], "same"
    names = [" cat", "a cat", "cat ", "cat & dog", "cat'", "-cat", "#1", "100%", "a\\b", "a\nb"]
    yield "spaces and signs", alike(1, names), [], "same"
    yield "Unicode", alike(1, ["katze", "gatō", "кошка", "猫", "🐈", "é", "e\u0301"]), [], "same"
    names = [os.fsdecode(name) for name in [b"caf\xe9/\xff.png", b"caf\xe8/a.png", b"cat/a.png"]]
    yield "no UTF-8", {name: png() for name in names}, [], "same"
    yield "long names", {f"{'c' * 255}/{'d' * 255}/{'p' * 251}.png": png(), "cat/0.png": png()}, [], "same"
    names = ["a.PNG", "b.Png", "c.x.png", "d.png.png", "e.JPG", "f.jpeg", "g.JPEG"]
    yield "endings", {f"cat/{name}": png() if "n" in name.lower() else jpeg() for name in names}, [], "same"
    names = ["notes.txt", "png", "labels.csv", "Thumbs.db", "a.png.bak"]
    yield "other files", alike() | {f"cat/{name}": b"x" for name in names}, [], "same"
    yield "files beside classes", alike() | {"0.png": png(), "labels.txt": b"x"}, [], "same"
    yield "a folder called like a picture", alike() | {"cat/x.png/0.png": png()}, [], "same"
    yield "an empty folder inside a class's", alike() | {"cat/none": None}, [], "same"
    yield "a link to a picture", alike(), [("cat/link.png", "../dog/0.png")], "same"
    yield "a link to a class", alike(), [("bat", "dog")], "same"
    yield "a link to another folder", alike(), [("cat/more", "../dog")], "same"
    yield "wrong endings", alike() | {"cat/a.jpg": png(), "cat/b.png": jpeg()}, [], "same"
    yield "gray PNG", {"cat/0.png": encode(noise("L"), "png")}, [], "same"
    yield "palette PNG", {"cat/0.png": encode(noise().quantize(50), "png")}, [], "same"
    yield "black-and-white PNG", {"cat/0.png": encode(noise("1"), "png")}, [], "same"
    animation = encode(noise(), "png", save_all=True, append_images=[noise()])
    yield "animated PNG", {"cat/0.png": animation}, [], "same"
    yield "PNG with a comment and a profile", {"cat/0.png": png(pnginfo=info(), icc_profile=b"x" * 3000)}, [], "same"
    dot = noise(size=1)
    yield "one pixel", {"cat/0.png": encode(dot, "png"), "cat/1.jpg": jpeg(picture=dot)}, [], scaled
    for kind, options in [("baseline", {}), ("progressive", {"progressive": True}), ("4:4:4", {"subsampling": 0}),
                          ("4:2:2", {"subsampling": 1}), ("optimized", {"optimize": True}), ("gray", {"mode": "L"}),
                          ("restarts", {"restart_marker_blocks": 1}), ("quality 100", {"quality": 100}),
                          ("quality 10", {"quality": 10}), ("RGB", {"keep_rgb": True}), ("CMYK", {"mode": "CMYK"})]:
        yield f"JPEG, {kind}", {f"cat/{index}.jpg": jpeg(**options) for index in range(8)}, [], "same"
    yield "JPEG with bytes behind its end", {"cat/0.jpg": jpeg() + b"garbage\xff\xd8"}, [], "same"
    yield "JPEG with bytes before its end", {"cat/0.jpg": cut[:-2] + b"garbage" * 9 + cut[-2:]}, [], "same"

    # What both refuse.
    yield "an empty class", alike() | {"emu": None, "hen/none": None}, [], ("both", "emu, hen")
    yield "no classes", {"0.png": png()}, [], ("both", "no folder with a folder for each class")
    yield "text as a picture", alike() | {"cat/a.png": b"text"}, [], ("both", "a.png is of no kind that is known")
    yield "an empty file", alike() | {"cat/a.png": b""}, [], ("both", "the file is empty")
    yield "a link to nothing", alike(), [("cat/a.png", "nothing")], ("both", "reading the picture")
    yield "a cut PNG", alike() | {"cat/a.png": whole_png[:len(whole_png) // 2]}, [], ("both", "was cut")
    for name, file in [("JPEG", cut), ("progressive JPEG", progressive)]:
        for percent in [1, 10, 50, 90, 99]:
            part = file[:len(file) * percent // 100]
            yield f"{name} cut at {percent} %", alike() | {"cat/a.jpg": part}, [], ("both", "was cut")
    yield "JPEG without its end marker", alike() | {"cat/a.jpg": cut[:-2]}, [], ("both", "was cut")
    # In which we differ.
    hidden = {"cat/.a.png": png(), "cat/._0.png": b"x", "cat/.more/0.png": png(), ".ipynb_checkpoints/0.png": png()}
    yield "hidden files and folders", alike() | hidden, [], "hidden ones are left out"
    yield "a link upwards", alike(), [("cat/up", "..")], "it is not followed"
    yield "a link to itself", alike(), [("cat/self", ".")], "it is not followed"
    yield "CIFAR-10's classes", alike(1, CIFAR10_CLASSES), [], "in CIFAR-10's order"
    for ending in ["webp", "bmp", "tiff", "ppm"]:
        yield f".{ending}", alike() | {f"cat/a.{ending}": encode(noise(), ending)}, [], ("ours", f"a.{ending} is ")
    for ending, file in [("gif", encode(noise(), "gif")), ("heic", b"\0\0\0\x18ftypheic")]:
        yield f".{ending}, passed over there", alike() | {f"cat/a.{ending}": file}, [], ("ours", f"a.{ending} is ")
    part = dense[:len(dense) * 3 // 4] + b"\xff\xd9"
    yield "JPEG cut before an end marker", alike() | {"cat/a.jpg": part}, [], ("ours", "not those of a whole picture")
    yield "transparent PNG", {f"cat/{mode}.png": encode(alpha(mode), "png") for mode in ["RGBA", "LA"]}, [], on_white
    wide = Image.fromarray(RNG.integers(0, 65536, (32, 32), dtype=numpy.uint16))
    yield "PNG of 16 bits", {"cat/0.png": encode(wide, "png")}, [], high_bytes
    yield "JPEG held on its side", {"cat/0.jpg": jpeg(exif=exif)}, [], upright
    yield "PNG held on its side", {"cat/0.png": png(exif=exif)}, [], upright


def info():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "words")
    return text


def alpha(mode):
    picture = noise(mode)
    picture.putalpha(noise("L"))
    return picture


def main():
    crate = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as folder:
        asked, roots = [], []
        for index, (name, files, links, expected) in enumerate(cases()):
            root = os.path.join(folder, str(index))
            make(root, files, links)
            asked.append((name, files, expected))
            roots.append(root)
        command = ["cargo", "run", "--quiet", "-p", "cifar-lab", "--example", "image_folder", *roots]
        lines = subprocess.run(command, check=True, cwd=crate, stdout=subprocess.PIPE).stdout.splitlines()
        exact = near = jpegs = values = differing = largest = 0
        for (name, files, expected), root, line in zip(asked, roots, lines, strict=True):
            ours = json.loads(line)
            try:
                classes, paths = theirs(root)
                for path in sum(paths, []):
                    loaded(path, rgb)
                refused = None
            except OSError as error:
                refused = error
            if isinstance(expected, tuple):
                by, words = expected
                assert words in ours.get("error", ""), (name, ours)
                assert "error" in ours and (refused is not None) == (by == "both"), (name, refused)
                who = "by both" if by == "both" else "here only"
                print(f"{name}: refused {who}: {ours['error'].replace(root, '…')}")
                continue
            assert "error" not in ours, (name, ours)
            if expected == "hidden ones are left out":
                paths = [[p for p in of if "/." not in p[len(root):]] for of, c in zip(paths, classes) if c[0] != "."]
                classes = [c for c in classes if c[0] != "."]
            elif expected == "it is not followed":
                paths = [[p for p in of if "/up/" not in p and "/self/" not in p] for of in paths]
            elif expected == "in CIFAR-10's order":
                paths = [paths[classes.index(c)] for c in CIFAR10_CLASSES]
                classes = CIFAR10_CLASSES
            assert ours["classes"] == [shown(c) for c in classes], (name, ours["classes"], classes)
            # One of each class in turn, until the classes have none left.
            turns = [c for place in range(max(map(len, paths))) for c, of in enumerate(paths) if place < len(of)]
            assert ours["labels"] == turns, (name, ours["labels"])
            prepare = expected if callable(expected) else rgb
            for label, of in enumerate(paths):
                found = [p for p, l in zip(ours["pixels"], ours["labels"], strict=True) if l == label]
                for path, pixels in zip(of, found, strict=True):
                    difference = abs(numpy.array(pixels).reshape(3, 32, 32) - loaded(path, prepare).astype(int))
                    with open(path, "rb") as file:
                        if file.read(2) == b"\xff\xd8":
                            jpegs, values = jpegs + 1, values + difference.size
                            differing, largest = differing + (difference > 0).sum(), max(largest, difference.max())
                            assert difference.max() <= JPEG_TOLERANCE, (name, path, difference.max())
                        elif callable(expected):
                            # What we round, another may round otherwise.
                            near += 1
                            assert difference.max() <= 1, (name, path, difference.max())
                        else:
                            exact += 1
                            assert difference.max() == 0, (name, path, difference.max())
            how = f"read {prepare.__name__}" if callable(expected) else expected
            print(f"{name}: {sum(map(len, paths))} pictures in {len(classes)} classes: {how}")
    print(f"torchvision {torchvision.__version__}, Pillow {PIL.__version__}: {len(roots)} folders;")
    print(f"{exact} PNGs with the same pixels, and {near} of other kinds that differ by at most 1;")
    print(f"{jpegs} JPEGs, of whose {values} values {differing} differ, by at most {largest}")


if __name__ == "__main__":
    sys.exit(main())
