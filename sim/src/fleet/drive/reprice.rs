//! Another pace in the middle of steps, and what a lane has done by any moment.

use std::collections::VecDeque;

use super::{Drive, Segment, Stop, StopReason};
use crate::cost::{COST_PER_NS, Cost, Slowdown};
use crate::fleet::devices::Usage;
use crate::fleet::sink::Sink;
use crate::serving::replica::Replica;
use crate::time::{Span, Time};

impl Drive {
    /// The device is faster or slower from `now` on. Each step in flight becomes a segment of its own: the one that runs keeps what it has done,
    /// its rest and those behind it are priced anew. Steps not planned yet are dropped: their plans, made again at the next boundary, are the
    /// same at another price. The lane is settled.
    pub(crate) fn reprice(
        &mut self,
        now: Time,
        pace: Slowdown,
        replica: &Replica,
        sink: &mut Sink<'_>,
    ) -> Result<(), Stop> {
        let before = std::mem::replace(&mut self.pace, pace);
        if before == pace || self.segments.is_empty() {
            return Ok(());
        }
        self.cut(StopReason::Point);
        let mut repriced: VecDeque<Segment> = VecDeque::with_capacity(self.depth as usize + 1);
        for mut segment in std::mem::take(&mut self.segments) {
            for step in segment.done..segment.steps {
                let mut single = segment.single(step);
                if let Some(ahead) = repriced.back() {
                    (single.start, single.remainder) = (ahead.end_of(1), ahead.remainder_after(1));
                    single.row.start = single.start;
                }
                if step > 0 {
                    single.row.used_blocks = replica.pool().used();
                }
                self.work = self.work + single.reprice(now, (before, pace));
                if single.first == Cost::TOO_LONG {
                    return Err(Stop::StepTooLong);
                }
                repriced.push_back(single);
            }
            if segment.done > 0 {
                segment.steps = segment.done;
                self.finish_segment(segment, sink)?;
            }
        }
        self.segments = repriced;
        Ok(())
    }

    /// What the lane has done by `now`, applied or not. Steps that end at `now` count up to it.
    pub(crate) fn usage(&self, now: Time) -> Usage {
        let (mut busy, mut work) = (self.busy, self.work);
        for segment in &self.segments {
            // A step ends at a whole nanosecond, though its length has a fraction more: at that moment it counts as a whole, whether
            // its end has been applied or comes later in the order of the moment.
            let (ended, length) = segment.completed(Time(now.0.saturating_add(1)));
            if ended > segment.done {
                busy += length - segment.length(segment.done);
                work = work + segment.work_between(segment.done, ended);
            }
            if ended < segment.steps {
                let passed = segment.passed_since(ended, length, now);
                busy += u128::from(passed.0);
                work = work + segment.work_within(ended, passed);
                break;
            }
        }
        Usage { busy: Span((busy / u128::from(COST_PER_NS)) as u64), work }
    }
}
