//! Requests that several points of a study have in common: read once, played from memory.

use std::sync::{Arc, Mutex, PoisonError};

use overbook_scenarios::Point;
use overbook_scenarios::world::{Requests, WorldError};
use overbook_sim::workload::arrival::Workload;
use overbook_traces::Held;

use crate::Cancel;

/// The requests of a study's points.
pub(crate) struct Shared<'a> {
    points: &'a [Point],
    groups: Vec<Group>,
    /// The group of each point; none if it shares its requests with no other.
    group_of: Vec<Option<usize>>,
    cancel: &'a Cancel,
    /// Memory that all held requests may take together [bytes].
    bytes_max: u64,
    books: Mutex<Books>,
}

/// Points with the same requests.
struct Group {
    requests: Requests,
    state: Mutex<State>,
}

struct State {
    /// Points that have not ended.
    left: usize,
    kept: Kept,
}

enum Kept {
    /// No point has asked yet.
    Unread,
    Held(Arc<Held>),
    /// Too large, or broken at some point: every point reads for itself, and fails where it would.
    Streamed,
}

#[derive(Clone, Copy, Default)]
struct Books {
    /// Memory that is taken now [bytes].
    bytes: u64,
    /// Times that requests were opened.
    opened: u64,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(points: &'a [Point], bytes_max: u64, cancel: &'a Cancel) -> Shared<'a> {
        let mut groups: Vec<(Requests, Vec<usize>)> = Vec::new();
        for (at, point) in points.iter().enumerate() {
            // A point without requests says so when it is run.
            let Ok(requests) = point.requests() else { continue };
            match groups.iter_mut().find(|(other, _)| *other == requests) {
                Some((_, members)) => members.push(at),
                None => groups.push((requests, vec![at])),
            }
        }
        groups.retain(|(_, members)| members.len() > 1);
        let mut group_of = vec![None; points.len()];
        for (number, (_, members)) in groups.iter().enumerate() {
            for &at in members {
                group_of[at] = Some(number);
            }
        }
        let group = |(requests, members): (Requests, Vec<usize>)| Group {
            requests,
            state: Mutex::new(State { left: members.len(), kept: Kept::Unread }),
        };
        let groups = groups.into_iter().map(group).collect();
        Shared { points, groups, group_of, cancel, bytes_max, books: Mutex::default() }
    }

    /// The requests of a point, from the first one on.
    pub(crate) fn open(&self, at: usize) -> Result<Box<dyn Workload>, WorldError> {
        let Some(group) = self.group_of[at].map(|number| &self.groups[number]) else {
            self.count(|books| books.opened += 1);
            return self.points[at].workload();
        };
        // Other points of the group wait here until the requests are read.
        let mut state = group.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.kept, Kept::Unread) {
            state.kept = self.read(&group.requests)?;
        }
        match &state.kept {
            Kept::Held(held) => Ok(Box::new(held.play())),
            Kept::Unread | Kept::Streamed => {
                self.count(|books| books.opened += 1);
                group.requests.open()
            }
        }
    }

    fn read(&self, requests: &Requests) -> Result<Kept, WorldError> {
        let mut free = 0;
        self.count(|books| {
            books.opened += 1;
            free = self.bytes_max.saturating_sub(books.bytes);
        });
        let mut workload = requests.open()?;
        let held = Held::read(&mut *workload, free, &|| !self.cancel.is_cancelled());
        Ok(match held {
            Ok(Some(held)) => {
                self.count(|books| books.bytes += held.bytes());
                Kept::Held(Arc::new(held))
            }
            Ok(None) | Err(_) => Kept::Streamed,
        })
    }

    /// A point has ended. With the last one of its group the requests leave the memory.
    pub(crate) fn ended(&self, at: usize) {
        let Some(group) = self.group_of[at].map(|number| &self.groups[number]) else { return };
        let mut state = group.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left -= 1;
        if state.left == 0
            && let Kept::Held(held) = std::mem::replace(&mut state.kept, Kept::Unread)
        {
            self.count(|books| books.bytes -= held.bytes());
        }
    }

    /// Times that requests were opened: once per group that is held, once per point otherwise.
    pub(crate) fn opened(&self) -> u64 {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).opened
    }

    fn count(&self, change: impl FnOnce(&mut Books)) {
        change(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
