//! Steps that the engine ran, priced one by one by a cost model: errors that no other error has led to.

use overbook_sim::calibrate::steps::StepErrors;
use overbook_sim::cost::{CostModel, StepShape};

use crate::driver::StepLog;

/// A step of the engine: what its shape costs by the model, and what it took; on the device and whole [ns].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Priced {
    /// Whether it has no prompts.
    pub decodes: bool,
    /// By the model: on the device, whole.
    pub predicted: [f64; 2],
    /// As it was: on the device, whole.
    pub measured: [f64; 2],
}

/// Prices the steps of a lane of this depth, in their order.
pub fn priced(steps: &[StepLog], cost: &mut dyn CostModel, depth: u32) -> Vec<Priced> {
    let mut before = None;
    let one = |StepLog { row, parts, prefill_ends, planned, device, .. }: &StepLog| {
        let shape = StepShape {
            decode_seqs: row.decode_seqs,
            decode_context: row.decode_context,
            prefill: parts,
            prefill_ends: *prefill_ends,
        };
        let price = cost.step(&shape);
        let (on_device, host) = (price.device.as_ns_f64(), price.host.as_ns_f64());
        // As the simulator's lanes do it: host time hides behind the device, except at the start of a busy time.
        let idle = before.replace(row.end).is_none_or(|end| *planned >= end);
        let whole = if depth == 1 || idle { on_device + host } else { on_device.max(host) };
        Priced {
            decodes: parts.is_empty(),
            predicted: [on_device, whole],
            measured: [(device.1 - device.0).0 as f64, (row.end - row.start).0 as f64],
        }
    };
    steps.iter().map(one).collect()
}

/// Errors of predicted steps by kind; kinds without steps are left out.
pub fn errors(steps: &[Priced]) -> Vec<StepErrors> {
    let kinds = [
        ("decode, on the device", true, 0),
        ("decode, whole", true, 1),
        ("with prompts, on the device", false, 0),
        ("with prompts, whole", false, 1),
    ];
    let errors = |(kind, decodes, which): (&str, bool, usize)| {
        let pair = |step: &Priced| (step.predicted[which], step.measured[which]);
        let pairs: Vec<(f64, f64)> = steps.iter().filter(|step| step.decodes == decodes).map(pair).collect();
        (!pairs.is_empty()).then(|| StepErrors::new(kind, &pairs))
    };
    kinds.into_iter().filter_map(errors).collect()
}

/// BLAKE3 of the shapes and times of steps, in hex.
pub fn hash(steps: &[StepLog]) -> String {
    let mut hasher = blake3::Hasher::new();
    for StepLog { row, parts, .. } in steps {
        let mut put = |number: u64| {
            hasher.update(&number.to_le_bytes());
        };
        [row.start.0, row.end.0, u64::from(row.decode_seqs), row.decode_context].into_iter().for_each(&mut put);
        parts.iter().flat_map(|part| [part.tokens, part.past]).for_each(|number| put(u64::from(number)));
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use overbook_sim::cost::{Constant, Cost, PrefillPart, StepCost};
    use overbook_sim::results::rows::StepRow;
    use overbook_sim::time::Time;

    use super::*;

    const US: u64 = 1000;

    /// A step that was planned, and ran on the device, from and to these microseconds.
    fn step(planned: u64, from: u64, to: u64, parts: &[PrefillPart]) -> StepLog {
        let row = StepRow {
            replica: 0,
            lane: 0,
            start: Time(from * US),
            end: Time(to * US),
            steps: 1,
            decode_seqs: 2,
            prefill_seqs: parts.len() as u32,
            prefill_tokens: parts.iter().map(|part| part.tokens).sum(),
            decode_context: 64,
            prefill_context: 0,
            running: 2,
            waiting: 0,
            used_blocks: 4,
            preempted: 0,
            swapped_blocks: 0,
        };
        StepLog {
            row,
            parts: parts.to_vec(),
            prefill_ends: parts.len() as u32,
            delivered: 2,
            planned: Time(planned * US),
            number: planned,
            submitted: Time(from * US),
            device: (Time((from + 1) * US), Time(to * US)),
        }
    }

    /// Ten microseconds on the device and four on the host.
    fn cost() -> Constant {
        Constant(StepCost { device: Cost::from_us(10.0), host: Cost::from_us(4.0) })
    }

    /// Microseconds that the model predicts for whole steps.
    fn whole(steps: &[StepLog], depth: u32) -> Vec<f64> {
        priced(steps, &mut cost(), depth).iter().map(|step| step.predicted[1] / 1e3).collect()
    }

    #[test]
    fn host_time_hides_only_in_deep_lanes_that_are_busy() {
        // The second is planned while the first runs, the third after a pause.
        let steps = [step(0, 0, 12, &[]), step(5, 12, 24, &[]), step(40, 40, 52, &[])];
        assert_eq!(whole(&steps, 1), [14.0, 14.0, 14.0]);
        assert_eq!(whole(&steps, 2), [14.0, 10.0, 14.0]);
    }

    #[test]
    fn the_host_sets_the_pace_where_it_is_slower_than_the_device() {
        let steps = [step(0, 0, 12, &[]), step(5, 12, 24, &[])];
        let mut slow = Constant(StepCost { device: Cost::from_us(10.0), host: Cost::from_us(25.0) });
        let second = priced(&steps, &mut slow, 2)[1];
        assert!((second.predicted[1] / 1e3 - 25.0).abs() < 1e-6, "{second:?}");
    }

    #[test]
    fn errors_come_by_kind_and_only_where_there_are_steps() {
        let prompt = PrefillPart { tokens: 8, past: 0 };
        let steps = [step(0, 0, 11, &[]), step(11, 11, 22, &[prompt])];
        let errors_of = |steps: &[StepLog]| errors(&priced(steps, &mut cost(), 1));
        let kinds: Vec<String> = errors_of(&steps).into_iter().map(|errors| errors.of).collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
        let decode = errors_of(&steps[..1]);
        assert_eq!(decode.len(), 2);
        // Ten of ten on the device, fourteen of eleven with the host.
        assert!(decode[0].mape_percent.abs() < 1e-6 && (decode[1].mape_percent - 300.0 / 11.0).abs() < 1e-6);
    }

    #[test]
    fn the_hash_sees_shapes_and_times() {
        let base = [step(0, 0, 12, &[])];
        let later = [step(0, 0, 13, &[])];
        let larger = [step(0, 0, 12, &[PrefillPart { tokens: 8, past: 0 }])];
        assert_eq!(hash(&base), hash(&base.clone()));
        assert_ne!(hash(&base), hash(&later));
        assert_ne!(hash(&base), hash(&larger));
    }
}
