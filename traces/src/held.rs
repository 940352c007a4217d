//! A workload read once and kept in memory, to be played any number of times.

use std::sync::Arc;

use overbook_sim::time::Time;
use overbook_sim::workload::arrival::{Arrival, Content, Workload, WorkloadError};
use overbook_sim::workload::sessions::Sessions;

use crate::busiest::Stretch;

/// All requests of a workload, in order of arrival. Threads share it behind an [`Arc`]: [`Held::play`] makes a workload of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    arrivals: Vec<Arrival>,
    classes: Vec<String>,
    rows: Vec<(&'static str, u64)>,
    bytes: u64,
}

/// Requests between two looks at whether reading should go on.
const LOOK_EVERY: usize = 1 << 14;

impl Held {
    /// Reads a workload to its end. `None` if it takes more than `bytes_max`, if `go_on` says no on the way, or if it has sessions
    /// whose requests follow on answers: they have no times of their own.
    ///
    /// # Errors
    /// The workload is broken at some point.
    pub fn read(
        workload: &mut dyn Workload,
        bytes_max: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Held>, WorkloadError> {
        if workload.sessions().is_some() {
            return Ok(None);
        }
        let (mut arrivals, mut bytes) = (Vec::new(), 0);
        while let Some(arrival) = workload.next_arrival()? {
            bytes += size(&arrival);
            if bytes > bytes_max || (arrivals.len().is_multiple_of(LOOK_EVERY) && !go_on()) {
                return Ok(None);
            }
            arrivals.push(arrival);
        }
        arrivals.shrink_to_fit();
        Ok(Some(Held { arrivals, classes: workload.classes().to_vec(), rows: workload.rows(), bytes }))
    }

    /// Reads the requests of a stretch, which then begins at time zero. `None` as [`Held::read`] has it.
    ///
    /// # Errors
    /// The workload is broken at some point.
    pub fn part(
        workload: &mut dyn Workload,
        stretch: &Stretch,
        bytes_max: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Held>, WorkloadError> {
        let mut part = Part { workload, from: stretch.from, to: stretch.to };
        Held::read(&mut part, bytes_max, go_on)
    }

    /// These requests, in order of arrival.
    pub fn of(arrivals: Vec<Arrival>, classes: Vec<String>) -> Held {
        let bytes = arrivals.iter().map(size).sum();
        Held { arrivals, classes, rows: Vec::new(), bytes }
    }

    /// Other requests with the same classes.
    pub(crate) fn with(&self, arrivals: Vec<Arrival>) -> Held {
        Held::of(arrivals, self.classes.clone())
    }

    /// The requests, in order of arrival.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// Memory that the requests take [bytes].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The requests from the first one on.
    pub fn play(self: &Arc<Held>) -> Playback {
        Playback { held: Arc::clone(self), next: 0 }
    }
}

/// The requests of a stretch of a workload, from time zero on.
struct Part<'a> {
    workload: &'a mut dyn Workload,
    from: Time,
    to: Time,
}

impl Workload for Part<'_> {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        while let Some(arrival) = self.workload.next_arrival()? {
            if arrival.at >= self.to {
                return Ok(None);
            }
            if arrival.at >= self.from {
                return Ok(Some(Arrival { at: Time(arrival.at.0 - self.from.0), ..arrival }));
            }
        }
        Ok(None)
    }

    fn classes(&self) -> &[String] {
        self.workload.classes()
    }

    fn sessions(&mut self) -> Option<&mut dyn Sessions> {
        self.workload.sessions()
    }
}

/// Memory of a request, with the ids of its content [bytes].
fn size(arrival: &Arrival) -> u64 {
    let content = arrival.content.as_deref().map_or(0, |content| size_of::<Content>() + size_of_val(&*content.ids));
    (size_of::<Arrival>() + content) as u64
}

/// Requests played from memory; see [`Held::play`].
#[derive(Clone, Debug)]
pub struct Playback {
    held: Arc<Held>,
    next: usize,
}

impl Workload for Playback {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        let arrival = self.held.arrivals.get(self.next).cloned();
        self.next += usize::from(arrival.is_some());
        Ok(arrival)
    }

    fn classes(&self) -> &[String] {
        &self.held.classes
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        self.held.rows.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// So many requests, a second apart; the one with the number `broken` cannot be read.
    struct Seconds {
        next: u64,
        requests: u64,
        broken: Option<u64>,
        classes: Vec<String>,
    }

    impl Seconds {
        fn new(requests: u64) -> Seconds {
            Seconds { next: 0, requests, broken: None, classes: vec!["chat".to_owned()] }
        }
    }

    impl Workload for Seconds {
        fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
            if self.broken == Some(self.next) {
                return Err("line 7 is broken".into());
            }
            if self.next == self.requests {
                return Ok(None);
            }
            self.next += 1;
            let mut arrival = Arrival::new(Time(self.next), 32, 8);
            arrival.content = Some(Box::new(Content { block_tokens: 16, ids: [self.next, 1].into() }));
            Ok(Some(arrival))
        }

        fn classes(&self) -> &[String] {
            &self.classes
        }
    }

    fn all(workload: &mut dyn Workload) -> Vec<Arrival> {
        std::iter::from_fn(|| workload.next_arrival().unwrap()).collect()
    }

    #[test]
    fn what_is_played_is_what_was_read_and_any_number_of_times() {
        let held = Held::read(&mut Seconds::new(100), u64::MAX, &|| true).unwrap().unwrap();
        let held = Arc::new(held);
        let streamed = all(&mut Seconds::new(100));
        for _ in 0..2 {
            let mut playback = held.play();
            assert_eq!(all(&mut playback), streamed);
            assert_eq!(playback.next_arrival().unwrap(), None);
            assert_eq!(playback.classes(), ["chat"]);
        }
    }

    #[test]
    fn the_bound_counts_the_ids_of_contents() {
        let one = (size_of::<Arrival>() + size_of::<Content>() + 2 * size_of::<u64>()) as u64;
        let read = |bytes_max| Held::read(&mut Seconds::new(10), bytes_max, &|| true).unwrap();
        assert_eq!(read(10 * one).map(|held| held.bytes()), Some(10 * one));
        assert_eq!(read(10 * one - 1), None);
    }

    #[test]
    fn reading_stops_when_asked_and_where_the_workload_is_broken() {
        assert_eq!(Held::read(&mut Seconds::new(10), u64::MAX, &|| false).unwrap(), None);
        let mut broken = Seconds { broken: Some(3), ..Seconds::new(10) };
        assert_eq!(Held::read(&mut broken, u64::MAX, &|| true).unwrap_err().to_string(), "line 7 is broken");
    }
}
