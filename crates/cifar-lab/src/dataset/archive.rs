//! The published archive: downloaded once, resumed after an interruption, verified, unpacked.
//!
//! Unfinished data never has the name under which it is looked for: bytes are collected in a `.part` file, its MD5 sum
//! is checked, the archive is unpacked into a temporary folder, and that folder is renamed at the end. A file lock
//! keeps two processes from doing this at once; the system releases it if its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use notebook_charts::numbers;
use ureq::http::Uri;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};

use super::Result;
use super::cifar10::{ARCHIVE_FOLDER, Cifar10, PYTHON_FOLDER};
use crate::checksum::hexadecimal;
use crate::error::DatasetError;
use crate::interrupt;
use crate::paths::show_path;

/// From <https://www.cs.toronto.edu/~kriz/cifar.html>.
const PYTHON_MD5: &str = "c58f30108f718f92721af3b95e74349a";
const PART_FILE: &str = "cifar-10-binary.tar.gz.part";
/// The address and the validator (ETag or date) of the file that the part belongs to.
const PART_ORIGIN_FILE: &str = "cifar-10-binary.tar.gz.part.origin";
const LOCK_FILE: &str = "cifar-10.lock";
/// How often to try it.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// How the names of temporary folders begin.
const UNPACK_PREFIX: &str = "unpacking-";

/// An archive that unpacks to so many times its own length is no data set: CIFAR-10 unpacks to 1.08 times.
const MOST_EXPANSION: u64 = 10;
/// What any archive may unpack to, in bytes: small ones may be nothing but zeros.
const LEAST_LIMIT: u64 = 10 << 20;

/// Without a network, loading must give up within about 10 s: these two follow one another.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server may be slow to answer, but not this slow.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// A transfer without data for this long has stalled, and is resumed.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A broken transfer is given up after this many attempts in a row without new data.
const IDLE_TRIES: u32 = 3;
/// At least as many as curl and browsers follow.
const MOST_REDIRECTS: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// What an interrupt leaves.
const STOPPED: &str = "run the cell again; the download goes on from what is already there";
/// A notebook can't redraw a line, so progress comes in lines: after this long, or after a tenth of the whole.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// A published archive of the binary layout: its address, checksum and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSource {
    /// The address, http or https.
    pub url: String,
    /// The archive's MD5 sum, in 32 hexadecimal digits.
    pub md5: String,
    /// The archive's length in bytes.
    pub bytes: u64,
}

/// How an attempt to transfer failed.
enum Broken {
    /// Another attempt may succeed.
    Cut(String),
    /// No attempt will.
    Final(DatasetError),
}

impl ArchiveSource {
    /// The archive as published by its author; address and MD5 sum from <https://www.cs.toronto.edu/~kriz/cifar.html>.
    pub fn published() -> Self {
        Self {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".into(),
            md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
            bytes: 170_052_171,
        }
    }

    /// Downloads the archive into the folder `cache`, unless its files are there already, and returns the folder of the
    /// `.bin` files. Resumes an earlier partial download; progress goes to `report`, line by line.
    ///
    /// Uses the proxy that the first of the environment variables `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY` names, except
    /// for the hosts in `NO_PROXY`: `localhost,.example.org`, without spaces, where a dot stands for a domain. Lower case works
    /// too.
    ///
    /// # Errors
    /// If the server can't be reached or has another file, writing fails, or the archive is damaged. A correct partial
    /// download is kept for the next attempt; anything else is deleted.
    pub fn fetch(&self, cache: impl AsRef<Path>, report: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let cache = cache.as_ref();
        fs::create_dir_all(cache).map_err(DatasetError::io("creating the folder", cache))?;
        let _lock = lock(cache, report)?;
        let folder = cache.join(ARCHIVE_FOLDER);
        // Another process may have been faster.
        if folder.is_dir() {
            return Ok(folder);
        }
        sweep(cache)?;
        let part = cache.join(PART_FILE);
        let origin = cache.join(PART_ORIGIN_FILE);
        let resumed = length(&part)? > 0;
        self.download(&part, &origin, report)?;
        let mut verified = self.verify(&part);
        // An older part may belong to another file; a fresh download tells.
        if resumed && matches!(verified, Err(DatasetError::Checksum { .. })) {
            report("The earlier partial download belongs to another file: starting over.");
            remove(&part)?;
            self.download(&part, &origin, report)?;
            verified = self.verify(&part);
        }
        verified.and_then(|()| unpack(&part, cache, ARCHIVE_FOLDER)).inspect_err(|error| {
            // The next attempt can't use a wrong file, but after a full disk it can use this one.
            if matches!(error, DatasetError::Checksum { .. } | DatasetError::Unpack { .. }) {
                _ = remove(&part);
            }
        })?;
        remove(&part)?;
        remove(&origin)?;
        Ok(folder)
    }

    /// Unpacks an archive on the disk into the folder `cache`, unless its files are there already, and returns their
    /// folder. Writes nothing beside the archive.
    pub(super) fn unpack_local(&self, archive: &Path, cache: &Path, report: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let found = md5_sum(archive)?;
        let layouts = [(self.md5.as_str(), ARCHIVE_FOLDER), (PYTHON_MD5, PYTHON_FOLDER)];
        let Some((_, layout)) = layouts.into_iter().find(|(md5, _)| found.eq_ignore_ascii_case(md5)) else {
            let (binary, python) = (self.md5.clone(), PYTHON_MD5.into());
            return Err(DatasetError::OtherArchive { path: archive.into(), binary, python, found });
        };
        fs::create_dir_all(cache).map_err(DatasetError::io("creating the folder", cache))?;
        let _lock = lock(cache, report)?;
        let folder = cache.join(layout);
        if folder.is_dir() {
            return Ok(folder);
        }
        sweep(cache)?;
        report(&format!("Unpacking {} into {}.", show_path(archive), show_path(cache)));
        unpack(archive, cache, layout)?;
        Ok(folder)
    }

    /// Completes the part.
    fn download(&self, part: &Path, origin: &Path, report: &mut dyn FnMut(&str)) -> Result<()> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MOST_REDIRECTS)
            .timeout_resolve(Some(RESOLVE_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT));
        let agent = config.build().new_agent();
        let mut longest = length(part)?;
        // Without a network this fails at once; only a transfer that has begun is retried.
        let mut idle_tries = IDLE_TRIES;
        while length(part)? != self.bytes {
            let reason = match self.transfer(&agent, part, origin, report) {
                Ok(()) => continue,
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Cut(reason)) => reason,
            };
            let kept = length(part)?;
            idle_tries = if kept > longest { 0 } else { idle_tries + 1 };
            longest = longest.max(kept);
            if idle_tries >= IDLE_TRIES {
                return Err(DatasetError::Download { url: self.url.clone(), reason, kept });
            }
            report(&format!("The download was interrupted at {} ({reason}): retrying.", numbers::bytes(kept)));
            thread::sleep(RETRY_PAUSE);
        }
        Ok(())
    }

    /// One request: continues where the part ends if the server still has the same file, else starts over.
    fn transfer(
        &self,
        agent: &ureq::Agent,
        part: &Path,
        origin: &Path,
        report: &mut dyn FnMut(&str),
    ) -> Result<(), Broken> {
        let mut have = length(part).map_err(Broken::Final)?;
        let validator = fs::read_to_string(origin).ok().and_then(|text| {
            let (url, validator) = text.split_once('\n')?;
            (url == self.url).then(|| validator.to_string())
        });
        let validator = validator.filter(|_| have > 0 && have < self.bytes);
        if have > 0 && validator.is_none() {
            // Nothing says which file this is a part of.
            truncate(part)?;
            have = 0;
        }
        let mut request = agent.get(&self.url);
        if let Some(validator) = validator {
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, validator);
        }
        let address: Option<Uri> = self.url.parse().ok();
        let proxy = agent.config().proxy().filter(|proxy| address.is_some_and(|address| !proxy.is_no_proxy(&address)));
        let response = request.call().map_err(|error| Broken::Cut(reason(&error, proxy)))?;
        match response.status().as_u16() {
            206 if range_start(response.headers()) == Some(have) => {}
            200 | 206 | 416 if have > 0 => {
                truncate(part)?;
                have = 0;
                if response.status() != 200 {
                    return Err(Broken::Cut("the server can't resume from there".into()));
                }
            }
            200 => {}
            status => {
                return Err(Broken::Final(DatasetError::HttpStatus { url: self.url.clone(), status }));
            }
        }
        let other_length =
            |found| Broken::Final(DatasetError::ArchiveLength { url: self.url.clone(), expected: self.bytes, found });
        if let Some(rest) = header(response.headers(), CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok())
            && have.saturating_add(rest) != self.bytes
        {
            return Err(other_length(have.saturating_add(rest)));
        }
        if have == 0 {
            // Strong validators only: a weak ETag (W/…) says nothing about bytes.
            let etag = header(response.headers(), ETAG).filter(|etag| etag.starts_with('"'));
            let validator = etag.or_else(|| header(response.headers(), LAST_MODIFIED));
            let written = match validator {
                Some(validator) => fs::write(origin, format!("{}\n{validator}", self.url)),
                None => remove_if_there(origin),
            };
            written.map_err(|error| Broken::Final(DatasetError::io("writing", origin)(error)))?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(part)
            .map_err(|error| Broken::Final(DatasetError::io("opening", part)(error)))?;
        let mut body = response.into_body().into_reader();
        let mut progress = Progress::new(have, self.bytes);
        // Large enough to read and write in large pieces.
        let mut buffer = vec![0; 1 << 16];
        while have < self.bytes {
            if interrupt::is_requested() {
                return Err(Broken::Final(DatasetError::Interrupted(STOPPED)));
            }
            let count = match body.read(&mut buffer) {
                Ok(0) => return Err(Broken::Cut("the server stopped sending".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Cut(interruption(&error))),
            };
            have += count as u64;
            if have > self.bytes {
                truncate(part)?;
                return Err(other_length(have));
            }
            if let Err(source) = file.write_all(&buffer[..count]) {
                let kept = length(part).unwrap_or(0);
                return Err(Broken::Final(DatasetError::WriteDownload { path: part.into(), kept, source }));
            }
            if let Some(line) = progress.line(have) {
                report(&line);
            }
        }
        Ok(())
    }

    /// Checks the MD5 sum of the file on the disk.
    fn verify(&self, part: &Path) -> Result<()> {
        let found = md5_sum(part)?;
        if found.eq_ignore_ascii_case(&self.md5) {
            return Ok(());
        }
        Err(DatasetError::Checksum { url: self.url.clone(), expected: self.md5.clone(), found })
    }
}

/// The MD5 sum of a file, in 32 hexadecimal digits.
fn md5_sum(path: &Path) -> Result<String> {
    let failed = || DatasetError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut sum = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(failed())? {
            0 => return Ok(hexadecimal(sum)),
            count => sum.update(&buffer[..count]),
        }
    }
}

/// Waits until no other process downloads into this cache. Dropping the file releases the lock.
fn lock(cache: &Path, report: &mut dyn FnMut(&str)) -> Result<Option<File>> {
    let path = cache.join(LOCK_FILE);
    let file = File::create(&path).map_err(DatasetError::io("creating", &path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            // Some network file systems have no locks; the MD5 sum and the renaming still protect the cache.
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut told, true) {
            report("Waiting for another process that is downloading CIFAR-10.");
        }
        if interrupt::is_requested() {
            return Err(DatasetError::Interrupted("another process is downloading CIFAR-10; run the cell again"));
        }
        thread::sleep(LOCK_INTERVAL);
    }
}

/// Removes what a process left behind that was killed while unpacking. Requires the lock.
fn sweep(cache: &Path) -> Result<()> {
    let failed = || DatasetError::io("reading the folder", cache);
    for entry in fs::read_dir(cache).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.file_name().to_string_lossy().starts_with(UNPACK_PREFIX) {
            fs::remove_dir_all(entry.path()).map_err(DatasetError::io("removing", entry.path()))?;
        }
    }
    Ok(())
}

/// Unpacks into a temporary folder inside the cache, reads everything once, and moves the layout's folder to its place.
fn unpack(archive: &Path, cache: &Path, layout: &str) -> Result<()> {
    let unusable = |reason: String| DatasetError::Unpack { path: archive.into(), reason };
    let folder = tempfile::Builder::new()
        .prefix(UNPACK_PREFIX)
        .tempdir_in(cache)
        .map_err(DatasetError::io("creating a folder in", cache))?;
    let file = File::open(archive).map_err(DatasetError::io("reading", archive))?;
    let most = (MOST_EXPANSION * length(archive)?).max(LEAST_LIMIT);
    let content = flate2::read::GzDecoder::new(std::io::BufReader::new(file)).take(most + 1);
    let mut written = 0;
    let mut entries = tar::Archive::new(content);
    for entry in entries.entries().map_err(|error| unusable(error.to_string()))? {
        let mut entry = entry.map_err(|error| unusable(error.to_string()))?;
        let name = entry.path().map_err(|error| unusable(error.to_string()))?.into_owned();
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(unusable(format!("it has the entry {}, which is outside the folder", name.display())));
        }
        let target = folder.path().join(&name);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                fs::create_dir_all(&target).map_err(DatasetError::io("creating the folder", &target))?;
            }
            tar::EntryType::Regular => {
                let parent = target.parent().unwrap_or(folder.path());
                fs::create_dir_all(parent).map_err(DatasetError::io("creating the folder", parent))?;
                let mut file = File::create(&target).map_err(DatasetError::io("creating", &target))?;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    if interrupt::is_requested() {
                        return Err(DatasetError::Interrupted(STOPPED));
                    }
                    // Separate reads and writes tell a damaged archive from a full disk.
                    let count = entry.read(&mut buffer).map_err(|error| unusable(error.to_string()))?;
                    written += count as u64;
                    if written > most {
                        return Err(unusable(format!("it unpacks to more than {}", numbers::bytes(most))));
                    }
                    match count {
                        0 => break,
                        count => file.write_all(&buffer[..count]).map_err(DatasetError::io("writing", &target))?,
                    }
                }
                // On the disk before the folder is renamed: a power failure must not leave empty files in it.
                file.sync_all().map_err(DatasetError::io("writing", &target))?;
            }
            kind => {
                return Err(unusable(format!(
                    "its entry {} is neither a file nor a folder ({kind:?})",
                    name.display()
                )));
            }
        }
    }
    Cifar10::from_folder(folder.path()).map_err(|error| unusable(error.to_string()))?;
    if !folder.path().join(layout).is_dir() {
        return Err(unusable(format!("it has no folder {layout}")));
    }
    let place = cache.join(layout);
    fs::rename(folder.path().join(layout), &place).map_err(DatasetError::io("creating", &place))
}

/// A file's length, 0 if it does not exist.
fn length(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(DatasetError::io("reading", path)(error)),
    }
}

fn truncate(part: &Path) -> Result<(), Broken> {
    let cut = OpenOptions::new().write(true).open(part).and_then(|file| file.set_len(0));
    cut.map_err(|error| Broken::Final(DatasetError::io("writing", part)(error)))
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn remove(path: &Path) -> Result<()> {
    remove_if_there(path).map_err(DatasetError::io("removing", path))
}

fn header(headers: &HeaderMap, name: ureq::http::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The first byte that a `Content-Range: bytes FIRST-LAST/TOTAL` announces.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Why a request failed, for a reader who doesn't know HTTP.
fn reason(error: &ureq::Error, proxy: Option<&ureq::Proxy>) -> String {
    let advice = proxy.map_or("is the network up?".to_string(), |proxy| {
        let (host, port) = (proxy.host(), proxy.port());
        format!("is {host}:{port} the right proxy? NO_PROXY lists hosts to reach without it")
    });
    let what = match error {
        ureq::Error::HostNotFound => "the server's name could not be resolved".to_string(),
        ureq::Error::ConnectionFailed => "the server could not be reached".to_string(),
        ureq::Error::Timeout(_) => "the server did not answer in time".to_string(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectProxyFailed(answer) => format!("the proxy refused the request: {answer}"),
        // The others concern the address or the answer, not the network.
        error => return error.to_string(),
    };
    format!("{what} ({advice})")
}

/// Why a transfer stopped.
fn interruption(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match inner {
        Some(ureq::Error::Timeout(_)) => format!("no data came for {} s", STALL_TIMEOUT.as_secs()),
        _ => error.to_string(),
    }
}

/// Decides when to report, and what.
struct Progress {
    first: u64,
    total: u64,
    begin: Instant,
    last_line: Instant,
    last_bytes: u64,
}

impl Progress {
    fn new(have: u64, total: u64) -> Self {
        let now = Instant::now();
        Self { first: have, total, begin: now, last_line: now, last_bytes: have }
    }

    /// A line, if it is time for one.
    fn line(&mut self, have: u64) -> Option<String> {
        let tenth = (have - self.last_bytes) * 10 >= self.total;
        if !tenth && self.last_line.elapsed() < PROGRESS_INTERVAL {
            return None;
        }
        (self.last_line, self.last_bytes) = (Instant::now(), have);
        let rate = (have - self.first) as f64 / self.begin.elapsed().as_secs_f64().max(1e-3);
        let percent = have * 100 / self.total.max(1);
        let mut line =
            format!("Downloading CIFAR-10: {} of {} ({percent} %)", numbers::bytes(have), numbers::bytes(self.total));
        line += &format!(", {}/s", numbers::bytes(rate as u64));
        if have < self.total {
            line += &format!(", {:.0} s left", (self.total - have) as f64 / rate.max(1.0));
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_of_the_python_layout_is_unpacked_too() {
        let cache = tempfile::tempdir().unwrap();
        let packed = cache.path().join("packed");
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
            File::create(&packed).unwrap(),
            flate2::Compression::fast(),
        ));
        let batch = concat!(env!("CARGO_MANIFEST_DIR"), "/../pth/tests/fixtures/data_batch");
        let batches = (1..=5).map(|number| format!("data_batch_{number}"));
        for name in batches.chain(["test_batch".into()]) {
            archive.append_path_with_name(batch, format!("{PYTHON_FOLDER}/{name}")).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        unpack(&packed, cache.path(), PYTHON_FOLDER).unwrap();
        let data = Cifar10::from_folder(cache.path().join(PYTHON_FOLDER)).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (20, 4));
    }
}
