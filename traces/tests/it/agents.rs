//! Sessions of coding agents: what waits for what, whose ids are whose, and what is refused.

use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_sim::workload::sessions::{Opened, Turn};
use overbook_traces::{
    Failures, Format, Layout, Pace, SessionTraceSpec, TraceError, TraceSpec, burstiness, write_requests,
};

use overbook_test_groups::in_clone;

use crate::{all, drain, file, unpacked};

const CLONE: &str = "agentic/claude-code.jsonl.zst";

/// A request of 128 tokens: two ids, of which the first is kept.
fn request(t: &str, rest: &str) -> String {
    format!(
        r#"{{"t":{t},"type":"n","model":"m","in":128,"out":10,"keep":1,"ids":[[9{},1]]{rest}}}"#,
        t.replace('.', "")
    )
}

fn session(id: &str, requests: &[String]) -> String {
    let first = r#"{"t":0,"type":"n","model":"m","in":64,"out":10,"api_time":4,"think_time":0,"keep":0,"ids":[[1,1]]}"#;
    let requests: Vec<&str> = std::iter::once(first).chain(requests.iter().map(String::as_str)).collect();
    format!(r#"{{"id":"{id}","block_size":64,"hash_id_scope":"local","requests":[{}]}}"#, requests.join(",")) + "\n"
}

fn opened(workload: &mut dyn Workload, now: Time) -> Option<Opened> {
    workload.sessions().expect("sessions").open(now).expect("reads")
}

fn seconds(s: f64) -> Time {
    Time((s * NS_PER_S as f64) as u64)
}

/// Plays one session whose answers take `answer` seconds each; gives when each turn is sent, by number [s].
fn played(spec: &TraceSpec, answer: f64) -> Vec<f64> {
    let mut workload = spec.open().expect("opens");
    let opened = opened(&mut *workload, Time::ZERO).expect("a session");
    let sessions = workload.sessions().expect("sessions");
    let (mut due, mut sent) = (opened.turns, Vec::new());
    loop {
        due.sort_by_key(|&(at, _)| std::cmp::Reverse(at));
        let Some((at, turn)) = due.pop() else { break };
        assert_eq!(sessions.send(turn, at).at, at);
        sent.push((turn.turn, at.0 as f64 / NS_PER_S as f64));
        let followed = sessions.ended(turn, at + Span((answer * NS_PER_S as f64) as u64));
        due.extend(followed.turns);
        assert_eq!(followed.over, sent.len() == opened.requests as usize);
    }
    sent.sort_by_key(|&(turn, _)| turn);
    sent.into_iter().map(|(_, at)| at).collect()
}

/// The next request is sent a think time after the answer, however long that takes.
#[test]
fn a_request_waits_for_the_answer_before_it() {
    let two = [request("10", r#","api_time":2,"think_time":6"#), request("30", r#","api_time":1,"think_time":18"#)];
    let file = file(session("a", &two));
    let spec = TraceSpec::new(file.path());
    assert_eq!(played(&spec, 4.0), [0.0, 10.0, 32.0]);
    assert_eq!(played(&spec, 0.5), [0.0, 6.5, 25.0]);
    let cut = SessionTraceSpec { max_think_time: Some(Duration(Span(7 * NS_PER_S))), ..SessionTraceSpec::default() };
    assert_eq!(played(&TraceSpec { sessions: Some(cut), ..spec.clone() }, 1.0), [0.0, 7.0, 15.0]);
    let recorded = SessionTraceSpec { pace: Pace::Recorded, ..SessionTraceSpec::default() };
    assert_eq!(played(&TraceSpec { sessions: Some(recorded), ..spec }, 100.0), [0.0, 10.0, 30.0]);
}

/// Without a recorded end, think times count from the last end that was recorded: they are no longer than the time between requests.
#[test]
fn think_times_across_unknown_ends_are_bounded() {
    let three =
        [request("10", r#","think_time":6"#), request("13", r#","think_time":9"#), request("20", r#","api_time":1"#)];
    let file = file(session("a", &three));
    assert_eq!(played(&TraceSpec::new(file.path()), 1.0), [0.0, 7.0, 11.0, 19.0]);
}

/// Sub-agents start when they did after their parent's answer, and the parent goes on when the last of them has its answer.
#[test]
fn a_parent_waits_for_its_sub_agents() {
    let inner = |t: &str, id: u32| {
        format!(
            r#"{{"t":{t},"type":"n","model":"h","in":64,"out":5,"api_time":2,"think_time":1,"keep":0,"ids":[[{id},1]]}}"#
        )
    };
    // They ended at 20 and 24 s, so that both started at 5 s, a second after the parent's answer.
    let agent = |end: &str, took: &str, requests: &[String]| {
        format!(r#"{{"t":{end},"type":"subagent","duration_ms":{took},"requests":[{}]}}"#, requests.join(","))
    };
    let requests = [
        agent("20", "15000", &[inner("0", 50)]),
        agent("24", "19000", &[inner("0", 60), inner("3", 70)]),
        request("30", r#","api_time":1,"think_time":26"#),
    ];
    let file = file(session("a", &requests));
    let spec = TraceSpec::new(file.path());
    // By the record the last inner answer came at 10 s, and the parent went on 20 s later.
    assert_eq!(played(&spec, 2.0), [0.0, 3.0, 3.0, 6.0, 28.0]);
    assert_eq!(played(&spec, 50.0), [0.0, 51.0, 51.0, 102.0, 172.0]);
    let arrivals = all(&spec);
    let at: Vec<u64> = arrivals.iter().map(|arrival| arrival.at.0 / NS_PER_S).collect();
    assert_eq!(at, [0, 5, 5, 8, 30], "as recorded");
    assert!(arrivals.windows(2).all(|pair| pair[0].session == pair[1].session), "a sub-agent is part of its session");
}

/// A parent that went on while a sub-agent ran does not wait for it.
#[test]
fn what_runs_in_the_background_holds_nobody_up() {
    let inner = r#"{"t":0,"type":"n","model":"h","in":64,"out":5,"api_time":2,"keep":0,"ids":[[50,1]]}"#;
    let requests = [
        request("10", r#","api_time":1,"think_time":6"#),
        format!(r#"{{"t":20,"type":"subagent","duration_ms":15000,"requests":[{inner}]}}"#),
        request("30", r#","api_time":1,"think_time":19"#),
    ];
    let file = file(session("a", &requests));
    // It starts a second after the first answer; the last request waits for the one of 10 s alone.
    assert_eq!(played(&TraceSpec::new(file.path()), 3.0), [0.0, 9.0, 4.0, 31.0]);
}

/// What failed and is left out takes the time that it took.
#[test]
fn failed_requests_are_left_out_or_end_at_once() {
    let failed = request("10", r#","api_time":5,"think_time":6"#).replace(r#""out":10"#, r#""out":0"#);
    let file = file(session("a", &[failed, request("20", r#","api_time":1,"think_time":5"#)]));
    let spec = TraceSpec::new(file.path());
    assert_eq!(played(&spec, 1.0), [0.0, 17.0], "1 + 6 + 5 + 5");
    assert_eq!(all(&spec).len(), 2);
    let sessions = SessionTraceSpec { pace: Pace::Recorded, ..SessionTraceSpec::default() };
    assert_eq!(played(&TraceSpec { sessions: Some(sessions), ..spec.clone() }, 1.0), [0.0, 20.0]);
    let kept = TraceSpec { failures: Failures::Keep, ..spec };
    let failed: Vec<bool> = all(&kept).iter().map(|arrival| arrival.failed_in_trace).collect();
    assert_eq!(failed, [false, true, false]);
}

/// Equal ids of two sessions are different text, equal ids of one are the same; blocks of the engine keep that.
#[test]
fn ids_are_those_of_their_session() {
    let two = [request("10", "")];
    let file = file(session("a", &two) + &session("b", &two));
    let arrivals = all(&TraceSpec { repeat: 2, ..TraceSpec::new(file.path()) });
    assert_eq!(arrivals.len(), 8);
    let ids = |arrival: &Arrival| arrival.content.as_ref().expect("ids").ids.to_vec();
    for pair in arrivals.chunks(2) {
        let (first, second) = (ids(&pair[0]), ids(&pair[1]));
        assert_eq!((first.len(), second.len()), (4, 8), "64 and 128 tokens in blocks of 16");
        assert_eq!(first, second[..4]);
        assert!(pair[0].session == pair[1].session);
    }
    let mut seen: Vec<u64> = arrivals.iter().skip(1).step_by(2).flat_map(ids).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4 * 8, "no id is in two sessions, copies included");
    let mut sessions: Vec<_> = arrivals.iter().map(|arrival| arrival.session).collect();
    sessions.dedup();
    assert_eq!(sessions.len(), 4);
}

/// What is behind the last block of the file is nobody else's; every full block of the engine has an id.
#[test]
fn the_ends_of_prompts_are_their_own() {
    let longer = [request("10", "").replace("128", "170"), request("20", "").replace("128", "127")];
    let longer = longer.map(|request| request.replace("[920,1]", ""));
    let file = file(session("a", &longer));
    let ids: Vec<Vec<u64>> =
        all(&TraceSpec::new(file.path())).into_iter().map(|a| a.content.expect("ids").ids.to_vec()).collect();
    assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), [4, 10, 7]);
    assert!(ids[0] == ids[1][..4] && ids[0] == ids[2][..4], "one block of the file is the same");
    assert!(ids[2][4..].iter().all(|id| !ids[1].contains(id)), "{ids:?}");
}

/// What is written reads back.
#[test]
fn sessions_are_converted_with_their_ids() {
    let spec = TraceSpec {
        sessions: Some(SessionTraceSpec { take: Some(3), ..SessionTraceSpec::default() }),
        ..TraceSpec::new(in_clone(CLONE))
    };
    let file = file("");
    let written = file.reopen().expect("reopens");
    let count = write_requests(&mut *spec.open().expect("opens"), Layout::JsonLines, &[], written).expect("writes");
    let before = all(&spec);
    let after = all(&TraceSpec::new(file.path()));
    assert!(count > 20 && count as usize == before.len() && after.len() == before.len());
    for (before, after) in before.iter().zip(&after) {
        let of =
            |arrival: &Arrival| (arrival.at, arrival.prompt_tokens, arrival.output_tokens, arrival.content.clone());
        assert_eq!(of(before), of(after));
    }
}

/// The short form of the ids, and the published one, are the same.
#[test]
fn published_files_have_all_ids() {
    let short = session("a", &[request("10", r#","api_time":2,"think_time":6"#)]);
    let long = short.replace(r#""keep":0,"ids":[[1,1]]"#, r#""hash_ids":[1]"#);
    let long = long.replace(r#""keep":1,"ids":[[910,1]]"#, r#""hash_ids":[1,910]"#);
    assert!(long.matches("hash_ids").count() == 2 && !long.contains("keep"));
    let (short, long) = (file(short), file(long));
    assert_eq!(all(&TraceSpec::new(short.path())), all(&TraceSpec::new(long.path())));
}

#[test]
fn sessions_start_at_random_or_when_a_client_is_free() {
    let text: String = (0..200).map(|n| session(&n.to_string(), &[])).collect();
    let file = file(text);
    let plain = TraceSpec::new(file.path());
    let mut workload = plain.open().expect("opens");
    let error = workload.sessions().expect("sessions").next_start().expect_err("no clock").to_string();
    assert!(error.contains("workload.clients") && error.contains("rate"), "{error}");
    let sessions = SessionTraceSpec { rate: Some(Rate(0.5)), ..SessionTraceSpec::default() };
    let random = TraceSpec { sessions: Some(sessions), ..plain };
    let starts = |seed: u64| {
        let mut workload = random.open_seeded(seed).expect("opens");
        let mut starts = Vec::new();
        while let Some(at) = workload.sessions().expect("sessions").next_start().expect("a rate") {
            assert_eq!(workload.sessions().expect("sessions").next_start().expect("again"), Some(at));
            opened(&mut *workload, at).expect("a session");
            starts.push(at);
        }
        starts
    };
    let first = starts(1);
    assert_eq!((first.len(), first[0]), (200, Time::ZERO));
    let mean = first[199].0 as f64 / 199.0 / NS_PER_S as f64;
    assert!((1.4..2.6).contains(&mean) && first.is_sorted(), "two seconds between starts: {mean}");
    assert_ne!(first, starts(2));
    let read_on: Vec<Time> =
        drain(&mut *random.open_seeded(1).expect("opens")).expect("reads").iter().map(|a| a.at).collect();
    assert_eq!(read_on, first, "the same starts, read on");
}

#[test]
fn sessions_end_before_prompts_that_are_too_long() {
    let long = request("10", r#","api_time":2,"think_time":6"#).replace("128", "192").replace("[910,1]", "[910,2]");
    let file = file(session("a", &[long, request("20", "")]) + &session("b", &[request("10", "")]));
    let sessions = SessionTraceSpec { max_prompt_tokens: Some(128), ..SessionTraceSpec::default() };
    let spec = TraceSpec { sessions: Some(sessions.clone()), ..TraceSpec::new(file.path()) };
    let mut workload = spec.open().expect("opens");
    assert_eq!(drain(&mut *workload).expect("reads").len(), 3);
    let row = |name: &str| workload.rows().iter().find(|(row, _)| *row == name).map(|(_, rows)| *rows);
    assert_eq!((row("read"), row("taken"), row("cut_off")), (Some(5), Some(3), Some(2)));
    let take = SessionTraceSpec { skip: 1, take: Some(1), ..sessions };
    assert_eq!(all(&TraceSpec { sessions: Some(take), ..spec }).len(), 2);
}

fn refused(text: &str) -> String {
    let file = file(text);
    let opened = TraceSpec { format: Format::KvCacheTester, ..TraceSpec::new(file.path()) }.open();
    opened.map(drop).expect_err("refused").to_string()
}

/// Every odd line says where, what, and what to do.
#[test]
fn odd_lines_are_refused_with_their_place() {
    let good = session("a", &[request("10", r#","api_time":2,"think_time":6"#)]);
    let cases = [
        (r#""hash_id_scope":"local""#, r#""hash_id_scope":"global""#, "column `hash_id_scope`: expected `local`"),
        (r#""hash_id_scope":"local","#, "", "column `hash_id_scope`"),
        (r#""block_size":64"#, r#""block_size":60"#, "column `block_size`: expected a multiple"),
        (r#""keep":1"#, r#""keep":2"#, "column `requests[1].keep`: expected at most"),
        ("[[910,1]]", "[[910,2]]", "column `requests[1]`: expected one id for each full block"),
        ("[[910,1]]", "[[1,1]]", "column `requests[1].ids`: expected ids that follow"),
        (r#""t":10"#, r#""t":-1"#, "column `requests[1].t`: expected seconds"),
        (r#""type":"n","model":"m","in":128"#, r#""type":"x","model":"m","in":128"#, "column `requests[1].type`"),
        (r#""in":128"#, r#""in":99999999"#, "column `requests[1].in`: expected at most 16777216"),
        (r#""in":128,"#, "", "column `requests[1].in`: expected a number of tokens, found `nothing`"),
        (r#""api_time":2"#, r#""api_time":"x""#, "column `requests[1].api_time`"),
        (r#""keep":1,"#, "", "column `requests[1]`: expected the ids of its blocks in one form"),
    ];
    for (from, to, told) in cases {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let error = refused(&(good.replace("\"a\"", "\"b\"") + &bad).replacen(&good.replace("\"a\"", "\"b\""), "", 1));
        assert!(error.contains(":1: ") && error.contains(told) && error.contains("help: "), "{error}");
    }
    let cut = refused(&good[..good.len() - 20]);
    assert!(cut.contains(":1:") && cut.contains("expected a session"), "{cut}");
    let second = file(good.clone() + &good.replace(r#""keep":1"#, r#""keep":2"#));
    let mut workload = TraceSpec::new(second.path()).open().expect("the first line is good");
    let error = drain(&mut *workload).expect_err("the second is not").to_string();
    assert!(error.contains(":2: column `requests[1].keep`"), "{error}");
    let absolute = r#"{"t":20,"type":"subagent","duration_ms":5000,"requests":[{"t":15,"type":"n","model":"h","in":64,"out":5,"keep":0,"ids":[[50,1]]}]}"#;
    let error = refused(&session("a", &[absolute.to_owned()]));
    assert!(error.contains("`requests[1].requests[].t`") && error.contains("another form"), "{error}");
}

/// What changes rows is refused for sessions, and what is for sessions is refused for rows.
#[test]
fn settings_of_rows_and_of_sessions_do_not_mix() {
    let path = in_clone(CLONE);
    for spec in [
        TraceSpec { rate: Some(Rate(1.0)), ..TraceSpec::new(&path) },
        TraceSpec { requests: Some(5), ..TraceSpec::new(&path) },
        TraceSpec { failures: Failures::Redraw, ..TraceSpec::new(&path) },
        TraceSpec { max_prompt_tokens: Some(1000), ..TraceSpec::new(&path) },
    ] {
        let error = spec.open().map(drop).expect_err("refused").to_string();
        assert!(error.contains("the trace holds sessions"), "{error}");
    }
    let rows =
        TraceSpec { format: Format::Azure, sessions: Some(SessionTraceSpec::default()), ..TraceSpec::new(&path) };
    assert!(rows.problems().iter().any(|(key, _)| key == "sessions"), "{:?}", rows.problems());
    assert!(matches!(TraceSpec::new(&path).replay().map(drop), Err(TraceError::HoldsSessions { .. })));
}

/// The figures of the slice, counted from its text.
#[test]
fn the_slice_is_played_whole() {
    let path = in_clone(CLONE);
    let text = unpacked(&path);
    let outputs = text.matches(r#""out":"#).count();
    let failed = text.matches(r#""out":0,"#).count();
    let spec = TraceSpec::new(&path);
    let stats = burstiness(&mut *spec.open().expect("opens")).expect("reads");
    assert_eq!(stats.requests as usize, outputs - failed);
    assert_eq!(stats.sessions.turns.count() as usize, text.lines().count());
    // Each session to its end, one after the other; only one is ever open.
    let mut workload = spec.open().expect("opens");
    let (mut now, mut requests, mut found, mut asked) = (Time::ZERO, 0, 0, 0);
    while let Some(opened) = opened(&mut *workload, now) {
        assert_eq!(opened.number, 0);
        let sessions = workload.sessions().expect("sessions");
        let mut due: Vec<(Time, Turn)> = opened.turns;
        let mut known = std::collections::HashSet::new();
        let mut over = false;
        while let Some((at, turn)) = due.pop() {
            let arrival = sessions.send(turn, at);
            let ids = arrival.content.expect("ids").ids;
            (asked, found) = (asked + ids.len(), found + ids.iter().filter(|id| known.contains(*id)).count());
            known.extend(ids);
            (requests, now) = (requests + 1, at.max(now) + seconds(3.0).since(Time::ZERO));
            let followed = sessions.ended(turn, now);
            due.extend(followed.turns);
            over = followed.over;
        }
        assert!(over);
    }
    assert_eq!(requests, outputs - failed);
    let share = found as f64 / asked as f64;
    assert!((0.94..0.96).contains(&share), "most of a prompt was sent before: {share}");
}
