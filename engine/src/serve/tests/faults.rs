//! Clients that misbehave, too many of them, and a server that is stopped.

use std::io::Read as _;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::executor::{Batch, Copied, Executor, ExecutorError, Output, TierCopy};

fn long(prompt: &str) -> serde_json::Value {
    json!({ "prompt": prompt, "max_tokens": 2000, "ignore_eos": true, "stream": true })
}

/// All blocks are free again, and there is no request.
fn is_idle(server: &Running) {
    server.wait_for("vllm:num_requests_running", |n| n == 0.0);
    server.wait_for("vllm:num_requests_waiting", |n| n == 0.0);
    server.wait_for("vllm:kv_cache_usage_perc", |n| n == 0.0);
}

/// A rehearsal that breaks down at a step.
struct Breaks(Rehearsal, u32);

impl Executor for Breaks {
    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        self.1 = self.1.checked_sub(1).ok_or_else(|| ExecutorError("the device is lost".to_owned()))?;
        self.0.submit(lane, batch)
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        self.0.wait(lane)
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.0.copy(copies)
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.0.copied()
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.0.give_contexts()
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.0.ready(lane)
    }
}

#[test]
fn an_engine_that_breaks_down_is_not_a_server_that_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    let scheduler = SchedulerSpec::default();
    let limits = scheduler.needs().limits(u64::from(BLOCKS), BLOCK, CONTEXT);
    let served = std::thread::spawn(move || {
        let rehearsal =
            Rehearsal::new(Capacity::unbounded(BLOCKS, BLOCK, CONTEXT, VOCAB), Duration::ZERO, Duration::ZERO);
        let mut driver = Driver::new(limits, scheduler.build(0, 0), Box::new(Breaks(rehearsal, 20))).expect("it fits");
        let (settings, clock) = (Settings::new("rehearsal", limits, VOCAB), Clock::new(Instant::now()));
        serve(settings, listener, &mut driver, clock, &mut Book::default(), || false)
            .expect_err("a failure")
            .to_string()
    });
    let events = post(at, &long("hello")).events();
    let error = &events.last().expect("an event")["error"];
    assert_eq!((error["code"].as_u64(), error["type"].as_str()), (Some(500), Some("InternalServerError")), "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("The engine has stopped")), "{error}");
    assert!(events.len() > 10, "what was drawn before came: {events:?}");
    assert_eq!(served.join().expect("no panic"), "the executor failed: the device is lost");
}

#[test]
fn a_client_that_leaves_frees_its_blocks() {
    let server = Running::start(Duration::from_millis(5), |_| {});
    for streams in [true, false] {
        let mut ask = long("hello");
        ask["stream"] = json!(streams);
        let client = wire::send(server.at, "POST", "/v1/completions", "", &ask.to_string());
        server.wait_for("vllm:num_requests_running", |n| n >= 1.0);
        server.wait_for("vllm:kv_cache_usage_perc", |n| n > 0.0);
        drop(client);
        is_idle(&server);
    }
    assert_eq!(post(server.at, &json!({ "prompt": "a", "max_tokens": 1 })).status, 200);
    let left = server.stop();
    let outcomes: Vec<_> = left.rows[..2].iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [overbook_sim::results::rows::Outcome::Cancelled; 2]);
    assert!(left.rows.iter().all(|row| row.output_tokens < 1000), "long before their end");
    assert!(left.used_max > 0 && left.leaked == 0);
}

#[test]
fn what_is_not_understood_is_told_and_nothing_is_left() {
    let server = Running::start(Duration::ZERO, |settings| {
        settings.max_body = 100_000;
        settings.body_timeout = Duration::from_millis(300);
    });
    let text = |body: &str| call(server.at, "POST", "/v1/completions", "", body);
    for body in ["", "{", "[]", "{\"prompt\": 3}", "{\"prompt\": \"a\", \"max_tokens\": \"b\"}", "\u{0}"] {
        let answer = text(body);
        assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (400, Some("BadRequestError")), "{body}");
    }
    let long = text(&json!({ "prompt": "a".repeat(CONTEXT as usize) }).to_string());
    assert_eq!(long.status, 400);
    assert!(
        long.body.contains("maximum context length is 8192 tokens. However, you requested 8208 tokens"),
        "{}",
        long.body
    );
    let both = text(&json!({ "prompt": "a", "max_tokens": CONTEXT }).to_string());
    assert!(both.status == 400 && both.body.contains("(1 in the prompt and 8192 in the completion)"), "{}", both.body);
    let all: Vec<u32> = (0..VOCAB).collect();
    let banned = text(&json!({ "prompt": "a", "min_tokens": 2, "stop_token_ids": all }).to_string());
    assert!(banned.status == 400 && banned.body.contains("none of them may be drawn"), "{}", banned.body);
    let foreign = text(&json!({ "prompt": [VOCAB] }).to_string());
    assert!(foreign.status == 400 && foreign.body.contains("out of vocabulary"), "{}", foreign.body);
    let large = text(&json!({ "prompt": "a".repeat(200_000) }).to_string());
    assert_eq!((large.status, large.json()["error"]["code"].as_u64()), (413, Some(413)));
    // Announces a body that never comes.
    assert_eq!(wire::receive(silent(server.at)).status, 408);
    is_idle(&server);
    assert!(server.stop().rows.is_empty());
}

/// A client that announces a body and sends none.
fn silent(at: SocketAddr) -> std::net::TcpStream {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(at).expect("it listens");
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 20\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

#[test]
fn too_many_are_refused_and_the_rest_is_served() {
    let server = Running::start(Duration::from_millis(5), |settings| settings.max_waiting = 20);
    let at = server.at;
    let ask = move || post(at, &json!({ "prompt": "a".repeat(1000), "max_tokens": 20, "ignore_eos": true }));
    let clients: Vec<_> = (0..200).map(|_| std::thread::spawn(ask)).collect();
    let answers: Vec<_> = clients.into_iter().map(|client| client.join().expect("an answer")).collect();
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    let (served, refused) = (count(200), count(429));
    assert_eq!(served + refused, 200);
    assert!(served >= 20 && refused > 0, "{served} served");
    for answer in &answers {
        match answer.status {
            200 => assert_eq!(answer.json()["usage"]["completion_tokens"], 20),
            _ => assert!(answer.head.contains("retry-after: 1") && answer.body.contains("RateLimitError")),
        }
    }
    is_idle(&server);
    assert_eq!(server.stop().rows.len(), served, "the engine never saw the others");
}

#[test]
fn many_streams_come_to_their_ends_together() {
    let server = Running::start(Duration::from_millis(2), |_| {});
    let at = server.at;
    let ask = json!({ "prompt": "hi", "max_tokens": 12, "ignore_eos": true, "stream": true });
    let streams: Vec<_> = (0..256).map(|_| wire::send(at, "POST", "/v1/completions", "", &ask.to_string())).collect();
    for stream in streams {
        assert_eq!(wire::receive(stream).events().len(), 12);
    }
    let rows = server.stop().rows;
    assert_eq!(rows.len(), 256);
    assert!(rows.iter().all(|row| row.output_tokens == 12));
}

#[test]
fn a_reader_that_does_not_read_is_cancelled() {
    let server = Running::quick();
    // The answer is some 2 MB; sockets and queue hold less than half of it.
    let mut reader = unread(server.at, 4096);
    server
        .wait_for("vllm:request_success_total{model_name=\"rehearsal\",engine=\"0\",finished_reason=\"abort\"}", |n| {
            n >= 1.0
        });
    is_idle(&server);
    // Others are served all the while.
    assert_eq!(post(server.at, &json!({ "prompt": "a", "max_tokens": 3, "ignore_eos": true })).status, 200);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"), "a cut stream does not look whole");
    server.stop();
}

/// A client with a small window that asks for a long answer with the usage in every chunk.
fn unread(at: SocketAddr, window: u32) -> std::net::TcpStream {
    use std::io::Write as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(window).expect("a window");
        socket.connect(at).await.expect("it listens").into_std().expect("a socket")
    });
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut ask = json!({ "prompt": "a", "max_tokens": 8000, "ignore_eos": true, "stream": true });
    ask["stream_options"] = json!({ "include_usage": true, "continuous_usage_stats": true });
    let body = ask.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    (&stream).write_all(head.as_bytes()).expect("sent");
    stream
}

#[test]
fn a_server_that_stops_lets_running_requests_finish() {
    let server = Running::start(Duration::from_millis(5), |_| {});
    let at = server.at;
    let ask = json!({ "prompt": "a", "max_tokens": 100, "ignore_eos": true, "stream": true });
    let running: Vec<_> = (0..8).map(|_| wire::send(at, "POST", "/v1/completions", "", &ask.to_string())).collect();
    server.wait_for("vllm:num_requests_running", |n| n >= 8.0);
    let stopping = std::thread::spawn(move || server.stop());
    let begun = Instant::now();
    let refused = loop {
        let answer = post(at, &json!({ "prompt": "a" }));
        if answer.status != 200 {
            break answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    };
    assert_eq!((refused.status, refused.head.contains("retry-after")), (503, true));
    assert_eq!(get(at, "/health").status, 503);
    for stream in running {
        assert_eq!(wire::receive(stream).events().len(), 100);
    }
    assert_eq!(stopping.join().expect("no panic").unfinished, 0);
    assert!(std::net::TcpStream::connect(at).is_err(), "the listener is gone");
}

#[test]
fn what_does_not_finish_in_time_is_told() {
    let drains =
        Running::start(Duration::from_millis(5), |settings| settings.drain_timeout = Duration::from_millis(100));
    let stream = wire::send(drains.at, "POST", "/v1/completions", "", &long("a").to_string());
    drains.wait_for("vllm:num_requests_running", |n| n >= 1.0);
    assert_eq!(drains.stop().unfinished, 1);
    let events = wire::receive(stream).events();
    assert_eq!(events.last().expect("an event")["error"]["code"], 503);

    let slow =
        Running::start(Duration::from_millis(5), |settings| settings.request_timeout = Duration::from_millis(200));
    let mut ask = long("a");
    let events = post(slow.at, &ask).events();
    assert_eq!(events.last().expect("an event")["error"]["code"], 504);
    assert!(events.len() > 10, "tokens came before it");
    ask["stream"] = json!(false);
    assert_eq!(post(slow.at, &ask).status, 504);
    is_idle(&slow);
    slow.stop();
}

/// What a connection gets until the server closes it.
fn until_closed(stream: &mut std::net::TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("closed in time");
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn connections_that_say_nothing_are_closed_and_their_number_has_a_bound() {
    use std::io::Write as _;
    let server = Running::start(Duration::ZERO, |settings| {
        settings.idle_timeout = Duration::from_millis(400);
        settings.max_connections = 3;
    });
    let open = |text: &str| {
        let mut stream = std::net::TcpStream::connect(server.at).expect("it listens");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    let health = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let begun = Instant::now();
    let (mut silent, mut slow, mut kept) = (open(""), open("GET /health HTTP/1.1\r\nx: "), open(health));
    // The fourth waits until one of these is closed.
    let mut fourth = open(&health.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
    assert!(until_closed(&mut fourth).starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() >= Duration::from_millis(390), "{:?}", begun.elapsed());
    assert_eq!(until_closed(&mut silent), "");
    assert_eq!(until_closed(&mut slow), "");
    assert_eq!(until_closed(&mut kept).matches("HTTP/1.1 200").count(), 1);
    // Bytes of a head do not wind the clock.
    let (mut trickling, begun) = (open("GET /health HTTP/1.1\r\nx: "), Instant::now());
    while trickling.write_all(b"a").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    // An answer takes as long as it takes: the limit is of heads.
    let slow = Running::start(Duration::from_millis(5), |settings| settings.idle_timeout = Duration::from_millis(100));
    let answer = post(slow.at, &json!({ "prompt": "a", "max_tokens": 100, "ignore_eos": true }));
    assert_eq!(answer.status, 200);
    slow.stop();
    server.stop();
}

#[test]
fn a_reader_that_takes_nothing_is_left() {
    let server = Running::start(Duration::ZERO, |settings| {
        settings.idle_timeout = Duration::from_millis(300);
        settings.max_connections = 1;
    });
    let reader = unread(server.at, 4096);
    // There is a place for others when its connection is gone.
    assert_eq!(post(server.at, &json!({ "prompt": "a", "max_tokens": 3, "ignore_eos": true })).status, 200);
    drop(reader);
    server.stop();
}

#[test]
fn what_a_body_holds_is_bounded_and_bodies_are_too() {
    let server = Running::start(Duration::ZERO, |settings| {
        settings.max_body = 1 << 20;
        settings.max_bodies = 1 << 20;
    });
    let text = |body: &str| call(server.at, "POST", "/v1/completions", "", body);
    let lists = format!("{{\"prompt\": [1], \"x\": [{}0]}}", "[0],".repeat(100_000));
    let refused = text(&lists);
    assert_eq!((refused.status, refused.body.contains("values and keys")), (413, true), "{}", refused.body);
    // The longest prompt has a place.
    let tokens = vec![1; CONTEXT as usize - 1];
    assert_eq!(post(server.at, &json!({ "prompt": tokens, "max_tokens": 1 })).status, 200);
    // Lists of a request, in number and in length.
    let long = "z".repeat(1025);
    for (name, wrong) in [
        ("stop", json!(vec!["zz"; 65])),
        ("stop", json!([long])),
        ("stop_token_ids", json!(vec![1; 1025])),
        ("logit_bias", json!({ "1": 100 })),
    ] {
        let answer = post(server.at, &json!({ "prompt": "a", "max_tokens": 1, name: wrong }));
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some(name)), "{}", answer.body);
        assert!(answer.body.len() < 400, "{}", answer.body);
    }
    let most =
        json!({ "prompt": "a", "max_tokens": 1, "stop": vec!["z".repeat(1024); 64], "stop_token_ids": vec![1; 1024] });
    assert_eq!(post(server.at, &most).status, 200);
    // A body that stops halfway keeps its room: another of that size finds none, a small one does.
    let begin = || wire::begin(server.at, "POST", "/v1/completions", 900_000, &" ".repeat(600_000));
    let mut half = begin();
    let begun = Instant::now();
    let large = format!("{}{{\"prompt\": [1], \"max_tokens\": 1}}", " ".repeat(600_000));
    while text(&large).status != 429 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        // The other one was read first, and this one found no room.
        half = begin();
    }
    assert_eq!(text("{\"prompt\": [1], \"max_tokens\": 1}").status, 200);
    drop(half);
    let begun = Instant::now();
    while text(&large).status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the room of a client that left comes back");
    }
    server.stop();
}
