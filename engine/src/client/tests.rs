//! The replay against our own server, and against servers that misbehave.

mod fake;

use std::net::SocketAddr;

use overbook_sim::fleet::{Controllers, Patience, Traffic};
use overbook_sim::results::rows::Outcome;

use super::*;
use crate::serve::tests::{Running, VOCAB};
use fake::Fake;

/// Arrivals at equal distances.
struct Even {
    every: Span,
    left: u32,
    made: u32,
    output: u32,
}

impl Workload for Even {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.made += 1;
        let at = Time(self.every.0 * u64::from(self.made - 1));
        Ok(Some(Arrival::new(at, 20 + self.made, self.output)))
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

fn even(left: u32, every_ms: u64, output: u32) -> Even {
    Even { every: Span(every_ms * 1_000_000), left, made: 0, output }
}

fn server(at: SocketAddr) -> Server {
    let target = Target::parse(&format!("http://{at}")).expect("an address");
    Server { target, api_key: None, model: None, vocab: VOCAB, body: Map::new() }
}

fn replayed(at: SocketAddr, spec: &ClusterSpec, mut workload: Even) -> Replayed {
    replay(&server(at), spec, &mut workload, &mut |_| true).expect("it answers")
}

fn outcomes(replayed: &Replayed) -> Vec<Outcome> {
    let mut rows: Vec<_> = replayed.rows.iter().map(|row| (row.request, row.outcome)).collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn client_and_server_agree_on_what_was_served() {
    let running = Running::start(Duration::from_millis(4), |_| {});
    let got = replayed(running.at, &ClusterSpec::default(), even(60, 15, 10));
    let left = running.stop();
    assert_eq!((got.found.asking, got.found.model.as_str()), (Asking::Tokens, "rehearsal"));
    assert!(got.found.version.as_deref().is_some_and(|version| version.starts_with("overbook")));
    assert_eq!((outcomes(&got), got.other_length), (vec![Outcome::Finished; 60], 0));
    let (errors, scrapes) = (&got.errors, &got.scrapes);
    assert!(errors.is_empty() && scrapes.len() >= 2, "{errors:?}, {} scrapes", scrapes.len());
    assert!((scrapes[0].blocks - 512.0).abs() < 0.5 && scrapes.last().is_some_and(|last| last.steps >= 100.0));
    // The server's rows, less the probe's, by prompt length: each request has its own.
    for row in &got.rows {
        let theirs = left.rows.iter().find(|theirs| theirs.prompt_tokens == row.prompt_tokens).expect("it was served");
        assert_eq!((row.output_tokens, theirs.output_tokens), (10, 10));
        let (ours, theirs) = (row.ttft().expect("a token"), theirs.ttft().expect("a token"));
        assert!(ours >= theirs, "a client sees a token after the server: {ours:?}, {theirs:?}");
    }
    assert_eq!((got.result.summary.itl.count(), got.result.summary.latencies.ttft.count()), (540, 60));
    assert!(got.lateness.max < Span(500_000_000), "{:?}", got.lateness);
}

#[test]
fn refusals_are_outcomes() {
    let running = Running::start(Duration::from_millis(20), |settings| settings.max_waiting = 2);
    let got = replayed(running.at, &ClusterSpec::default(), even(40, 1, 5));
    running.stop();
    let count = |outcome| outcomes(&got).into_iter().filter(|&o| o == outcome).count();
    let (finished, rejected) = (count(Outcome::Finished), count(Outcome::Rejected));
    assert!(finished >= 2 && rejected > 0 && finished + rejected == 40, "{finished} and {rejected}");
    assert_eq!(got.errors.len(), 1);
    assert!(got.errors[0].0.starts_with("HTTP 429: The server is overloaded"), "{:?}", got.errors);
    assert_eq!(got.errors[0].1, rejected as u64);
}

#[test]
fn impatient_clients_leave() {
    let running = Running::start(Duration::from_millis(10), |_| {});
    let ms = |ms: u64| Some(Span(ms * 1_000_000));
    for (patience, outcome) in [
        (Patience { deadline: ms(100), ..Patience::default() }, Outcome::Expired),
        (Patience { cancel_after: ms(100), ..Patience::default() }, Outcome::Cancelled),
        (Patience { max_wait: ms(1), ..Patience::default() }, Outcome::Expired),
    ] {
        let spec =
            ClusterSpec { controllers: Controllers { patience, ..Controllers::default() }, ..ClusterSpec::default() };
        let got = replayed(running.at, &spec, even(3, 30, 500));
        assert_eq!((outcomes(&got), got.errors.len()), (vec![outcome; 3], 0));
    }
    let left = running.stop();
    assert_eq!(left.unfinished, 0);
    let count = |outcome| left.rows.iter().filter(|row| row.outcome == outcome).count();
    // Each replay begins with a request of its own, to learn what the server takes. A client that leaves after a millisecond may be gone
    // before the server has read the request.
    let (finished, cancelled) = (count(Outcome::Finished), count(Outcome::Cancelled));
    assert_eq!((finished, finished + cancelled), (3, left.rows.len()), "the server has noticed each of them");
    assert!((6..=9).contains(&cancelled), "{cancelled}");
}

#[test]
fn an_interruption_keeps_what_has_ended() {
    let running = Running::start(Duration::from_millis(2), |_| {});
    let mut workload = even(1000, 10, 5);
    let mut watch = |progress: Progress| progress.ended < 20;
    let got = replay(&server(running.at), &ClusterSpec::default(), &mut workload, &mut watch).expect("it answers");
    assert!(got.result.interrupted && (20..200).contains(&got.rows.len()), "{}", got.rows.len());
    running.stop();
}

#[test]
fn errors_of_a_server_are_counted() {
    let good = "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let late = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n";
    let fake = Fake::start(vec![
        // The probe.
        (200, good),
        (200, good),
        (200, late),
        (200, "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"),
        (200, "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"error\":{\"message\":\"lost\"}}\n\n"),
        (200, "data: <html>\n\n"),
        (200, "{\"choices\":[]}"),
        (500, "{\"error\":{\"message\":\"out of memory\"}}"),
        (400, "{\"detail\":\"bad\"}"),
        // Closes without a word.
        (0, ""),
    ]);
    let got = replayed(fake.at, &ClusterSpec::default(), even(9, 40, 2));
    let (fine, failed) = (Outcome::Finished, Outcome::Failed);
    let want = vec![fine, fine, failed, failed, failed, failed, failed, Outcome::Rejected, failed];
    assert_eq!((outcomes(&got), got.other_length, got.scrapes.len()), (want, 0, 0));
    let told: Vec<&str> = got.errors.iter().map(|(text, _)| text.as_str()).collect();
    let [cut, lost, html, none, memory, bad, gone] = told[..] else { panic!("{told:?}") };
    assert_eq!((cut, lost), ("the stream broke off", "error in the stream: lost"));
    assert!(html.starts_with("error in the stream: no chunk") && none.starts_with("an answer without"), "{told:?}");
    assert_eq!((memory, bad), ("HTTP 500: out of memory", "HTTP 400: bad"));
    assert!(gone.starts_with("the connection broke"), "{gone}");
    // The last, empty chunk of the second answer is no token.
    assert_eq!(got.rows.iter().map(|row| row.output_tokens).max(), Some(2));
    assert_eq!(got.result.summary.itl.count(), 2);
}

#[test]
fn a_server_that_cannot_be_asked_is_told() {
    let error = |at: SocketAddr, change: fn(&mut Server)| {
        let mut server = server(at);
        change(&mut server);
        replay(&server, &ClusterSpec::default(), &mut even(1, 1, 1), &mut |_| true).expect_err("it fails").to_string()
    };
    let running = Running::start(Duration::ZERO, |settings| settings.api_key = Some("key".into()));
    assert!(error(running.at, |_| {}).contains("HTTP 401 to /v1/models: Unauthorized"));
    let other = error(running.at, |server| {
        server.api_key = Some("key".into());
        server.model = Some("gpt-5".into());
    });
    assert!(other.contains("does not have the model `gpt-5`; it has: rehearsal"), "{other}");
    let vocab = error(running.at, |server| {
        server.api_key = Some("key".into());
        server.vocab = 1 << 20;
    });
    assert!(vocab.contains("out of vocabulary (300)"), "{vocab}");
    let at = running.at;
    running.stop();
    assert!(error(at, |_| {}).contains("cannot connect"));
    let closed =
        ClusterSpec { traffic: Traffic { max_concurrency: Some(3), ..Traffic::default() }, ..ClusterSpec::default() };
    let unfit = replay(&server(at), &closed, &mut even(1, 1, 1), &mut |_| true).expect_err("closed").to_string();
    assert!(unfit.contains("remove `workload.max_concurrency`"), "{unfit}");
}
