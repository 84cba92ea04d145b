"""Tries JupyterLab in a browser: `browser.py FOLDER LAB BROWSER [PART OF A NAME]`.

FOLDER has small.ipynb, with settings for a test, and committed.ipynb, with outputs; each case leaves screenshots there. LAB
is the program behind `cargo lab`. An empty BROWSER stands for playwright's own. Prints a line for each case, and exits with 1
if one failed.
"""

import contextlib
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import time

import nbformat
from nbformat.sign import NotebookNotary
from playwright.sync_api import sync_playwright

import front

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
KEPT = 'println!("{}", kept + 1);'
PROGRESS = 'println!("{}", training.progress());'
FIGURE = ", ".join(f".jp-OutputArea-output {tag}" for tag in ["svg", "img", "table"])
SETTINGS = {
    # No question about news, which would cover the notebook.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # All cells are in the page, so that they can be counted.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# Compiling a cell takes seconds, on a busy machine much longer.
PATIENCE = 240_000


def training(epochs):
    return [front.DEP, front.DATA, front.TRAINING.replace("1_000_000", str(epochs)), "training.wait()?;"]


class Server:
    """JupyterLab as `cargo lab` starts it, with settings and trusted notebooks of its own, and a browser."""

    def __init__(self, playwright, folder, lab, browser):
        self.folder = folder
        (folder / "data").mkdir()
        for name, values in SETTINGS.items():
            path = folder / f"config/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(values))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.token = f"http://127.0.0.1:{port}", secrets.token_hex()
        options = ["--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        self.process = subprocess.Popen(
            # The page can then ask for JupyterLab's commands.
            [lab, "--", *options, "--LabApp.expose_app_in_browser=True"],
            env={
                **os.environ,
                "JUPYTER_CONFIG_DIR": str(folder / "config"),
                "JUPYTER_DATA_DIR": str(folder / "data"),
                "CIFAR_LAB_RUN_DIR": str(folder),
            },
            stdout=open(folder / "jupyter.log", "w"),
            stderr=subprocess.STDOUT,
        )
        # Chromium's sandbox refuses root, the usual user in a container.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.browser = playwright.chromium.launch(executable_path=browser or None, args=arguments)
        self.context = self.browser.new_context(
            viewport={"width": 1280, "height": 900}, extra_http_headers={"Authorization": f"token {self.token}"}
        )
        for _ in range(600):
            assert self.process.poll() is None, "JupyterLab ended; jupyter.log says why"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.5)

    def kernels(self):
        return self.context.request.get(f"{self.url}/api/kernels").json()

    def end_kernels(self):
        for kernel in self.kernels():
            self.context.request.delete(f"{self.url}/api/kernels/{kernel['id']}")

    def end(self):
        self.browser.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def write(self, name, cells=None, copy=None):
        """A notebook of these cells, or a copy without outputs, where the crates are three folders up."""
        notebook = nbformat.read(self.folder / copy, 4) if copy else nbformat.v4.new_notebook()
        notebook.metadata.kernelspec = {"display_name": "Rust", "language": "rust", "name": "rust"}
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells or []]
        for cell in notebook.cells:
            cell.source = cell.source.replace('"../crates/', '"../../../crates/').replace('.name("front")', f'.name("{name}")')
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, self.folder / f"{name}.ipynb")

    def open(self, name):
        notebook = Notebook(self, self.context.new_page(), name)
        notebook.page.set_default_timeout(60_000)
        notebook.page.goto(f"{self.url}/lab/tree/{notebook.path}?reset&token={self.token}")
        notebook.until_connected()
        # The list of files would take a quarter of the width.
        notebook.command("application:toggle-left-area")
        return notebook


class Notebook:
    """A notebook in JupyterLab."""

    def __init__(self, server, page, name, number=0):
        self.server, self.page = server, page
        self.path = str((server.folder / f"{name}.ipynb").relative_to(REPOSITORY))
        self.panel = page.locator(".jp-NotebookPanel:visible").nth(number)

    def command(self, name, **arguments):
        return self.page.evaluate("([name, arguments]) => window.jupyterapp.commands.execute(name, arguments).then(() => null)", [name, arguments])

    def until_connected(self):
        """Before that, JupyterLab shows the kernel as idle, but runs no cell."""
        self.page.wait_for_function(
            """path => [...window.jupyterapp?.shell.widgets('main') ?? []].some(one => one.context?.path === path
                && one.sessionContext.session?.kernel?.connectionStatus === 'connected')""",
            arg=self.path,
        )

    def wait(self, status):
        self.panel.locator(f'.jp-Notebook-ExecutionIndicator[data-status="{status}"]').wait_for(timeout=PATIENCE)

    def click(self, command):
        """A button above the notebook."""
        self.panel.locator(f'[data-command="{command}"]').first.click()

    def run_all(self):
        # The menu is for the notebook that was clicked last.
        self.panel.locator(".jp-Cell .jp-InputPrompt").first.click()
        self.page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        self.page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')

    def code(self, number):
        """A code cell, counted from 0 or, from the end, from -1."""
        return self.panel.locator(".jp-CodeCell").nth(number)

    def output(self, number):
        return self.code(number).locator(".jp-OutputArea-output")

    def text(self, number):
        return "\n".join(self.output(number).all_inner_texts())

    def prompts(self):
        return [text.strip().rstrip(":") for text in self.panel.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()]

    def until(self, reached, what):
        end = time.monotonic() + PATIENCE / 1000
        while not reached():
            assert time.monotonic() < end, f"{what} never came; the cells are {self.prompts()}"
            self.page.wait_for_timeout(100)

    def until_prints(self, number, text):
        self.until(lambda: text in self.text(number), f"{text!r} in cell {number}")

    def done(self):
        """Waits until no cell runs or waits. Returns their prompts."""
        self.until(lambda: (prompts := self.prompts()) and not any("*" in prompt for prompt in prompts) and any(prompt != "[ ]" for prompt in prompts), "the end")
        self.wait("idle")
        return self.prompts()

    def run(self, number):
        """Runs one cell and returns what it prints."""
        before = self.prompts()[number]
        self.code(number).locator(".jp-InputPrompt").click()
        self.click("notebook:run-cell-and-select-next")
        self.until(lambda: self.prompts()[number] not in (before, "[*]"), f"the end of cell {number}")
        return self.text(number)

    def errors(self):
        return self.panel.locator('[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()

    def shot(self, name, cell=None):
        if cell is not None:
            cell.evaluate("cell => cell.scrollIntoView({ block: 'start' })")
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.server.folder / f"{name}.png")

    def shoot_figures(self, name):
        """A screenshot for each cell with a figure, which is at its top."""
        found = [number for number in range(self.panel.locator(".jp-CodeCell").count()) if self.code(number).locator(FIGURE).count()]
        assert found, "there are no figures"
        for number in found:
            self.shot(f"{name}_{number:02}", self.code(number))

    def check_nothing_is_cut(self):
        wide = self.panel.locator(".jp-OutputArea-output").evaluate_all(
            "outputs => outputs.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText.slice(0, 80))"
        )
        assert not wide, f"outputs are wider than the page: {wide}"


def case_run_all(server):
    server.write("run_all", copy="small.ipynb")
    notebook = server.open("run_all")
    notebook.run_all()
    started = time.monotonic()
    notebook.panel.locator(FIGURE).first.wait_for(timeout=PATIENCE)
    first = time.monotonic() - started
    prompts = notebook.done()
    assert prompts == [f"[{number}]" for number in range(1, len(prompts) + 1)], prompts
    assert not notebook.errors(), notebook.errors()
    assert "after:" in notebook.text(-1), notebook.text(-1)
    notebook.shoot_figures("run_all")
    notebook.check_nothing_is_cut()
    return f"first picture after {first:.0f} s, all after {time.monotonic() - started:.0f} s"


def following(server, name):
    """A notebook whose fourth cell waits for a training without an end."""
    server.write(name, training(1_000_000) + [KEPT, PROGRESS])
    notebook = server.open(name)
    notebook.run_all()
    notebook.until_prints(3, "epoch")
    return notebook


def case_interrupt(server):
    notebook = following(server, "interrupt")
    notebook.shot("interrupt_before")
    notebook.click("notebook:interrupt-kernel")
    prompts = notebook.done()
    assert prompts[:4] == ["[1]", "[2]", "[3]", "[4]"] and prompts[4:] == ["[ ]", "[ ]"], prompts
    assert "nterrupt" in "".join(notebook.errors()), notebook.errors()
    assert "42" in notebook.run(4)
    assert "epoch" in notebook.run(5)
    notebook.shot("interrupt_after")


def case_restart(server):
    server.write("restart", ["let kept: usize = 41;", KEPT])
    notebook = server.open("restart")
    notebook.run_all()
    notebook.done()
    notebook.click("notebook:restart-kernel")
    notebook.page.click('.jp-Dialog button:has-text("Restart")')
    notebook.page.wait_for_timeout(1000)
    notebook.wait("idle")
    assert "kept" in notebook.run(1), "the variables should be gone"
    notebook.shot("restart_lost")
    notebook.run(0)
    assert "42" in notebook.run(1)
    notebook.shot("restart_after")


def case_a_failing_cell_stops_those_behind_it(server):
    server.write("failing", ["let numbers: Vec<u32> = vec![1, 2];", "let at: usize = 7;\nnumbers[at]", 'println!("ran");', "let word: u32 = numbers;", '"x".parse::<i32>()?'])
    notebook = server.open("failing")
    notebook.run_all()
    prompts = notebook.done()
    assert prompts[2:] == ["[ ]"] * 3 and not notebook.text(2), (prompts, notebook.text(2))
    notebook.run(3), notebook.run(4)
    assert len(notebook.errors()) == 3, notebook.errors()
    notebook.shot("failing")
    notebook.check_nothing_is_cut()


def case_dark(server):
    # JupyterLab shows SVG only in a notebook that ran here, or that is trusted.
    NotebookNotary(data_dir=str(server.folder / "data")).sign(nbformat.read(server.folder / "committed.ipynb", 4))
    notebook = server.open("committed")
    notebook.command("apputils:change-theme", theme="JupyterLab Dark")
    notebook.page.locator('body[data-jp-theme-light="false"]').wait_for(state="attached")
    server.write("dark_failing", ["let numbers: Vec<u32> = vec![1, 2];", "numbers[7]"])
    try:
        notebook.shoot_figures("dark")
        failing = server.open("dark_failing")
        failing.run_all()
        failing.done()
        failing.shot("dark_failing")
    finally:
        notebook.command("apputils:change-theme", theme="JupyterLab Light")


def case_two_side_by_side(server):
    for name in ["left", "right"]:
        server.write(name, training(2) + [f'println!("{name} {{}}", kept + 1);'])
    left = server.open("left")
    right = Notebook(server, left.page, "right", 1)
    left.command("docmanager:open", path=right.path, options={"mode": "split-right"})
    right.until_connected()
    left.run_all()
    right.run_all()
    for notebook, name in [(left, "left"), (right, "right")]:
        prompts = notebook.done()
        assert "[ ]" not in prompts and not notebook.errors(), (name, prompts, notebook.errors())
        assert f"{name} 42" in notebook.text(-1), notebook.text(-1)
    assert len(server.kernels()) == 2, server.kernels()
    left.shot("two_side_by_side")


def case_closing_and_opening_the_tab(server):
    notebook = following(server, "reopened")
    notebook.command("docmanager:save")
    kernels = [kernel["id"] for kernel in server.kernels()]
    notebook.page.close()
    time.sleep(3)
    notebook = server.open("reopened")
    notebook.wait("busy")
    assert [kernel["id"] for kernel in server.kernels()] == kernels, "the kernel was replaced"
    notebook.shot("reopened_busy")
    notebook.click("notebook:interrupt-kernel")
    notebook.wait("idle")
    assert "42" in notebook.run(4)
    assert "epoch" in notebook.run(5)
    notebook.shot("reopened_after")


def case_live(server):
    # Long enough for five screenshots on a fast machine.
    server.write("live", training(40))
    notebook = server.open("live")
    notebook.run_all()
    notebook.output(3).first.wait_for(timeout=PATIENCE)
    seen = []
    for number in range(5):
        notebook.shot(f"live_{number}", notebook.code(3))
        seen.append(notebook.code(3).locator(".jp-OutputArea").inner_html())
        assert "[*]" in notebook.prompts(), f"the training was done after {number} screenshots"
        notebook.page.wait_for_timeout(500)
    assert len(set(seen)) > 1, "the output does not change"
    notebook.done()
    assert not notebook.errors(), notebook.errors()
    notebook.shot("live_end", notebook.code(3))
    assert notebook.output(3).count() == 1, "it is redrawn in place"
    assert notebook.output(3).locator("progress").count() == 1 and "finished: 40 epochs" in notebook.text(3), notebook.text(3)
    return f"{len(set(seen))} of 5 screenshots differ"


def main():
    folder, lab, browser = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    part, failed = (sys.argv[4:] or [""])[0], False
    cases = {name.removeprefix("case_"): case for name, case in globals().items() if name.startswith("case_") and part in name}
    if not cases:
        sys.exit(f"no case has {part!r} in its name")
    with sync_playwright() as playwright:
        server = Server(playwright, folder, lab, browser)
        try:
            for name, case in cases.items():
                said = name.replace("_", " ")
                try:
                    print("ok", said, "·", case(server) or "", flush=True)
                except Exception as error:
                    failed = True
                    print("failed", said, "·", repr(error)[:1500], flush=True)
                    for number, page in enumerate(server.context.pages):
                        page.screenshot(path=folder / f"{name}_failed_{number}.png")
                finally:
                    for page in server.context.pages:
                        page.close()
                    server.end_kernels()
        finally:
            server.end()
    sys.exit(failed)


if __name__ == "__main__":
    main()
