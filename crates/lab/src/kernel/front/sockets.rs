//! The sockets towards Jupyter and towards evcxr. Each has a task that passes on what it receives, as an event `E`.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerSendHalf, DealerSocket, PubSocket, RepSocket, RouterSendHalf, RouterSocket, Socket, SocketOptions,
    SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage,
};

use super::message::{Key, Message};

/// A client that takes longer to accept a message is taken for dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A ROUTER socket towards Jupyter, and a DEALER socket towards evcxr.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Channel {
    Shell,
    Control,
    Stdin,
}

const CHANNELS: [Channel; 3] = [Channel::Shell, Channel::Control, Channel::Stdin];

/// A socket for each channel, to send.
struct Senders<S> {
    key: Key,
    sockets: Vec<S>,
}

impl<S: SocketSend> Senders<S> {
    async fn send(&mut self, channel: Channel, message: &Message) {
        if let Some(socket) = self.sockets.get_mut(channel as usize) {
            let _ = timeout(PATIENCE, socket.send(message.frames(&self.key))).await;
        }
    }
}

/// A connection file.
#[derive(Clone)]
pub struct Connection {
    transport: String,
    ip: String,
    key: String,
    /// The ports of [`CHANNELS`].
    ports: [u16; 3],
    iopub_port: u16,
    hb_port: u16,
}

impl Connection {
    pub fn read(path: &Path) -> io::Result<Self> {
        let file: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let missing = |name: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it has no {name}"));
        let text = |name: &str| file[name].as_str().map(str::to_string).ok_or_else(|| missing(name));
        let port = |name: &str| file[name].as_u64().and_then(|port| port.try_into().ok()).ok_or_else(|| missing(name));
        Ok(Self {
            transport: text("transport")?,
            ip: text("ip")?,
            key: text("key")?,
            ports: [port("shell_port")?, port("control_port")?, port("stdin_port")?],
            iopub_port: port("iopub_port")?,
            hb_port: port("hb_port")?,
        })
    }

    /// Writes a connection file with unused ports of this machine and a new key, which only this user can read.
    pub fn write_new(path: &Path) -> io::Result<Self> {
        use std::io::{Read, Write};
        use std::os::unix::fs::OpenOptionsExt;
        let listeners: Vec<TcpListener> =
            (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
        let ports: Vec<u16> =
            listeners.iter().map(|one| one.local_addr().map(|address| address.port())).collect::<io::Result<_>>()?;
        let mut secret = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let key: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = json!({
            "transport": "tcp", "ip": "127.0.0.1", "signature_scheme": "hmac-sha256", "key": key,
            "shell_port": ports[0], "control_port": ports[1], "stdin_port": ports[2], "iopub_port": ports[3], "hb_port": ports[4],
        });
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?
            .write_all(file.to_string().as_bytes())?;
        Self::read(path)
    }

    fn endpoint(&self, port: u16) -> String {
        let separator = if self.transport == "tcp" { ':' } else { '-' };
        format!("{}://{}{separator}{port}", self.transport, self.ip)
    }
}

/// The sockets that Jupyter connects to.
pub struct Jupyter {
    senders: Senders<RouterSendHalf>,
    iopub: PubSocket,
}

impl Jupyter {
    /// Listens at the places that `connection` names.
    pub async fn listen<E: Send + 'static>(
        connection: &Connection,
        events: &UnboundedSender<E>,
        asked: fn(Channel, Message) -> E,
    ) -> Result<Self, ZmqError> {
        let key = Key::new(&connection.key);
        let mut sockets = Vec::new();
        for (channel, port) in CHANNELS.into_iter().zip(connection.ports) {
            let mut socket = RouterSocket::new();
            socket.bind(&connection.endpoint(port)).await?;
            let (sender, receiver) = socket.split();
            receive(receiver, key.clone(), events, move |message| asked(channel, message));
            sockets.push(sender);
        }
        let mut iopub = PubSocket::new();
        iopub.bind(&connection.endpoint(connection.iopub_port)).await?;
        let mut heartbeat = RepSocket::new();
        heartbeat.bind(&connection.endpoint(connection.hb_port)).await?;
        tokio::spawn(async move {
            while let Ok(beat) = heartbeat.recv().await {
                let _ = heartbeat.send(beat).await;
            }
        });
        Ok(Self { senders: Senders { key, sockets }, iopub })
    }

    /// Sends `message` to one client. A client that has gone misses it.
    pub async fn send(&mut self, channel: Channel, message: &Message) {
        self.senders.send(channel, message).await;
    }

    /// Sends `message` to all clients.
    pub async fn publish(&mut self, message: &Message) {
        let frames = message.frames(&self.senders.key);
        let _ = timeout(PATIENCE, self.iopub.send(frames)).await;
    }
}

/// The sockets towards a running evcxr.
pub struct Evcxr(Senders<DealerSendHalf>);

impl Evcxr {
    /// Connects as soon as evcxr listens, and waits until it answers, which it does after cells of its own: their output is
    /// not Jupyter's first cell's.
    pub async fn connect<E: Send + 'static>(
        connection: &Connection,
        events: &UnboundedSender<E>,
        answered: fn(Channel, Message) -> E,
        published: fn(Message) -> E,
    ) -> Result<Self, ZmqError> {
        let key = Key::new(&connection.key);
        // The last that evcxr binds, so the others are there too.
        while tokio::net::TcpStream::connect((connection.ip.as_str(), connection.iopub_port)).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        let mut iopub = SubSocket::new();
        iopub.connect(&connection.endpoint(connection.iopub_port)).await?;
        iopub.subscribe("").await?;
        receive(iopub, key.clone(), events, published);
        let mut sockets = Vec::new();
        for (channel, port) in CHANNELS.into_iter().zip(connection.ports) {
            // evcxr asks for input on stdin whoever sent the request on shell.
            let mut options = SocketOptions::default();
            options.peer_identity(PeerIdentity::try_from(b"front".to_vec())?);
            let mut socket = DealerSocket::with_options(options);
            socket.connect(&connection.endpoint(port)).await?;
            if channel == Channel::Shell {
                socket.send(Message::request("kernel_info_request").frames(&key)).await?;
                socket.recv().await?;
            }
            let (sender, receiver) = socket.split();
            receive(receiver, key.clone(), events, move |message| answered(channel, message));
            sockets.push(sender);
        }
        Ok(Self(Senders { key, sockets }))
    }

    /// Sends `message`, which keeps its header, so that what it causes names it.
    pub async fn send(&mut self, channel: Channel, message: &Message) {
        let message = Message { identities: Vec::new(), ..message.clone() };
        self.0.send(channel, &message).await;
    }
}

/// Passes on what `socket` receives, until it is closed. Messages with a wrong signature are dropped.
fn receive<E: Send + 'static>(
    mut socket: impl SocketRecv + Send + 'static,
    key: Key,
    events: &UnboundedSender<E>,
    event: impl Fn(Message) -> E + Send + 'static,
) {
    let events = events.clone();
    tokio::spawn(async move {
        loop {
            let received: Result<ZmqMessage, ZmqError> = socket.recv().await;
            match received {
                Ok(frames) => {
                    if let Some(message) = Message::read(frames, &key)
                        && events.send(event(message)).is_err()
                    {
                        return;
                    }
                }
                // All peers are gone, and others may come.
                Err(ZmqError::NoMessage) => sleep(Duration::from_millis(50)).await,
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    });
}
