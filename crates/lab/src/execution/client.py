"""Executes one notebook in a Jupyter kernel, cell by cell, for `cargo lab`.

The first line of standard input is the job, a JSON object:
    notebook      the notebook, which is executed in place and saved after each cell
    kernel_dirs   the folders with the kernelspec `rust`
    cwd, env      the kernel's working directory and additional environment variables

Prints what happens, as one JSON object per line. After the `end` of each cell it waits for an order: `next` continues;
`again` executes the same cell once more, but the notebook keeps the first outputs. `stop`, or the end of the input, ends the
kernel at any time.
"""

import asyncio
import contextlib
import copy
import json
import logging
import os
import sys
import threading
import time

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

# evcxr compiles an empty cell before it answers, which can take long on a busy machine.
STARTUP_SECONDS = 600


telling = threading.Lock()


def tell(event, **values):
    with telling:  # the log has a thread of its own
        print(json.dumps({"event": event, **values}), flush=True)


class Client(NotebookClient):
    """nbclient's client, which also reports a cell's output as it comes."""

    reply_status = "ok"
    redrawn = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.shown = {}

    def process_message(self, msg, cell, cell_index):
        # nbclient would look for the output by its index, which joining streams and executing a cell twice change.
        place = (msg["content"].pop("transient", None) or {}).get("display_id")
        if msg["msg_type"] == "update_display_data":
            output = self.shown.get(place)
            if output is not None:
                output.update(data=msg["content"]["data"], metadata=msg["content"]["metadata"])
        else:
            output = super().process_message(msg, cell, cell_index)
            if place is not None:
                self.shown[place] = output
        if msg["msg_type"] == "stream":
            tell("stream", name=msg["content"]["name"], text=msg["content"]["text"])
        elif place is not None:
            # What is redrawn only gets more lines as text.
            if place != self.redrawn:
                self.redrawn, self.lines_told = place, 0
            lines = msg["content"]["data"].get("text/plain", "").splitlines()
            for line in lines[self.lines_told :]:
                tell("stream", name="stdout", text=line)
            self.lines_told = len(lines)
        elif output is not None and "data" in output:
            if set(output["data"]) == {"text/plain"}:
                tell("stream", name="stdout", text=output["data"]["text/plain"])
            else:
                tell("shown", types=sorted(output["data"]))
        return output


def join_streams(outputs):
    """Joins successive outputs on the same stream."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def save(notebook, path):
    # An interruption leaves the old file or the new one.
    with open(path + ".part", "w", encoding="utf-8") as file:
        nbformat.write(notebook, file)
    os.replace(path + ".part", path)


async def read_orders():
    """A queue with the lines of standard input, and "stop" when it ends."""
    orders = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, line.strip())
        with contextlib.suppress(RuntimeError):  # the loop is closed, so all is over
            loop.call_soon_threadsafe(orders.put_nowait, "stop")

    threading.Thread(target=read, daemon=True).start()
    return orders


def pass_on_log(read_end):
    with open(read_end, encoding="utf-8", errors="replace") as log:
        for line in log:
            tell("log", line=line.rstrip("\n"))


async def unless_stopped(work, orders):
    """Awaits `work`. If "stop" comes first, cancels it and raises KeyboardInterrupt."""
    work = asyncio.ensure_future(work)
    order = asyncio.ensure_future(orders.get())
    await asyncio.wait({work, order}, return_when=asyncio.FIRST_COMPLETED)
    if order.done() and not work.done():
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
        raise KeyboardInterrupt
    if order.done():
        orders.put_nowait(order.result())
    else:
        order.cancel()
    return work.result()


async def execute_cell(client, cell, index, number, orders, save_outputs):
    """Executes a cell and reports how it ended; returns whether the kernel is still alive."""
    tell("cell", index=index)
    started = time.monotonic()
    client.reply_status = "ok"
    try:
        await unless_stopped(client.async_execute_cell(cell, index, execution_count=number), orders)
    except DeadKernelError:
        tell("dead", index=index)
        return False
    finally:
        cell.outputs = join_streams(cell.outputs)
        save_outputs()
    seconds = time.monotonic() - started
    tell("end", index=index, status=client.reply_status, seconds=seconds, outputs=cell.outputs)
    return True


async def execute(client, notebook, path, orders):
    number = 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        number += 1
        executed, order = cell, "again"

        def keep_the_first(index=index, cell=cell):
            # nbclient puts the executed cell into the notebook.
            notebook.cells[index] = cell
            save(notebook, path)

        while order == "again":
            if not await execute_cell(client, executed, index, number, orders, keep_the_first):
                return
            order = await orders.get()
            # So that the notebook's own cell keeps the first outputs.
            executed = copy.deepcopy(cell)
        if order == "stop":
            raise KeyboardInterrupt
    tell("finished")


async def main(job):
    orders = await read_orders()
    notebook = nbformat.read(job["notebook"], as_version=4)
    # If this run stops early, outputs of an earlier one would be mistaken for its own.
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    save(notebook, job["notebook"])
    specs = KernelSpecManager(kernel_dirs=job["kernel_dirs"], ensure_native_kernel=False)
    manager = AsyncKernelManager(kernel_name="rust", kernel_spec_manager=specs)
    client = Client(
        notebook,
        km=manager,
        timeout=None,
        startup_timeout=STARTUP_SECONDS,
        allow_errors=True,
        record_timing=False,
        shutdown_kernel="immediate",
    )

    def note_status(cell, cell_index, execute_reply):
        client.reply_status = execute_reply["content"]["status"]

    client.on_cell_executed = note_status
    read_end, write_end = os.pipe()
    threading.Thread(target=pass_on_log, args=(read_end,), daemon=True).start()
    started = time.monotonic()
    try:
        await manager.start_kernel(
            cwd=job["cwd"],
            env={**os.environ, **job["env"]},
            stdout=write_end,
            stderr=write_end,
        )
        os.close(write_end)
        connected = client.async_start_new_kernel_client()
        await unless_stopped(connected, orders)
        tell("ready", seconds=time.monotonic() - started)
        await execute(client, notebook, job["notebook"], orders)
    except KeyboardInterrupt:
        tell("stopped")
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
        if manager.has_kernel:
            # A busy kernel would not answer a polite request.
            await manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(main(json.loads(sys.stdin.readline())))
    except BrokenPipeError:  # `cargo lab` is gone, and the kernel has been shut down
        os._exit(1)
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            tell("failed", message=f"{type(error).__name__}: {error}")
        os._exit(1)
