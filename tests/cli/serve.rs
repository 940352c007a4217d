//! The server and the replay, as programs of their own that talk over a socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::home::{Home, Ran};

pub(crate) const TINY: &str = "\
version: 1
name: tiny-chat
workload:
  generate:
    arrivals: { poisson: { rate: 20/s } }
    lengths: { fixed: { prompt: 40, output: 8 } }
    requests: 40
model: tiny
gpu: h100
engine: { cost: { constant: { device: 1ms } }, kv_tokens: 8192, max_model_len: 2048 }
scheduler: { vllm: { max_num_seqs: 16 } }
slo: { ttft_p99: 1min }
";

pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Served {
    pub(crate) fn start(home: &Home, more: &str) -> Served {
        home.write("tiny.yaml", TINY);
        let args = format!("serve tiny.yaml --on cpu --threads 1 --port 0 {more}");
        let mut command = home.command(args.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut line = String::new();
        let mut said = String::new();
        while !line.starts_with("serving on ") {
            line.clear();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended: {said}");
            said.push_str(&line);
        }
        let url = line.split([' ', ';']).find(|word| word.starts_with("http://")).expect("an address");
        let url = url.trim_end_matches("/v1").to_owned();
        Served { child, url, stderr }
    }

    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Exit code and what it said since it began to serve.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

#[test]
fn a_scenario_is_served_and_replayed() {
    let home = Home::new();
    let served = Served::start(&home, "--out served --api-key sesame");
    let args = format!("replay tiny.yaml --url {} --out replayed --api-key sesame --gate", served.url);
    let ran = home.overbook(&args);
    // On a busy machine the run may be void, which the gate reports; the figures are there nevertheless.
    let void = ran.err.contains("void");
    assert_eq!(ran.code, if void { 3 } else { 0 }, "{}", ran.err);
    assert!(ran.out.contains("40 of 40 finished") && ran.err.contains("40 requests sent, late by p50"), "{ran:?}");
    let names = "manifest.json report.html requests.parquet scenario.resolved.yaml server.csv summary.json";
    assert_eq!(home.names("replayed").join(" "), names);
    let manifest = home.text("replayed/manifest.json");
    assert!(manifest.contains("\"model\": \"tiny\"") && manifest.contains("\"version\": \"overbook "), "{manifest}");
    assert!(!manifest.contains("sesame") && !home.text("replayed/report.html").contains("sesame"));
    assert_eq!(void, home.text("replayed/report.html").contains("VOID"));
    let samples = home.text("replayed/server.csv");
    let last: Vec<&str> = samples.lines().last().expect("samples").split(',').collect();
    assert_eq!(last[6], "321", "tokens of 40 requests and the probe: {samples}");
    served.terminate();
    let (code, said) = served.end();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    // The server's own rows: the same requests and the probe, seen earlier.
    let summaries = ["served/summary.json", "replayed/summary.json"].map(|name| home.json(name));
    assert_eq!(summaries.each_ref().map(|s| s["completed"].as_u64()), [Some(41), Some(40)]);
    let [server, client] = summaries.map(|s| s["mean_ttft_ms"].as_f64().expect("a mean"));
    assert!(server < client, "{server} ms at the server, {client} ms at the client");
    assert!(!home.text("served/manifest.json").contains("sesame"));
    // What a client knows: its own latencies, and nothing of steps.
    let replayed = home.json("replayed/summary.json");
    assert_eq!(replayed["mean_client_ttft_ms"], replayed["mean_ttft_ms"]);
    assert!(replayed["mean_client_ttft_ms"].is_f64() && replayed["utilization"].is_null(), "{replayed}");
    home.overbook("report served replayed").ends(0);
}

#[test]
fn sigterm_under_load_lets_requests_finish() {
    let home = Home::new();
    let served = Served::start(&home, "");
    let at = served.url.trim_start_matches("http://").to_owned();
    let body = r#"{"prompt": "a", "max_tokens": 300, "ignore_eos": true, "stream": true}"#;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut clients: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&at).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
            stream.write_all((head.clone() + body).as_bytes()).expect("sent");
            stream
        })
        .collect();
    // All of them stream before the signal comes.
    for stream in &mut clients {
        assert_eq!(stream.read(&mut [0; 1]).expect("an answer"), 1);
    }
    served.terminate();
    for mut stream in clients {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the rest");
        assert!(answer.contains("[DONE]") && answer.contains("\"finish_reason\":\"length\""));
    }
    assert_eq!(served.end().0, Some(0));
}

#[test]
fn what_cannot_be_served_or_replayed_is_told() {
    let home = Home::new();
    home.write("tiny.yaml", TINY);
    let told = |args: &str, code: i32, text: &str| {
        let ran: Ran = home.overbook(args);
        assert!(ran.code == code && ran.err.contains(text), "{args}: {} {}", ran.code, ran.err);
    };
    told("serve tiny.yaml", 2, "add --on cpu");
    told("serve tiny.yaml --on cpu --set fleet.replicas=2", 2, "fleet.replicas=1");
    told("serve tiny.yaml --on cpu --host here", 2, "invalid IP address");
    let empty = home.run(["serve", "tiny.yaml", "--on", "cpu", "--api-key", ""]);
    assert!(empty.code == 2 && empty.err.contains("the API key is empty"), "{}", empty.err);
    for key in ["schlüssel", "two words", "line\nend"] {
        let unsayable = home.run(["serve", "tiny.yaml", "--on", "cpu", "--port", "0", "--api-key", key]);
        assert!(unsayable.code == 2 && unsayable.err.contains("no client can send this API key"), "{}", unsayable.err);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    told(&format!("serve tiny.yaml --on cpu --port {port}"), 2, "choose another --host or --port");
    drop(taken);
    told(&format!("replay tiny.yaml --url http://127.0.0.1:{port}"), 1, "cannot connect");
    told("replay tiny.yaml --url https://example.com", 2, "https is not supported");
    told("replay tiny.yaml --url example.com", 2, "expected http://HOST:PORT");
    told(
        "replay tiny.yaml --url http://127.0.0.1:1 --set workload.max_concurrency=3",
        2,
        "remove `workload.max_concurrency`",
    );
    assert!(!home.path("runs").exists(), "what failed leaves nothing");
}
