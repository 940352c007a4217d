//! Sessions: what follows on what, whose row is whose, and that jumps change nothing of it.

use std::collections::BTreeMap;

use overbook_sim::fleet::{Clients, Cluster, ClusterSpec, RunError, Traffic};
use overbook_sim::results::rows::{Discard, Outcome, RequestRow, SessionRow};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId, Workload, WorkloadError};
use overbook_sim::workload::sessions::{Followed, Opened, Sessions, Turn};

use crate::world::{How, MS, Run, World};
use crate::world_random::world;

/// A session: its requests, and for each what it waits for and how long after that.
#[derive(Clone, Debug)]
struct Script {
    start: Time,
    requests: Vec<Arrival>,
    after: Vec<Vec<(u32, Span)>>,
}

/// An open session.
#[derive(Clone, Debug)]
struct Going {
    script: usize,
    /// Of each request: ends that it waits for, and when it may be sent.
    waits: Vec<(usize, Time)>,
    left: usize,
}

/// Sessions from a list, with a note of what was sent.
#[derive(Clone, Debug)]
struct Scripts {
    all: Vec<Script>,
    next: usize,
    /// By slot.
    open: BTreeMap<u32, Going>,
    opened: Vec<Time>,
    /// (script, turn) by number of the request.
    sent: Vec<(usize, u32)>,
    classes: Vec<String>,
}

impl Scripts {
    fn new(scripts: Vec<Script>) -> Scripts {
        let (opened, classes) = (Vec::new(), vec!["even".into(), "odd".into()]);
        Scripts { all: scripts, next: 0, open: BTreeMap::new(), opened, sent: Vec::new(), classes }
    }
}

impl Workload for Scripts {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        panic!("the fleet asks for sessions");
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sessions(&mut self) -> Option<&mut dyn Sessions> {
        Some(self)
    }
}

impl Sessions for Scripts {
    fn waits(&self) -> bool {
        true
    }

    fn next_start(&mut self) -> Result<Option<Time>, WorkloadError> {
        Ok(self.all.get(self.next).map(|script| script.start))
    }

    fn open(&mut self, now: Time) -> Result<Option<Opened>, WorkloadError> {
        let Some(script) = self.all.get(self.next) else { return Ok(None) };
        let number = (0..u32::MAX).find(|slot| !self.open.contains_key(slot)).unwrap();
        let waits: Vec<(usize, Time)> = script.after.iter().map(|after| (after.len(), now)).collect();
        let ready = waits.iter().zip(0..).filter(|((waits, _), _)| *waits == 0);
        let turns = ready.map(|(_, turn)| (now, Turn { session: number, turn })).collect();
        let requests = waits.len();
        self.open.insert(number, Going { script: self.next, waits, left: requests });
        self.opened.push(now);
        self.next += 1;
        let session = SessionId::new(self.next as u64);
        Ok(Some(Opened { number, session, requests: requests as u32, turns }))
    }

    fn send(&mut self, turn: Turn, now: Time) -> Arrival {
        let script = self.open[&turn.session].script;
        self.sent.push((script, turn.turn));
        let session = Some(SessionId::new(script as u64 + 1));
        Arrival { at: now, session, ..self.all[script].requests[turn.turn as usize].clone() }
    }

    fn ended(&mut self, turn: Turn, at: Time) -> Followed {
        let Going { script, waits, left } = self.open.get_mut(&turn.session).unwrap();
        let mut turns = Vec::new();
        for (to, after) in self.all[*script].after.iter().enumerate() {
            for &(_, pause) in after.iter().filter(|(on, _)| *on == turn.turn) {
                let (ends, soonest) = &mut waits[to];
                (*ends, *soonest) = (*ends - 1, (*soonest).max(at + pause));
                if *ends == 0 {
                    turns.push((*soonest, Turn { session: turn.session, turn: to as u32 }));
                }
            }
        }
        *left -= 1;
        let over = *left == 0;
        if over {
            self.open.remove(&turn.session);
        }
        Followed { turns, over }
    }
}

/// The requests of a random world as sessions: chains, forks and joins.
fn scripted(seed: u64, world: &World) -> Scripts {
    let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: u64| {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        draw % n
    };
    let (mut scripts, mut rest, mut start) = (Vec::new(), world.arrivals.as_slice(), Time::ZERO);
    while !rest.is_empty() {
        let (requests, others) = rest.split_at(rest.len().min(1 + below(6) as usize));
        let mut after = vec![Vec::new()];
        for at in 1..requests.len() as u64 {
            let mut waits = vec![below(at) as u32];
            if below(3) == 0 {
                waits.push(below(at) as u32);
                waits.sort_unstable();
                waits.dedup();
            }
            after.push(waits.into_iter().map(|on| (on, Span(below(4) * below(30) * MS))).collect());
        }
        scripts.push(Script { start, requests: requests.to_vec(), after });
        start += Span(below(3) * below(200) * MS);
        rest = others;
    }
    Scripts::new(scripts)
}

fn played(world: &World, how: How<'_>, scripts: &Scripts) -> (Run, Scripts) {
    let mut scripts = scripts.clone();
    let run = world.try_play(how, &mut scripts).unwrap_or_else(|error| panic!("{error}\n{:?}", world.spec));
    assert!(!run.result.interrupted && run.result.halted.is_none(), "{:?}", world.spec);
    (run, scripts)
}

/// Each request is sent when all that it waits for is over, and no session is opened but in its time.
fn follow_the_script(world: &World, run: &Run, scripts: &Scripts) -> u64 {
    let mut rows: BTreeMap<(usize, u32), &RequestRow> = BTreeMap::new();
    for row in &run.rows.requests {
        let previous = rows.insert(scripts.sent[row.request as usize], row);
        assert!(previous.is_none(), "sent twice");
    }
    let mut joined = 0;
    for (number, script) in scripts.all.iter().enumerate() {
        for (turn, after) in (0..).zip(&script.after) {
            let row = rows[&(number, turn)];
            let ends = after.iter().map(|&(on, pause)| {
                let before = rows[&(number, on)];
                (before.end + before.frontend + pause).max(before.end + Span(1))
            });
            let sent = ends.max().unwrap_or(scripts.opened[number]);
            assert_eq!(row.arrival, sent, "{number} {turn} {:?}", world.spec);
            joined += u64::from(after.len() > 1);
        }
    }
    joined
}

/// The rows of sessions are the sums of those of their requests.
fn add_up(run: &Run, scripts: &Scripts) {
    assert_eq!(run.rows.sessions.len(), scripts.all.len(), "every session is over");
    for session in &run.rows.sessions {
        let number = session.session.get() as usize - 1;
        let of = || run.rows.requests.iter().filter(|row| row.session == Some(session.session));
        let started = || of().filter(|row| row.start.is_some());
        let sum = |of: &dyn Fn(&RequestRow) -> u64| of_sum(&mut started(), of);
        let first = of().min_by_key(|row| row.request).unwrap();
        let wanted = SessionRow {
            session: session.session,
            start: scripts.opened[number],
            end: of().map(|row| row.end).max().unwrap(),
            requests: scripts.all[number].requests.len() as u32,
            finished: of().filter(|row| row.outcome == Outcome::Finished).count() as u32,
            prompt_tokens: sum(&|row| u64::from(row.prompt_tokens)),
            cached_tokens: sum(&|row| u64::from(row.cached_tokens)),
            computed_tokens: sum(&|row| u64::from(row.prompt_tokens - row.cached_tokens) + row.recomputed_tokens),
            output_tokens: sum(&|row| u64::from(row.output_tokens)),
            first_ttft: first.ttft(),
            waited: Span(of().map(|row| row.e2el().0).sum()),
        };
        assert_eq!(*session, wanted);
    }
    let figures = run.result.summary.sessions.as_ref().unwrap();
    let over = scripts.all.len() as u64;
    assert_eq!((figures.opened, figures.over, figures.duration.count()), (over, over, over));
    let finished = run.rows.requests.iter().filter(|row| row.outcome == Outcome::Finished).count() as u64;
    assert_eq!(figures.first_ttft.count() + figures.later_ttft.count(), finished);
}

fn of_sum<'r>(rows: &mut dyn Iterator<Item = &'r RequestRow>, of: &dyn Fn(&RequestRow) -> u64) -> u64 {
    rows.map(of).sum()
}

/// Random worlds: started at times of their own, and opened by clients.
#[test]
fn requests_follow_on_answers_in_jumps_as_in_steps() {
    let (mut requests, mut joined, mut closed) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = world(seed);
        world.spec.traffic.max_concurrency = None;
        let scripts = scripted(seed, &world);
        let (run, sent) = played(&world, How::JUMPS, &scripts);
        joined += follow_the_script(&world, &run, &sent);
        add_up(&run, &sent);
        requests += run.rows.requests.len();
        match world.spec.traffic.clients {
            None => assert!(sent.opened.iter().zip(&sent.all).all(|(at, script)| *at == script.start)),
            Some(Clients { count, think_time }) => {
                closed += 1;
                let count = count as usize;
                assert!(sent.opened.iter().take(count).all(|at| *at == Time::ZERO), "all clients begin at once");
                let mut freed: Vec<Time> = run.rows.sessions.iter().map(|session| session.end).collect();
                freed.sort_unstable();
                for (at, end) in sent.opened.iter().skip(count).zip(freed) {
                    let least = end + think_time.max(Span(1));
                    assert!(*at >= least, "world {seed}: opened at {at}, a client was free at {least}");
                    assert!(world.spec.traffic.frontend.is_some() || *at == least, "world {seed}: late");
                }
            }
        }
        let (steps, _) = played(&world, How { audit: true, ..How::STEPS }, &scripts);
        assert_eq!(run.difference(&steps), None, "world {seed}");
        assert_eq!(run.rows.sessions, steps.rows.sessions, "world {seed}");
        assert_eq!(run.result.summary.sessions, steps.result.summary.sessions, "world {seed}");
    }
    eprintln!("sessions: {requests} requests, {joined} of them after two, {closed} worlds with clients");
    assert!(requests > 3000 && joined > 200 && closed > 20);
}

/// A limit on requests under way has no meaning where requests wait for their own answers.
#[test]
fn requests_of_sessions_are_not_held_back() {
    let traffic = Traffic { max_concurrency: Some(2), ..Traffic::default() };
    let spec = ClusterSpec { traffic, ..ClusterSpec::default() };
    let mut cost = crate::world::Affine::constant(MS);
    let ran = Cluster::new(spec).unwrap().run(&mut Scripts::new(Vec::new()), &mut cost, &mut Discard, &mut |_| true);
    assert!(matches!(ran, Err(RunError::SessionsHeldBack)));
}
