//! `overbook floor`: reads or generates the workload and does nothing with it.

use overbook_reports::manifest::cpu_seconds;

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs};
use crate::output::{DONE, Failure, note, print};
use crate::run::speed;

pub(crate) fn run(args: &ScenarioArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = load(args, globals)?;
    let point = &study.points()[0];
    let before = cpu_seconds();
    let mut workload = point.workload().map_err(Failure::input)?;
    let (mut requests, mut prompt, mut output) = (0u64, 0u64, 0u64);
    while let Some(arrival) = workload.next_arrival().map_err(Failure::input)? {
        requests += 1;
        prompt += u64::from(arrival.prompt_tokens);
        output += u64::from(arrival.output_tokens);
    }
    print(&format!("{requests} requests, {prompt} prompt tokens, {output} output tokens"))?;
    if let (Some(before), Some(after)) = (before, cpu_seconds()) {
        let cpu = after - before;
        note(&format!("read in {cpu:.2} CPU s{}", speed(requests, cpu)));
    }
    Ok(DONE)
}
