//! `scripts/fetch-data.sh` against a server on the loopback: files of the clone under their pinned hashes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use overbook_test_groups::in_clone;

use super::home::{Home, Ran, names};

const AZURE: &str = "azure/AzureLLMInferenceTrace_conv.csv";
const NO_HASH: &str = "azure/AzureLLMInferenceTrace_code.csv";

/// The bytes of Azure's hour as they were published.
fn azure() -> Vec<u8> {
    zstd::decode_all(File::open(in_clone(&format!("{AZURE}.zst"))).expect("a trace")).expect("unpacked")
}

/// A server with one file, whose lines of requests are kept: `GET PATH` or `GET PATH from BYTE`.
struct Server {
    base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn of(bytes: Vec<u8>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/mirror", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let line = answer(stream.expect("a connection"), &bytes);
                log.lock().expect("the log").push(line);
            }
        });
        Server { base, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the log").clone()
    }
}

/// Answers one request with all bytes or those from its range on; 416 behind the end, 404 for any other file.
fn answer(stream: TcpStream, bytes: &[u8]) -> String {
    let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map(|line| line.expect("a line"));
    let first = lines.next().expect("a request");
    let path = first.split(' ').nth(1).expect("a path").to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("Range: bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = range.unwrap_or(0);
    let (status, body) = match bytes.get(from..) {
        _ if path != format!("/mirror/{AZURE}") => ("404 Not Found", &b""[..]),
        Some(body) if range.is_none() => ("200 OK", body),
        Some(body) if !body.is_empty() => ("206 Partial Content", body),
        _ => ("416 Range Not Satisfiable", &b""[..]),
    };
    let end = bytes.len();
    let place = if status.starts_with("206") {
        format!("Content-Range: bytes {from}-{}/{end}\r\n", end - 1)
    } else {
        String::new()
    };
    let head = format!("HTTP/1.1 {status}\r\n{place}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("an answer");
    if from > 0 { format!("GET {path} from {from}") } else { format!("GET {path}") }
}

/// Runs the script with the folder `data` of the home.
fn fetch(home: &Home, args: &[&str]) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fetch-data.sh");
    let ran = Command::new("bash").arg(script).args(args).env("OVERBOOK_DATA", home.path("data")).output();
    Ran::of(&ran.expect("bash"))
}

#[test]
fn a_file_is_fetched_once_and_checked() {
    let (home, server) = (Home::new(), Server::of(azure()));
    let ran = fetch(&home, &["--base", &server.base, AZURE]).ends(0);
    assert_eq!(ran.out, format!("{AZURE}: fetched\n"));
    assert!(home.bytes(&format!("data/{AZURE}")) == azure());
    assert_eq!(names(&home.path("data/azure")), ["AzureLLMInferenceTrace_conv.csv"]);
    let again = fetch(&home, &["--base", &server.base, AZURE]).ends(0);
    assert_eq!(again.out, format!("{AZURE}: there\n"));
    assert_eq!(server.asked(), [format!("GET /mirror/{AZURE}")]);
    // What is there and is not the file is neither replaced nor passed over.
    home.write(&format!("data/{AZURE}"), "something else\n");
    let err = fetch(&home, &["--base", &server.base, AZURE]).ends(1).err;
    assert!(err.contains("has not the pinned SHA-256 2f1e5b666d4e3055"), "{err}");
    assert_eq!(home.text(&format!("data/{AZURE}")), "something else\n");
}

#[test]
fn what_was_begun_is_continued() {
    let (home, server, whole) = (Home::new(), Server::of(azure()), azure());
    fs::create_dir_all(home.path("data/azure")).expect("a folder");
    let partial = format!("data/{AZURE}.partial");
    home.write(&partial, &whole[..300_000]);
    fetch(&home, &["--base", &server.base, AZURE]).ends(0);
    assert!(home.bytes(&format!("data/{AZURE}")) == whole && !home.path(&partial).exists());
    assert_eq!(server.asked(), [format!("GET /mirror/{AZURE} from 300000")]);
}

#[test]
fn what_was_begun_as_something_else_is_fetched_anew() {
    let whole = azure();
    // As long as the file or longer, it cannot be continued; shorter, it can, and the hash decides.
    for begun in [vec![b'x'; 900_000], vec![b'x'; whole.len()], vec![b'x'; 1_000]] {
        let (home, server) = (Home::new(), Server::of(whole.clone()));
        fs::create_dir_all(home.path("data/azure")).expect("a folder");
        let from = begun.len();
        home.write(&format!("data/{AZURE}.partial"), begun);
        fetch(&home, &["--base", &server.base, AZURE]).ends(0);
        assert!(home.bytes(&format!("data/{AZURE}")) == whole);
        assert_eq!(server.asked(), [format!("GET /mirror/{AZURE} from {from}"), format!("GET /mirror/{AZURE}")]);
    }
}

#[test]
fn other_bytes_are_refused_and_not_kept() {
    let mut bytes = azure();
    bytes[77] ^= 1;
    let (home, server) = (Home::new(), Server::of(bytes));
    let err = fetch(&home, &["--base", &server.base, AZURE]).ends(1).err;
    assert!(err.contains("pinned is 2f1e5b666d4e3055") && err.contains(&format!("{AZURE}: not fetched")), "{err}");
    assert!(names(&home.path("data/azure")).is_empty(), "nothing is kept");
}

#[test]
fn what_cannot_be_fetched_is_named() {
    let (home, server) = (Home::new(), Server::of(azure()));
    let refused = |args: &[&str], code: i32, told: &str| {
        let ran = fetch(&home, args).ends(code);
        assert!(ran.err.contains(told), "{ran:?}");
    };
    refused(&[NO_HASH, "--base", &server.base], 1, &format!("{NO_HASH}: no pinned hash known, not fetched"));
    refused(&["servegen/client_rates.csv.zst"], 1, "no public address; fetch it with --base URL");
    refused(&["servegen/client_rates.csv.zst", "--base", &server.base], 1, "404");
    refused(&["nothing.csv"], 2, "no file nothing.csv; --list prints them");
    refused(&["--frob"], 2, "no option --frob");
    assert_eq!(server.asked(), ["GET /mirror/servegen/client_rates.csv.zst"]);
    assert!(!home.path(&format!("data/{NO_HASH}")).exists());
}

#[test]
fn the_list_has_every_file_once_with_hash_and_address() {
    let list = fetch(&Home::new(), &["--list"]).ends(0).out;
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    let paths: std::collections::BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert!(paths.len() == rows.len() && rows.len() > 200, "{}", rows.len());
    for row in &rows {
        let hash = row[1].len() == 64 && row[1].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(hash || row[1] == "no pinned hash known", "{row:?}");
        assert!(row[2].starts_with("https://") || row[2] == "no public address", "{row:?}");
    }
    for public in [AZURE, "mooncake/conversation_trace.jsonl", "burstgpt/BurstGPT_1.csv"] {
        assert!(rows.iter().any(|row| row[0] == public && row[1].len() == 64 && row[2].starts_with("https://")));
    }
}
