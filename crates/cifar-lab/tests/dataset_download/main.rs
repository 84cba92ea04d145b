//! Downloading the archive: from a server that is well, and from servers with every fault that was thought of.

mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cifar_lab::candle_cnn::random::stream;
use cifar_lab::dataset::{ArchiveSource, Choice, Cifar10, DatasetError, RECORD_LENGTH, Search};
use md5::{Digest, Md5};
use rand::RngCore;
use server::{Reply, Server};
use tempfile::TempDir;

const FOLDER: &str = "cifar-10-batches-bin";
const PART: &str = "cifar-10-binary.tar.gz.part";
const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];
/// Records a file in the tests' archive.
const RECORDS: usize = 20;

/// The bytes of a record file; noise, so that packing does not make it small.
fn records(file: usize) -> Vec<u8> {
    let mut bytes = vec![0; RECORDS * RECORD_LENGTH];
    stream(0, "records", &[file as u64]).fill_bytes(&mut bytes);
    bytes.chunks_exact_mut(RECORD_LENGTH).enumerate().for_each(|(i, record)| record[0] = (i % 10) as u8);
    bytes
}

/// An archive with these entries besides the record files.
fn archive_with(extra: impl FnOnce(&mut tar::Builder<flate2::write::GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (file, name) in FILES.iter().enumerate() {
        let content = records(file);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), content.as_slice()).unwrap();
    }
    extra(&mut archive);
    archive.into_inner().unwrap().finish().unwrap()
}

fn archive() -> Vec<u8> {
    archive_with(|_| ())
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn source(url: &str, archive: &[u8]) -> ArchiveSource {
    ArchiveSource { url: url.into(), md5: md5(archive), bytes: archive.len() as u64 }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The cache holds the archive's data byte for byte, and nothing else but the lock.
fn assert_complete(cache: &Path) {
    assert_eq!(names(cache), [FOLDER, "cifar-10.lock"]);
    for (file, name) in FILES.iter().enumerate() {
        assert!(fs::read(cache.join(FOLDER).join(name)).unwrap() == records(file), "{name} differs");
    }
    let data = Cifar10::from_folder(cache).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (5 * RECORDS, RECORDS));
}

fn silent(_: &str) {}

#[test]
fn the_archive_is_downloaded_once() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
    let mut lines = Vec::new();
    let folder = source(&server.url, &bytes).fetch(cache.path(), &mut |line| lines.push(line.to_string())).unwrap();
    assert_eq!(folder, cache.path().join(FOLDER));
    assert_complete(cache.path());
    assert!(lines.iter().any(|line| line.starts_with("Downloading CIFAR-10: ") && line.contains("/s")), "{lines:?}");
    // A tenth of the whole a line: ten and the last.
    assert!((5..=11).contains(&lines.len()), "{lines:?}");

    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, third) = (bytes.clone(), bytes.len() / 3);
    let server = Server::start(move |number, request| {
        let reply = Reply::to(request, &body, "\"v1\"");
        if number < 2 { reply.cut_after(third) } else { reply }
    });
    let mut lines = Vec::new();
    source(&server.url, &bytes).fetch(cache.path(), &mut |line| lines.push(line.to_string())).unwrap();
    assert_complete(cache.path());
    let requests = server.requests();
    let starts: Vec<_> = requests.iter().map(|request| request.range_start()).collect();
    assert_eq!(starts, [None, Some(third), Some(2 * third)]);
    assert_eq!(requests[1].header("if-range"), Some("\"v1\""));
    assert_eq!(lines.iter().filter(|line| line.contains("was interrupted")).count(), 2, "{lines:?}");
}

#[test]
fn a_later_load_goes_on_with_what_an_earlier_one_left() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    // Half, then three tries in vain; then all is well again.
    let server = Server::start(move |number, request| {
        let reply = Reply::to(request, &body, "\"v1\"");
        match number {
            0 => reply.cut_after(half),
            1..=3 => reply.cut_after(0),
            _ => reply,
        }
    });
    let archive = source(&server.url, &bytes);
    let error = archive.fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::Download { kept, .. } if kept == half as u64), "{error}");
    assert!(error.to_string().contains("are kept"), "{error}");
    assert!(!cache.path().join(FOLDER).exists());
    assert_eq!(fs::read(cache.path().join(PART)).unwrap(), bytes[..half]);

    archive.fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests()[4].range_start(), Some(half));
}

#[test]
fn without_a_validator_it_begins_again() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    let server = Server::start(move |number, _| {
        let reply = Reply::whole(&body);
        if number == 0 { reply.cut_after(half) } else { reply }
    });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests()[1].header("range"), None);
}

#[test]
fn a_weak_validator_is_none() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    let server = Server::start(move |number, _| {
        let reply = Reply::whole(&body).with("ETag", "W/\"v1\"");
        if number == 0 { reply.cut_after(half) } else { reply }
    });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_eq!(server.requests()[1].header("range"), None);
}

#[test]
fn a_server_that_ignores_ranges_or_has_a_newer_file_sends_all_of_it() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    let server = Server::start(move |number, _| {
        if number == 0 {
            // Of an older file, which has nothing in common with the archive.
            return Reply::whole(&vec![7; body.len()])
                .with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
                .cut_after(half);
        }
        Reply::whole(&body).with("Last-Modified", "Tue, 02 Jan 2024 00:00:00 GMT")
    });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests()[1].header("if-range"), Some("Mon, 01 Jan 2024 00:00:00 GMT"));
}

#[test]
fn a_range_that_begins_elsewhere_is_not_taken() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    let server = Server::start(move |number, _| match number {
        0 => Reply::whole(&body).with("ETag", "\"v1\"").cut_after(half),
        1 => Reply::from(&body, half + 1),
        _ => Reply::whole(&body).with("ETag", "\"v1\""),
    });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn wrong_bytes_are_deleted_and_both_sums_shown() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let mut wrong = bytes.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    let (expected, found) = (md5(&bytes), md5(&wrong));
    let server = Server::start(move |_, request| Reply::to(request, &wrong, "\"v1\""));
    let error = source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::Checksum { .. }), "{error}");
    assert!(error.to_string().contains(&expected) && error.to_string().contains(&found), "{error}");
    assert!(!cache.path().join(PART).exists() && !cache.path().join(FOLDER).exists());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_wrong_part_of_an_earlier_day_is_replaced() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    fs::write(cache.path().join(PART), vec![7; bytes.len()]).unwrap();
    let body = bytes.clone();
    let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_part_that_is_too_long_is_replaced() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    fs::write(cache.path().join(PART), vec![7; bytes.len() + 1]).unwrap();
    let body = bytes.clone();
    let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
}

#[test]
fn an_address_without_the_file_is_an_error() {
    let cache = TempDir::new().unwrap();
    let server = Server::start(|_, _| Reply::status("404 Not Found"));
    let error = source(&server.url, b"x").fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::HttpStatus { status: 404, .. }), "{error}");
    assert!(error.to_string().contains(&server.url), "{error}");
}

#[test]
fn a_file_of_another_length_is_refused() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    // A page that asks for a password, as a hotel's network sends it.
    let server = Server::start(|_, _| Reply::whole(b"<html>Welcome</html>"));
    let error = source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::ArchiveLength { found: 20, .. }), "{error}");
    assert_eq!(names(cache.path()), ["cifar-10.lock"]);
}

#[test]
fn a_file_of_unannounced_length_is_refused_once_it_is_too_long() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = [bytes.as_slice(), b"more"].concat();
    let server = Server::start(move |_, _| Reply { head: "200 OK".into(), sent: body.len(), body: body.clone() });
    let error = source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::ArchiveLength { .. }), "{error}");
    assert!(!cache.path().join(FOLDER).exists());
    assert_eq!(fs::metadata(cache.path().join(PART)).map_or(0, |part| part.len()), 0);
}

#[test]
fn a_file_of_unannounced_length_is_taken_if_it_is_right() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |_, _| Reply { head: "200 OK".into(), sent: body.len(), body: body.clone() });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
}

#[test]
fn nothing_of_an_archive_that_does_not_unpack_stays() {
    let plain = archive();
    let outside = TempDir::new().unwrap();
    let file = |path: &str| {
        let path = path.to_string();
        archive_with(move |archive| {
            // By hand, because the builder refuses such a path.
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(4);
            header.set_cksum();
            archive.append(&header, b"evil".as_slice()).unwrap();
        })
    };
    let link = |kind: tar::EntryType| {
        archive_with(move |archive| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            archive.append_link(&mut header, format!("{FOLDER}/link"), "/etc/hostname").unwrap();
        })
    };
    let mut empty = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    empty.append_data(&mut header, "readme.html", b"".as_slice()).unwrap();
    let empty = empty.into_inner().unwrap().finish().unwrap();
    let bomb = archive_with(|archive| {
        let zeros = vec![0; 20 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_size(zeros.len() as u64);
        archive.append_data(&mut header, format!("{FOLDER}/zeros"), zeros.as_slice()).unwrap();
    });
    let absolute = outside.path().join("evil").display().to_string();
    for (what, bytes) in [
        ("a truncated archive", plain[..plain.len() / 2].to_vec()),
        ("no archive", b"not gzip at all".to_vec()),
        ("an archive without the files", empty),
        ("a bomb", bomb),
        ("a path upwards", file("../evil")),
        ("a path up and down", file("cifar-10-batches-bin/../../evil")),
        ("an absolute path", file(&absolute)),
        ("a symbolic link", link(tar::EntryType::Symlink)),
        ("a hard link", link(tar::EntryType::Link)),
    ] {
        let parent = TempDir::new().unwrap();
        let cache = parent.path().join("cache");
        let body = bytes.clone();
        let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
        let error = source(&server.url, &bytes).fetch(&cache, &mut silent).unwrap_err();
        assert!(matches!(error, DatasetError::Unpack { .. }), "{what}: {error}");
        assert!(error.to_string().lines().count() == 1, "{what}: {error}");
        assert!(!names(&cache).iter().any(|name| name == FOLDER || name == PART), "{what}: {:?}", names(&cache));
        assert_eq!(names(parent.path()), ["cache"], "{what}");
        assert!(!cache.join("evil").exists() && !Path::new(&absolute).exists(), "{what}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_at_once() {
    let cache = TempDir::new().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [format!("http://127.0.0.1:{port}/c.tar.gz"), "http://no-such-host.invalid/c.tar.gz".into()] {
        let begin = Instant::now();
        let error = source(&url, b"x").fetch(cache.path(), &mut silent).unwrap_err();
        assert!(matches!(error, DatasetError::Download { kept: 0, .. }), "{error}");
        assert!(error.to_string().contains(&url), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}

#[test]
fn an_address_that_is_none_is_an_error() {
    let cache = TempDir::new().unwrap();
    for url in ["", "cifar", "ftp://mirror/c.tar.gz", "http://", "a b"] {
        let error = source(url, b"x").fetch(cache.path(), &mut silent).unwrap_err();
        assert!(matches!(error, DatasetError::Download { .. }), "{url:?}: {error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_says_what_to_do() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    // A file on which every write finds the disk full.
    std::os::unix::fs::symlink("/dev/full", cache.path().join(PART)).unwrap();
    let body = bytes.clone();
    let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
    let error = source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::WriteDownload { .. }), "{error}");
    assert!(error.to_string().contains("CIFAR_LAB_CACHE"), "{error}");
    assert!(cache.path().join(PART).exists() && !cache.path().join(FOLDER).exists());
}

#[test]
fn a_cache_that_is_a_file_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    fs::write(&cache, "a file").unwrap();
    let error = source("http://127.0.0.1:9/", b"x").fetch(&cache, &mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&cache.display().to_string()), "{error}");
}

#[test]
fn two_at_once_download_once() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |_, request| {
        // So long that the second comes while the first is at it.
        thread::sleep(Duration::from_millis(300));
        Reply::to(request, &body, "\"v1\"")
    });
    let archive = source(&server.url, &bytes);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| archive.fetch(cache.path(), &mut silent).unwrap());
        }
    });
    assert_complete(cache.path());
    assert_eq!(server.requests().len(), 1);
}

/// What the test below kills.
#[test]
#[ignore = "runs as a child of others"]
fn download_in_a_child() {
    let Ok(url) = std::env::var("TEST_URL") else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let source = ArchiveSource { url, md5: variable("TEST_MD5"), bytes: variable("TEST_BYTES").parse().unwrap() };
    source.fetch(variable("TEST_CACHE"), &mut silent).unwrap();
}

#[test]
fn redirects_are_followed_unless_they_never_end() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |number, request| match number {
        0 => Reply::status("302 Found").with("Location", "/b/c.tar.gz"),
        _ => Reply::to(request, &body, "\"v1\""),
    });
    source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    for location in ["/again", "ftp://other.invalid/c.tar.gz"] {
        let cache = TempDir::new().unwrap();
        let server = Server::start(move |_, _| Reply::status("301 Moved Permanently").with("Location", location));
        let error = source(&server.url, &bytes).fetch(cache.path(), &mut silent).unwrap_err();
        assert!(matches!(error, DatasetError::Download { kept: 0, .. }), "{error}");
    }
}

#[test]
fn a_killed_download_leaves_nothing_half() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let (body, half) = (bytes.clone(), bytes.len() / 2);
    // Half is sent, and the answer to the next request comes only after the child is dead.
    let server = Server::start(move |number, request| {
        if number == 1 {
            thread::sleep(Duration::from_secs(3));
        }
        let reply = Reply::to(request, &body, "\"v1\"");
        if number == 0 { reply.cut_after(half) } else { reply }
    });
    // And what a process that was killed while unpacking leaves.
    let stale = cache.path().join("unpacking-stale").join(FOLDER);
    fs::create_dir_all(&stale).unwrap();
    fs::write(stale.join("test_batch.bin"), "half").unwrap();

    let archive = source(&server.url, &bytes);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "download_in_a_child"])
        .env("TEST_URL", &archive.url)
        .env("TEST_MD5", &archive.md5)
        .env("TEST_BYTES", archive.bytes.to_string())
        .env("TEST_CACHE", cache.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = cache.path().join(PART);
    let begin = Instant::now();
    while fs::metadata(&part).map_or(0, |part| part.len()) < half as u64 {
        assert!(begin.elapsed() < Duration::from_secs(20), "the child downloads nothing");
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!cache.path().join(FOLDER).exists());

    // The lock died with its holder, the part is used, and the stale folder is gone.
    archive.fetch(cache.path(), &mut silent).unwrap();
    assert_complete(cache.path());
    assert_eq!(server.requests().last().unwrap().range_start(), Some(half));
}

fn search(url: &str, archive: &[u8], cache: &Path, choice: Choice) -> Search {
    Search { folder: None, cache: Some(cache.into()), archive: source(url, archive), choice }
}

#[test]
fn a_search_takes_the_cache_then_the_archive_then_the_stand_in() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |number, request| match number {
        0 => Reply::status("503 Service Unavailable"),
        _ => Reply::to(request, &body, "\"v1\""),
    });
    let search = search(&server.url, &bytes, cache.path(), Choice::Either);
    let load = || {
        let mut lines = Vec::new();
        let data = search.load(&mut |line| lines.push(line.to_string())).unwrap();
        (data, lines.join("\n"))
    };
    let (data, lines) = load();
    assert!(data.train.is_stand_in() && data.test.is_stand_in());
    assert_eq!((data.train.len(), data.test.len()), (4000, 1000));
    assert!(lines.contains("503") && lines.contains("stand-in (generated images, not CIFAR-10)"), "{lines}");

    let (data, lines) = load();
    assert!(!data.train.is_stand_in());
    assert_eq!((data.train.name(), data.train.len()), ("CIFAR-10", 5 * RECORDS));
    assert!(lines.contains("Downloading") && lines.contains(&cache.path().display().to_string()), "{lines}");

    let (data, lines) = load();
    assert!(!data.train.is_stand_in() && !lines.contains("Downloading"), "{lines}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_stand_in_can_be_forced_and_forbidden() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let server = Server::start(|_, _| Reply::status("404 Not Found"));
    let forbidden = search(&server.url, &bytes, cache.path(), Choice::Cifar10).load(&mut silent).unwrap_err();
    assert!(matches!(forbidden, DatasetError::StandInForbidden(_)), "{forbidden}");
    assert!(forbidden.to_string().contains("404"), "{forbidden}");

    let forced = search(&server.url, &bytes, cache.path(), Choice::StandIn).load(&mut silent).unwrap();
    assert!(forced.train.is_stand_in());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_wrong_checksum_is_no_reason_for_the_stand_in() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let mut wrong = bytes.clone();
    wrong[100] ^= 1;
    let server = Server::start(move |_, request| Reply::to(request, &wrong, "\"v1\""));
    let error = search(&server.url, &bytes, cache.path(), Choice::Either).load(&mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::Checksum { .. }), "{error}");
}

#[test]
fn a_damaged_cache_is_an_error_that_names_the_file() {
    let (cache, bytes) = (TempDir::new().unwrap(), archive());
    let body = bytes.clone();
    let server = Server::start(move |_, request| Reply::to(request, &body, "\"v1\""));
    let search = search(&server.url, &bytes, cache.path(), Choice::Either);
    search.load(&mut silent).unwrap();
    let file = cache.path().join(FOLDER).join("data_batch_3.bin");
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(5000).unwrap();
    let error = search.load(&mut silent).unwrap_err();
    assert!(matches!(error, DatasetError::DamagedCache { .. }), "{error}");
    assert!(error.to_string().contains("data_batch_3.bin") && error.to_string().contains("Delete"), "{error}");
}

#[test]
fn an_archive_on_the_disk_is_unpacked_into_the_cache() {
    let (given, bytes) = (TempDir::new().unwrap(), archive());
    let file = given.path().join("cifar-10-binary.tar.gz");
    fs::write(&file, &bytes).unwrap();
    // Of any name, where the file itself is given.
    let renamed = given.path().join("c.tgz");
    fs::write(&renamed, &bytes).unwrap();
    for given in [given.path(), &file, &renamed] {
        let cache = TempDir::new().unwrap();
        let search = Search {
            folder: Some(given.into()),
            ..search("http://127.0.0.1:9/", &bytes, cache.path(), Choice::Either)
        };
        let load = || {
            let mut lines = Vec::new();
            let data = search.load(&mut |line| lines.push(line.to_string())).unwrap();
            assert_eq!((data.train.name(), data.train.len(), data.test.len()), ("CIFAR-10", 5 * RECORDS, RECORDS));
            lines.join("\n")
        };
        assert!(load().starts_with("Unpacking "));
        assert_complete(cache.path());
        // Once.
        assert!(!load().contains("Unpacking"));
    }
    // And where it was put into the cache by hand.
    let search = search("http://127.0.0.1:9/", &bytes, given.path(), Choice::Cifar10);
    assert!(!search.load(&mut silent).unwrap().train.is_stand_in());
    assert_eq!(names(given.path()), ["c.tgz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "cifar-10.lock"]);
    // Unpacked files are taken before the archive beside them.
    assert_eq!(Cifar10::from_folder(given.path()).unwrap().test.len(), RECORDS);
}

#[test]
fn an_archive_that_cannot_be_unpacked_here_is_an_error_that_says_what_to_do() {
    let (given, cache, bytes) = (TempDir::new().unwrap(), TempDir::new().unwrap(), archive());
    let file = given.path().join("cifar-10-python.tar.gz");
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    for path in [given.path(), &file] {
        let error = Cifar10::from_folder(path).unwrap_err();
        assert!(matches!(&error, DatasetError::Packed(path) if *path == file), "{error}");
        assert!(error.to_string().contains("Cifar10::load") && error.to_string().contains("tar -xzf"), "{error}");
        let search = search("http://127.0.0.1:9/", &bytes, cache.path(), Choice::Either);
        let error = Search { folder: Some(path.into()), ..search.clone() }.load(&mut silent).unwrap_err();
        assert!(matches!(&error, DatasetError::OtherArchive { path, .. } if *path == file), "{error}");
        assert!(error.to_string().contains(&md5(&bytes[..bytes.len() / 2])), "{error}");
        let without = Search { folder: Some(path.into()), cache: None, ..search };
        assert!(matches!(without.load(&mut silent), Err(DatasetError::NoCacheFolder)));
    }
    assert_eq!(names(given.path()), ["cifar-10-python.tar.gz"]);
    let text = given.path().join("notes.txt");
    fs::write(&text, "no archive").unwrap();
    assert!(matches!(Cifar10::from_folder(&text), Err(DatasetError::MissingFolder(_))));
}
