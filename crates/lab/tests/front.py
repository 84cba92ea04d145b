"""Tries the kernel's front as JupyterLab uses it: `front.py KERNEL_DIRS CWD [PART OF A NAME]`.

Prints a line for each check, and exits with 1 if one failed.
"""

import contextlib
import http.server
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

DEP = ':dep cifar-lab = { path = "../crates/cifar-lab" }\nuse cifar_lab::prelude::*;'
DATA = """let data: Cifar10 = Cifar10::stand_in(0, 3200, 2000);
let device: Device = Device::Cpu;
let loader: DataLoader = DataLoader::new(&data.train, &device);
let test_loader: DataLoader = DataLoader::new(&data.test, &device);
let parameters: Parameters = Parameters::new(0);
let net: Net = Net::new(&NetConfig::default(), parameters.var_builder(&device))?;
let kept: usize = 41;"""
# The training must not end meanwhile, so that a wait for it can only be interrupted.
TRAINING = """let training: Training = Trainer::new(net.clone(), SGD::new(parameters.trainable(), SgdConfig::default())?, &loader)
    .name("front").epochs(1_000_000).start()?;"""


class Cell:
    """What one execute_request caused."""

    def __init__(self):
        self.text = {"stdout": "", "stderr": ""}
        self.errors = []
        self.displays = []
        self.places = []
        self.status = None


class Kernel:
    def __init__(self, kernel_dirs, cwd):
        specs = KernelSpecManager(kernel_dirs=[kernel_dirs], ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name="rust", kernel_spec_manager=specs)
        self.manager.start_kernel(cwd=cwd, stderr=subprocess.DEVNULL)
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def send(self, code, **options):
        return self.client.execute(code, **options)

    def collect(self, ids, timeout=120, until=None):
        """The cells of `ids`, when all have been answered, or as soon as `until` says so of the first."""
        cells = {one: Cell() for one in ids}
        idle, end = set(), time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                message = self.client.get_shell_msg(timeout=0.005)
                cell = cells.get(message["parent_header"].get("msg_id"))
                if cell:
                    cell.status = message["content"]["status"]
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.02)
                one = message["parent_header"].get("msg_id")
                cell, content = cells.get(one), message["content"]
                if cell and message["msg_type"] == "stream":
                    cell.text[content["name"]] += content["text"]
                elif cell and message["msg_type"] == "error":
                    cell.errors.append(content)
                elif cell and message["msg_type"] in ("display_data", "update_display_data", "execute_result"):
                    cell.displays.append(content["data"])
                    cell.places.append((message["msg_type"], content.get("transient", {}).get("display_id")))
                elif cell and message["msg_type"] == "clear_output":
                    cell.text, cell.displays, cell.places = {"stdout": "", "stderr": ""}, [], []
                elif cell and message["msg_type"] == "status" and content["execution_state"] == "idle":
                    idle.add(one)
            if until and until(cells[ids[0]]):
                break
            if idle == set(ids) and all(cell.status for cell in cells.values()):
                break
        else:
            raise AssertionError(f"no end after {timeout} s: {[vars(cell) for cell in cells.values()]}")
        return [cells[one] for one in ids]

    def run(self, code, **options):
        (cell,) = self.collect([self.send(code)], **options)
        return cell

    def good(self, code):
        cell = self.run(code)
        assert cell.status == "ok", (code, cell.errors, cell.text)
        return cell

    def processes(self):
        """The launcher and all that it has started: (name, KiB)."""
        rows = [line.split(None, 3) for line in subprocess.check_output(["ps", "-eo", "pid=,ppid=,rss=,comm="], text=True).splitlines()]
        own, grown = {self.manager.provisioner.process.pid}, True
        while grown:
            more = {int(pid) for pid, parent, *_ in rows if int(parent) in own} - own
            own, grown = own | more, bool(more)
        return [(name.strip(), int(size)) for pid, _, size, name in rows if int(pid) in own]

    def memory(self):
        return sum(size for _, size in self.processes()) // 1024

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self.connect()

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def interrupted(kernel, code, seconds, began=None):
    """Interrupts `code` once after it has run for `seconds`. Returns the cell and how long the stop took."""
    one = kernel.send(code)
    kernel.collect([one], until=lambda cell: "runs" in cell.text["stdout"])
    time.sleep(seconds)
    started = time.monotonic()
    kernel.manager.interrupt_kernel()
    (cell,) = kernel.collect([one], timeout=20)
    return cell, time.monotonic() - started


def check_the_first_typo_and_closure_are_quick(kernel):
    took = []
    for code in ["let x: u32 = undefined_name;", "let f = |x: usize| x + 1;"]:
        started = time.monotonic()
        assert kernel.run(code).status == "error"
        took.append(time.monotonic() - started)
    assert max(took) < 15, took
    return " and ".join(f"{one:.1f} s" for one in took)


def check_errors_stop_what_waits(kernel):
    for bad, name, line in [
        ("let a = 1;\nlet b: u32 = \"a\";", "CompileError", None),
        ("let v = vec![1];\nv[5];", "Panic", 2),
        ("let a = 1;\n\"x\".parse::<i32>()?;", "Error", 2),
    ]:
        cells = kernel.collect([kernel.send(code) for code in ["1", bad, "println!(\"ran\");", "2"]])
        assert [cell.status for cell in cells] == ["ok", "error", "aborted", "aborted"], [cell.status for cell in cells]
        (error,) = cells[1].errors
        assert error["ename"] == name, error
        assert line is None or f"in line {line}: " in error["traceback"][0], error
        assert "stack backtrace" not in cells[1].text["stderr"], cells[1].text
        cells = kernel.collect([kernel.send(bad, stop_on_error=False), kernel.send("println!(\"ran\");")])
        assert [cell.status for cell in cells] == ["error", "ok"], "a cell tagged raises-exception"
    return "compile error, panic and `?`"


@contextlib.contextmanager
def slow_server(length):
    """The address of a file that comes slowly."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(length // 1000):
                    self.wfile.write(bytes(1000))
                    time.sleep(0.01)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/archive"
    server.shutdown()


def check_interrupts_keep_variables(kernel):
    times = int(os.environ.get("INTERRUPTS", "3"))
    kernel.good(TRAINING)
    with slow_server(10_000_000) as url, tempfile.TemporaryDirectory() as cache:
        download = f"""println!("runs"); cifar_lab::dataset::ArchiveSource {{ url: "{url}".into(), md5: "0".repeat(32), bytes: 10_000_000 }}
            .fetch("{cache}", &mut |line| println!("{{line}}"))?;"""
        slowest = interrupts_keep_variables(kernel, times, download)
    # Before it runs: while evcxr finds out its types, or compiles it, or at its beginning.
    for at in range(2 * times):
        one = kernel.send("let never: usize = 1; training.wait()?;")
        time.sleep(0.1 * (at + 1))
        kernel.manager.interrupt_kernel()
        (cell,) = kernel.collect([one], timeout=20)
        assert cell.status == "error" and cell.errors[0]["ename"] == "Interrupted", vars(cell)
        assert not cell.text["stderr"], cell.text
        assert "42" in kernel.good("println!(\"{}\", kept + 1);").text["stdout"]
    kernel.good("training.stop();")
    return f"{times} times each, within {slowest:.1f} s"


def interrupts_keep_variables(kernel, times, download):
    slowest = 0
    for name, code in {
        "wait": "println!(\"runs\"); training.wait()?;",
        "evaluate": "println!(\"runs\"); for _ in 0..1000 { evaluate(&net, &test_loader)?; }",
        "loader": "println!(\"runs\"); for epoch in 0..1_000_000 { for batch in loader.epoch(epoch) { batch?; } }",
        "download": download,
    }.items():
        for at in range(times):
            cell, took = interrupted(kernel, code, 0.05 + 0.4 * at / times)
            slowest = max(slowest, took)
            assert cell.status == "error" and cell.errors[0]["ename"] == "Interrupted", (name, cell.errors, cell.text)
            assert "42" in kernel.good("println!(\"{}\", kept + 1);").text["stdout"]
            assert "epoch" in kernel.good("println!(\"{}\", training.progress());").text["stdout"]
    return slowest


def check_a_training_is_redrawn_in_place(kernel):
    kernel.good(TRAINING.replace("1_000_000", "3"))
    cell = kernel.good("training.wait()?;")
    assert cell.text == {"stdout": "", "stderr": ""}, cell.text
    # Without the note on a slow compilation, which has no place.
    kinds, places = zip(*(kind for kind in cell.places if kind[1]))
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"} and len(set(places)) == 1, cell.places
    assert all("<progress" in data["text/html"] for data in cell.displays[-len(places) :]), cell.displays
    assert "<svg" in cell.displays[-2]["text/html"] and "<table" in cell.displays[-1]["text/html"], cell.displays[-2:]
    lines = cell.displays[-1]["text/plain"].splitlines()
    assert lines[-1].startswith("finished: 3 epochs") and lines[-2].startswith("epoch  3/3"), lines
    again = kernel.good("training.wait()?;")
    assert len([one for one in again.places if one[1]]) == 1 and again.places[-1][1] != places[0], again.places
    return f"{len(places)} times"


def check_a_second_interrupt_ends_the_process(kernel):
    one = kernel.send("println!(\"runs\"); loop { std::hint::spin_loop() }")
    other = kernel.send("println!(\"ran\");")
    kernel.collect([one], until=lambda cell: "runs" in cell.text["stdout"])
    kernel.manager.interrupt_kernel()
    kernel.collect([one], until=lambda cell: "once more" in cell.text["stderr"], timeout=10)
    started = time.monotonic()
    kernel.manager.interrupt_kernel()
    first, = kernel.collect([one], timeout=20)
    took = time.monotonic() - started
    assert first.status == "error" and "All variables are lost" in first.errors[0]["evalue"], first.errors
    assert took < 2, took
    lost = kernel.run("println!(\"{}\", kept);")
    assert any("was lost" in line for error in lost.errors for line in error["traceback"]), lost.errors
    kernel.good("println!(\"{}\", 1 + 1);")
    return f"{took:.1f} s after it"


def check_what_cells_show_is_theirs(kernel):
    cell = kernel.good("for _ in 0..3 {}")
    assert not cell.displays, cell.displays
    cell = kernel.good("!sleep 3; echo kept")
    assert "kept" in cell.text["stdout"] + str(cell.displays) and "compiling" not in str(cell.displays), vars(cell)
    return ""


def check_a_program_of_a_cell_holds_nothing_up(kernel):
    one = kernel.send("println!(\"runs\"); std::process::Command::new(\"sleep\").arg(\"30\").status()?;")
    kernel.collect([one], until=lambda cell: "runs" in cell.text["stdout"])
    for _ in range(2):
        kernel.manager.interrupt_kernel()
    started = time.monotonic()
    kernel.collect([one], timeout=60)
    took = time.monotonic() - started
    assert took < 5, took
    return f"ended within {took:.1f} s"


def check_a_busy_kernel_says_so_to_who_asks(kernel):
    one = kernel.send('println!("runs"); std::thread::sleep(std::time::Duration::from_secs(4));')
    kernel.collect([one], until=lambda cell: "runs" in cell.text["stdout"])
    asked, states = kernel.client.kernel_info(), []
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with contextlib.suppress(queue.Empty):
            message = kernel.client.get_iopub_msg(timeout=0.1)
            if message["msg_type"] == "status":
                states.append((message["parent_header"]["msg_id"] == asked, message["content"]["execution_state"]))
    assert states == [(True, "busy"), (True, "idle"), (False, "busy")], states
    return ""


def check_a_variable_given_away_is_explained(kernel):
    kernel.good("let given: Vec<u8> = vec![1];")
    kernel.good("drop(given);")
    cell = kernel.run("println!(\"{}\", given.len());")
    assert any("was given away in cell [" in line for error in cell.errors for line in error["traceback"]), cell.errors
    # The store that no cell compiles again; evcxr's own, if that has changed.
    store = kernel.good("let kept: u8 = 1; println!(\"{}\", std::any::type_name_of_val(&*evcxr_variable_store));")
    assert store.text["stdout"] == "cifar_lab_cell::VariableStore\n", store.text
    return ""


def check_opt_is_heard(kernel):
    loop = "let mut sum = 0u64; let t = std::time::Instant::now(); for i in 0..20_000_000u64 { sum = sum.wrapping_mul(31) ^ i; }\nprintln!(\"{} {sum}\", t.elapsed().as_micros());"
    slow = int(kernel.good(loop).text["stdout"].split()[0])
    kernel.good(":opt 2")
    fast = int(kernel.good(loop).text["stdout"].split()[0])
    kernel.good(":opt 0")
    assert fast * 2 < slow, (fast, slow)
    return f"{slow / fast:.0f} times as fast"


def check_endless_output_is_cut(kernel):
    before, one = kernel.memory(), kernel.send("for i in 0.. { println!(\"line {i}\"); if std::path::Path::new(\"/nonexistent\").exists() { break; } }")
    # On a busy machine it is compiled for longer than it runs.
    (begun,) = kernel.collect([one], until=lambda cell: cell.text["stdout"])
    time.sleep(float(os.environ.get("ENDLESS_SECONDS", "5")))
    during = kernel.memory()
    kernel.manager.interrupt_kernel()
    time.sleep(0.1)
    kernel.manager.interrupt_kernel()
    (cell,) = kernel.collect([one], timeout=30)
    text = begun.text["stdout"] + cell.text["stdout"]
    assert text.startswith("line 0\nline 1\n") and "held back" in text and "left out" in text, text[-300:]
    assert len(text) < 400_000, len(text)
    assert during < before + 200, (before, during)
    return f"{before} MiB before, {during} MiB at the end"


def check_a_cell_that_may_ask_evcxr_is_watched(kernel):
    # As after `use evcxr_input::…`. It lasts until the kernel is restarted.
    kernel.good("const ASKS: &str = \"evcxr_input\";")
    # Its output is evcxr's, which knows nothing of places.
    assert "no place" in kernel.good("if LiveView::open().is_none() { println!(\"no place\"); }").text["stdout"]
    cell = kernel.run("println!(\"begins\"); panic!(\"on purpose\");")
    assert cell.status == "error" and cell.errors[0]["ename"] == "Panic", vars(cell)
    one = kernel.send("println!(\"runs\"); loop { std::hint::spin_loop() }")
    kernel.collect([one], until=lambda cell: "runs" in cell.text["stdout"])
    for _ in range(2):
        kernel.manager.interrupt_kernel()
    (cell,) = kernel.collect([one], timeout=20)
    assert "All variables are lost" in cell.errors[0]["evalue"], cell.errors
    return ""


def check_restarts(kernel):
    times = int(os.environ.get("RESTARTS", "5"))
    for _ in range(times):
        kernel.restart()
        # At once: evcxr, which runs a cell of its own when it starts, may not be ready.
        cell = kernel.good("println!(\"{}\", 40 + 1);")
        assert cell.text["stdout"] == "41\n" and not any("42" in str(data) for data in cell.displays), vars(cell)
    return f"{times} of {times}"


def main():
    kernel_dirs, cwd, part = sys.argv[1], sys.argv[2], (sys.argv[3:] or [""])[0]
    # As people do, all checks use one kernel, unless one fails.
    kernel, failed = None, False
    for name, check in list(globals().items()):
        if not name.startswith("check_") or part not in name:
            continue
        kernel = kernel or Kernel(kernel_dirs, cwd)
        try:
            kernel.good(DEP)
            if "interrupt" in name or "training" in name:
                kernel.good(DATA)
            print("ok", name.removeprefix("check_").replace("_", " "), "·", check(kernel), flush=True)
        except Exception as error:
            failed = True
            print("failed", name.removeprefix("check_").replace("_", " "), "·", repr(error)[:1500], flush=True)
            kernel.end()
            kernel = None
    if kernel:
        kernel.end()
    sys.exit(failed)


if __name__ == "__main__":
    main()
