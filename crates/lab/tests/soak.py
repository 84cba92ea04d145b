"""Trains, evaluates and saves in one kernel, and shows what its processes use. Their own memory must not grow; that of
files does, because evcxr keeps the library of every cell loaded.

    RAYON_NUM_THREADS=1 .venv/bin/python crates/lab/tests/soak.py 30

runs for 30 minutes and prints a line for each process of the kernel at the start, every minute, and at the end. It takes
the kernel of the Python that runs it, and needs Linux.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

FIRST = ':dep cifar-lab = { path = "../crates/cifar-lab" }\nuse cifar_lab::prelude::*;'
START = """
let data: Cifar10 = Cifar10::stand_in(0, 2000, 500);
let train_loader: DataLoader =
    DataLoader::new(&data.train, &Device::Cpu).shuffle(1).augment(RandomHorizontalFlip { p: 0.5 });
let test_loader: DataLoader = DataLoader::new(&data.test, &Device::Cpu);
let parameters: Parameters = Parameters::new(0);
let net: Net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
let training: Training = {
    let config = SgdConfig { learning_rate: 1e-3, momentum: 0.9, ..Default::default() };
    let sgd = SGD::new(parameters.trainable(), config)?;
    let trainer = Trainer::new(net.clone(), sgd, &train_loader).name("soak").epochs(1_000_000);
    trainer.test(&test_loader).resumable(&parameters).start()?
};
"""
# What a reader does while a training runs.
ROUND = """
println!("{}", training.evaluate(&net, &test_loader)?);
save_pth(&parameters, training.folder()?.join("net.pth"), &ModelCard::default())?;
println!("{}", training.progress());
"""
STOP = 'println!("{}", training.stop());'


class Kernel:
    def __init__(self, notebooks, runs):
        specs = KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share/jupyter/kernels")])
        self.manager = KernelManager(kernel_name="rust", kernel_spec_manager=specs)
        self.manager.start_kernel(cwd=notebooks, env={**os.environ, "CIFAR_LAB_RUN_DIR": runs})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=600)

    def run(self, code):
        """Executes a cell and returns what it printed."""
        cell, printed = self.client.execute(code), ""
        while True:
            message = self.client.get_iopub_msg(timeout=900)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "stream":
                printed += content["text"]
            elif kind == "error":
                sys.exit(f"a cell failed:\n{code}\n" + "\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return printed.strip()

    def processes(self):
        """The process ids of the launcher and of everything that it started."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    # The name, in parentheses, may have spaces.
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    pass  # It has just ended.
        found = [self.manager.provisioner.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def show_use(self, label):
        for pid in self.processes():
            try:
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                handles = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
            if "RssAnon" not in status:
                continue  # It has just ended.
            own, files = (int(status[field].split()[0]) // 1024 for field in ("RssAnon", "RssFile"))
            name, threads = status["Name"].strip(), status["Threads"].strip()
            print(
                f"{label:7} {name:16} {own:5} MiB of its own, {files:4} of files, {threads:>2} threads, {handles:2} handles",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as runs:
        kernel = Kernel(Path(__file__).resolve().parents[3] / "notebooks", runs)
        try:
            kernel.run(FIRST)
            kernel.run(START)
            kernel.run(ROUND)
            kernel.show_use("start")
            begun, shown, rounds, printed = time.time(), 0, 0, ""
            while (passed := (time.time() - begun) / 60) < minutes:
                printed, rounds = kernel.run(ROUND), rounds + 1
                if int(passed) > shown:
                    shown = int(passed)
                    kernel.show_use(f"{shown} min")
            kernel.show_use("end")
            print(f"{rounds} rounds\n{printed}\n{kernel.run(STOP)}")
        finally:
            kernel.manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
