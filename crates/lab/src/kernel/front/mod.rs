//! The kernel's front: what Jupyter talks to. evcxr_jupyter runs unchanged behind it.
//!
//! - It answers at once, while evcxr still starts, and when evcxr is busy.
//! - It gives evcxr one cell at a time. After an error the cells that wait are not run.
//! - It gets the output of cells through pipes ([`pipe`]), so that printing can't fill the memory, and learns how they ended:
//!   evcxr answers "ok" even if a cell panics.
//! - A first interrupt asks the cell to stop, which keeps all variables; a second one ends evcxr's process with the variables.
//!
//! One task ([`Front::run`]) does all this, in the order of the events; others only receive.

mod ending;
mod event;
mod message;
mod output;
mod sockets;
mod variables;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::kernel::instrument::Compiled;
use crate::kernel::settings::EVCXR_VERSION;
use crate::kernel::{cargo, cell, instrument};
use ending::{COMPILE_ERROR, Failure, INTERRUPTED, PROCESS_ENDED};
pub use event::Event;
use message::Message;
use output::{Bounds, Piece, Splitter};
pub use sockets::Connection;
use sockets::{Channel, Evcxr, Jupyter};
use variables::Variables;

/// The pipes, and Jupyter's names of the streams.
const NAMES: [&str; 2] = ["stdout", "stderr"];
/// How many chunks of a cell's output, of up to 64 KiB, may wait to be shown; then the cell waits.
const CHUNKS: usize = 16;
/// Inspected at its end, to have rust-analyzer look through the names and traits of all dependencies, as for the next cell: it has
/// to find out the type of the last word.
const WARM_UP: &str = "let warm: u32 = 1;\nwarm";
/// How long an output may lack another MIME type.
const QUIET: Duration = Duration::from_millis(30);
/// A compilation that takes longer is mentioned.
const SLOW: Duration = Duration::from_secs(2);
/// A cell that does not stop within this time does not look at all.
const STUBBORN: Duration = Duration::from_millis(1500);
/// How long the last output of a cell that failed may take: its process may have died.
const LATE: Duration = Duration::from_millis(100);
/// How long the sockets, which send in the background, may take for the last messages.
const SENT: Duration = Duration::from_millis(50);
/// How long the last output of any other cell may take.
const LOST: Duration = Duration::from_secs(5);

/// Creates the named pipe that leads a cell's output to the front, and reads it.
fn pipe(folder: &Path, index: usize, events: &UnboundedSender<Event>) -> Result<()> {
    let path = folder.join(NAMES[index]);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .map_err(|error| Error::file("make", &path)(error.into()))?;
    // Writing too, so that it never ends.
    let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::file("open", &path))?;
    let (events, runtime, permits) = (events.clone(), Handle::current(), Arc::new(Semaphore::new(CHUNKS)));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = file.read(&mut buffer) {
            let Ok(permit) = runtime.block_on(Arc::clone(&permits).acquire_owned()) else { return };
            if events.send(Event::Written(index, buffer[..length].to_vec(), permit)).is_err() {
                return;
            }
            // Lets a chatty cell collect more.
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    Ok(())
}

/// The running cell.
struct Running {
    request: Message,
    count: u64,
    since: Instant,
    notice: Notice,
    ending: Option<(String, String)>,
    /// The number that its process gave it when it began.
    number: Option<String>,
    /// When evcxr had published everything.
    published: Option<Instant>,
    reply: Option<(Message, Instant)>,
    errors: Vec<Failure>,
    bounds: [Bounds; 2],
    /// The places that the cell redraws.
    live: HashSet<String>,
    interrupted: Option<Instant>,
    warned: bool,
    killed: bool,
}

/// The note that a cell is being compiled. It goes before the cell's first output, because only the whole output can be cleared.
#[derive(PartialEq)]
enum Notice {
    Due,
    Shown,
    Past,
}

/// The state of a kernel.
pub struct Front {
    folder: PathBuf,
    jupyter: Jupyter,
    evcxr: Option<Evcxr>,
    events: UnboundedSender<Event>,
    waiting: VecDeque<Message>,
    running: Option<Running>,
    /// The cell that ran last, which later output of its threads belongs to.
    last: Option<Message>,
    /// Requests other than cells that evcxr is to answer.
    asked: HashMap<String, Message>,
    splitters: [Splitter; 2],
    /// The number of the cell whose standard error has been read to its end.
    errors_ended: Option<String>,
    /// What evcxr is compiling.
    compiling: String,
    count: u64,
    variables: Variables,
}

/// The connection that Jupyter's file describes, and the events of the kernel in `folder`.
pub async fn open(
    folder: &Path,
    connection: &Connection,
) -> Result<(Front, UnboundedSender<Event>, UnboundedReceiver<Event>)> {
    let (events, received) = unbounded_channel();
    let jupyter = Jupyter::listen(connection, &events, Event::Asked)
        .await
        .map_err(|error| Error::Connection(error.to_string()))?;
    for index in [0, 1] {
        pipe(folder, index, &events)?;
    }
    let front = Front {
        folder: folder.to_path_buf(),
        jupyter,
        evcxr: None,
        events: events.clone(),
        waiting: VecDeque::new(),
        running: None,
        last: None,
        asked: HashMap::new(),
        splitters: Default::default(),
        errors_ended: None,
        compiling: String::new(),
        count: 0,
        variables: Variables::default(),
    };
    Ok((front, events, received))
}

impl Front {
    /// Serves Jupyter until it shuts the kernel down or evcxr ends. Returns the exit code.
    pub async fn run(mut self, mut events: UnboundedReceiver<Event>) -> Result<u8> {
        loop {
            // While nothing runs and no output is held, only an event changes anything.
            let idle = self.running.is_none() && self.splitters.iter().all(Splitter::holds_nothing);
            let event = match idle {
                true => events.recv().await,
                false => match timeout(QUIET, events.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.quiet().await;
                        continue;
                    }
                },
            };
            let Some(event) = event else { return Ok(0) };
            match event {
                Event::Asked(Channel::Shell, request) => self.asked_on_shell(request).await,
                Event::Asked(Channel::Stdin, answer) => self.pass_to_evcxr(Channel::Stdin, &answer).await,
                Event::Asked(Channel::Control, request) => {
                    if self.asked_on_control(request).await {
                        return Ok(0);
                    }
                }
                Event::Started(connection) => self.connect(connection),
                Event::Connected(evcxr) => {
                    self.evcxr = Some(evcxr);
                    self.run_next().await;
                    if self.running.is_none() {
                        self.warm_up(&Message::request("start")).await;
                    }
                }
                Event::Answered(channel, message) => self.answered(channel, message).await,
                Event::Published(message) => self.published(message).await,
                Event::Written(index, bytes, _permit) => {
                    for piece in self.splitters[index].feed(&bytes) {
                        self.show(index, piece).await;
                    }
                }
                Event::Log(line) => self.log(&line),
                Event::Gone(code) => return code,
            }
            self.look_after_the_cell().await;
        }
    }

    /// Nothing has come for a while.
    async fn quiet(&mut self) {
        for index in [0, 1] {
            if let Some(piece) = self.splitters[index].pause() {
                self.show(index, piece).await;
            }
        }
        self.look_after_the_cell().await;
    }

    fn connect(&self, connection: Connection) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let event = match Evcxr::connect(&connection, &events, Event::Answered, Event::Published).await {
                Ok(evcxr) => Event::Connected(evcxr),
                Err(error) => Event::Gone(Err(Error::Connection(error.to_string()))),
            };
            let _ = events.send(event);
        });
    }

    async fn asked_on_shell(&mut self, request: Message) {
        match request.kind() {
            "execute_request" => {
                self.waiting.push_back(request);
                self.run_next().await;
            }
            // evcxr would answer after the cell, when nobody waits for it any more.
            "complete_request" | "inspect_request" if self.evcxr.is_some() && self.running.is_none() => {
                self.status(&request, "busy").await;
                self.pass_to_evcxr(Channel::Shell, &request).await;
                self.asked.insert(request.id().to_string(), request);
            }
            _ => {
                self.status(&request, "busy").await;
                if let Some(content) = answer(&request) {
                    self.jupyter.send(Channel::Shell, &request.reply(content)).await;
                } else if request.kind() == "comm_open" {
                    let close = json!({"comm_id": request.content["comm_id"], "data": {}});
                    self.jupyter.publish(&request.caused("comm_close", close)).await;
                }
                self.idle(&request).await;
            }
        }
    }

    /// Returns whether the kernel is to end.
    async fn asked_on_control(&mut self, request: Message) -> bool {
        match request.kind() {
            "shutdown_request" => {
                let content = json!({"status": "ok", "restart": request.content["restart"]});
                self.jupyter.send(Channel::Control, &request.reply(content.clone())).await;
                self.jupyter.publish(&request.caused("shutdown_reply", content)).await;
                sleep(SENT).await;
                return true;
            }
            "interrupt_request" => {
                self.interrupt().await;
                self.jupyter.send(Channel::Control, &request.reply(json!({"status": "ok"}))).await;
            }
            _ => {
                if let Some(content) = answer(&request) {
                    self.jupyter.send(Channel::Control, &request.reply(content)).await;
                }
            }
        }
        false
    }

    async fn pass_to_evcxr(&mut self, channel: Channel, message: &Message) {
        if let Some(evcxr) = &mut self.evcxr {
            evcxr.send(channel, message).await;
        }
    }

    /// Gives evcxr the next cell, if it has none.
    async fn run_next(&mut self) {
        if self.running.is_some() || self.evcxr.is_none() {
            return;
        }
        let Some(request) = self.waiting.pop_front() else { return };
        let _ = fs::remove_file(instrument::stop_file(&self.folder));
        instrument::forget(&self.folder);
        let _ = fs::write(self.folder.join(cell::ASKED), "");
        self.status(&request, "busy").await;
        self.count += 1;
        let input = json!({"code": request.content["code"], "execution_count": self.count});
        self.jupyter.publish(&request.caused("execute_input", input)).await;
        self.compiling.clear();
        self.pass_to_evcxr(Channel::Shell, &request).await;
        self.last = Some(request.clone());
        self.running = Some(Running {
            request,
            count: self.count,
            since: Instant::now(),
            notice: Notice::Due,
            ending: None,
            number: None,
            published: None,
            reply: None,
            errors: Vec::new(),
            bounds: Default::default(),
            live: HashSet::new(),
            interrupted: None,
            warned: false,
            killed: false,
        });
    }

    async fn interrupt(&mut self) {
        self.abort_waiting().await;
        let Some(running) = &mut self.running else { return };
        let first = running.interrupted.is_none();
        running.interrupted.get_or_insert_with(Instant::now);
        let ends_unseen = || matches!(instrument::compiled(&self.folder), Compiled::Unchanged(_));
        if first {
            // Also if it has not begun: evcxr may run it before it hears of anything else.
            let _ = fs::write(instrument::stop_file(&self.folder), "");
        }
        if running.number.is_none() && (first || !ends_unseen()) {
            cargo::end_compiler(&self.folder);
        } else if !first {
            running.killed = true;
            let request = running.request.caused("interrupt_request", json!({}));
            self.pass_to_evcxr(Channel::Control, &request).await;
        }
    }

    /// Answers the cells that wait: they are not run.
    async fn abort_waiting(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            self.status(&request, "busy").await;
            self.jupyter.send(Channel::Shell, &request.reply(json!({"status": "aborted"}))).await;
            self.idle(&request).await;
        }
    }

    async fn answered(&mut self, channel: Channel, message: Message) {
        match (channel, message.kind()) {
            (Channel::Shell, "execute_reply") => {
                if let Some(running) = &mut self.running {
                    running.reply = Some((message, Instant::now()));
                }
            }
            (Channel::Shell, _) => {
                if let Some(request) = self.asked.remove(message.parent_id()) {
                    let content = if request.kind() == "complete_request" {
                        fields_last(message.content, request.content["code"].as_str().unwrap_or_default())
                    } else {
                        without_hidden(message.content)
                    };
                    self.jupyter.send(Channel::Shell, &request.reply(content)).await;
                    self.idle(&request).await;
                }
            }
            (Channel::Stdin, "input_request") => {
                if let Some(running) = &self.running {
                    let message = Message { identities: running.request.identities.clone(), ..message };
                    self.jupyter.send(Channel::Stdin, &message).await;
                }
            }
            _ => {}
        }
    }

    async fn published(&mut self, message: Message) {
        let running = self.running.as_mut().filter(|running| running.request.id() == message.parent_id());
        match (message.kind(), running) {
            // The last that evcxr publishes for a cell.
            ("status", Some(running)) if message.content["execution_state"] == "idle" => {
                running.published = Some(Instant::now());
            }
            ("error", Some(running)) => running.errors.push(Failure::of_evcxr(&message.content)),
            ("stream", _) => {
                let text = message.content["text"].as_str().unwrap_or_default();
                self.print(usize::from(message.content["name"] == "stderr"), text).await;
            }
            ("execute_result", _) if message.content["data"].as_object().is_some_and(is_unit) => {}
            (kind @ ("execute_result" | "display_data"), Some(running)) => {
                let mut content = message.content.clone();
                content["execution_count"] = json!(running.count);
                self.publish(kind, content).await;
            }
            _ => {}
        }
    }

    async fn show(&mut self, index: usize, piece: Piece) {
        match piece {
            Piece::Text(text) => self.print(index, &text).await,
            Piece::Output(data) if is_unit(&data) => {}
            Piece::Output(data) => {
                let content = json!({"data": data, "metadata": {}, "transient": {}});
                self.publish("display_data", content).await;
            }
            Piece::Event { kind, payload } => self.happened(index, kind, payload).await,
        }
    }

    /// An event of the cell's process.
    async fn happened(&mut self, index: usize, kind: String, payload: String) {
        if index == 1 {
            self.errors_ended = Some(payload);
            return;
        }
        if kind == "live" {
            return self.redraw(&payload).await;
        }
        let Some(running) = &mut self.running else { return };
        if kind == "began" {
            // evcxr may compile and begin a cell more than once.
            running.number = Some(payload);
            running.ending = None;
            if running.interrupted.is_some() {
                running.interrupted = Some(Instant::now());
            }
            return self.end_notice().await;
        }
        running.ending = Some((kind, payload));
    }

    /// Shows an output in the place whose number is the payload's first line.
    async fn redraw(&mut self, payload: &str) {
        let Some(running) = &mut self.running else { return };
        let (place, output) = payload.split_once('\n').unwrap_or_default();
        let mut splitter = Splitter::default();
        let pieces = splitter.feed(output.as_bytes()).into_iter().chain(splitter.end());
        let is_output = |piece| if let Piece::Output(data) = piece { Some(data) } else { None };
        let Some(data) = pieces.into_iter().find_map(is_output) else { return };
        let kind = if running.live.insert(place.to_string()) { "display_data" } else { "update_display_data" };
        let place = json!({"display_id": format!("{}-{place}", running.request.id())});
        self.publish(kind, json!({"data": data, "metadata": {}, "transient": place})).await;
    }

    /// Shows what the cell, or a thread of an earlier one, has written, within the cell's bounds.
    async fn print(&mut self, index: usize, text: &str) {
        let shown = match &mut self.running {
            Some(running) => running.bounds[index].pass(text),
            None => Some(text.to_string()),
        };
        if let Some(text) = shown {
            self.stream(index, &text).await;
        }
    }

    async fn stream(&mut self, index: usize, text: &str) {
        let name = NAMES[index];
        self.publish("stream", json!({"name": name, "text": text})).await;
    }

    /// Clears "compiling …".
    async fn end_notice(&mut self) {
        if let Some(running) = &mut self.running
            && std::mem::replace(&mut running.notice, Notice::Past) == Notice::Shown
        {
            let clear = running.request.caused("clear_output", json!({"wait": false}));
            self.jupyter.publish(&clear).await;
        }
    }

    /// Publishes something that the running cell, or the last, has caused.
    async fn publish(&mut self, kind: &str, content: Value) {
        self.end_notice().await;
        if let Some(last) = &self.last {
            let message = last.caused(kind, content);
            self.jupyter.publish(&message).await;
        }
    }

    async fn status(&mut self, request: &Message, state: &str) {
        self.jupyter.publish(&request.caused("status", json!({"execution_state": state}))).await;
    }

    /// Says that a request has been answered.
    async fn idle(&mut self, request: &Message) {
        self.status(request, "idle").await;
        // Clients take the last status for the kernel's, such as a tab that is opened while a cell runs.
        if let Some(running) = &self.running {
            let request = running.request.clone();
            self.status(&request, "busy").await;
        }
    }

    fn log(&mut self, line: &str) {
        // The terminal may have been closed.
        let _ = writeln!(std::io::stderr(), "{line}");
        if let Some(name) = line.trim_start().strip_prefix("Compiling ") {
            self.compiling = name.split(' ').next().unwrap_or_default().to_string();
        }
    }

    /// Says what the running cell keeps one waiting for, and answers its request when it has ended.
    async fn look_after_the_cell(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.number.is_none() && running.notice == Notice::Due && running.since.elapsed() > SLOW {
            running.notice = Notice::Shown;
            let what = if self.compiling.is_empty() {
                "compiling".to_string()
            } else {
                format!("compiling {}", self.compiling)
            };
            let content = json!({"data": {"text/plain": what + " …"}, "metadata": {}, "transient": {}});
            let notice = running.request.caused("display_data", content);
            self.jupyter.publish(&notice).await;
        } else if running.number.is_some()
            && !running.warned
            && running.interrupted.is_some_and(|since| since.elapsed() > STUBBORN)
        {
            running.warned = true;
            let text = "This code does not look for interrupts. Stop it once more to end its process: then all variables are lost, \
                and the cells above must be run again.\n";
            self.stream(1, text).await;
        }
        self.finish_if_complete().await;
    }

    /// Answers the running cell's request, when everything that it has caused has been shown.
    async fn finish_if_complete(&mut self) {
        let Some(running) = &mut self.running else { return };
        if let (None, Some(since)) = (&running.reply, running.published)
            && since.elapsed() > LOST
        {
            let failure = Failure::new(PROCESS_ENDED, "evcxr has crashed, and this kernel ends.");
            running.reply = Some((running.request.reply(failure.content()), since));
            running.errors.push(failure);
            // It will not run another cell. This kernel ends when the sockets have sent that.
            let events = self.events.clone();
            tokio::spawn(async move {
                sleep(SENT).await;
                events.send(Event::Gone(Ok(1)))
            });
        }
        let Some((reply, since)) = &running.reply else { return };
        let compiled = instrument::compiled(&self.folder);
        let good = reply.content["status"] == "ok";
        let ended = running.ending.is_some() && running.number.is_some() && running.number == self.errors_ended;
        let never_began = running.number.is_none() && running.errors.iter().any(|error| error.name == COMPILE_ERROR);
        let complete = running.published.is_some() && (ended || never_began || compiled != Compiled::WithCalls);
        // The pipes are slower than evcxr, but a process that has died will not say that it ends.
        if !complete && since.elapsed() < if good { LOST } else { LATE } {
            return;
        }
        for index in [0, 1] {
            for piece in self.splitters[index].end() {
                self.show(index, piece).await;
            }
            if let Some(text) = self.running.as_mut().and_then(|running| running.bounds[index].end()) {
                self.stream(index, &text).await;
            }
        }
        self.end_notice().await;
        let Some(mut running) = self.running.take() else { return };
        if let Compiled::Unchanged(reason) = compiled {
            let text = format!(
                "note: {}; its panics and failed `?` go unnoticed. `cargo lab` installs evcxr_jupyter {EVCXR_VERSION}, which is known.\n",
                reason.trim()
            );
            self.stream(1, &text).await;
        }
        let failures = self.failures(&mut running);
        for failure in &failures {
            self.jupyter.publish(&running.request.caused("error", failure.content())).await;
        }
        let mut content =
            json!({"status": "ok", "execution_count": running.count, "user_expressions": {}, "payload": []});
        if let Some(first) = failures.first() {
            content = first.content();
            content["status"] = json!("error");
            content["execution_count"] = json!(running.count);
        }
        self.jupyter.send(Channel::Shell, &running.request.reply(content)).await;
        self.status(&running.request, "idle").await;
        if !failures.is_empty() && running.request.content["stop_on_error"] != json!(false) {
            self.abort_waiting().await;
        }
        if self.waiting.is_empty()
            && running.request.content["code"].as_str().is_some_and(|code| code.contains(":dep "))
        {
            self.warm_up(&running.request).await;
        }
        self.run_next().await;
    }

    /// Has rust-analyzer look through new dependencies while the user reads, by asking for a type that nobody waits for.
    async fn warm_up(&mut self, request: &Message) {
        let request =
            request.caused("inspect_request", json!({"code": WARM_UP, "cursor_pos": WARM_UP.len(), "detail_level": 0}));
        self.pass_to_evcxr(Channel::Shell, &request).await;
    }

    /// How the cell failed, in evcxr's words or those of the cell's own report.
    fn failures(&mut self, running: &mut Running) -> Vec<Failure> {
        let compiled = fs::read_to_string(self.folder.join("ctx/src/lib.rs")).unwrap_or_default();
        let source = running.request.content["code"].as_str().unwrap_or_default();
        let mut failures = std::mem::take(&mut running.errors);
        let ended =
            running.ending.take().and_then(|(kind, payload)| Failure::of_event(&kind, &payload, source, &compiled));
        failures.extend(ended);
        let good = running.reply.as_ref().is_none_or(|(reply, _)| reply.content["status"] == "ok");
        if failures.is_empty() && !good {
            failures.push(Failure::new(ending::ERROR, "evcxr gave no reason"));
        }
        if failures.iter().any(|failure| failure.name == PROCESS_ENDED) {
            self.variables.lose(&compiled);
            let lost =
                "All variables are lost: run the cells above again. A training goes on from its last checkpoint.";
            if running.killed {
                failures = vec![Failure::new(INTERRUPTED, &format!("the cell's process was ended. {lost}"))];
            } else if let Some(failure) = failures.first_mut() {
                failure.shown.push(lost.to_string());
            }
        } else if running.interrupted.is_some() && running.number.is_none() && !good {
            failures =
                vec![Failure::new(INTERRUPTED, "the cell was not compiled to its end. All variables are as before.")];
        } else if running.number.is_some() {
            self.variables.note(running.count as usize, &compiled, failures.is_empty());
        }
        for failure in &mut failures {
            failure.shown.extend(self.variables.explain(&failure.message).map(|fate| format!("help: {fate}")));
        }
        failures
    }
}

/// Whether this is evcxr's output of `()`, the value of a loop or of a call at a cell's end.
fn is_unit(data: &Map<String, Value>) -> bool {
    data.len() == 1 && data.get("text/plain").is_some_and(|text| text == "()")
}

/// The answer to a request that needs no evcxr; `None` if there is none.
fn answer(request: &Message) -> Option<Value> {
    Some(match request.kind() {
        "kernel_info_request" => json!({
            "status": "ok",
            "protocol_version": "5.3",
            "implementation": "evcxr_jupyter",
            "implementation_version": EVCXR_VERSION,
            "language_info": {
                "name": "Rust", "version": "", "mimetype": "text/rust", "file_extension": ".rs", "pygments_lexer": "rust",
                "codemirror_mode": "rust",
            },
            "banner": format!("Rust, by evcxr {EVCXR_VERSION}"),
            "help_links": [{"text": "The Rust standard library", "url": "https://doc.rust-lang.org/stable/std/"}],
        }),
        "is_complete_request" => json!({"status": "complete"}),
        "history_request" => json!({"status": "ok", "history": []}),
        "comm_info_request" => json!({"status": "ok", "comms": {}}),
        "complete_request" => {
            let at = &request.content["cursor_pos"];
            json!({"status": "ok", "matches": [], "cursor_start": at, "cursor_end": at, "metadata": {}})
        }
        "inspect_request" => json!({"status": "ok", "found": false, "data": {}, "metadata": {}}),
        _ => return None,
    })
}

/// Completions after a dot with fields, which are private in these crates, after the methods. evcxr calls both fields and local
/// variables instances.
fn fields_last(mut content: Value, code: &str) -> Value {
    let begin = content["cursor_start"].as_u64().and_then(|begin| usize::try_from(begin).ok()).unwrap_or_default();
    let after_dot = begin.checked_sub(1).and_then(|before| code.chars().nth(before)) == Some('.');
    let kinds: Vec<Value> = content["metadata"]["_jupyter_types_experimental"].as_array().cloned().unwrap_or_default();
    let matches: Vec<Value> = content["matches"].as_array().cloned().unwrap_or_default();
    if after_dot && kinds.len() == matches.len() {
        let mut order: Vec<usize> = (0..matches.len()).collect();
        order.sort_by_key(|&at| kinds[at]["type"] == "instance");
        content["matches"] = order.iter().map(|&at| matches[at].clone()).collect();
        content["metadata"]["_jupyter_types_experimental"] = order.iter().map(|&at| kinds[at].clone()).collect();
    }
    content
}

/// Documentation without the lines of examples that rustdoc hides.
fn without_hidden(mut content: Value) -> Value {
    for kind in ["text/plain", "text/html"] {
        let Some(text) = content["data"][kind].as_str() else { continue };
        // Plain text doesn't mark code, and has no other line that begins so.
        let mut code = kind == "text/plain";
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| {
                code ^= line.contains("<pre>") != line.contains("</pre>");
                !(code && (*line == "#" || line.starts_with("# ")))
            })
            .collect();
        content["data"][kind] = json!(kept.join("\n"));
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_dot_fields_come_last() {
        let completions = |begin: usize| {
            json!({"cursor_start": begin, "matches": ["id", "add()"],
                "metadata": {"_jupyter_types_experimental": [{"type": "instance"}, {"type": "function"}]}})
        };
        let sorted = fields_last(completions(3), "τt.");
        assert_eq!(sorted["matches"], json!(["add()", "id"]));
        assert_eq!(sorted["metadata"]["_jupyter_types_experimental"][1]["type"], "instance");
        assert_eq!(fields_last(completions(0), "a")["matches"], json!(["id", "add()"]), "a local variable");
    }

    #[test]
    fn hidden_lines_of_examples_are_left_out() {
        let html = "<p># one</p>\n<pre><code>let a = 1;\n# hidden();\n#[attribute]\n</code></pre>\n# two";
        let plain = "Text\n\nlet a = 1;\n# hidden();\n#[attribute]";
        let shown = without_hidden(json!({"data": {"text/html": html, "text/plain": plain}}));
        assert_eq!(shown["data"]["text/html"], html.replace("# hidden();\n", ""));
        assert_eq!(shown["data"]["text/plain"], plain.replace("# hidden();\n", ""));
    }
}
