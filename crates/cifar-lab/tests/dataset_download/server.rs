//! A web server on the loopback device, that answers each request as the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked: the headers by their names in small letters.
#[derive(Clone, Debug)]
pub struct Request {
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte of the range that is asked for.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What to answer: a head without the empty line, and a body, of which `sent` bytes go out before the connection ends.
pub struct Reply {
    pub head: String,
    pub body: Vec<u8>,
    pub sent: usize,
}

impl Reply {
    /// All of the file.
    pub fn whole(body: &[u8]) -> Self {
        let head = format!("200 OK\r\nContent-Length: {}", body.len());
        Self { head, body: body.to_vec(), sent: body.len() }
    }

    /// The file from a byte on.
    pub fn from(body: &[u8], start: usize) -> Self {
        let (length, last, total) = (body.len() - start, body.len() - 1, body.len());
        let head =
            format!("206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{last}/{total}");
        Self { head, body: body[start..].to_vec(), sent: length }
    }

    /// What a well-made server answers: the range that is asked for, if the file is still the same.
    pub fn to(request: &Request, body: &[u8], etag: &str) -> Self {
        let same = request.header("if-range").is_none_or(|asked| asked == etag);
        let reply = match request.range_start().filter(|_| same) {
            Some(start) => Self::from(body, start),
            None => Self::whole(body),
        };
        reply.with("ETag", etag)
    }

    pub fn status(status: &str) -> Self {
        Self { head: format!("{status}\r\nContent-Length: 0"), body: Vec::new(), sent: 0 }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("\r\n{name}: {value}");
        self
    }

    /// Ends the connection after so many bytes of the body.
    pub fn cut_after(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }
}

pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server that asks `answer` with the number of each request, from 0. It lives as long as the test binary.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                let reply = answer(number, &request);
                // The client may hang up first.
                let _ = write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n\r\n", reply.head)
                    .and_then(|()| stream.write_all(&reply.body[..reply.sent]))
                    .and_then(|()| stream.shutdown(Shutdown::Write));
            }
        });
        Self { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    lines.next()?.ok()?;
    let mut headers = Vec::new();
    loop {
        let line = lines.next()?.ok()?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_string())),
            None => return Some(Request { headers }),
        }
    }
}
