//! Jupyter's messages and their signatures, as in "Messaging in Jupyter", version 5.3.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use zeromq::ZmqMessage;

/// Stands between the identities and the rest.
const DELIMITER: &[u8] = b"<IDS|MSG>";

/// The key of a connection file. An empty one means that nothing is signed.
#[derive(Clone)]
pub struct Key(Option<Hmac<Sha256>>);

impl Key {
    pub fn new(key: &str) -> Self {
        // HMAC takes a key of any length.
        Self(if key.is_empty() { None } else { Hmac::new_from_slice(key.as_bytes()).ok() })
    }

    fn sign(&self, parts: &[Vec<u8>]) -> String {
        let Some(mut mac) = self.0.clone() else { return String::new() };
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A message without its buffers, which neither side uses.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whom a ROUTER socket sends it to.
    pub identities: Vec<Vec<u8>>,
    pub header: Value,
    pub parent: Value,
    pub metadata: Value,
    pub content: Value,
}

impl Message {
    /// Reads a message; `None` if it is malformed or its signature is wrong.
    pub fn read(frames: ZmqMessage, key: &Key) -> Option<Self> {
        let mut frames: Vec<Vec<u8>> = frames.into_vec().into_iter().map(|frame| frame.to_vec()).collect();
        let delimiter = frames.iter().position(|frame| frame == DELIMITER)?;
        let rest = frames.split_off(delimiter);
        let (signature, parts) = (rest.get(1)?, rest.get(2..6)?);
        if key.sign(parts).as_bytes() != signature.as_slice() {
            return None;
        }
        let [header, parent, metadata, content] =
            [0, 1, 2, 3].map(|part: usize| serde_json::from_slice(&parts[part]).ok());
        Some(Self { identities: frames, header: header?, parent: parent?, metadata: metadata?, content: content? })
    }

    /// The frames to send.
    pub fn frames(&self, key: &Key) -> ZmqMessage {
        let parts =
            [&self.header, &self.parent, &self.metadata, &self.content].map(|part| part.to_string().into_bytes());
        let signature = key.sign(&parts).into_bytes();
        let mut frames = self.identities.iter().cloned().chain([DELIMITER.to_vec(), signature]).chain(parts);
        let mut message = ZmqMessage::from(frames.next().unwrap_or_default());
        frames.for_each(|frame| message.push_back(frame.into()));
        message
    }

    /// Such as "execute_request".
    pub fn kind(&self) -> &str {
        self.header["msg_type"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.header["msg_id"].as_str().unwrap_or_default()
    }

    /// The id of the message that caused this one.
    pub fn parent_id(&self) -> &str {
        self.parent["msg_id"].as_str().unwrap_or_default()
    }

    /// A request of the front's own.
    pub fn request(kind: &str) -> Self {
        let header = header(kind, &json!("front"));
        Self { identities: Vec::new(), header, parent: json!({}), metadata: json!({}), content: json!({}) }
    }

    /// The answer to this request.
    pub fn reply(&self, content: Value) -> Self {
        let kind = self.kind().replace("_request", "_reply");
        Self { identities: self.identities.clone(), ..self.caused(&kind, content) }
    }

    /// A message of this kind for all clients, caused by this one.
    pub fn caused(&self, kind: &str, content: Value) -> Self {
        let header = header(kind, &self.header["session"]);
        Self { identities: Vec::new(), header, parent: self.header.clone(), metadata: json!({}), content }
    }
}

fn header(kind: &str, session: &Value) -> Value {
    json!({
        "msg_id": next_id(),
        "session": session,
        "username": "kernel",
        "date": jiff::Timestamp::now().to_string(),
        "msg_type": kind,
        "version": "5.3",
    })
}

/// An id that no other message has.
fn next_id() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("{:x}-{now:x}-{count:x}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let header = json!({"msg_id": "1", "session": "s", "msg_type": "execute_request"});
        let empty = json!({});
        Message {
            identities: vec![b"client".to_vec()],
            header,
            parent: empty.clone(),
            metadata: empty,
            content: json!({"code": "1 + 1"}),
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        let key = Key::new("secret");
        let read = Message::read(message().frames(&key), &key).unwrap();
        assert_eq!((read.kind(), &read.identities), ("execute_request", &vec![b"client".to_vec()]));
        assert_eq!(read.content, json!({"code": "1 + 1"}));
        assert!(Message::read(message().frames(&key), &Key::new("another")).is_none());
        assert!(Message::read(message().frames(&Key::new("")), &key).is_none());
        assert!(Message::read(ZmqMessage::from("no delimiter"), &key).is_none());
    }

    #[test]
    fn a_reply_goes_back_to_its_request() {
        let reply = message().reply(json!({"status": "ok"}));
        assert_eq!((reply.kind(), reply.parent_id(), reply.identities.len()), ("execute_reply", "1", 1));
        let published = message().caused("stream", json!({}));
        assert!(published.identities.is_empty() && published.id() != reply.id());
    }
}
