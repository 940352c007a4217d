#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use super::*;
use crate::study::Asked;
use crate::{Cancel, Experiment};

const STUDY: &str = "
version: 1
name: shards
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 20/s } }, lengths: { fixed: { prompt: 400, output: 60 } }, requests: 150 }
slo: { ttft_p99: 40ms, goodput: { tpot: 20ms, share: 0.9 } }
sweep:
  axes: { scheduler: [vllm, sarathi] }
  lhs: { points: 3, over: { workload.generate.arrivals.poisson.rate: { log-uniform: [5/s, 80/s] }, fleet.replicas: { uniform: [1, 3] } } }
  seeds: 2
expect:
  - { metric: ttft_p50, at: { scheduler: vllm }, mean_over: [seed, fleet.replicas, workload.generate.arrivals.poisson.rate], max: 1s, source: a test }
";

fn study(text: &str) -> Study {
    Experiment::from_text("shards", text).study().unwrap()
}

fn planned(dir: &Path, study: &Study) {
    let origin = Origin { folder: PathBuf::from("/"), scenario: "shards.yaml".into(), set: Vec::new(), seed: None };
    assert!(Plan::of(study, origin, "this").unwrap().write(dir).unwrap());
}

fn jobs(threads: usize) -> Options {
    Options { jobs: NonZeroUsize::new(threads), ..Options::default() }
}

/// All that the merged study writes.
fn bytes(study: &Study, records: &Records) -> String {
    let asked = Asked { metrics: &Asked::SWEEP, command: "again".into(), by_load: false };
    let table = records.table(study, &asked);
    let summaries: Vec<&str> = records.points.iter().flatten().map(|record| record.summary.as_str()).collect();
    [table.csv(), table.replicates_csv().unwrap(), table.html().unwrap(), table.terminal(), summaries.concat()].concat()
}

/// Law 11.
#[test]
fn merged_shards_equal_the_unsharded_run_for_any_number_of_shards_and_threads() {
    let study = study(STUDY);
    let whole = bytes(&study, &study.run(&jobs(2), &|_| {}).unwrap().records(&study));
    for (of, threads) in [(1, 3), (2, 1), (3, 2), (7, 1)] {
        let home = tempfile::tempdir().unwrap();
        planned(home.path(), &study);
        let shards = Shards::open(home.path(), "this").unwrap();
        let mut points = 0;
        // In any order.
        for number in (1..=of).rev() {
            let ran = shards.run(&study, Shard::One { number, of }, &jobs(threads), &|_| {}).unwrap();
            assert_eq!(ran.now, ran.points);
            points += ran.now;
        }
        assert_eq!(points, study.points().len(), "each point once");
        assert_eq!(bytes(&study, &shards.merged(&study).unwrap()), whole, "{of} shards");
    }
    assert!(whole.contains("Means over 2 seeds"), "{whole}");
}

#[test]
fn what_was_done_is_not_done_again_and_what_is_damaged_is() {
    let study = study(STUDY);
    let home = tempfile::tempdir().unwrap();
    planned(home.path(), &study);
    let shards = Shards::open(home.path(), "this").unwrap();
    // Stopped in the middle.
    let options = Options { cancel: Cancel::new(), ..jobs(1) };
    let stop = options.cancel.clone();
    let ran = shards
        .run(&study, Shard::All, &options, &|_| {
            stop.cancel();
        })
        .unwrap();
    assert!((1..12).contains(&ran.now), "{}", ran.now);
    let error = shards.merged(&study).unwrap_err();
    assert!(matches!(&error, ShardError::Incomplete(told) if told.contains("missing: ")), "{error}");
    let rest = shards.run(&study, Shard::All, &jobs(2), &|_| {}).unwrap();
    assert_eq!((rest.before, rest.now), (ran.now, 12 - ran.now));
    let whole = bytes(&study, &shards.merged(&study).unwrap());

    let part = |at: usize| home.path().join(PARTS).join(format!("{}.json", shards.plan().points[at].id));
    for (at, damage) in [(0, 0), (3, 10), (5, 2000)] {
        let text = fs::read(part(at)).unwrap();
        fs::write(part(at), &text[..damage]).unwrap();
    }
    let text = fs::read_to_string(part(7)).unwrap();
    fs::write(part(7), text.replacen("\\\"completed\\\": 150", "\\\"completed\\\": 151", 1)).unwrap();
    let progress = shards.progress().unwrap();
    assert_eq!(progress.corrupt.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 4, 6, 8]);
    assert!(shards.merged(&study).unwrap_err().to_string().contains("point 8 is damaged"));
    let again = shards.run(&study, Shard::All, &jobs(2), &|_| {}).unwrap();
    assert_eq!((again.before, again.now, again.replaced.len()), (8, 4, 4));
    assert_eq!(bytes(&study, &shards.merged(&study).unwrap()), whole);
}

#[test]
fn nothing_is_mixed() {
    let study = study(STUDY);
    let home = tempfile::tempdir().unwrap();
    planned(home.path(), &study);
    let shards = Shards::open(home.path(), "this").unwrap();
    shards.run(&study, Shard::All, &jobs(2), &|_| {}).unwrap();
    // Another program.
    let error = Shards::open(home.path(), "that").unwrap_err().to_string();
    assert!(error.contains("another program"), "{error}");
    // A scenario that has changed between shards: a setting, an axis.
    for (from, to, told) in [
        ("requests: 150", "requests: 151", "point 1 (scheduler=vllm"),
        ("[vllm, sarathi]", "[vllm, orca]", "point 7 was at scheduler=sarathi"),
        ("seeds: 2", "seeds: 3", "point 3 was at"),
    ] {
        let changed = super::tests::study(&STUDY.replace(from, to));
        for error in [
            shards.run(&changed, Shard::All, &jobs(1), &|_| {}).map(drop).unwrap_err(),
            shards.merged(&changed).map(drop).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains(told) && error.contains("has changed since it was planned"), "{to}: {error}");
        }
    }
    // A part of another program, in place of one of ours; and a stranger beside them.
    let path = home.path().join(PARTS).join(format!("{}.json", shards.plan().points[2].id));
    let own = fs::read_to_string(&path).unwrap();
    fs::write(&path, own.replacen("\"binary\":\"this\"", "\"binary\":\"that\"", 1)).unwrap();
    for error in [
        shards.run(&study, Shard::All, &jobs(1), &|_| {}).map(drop).unwrap_err(),
        shards.merged(&study).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("is of another program (that, not this)"), "{error}");
    }
    fs::write(&path, &own).unwrap();
    fs::copy(&path, home.path().join(PARTS).join("abc.json")).unwrap();
    let error = shards.merged(&study).unwrap_err().to_string();
    assert!(error.contains("abc.json is of no point of this study"), "{error}");
    assert!(fs::read_to_string(&path).unwrap() == own, "nothing is overwritten");
}

#[test]
fn a_shard_that_is_not_there_is_refused_and_all_points_are_dealt_once() {
    let study = study(STUDY);
    let home = tempfile::tempdir().unwrap();
    planned(home.path(), &study);
    let shards = Shards::open(home.path(), "this").unwrap();
    for of in [1, 2, 5, 12, 40] {
        let mut dealt: Vec<usize> =
            (1..=of).flat_map(|number| shards.chosen(Shard::One { number, of }).unwrap()).collect();
        dealt.sort_unstable();
        assert_eq!(dealt, (0..12).collect::<Vec<_>>());
    }
    assert_eq!(shards.chosen(Shard::Points { from: 3, to: 5 }).unwrap(), [2, 3, 4]);
    for wrong in [
        Shard::One { number: 0, of: 2 },
        Shard::One { number: 3, of: 2 },
        Shard::Points { from: 0, to: 1 },
        Shard::Points { from: 12, to: 13 },
    ] {
        assert!(matches!(shards.chosen(wrong), Err(ShardError::Refused(_))), "{wrong:?}");
    }
}

#[test]
fn another_plan_is_not_replaced_and_a_damaged_one_is_told() {
    let home = tempfile::tempdir().unwrap();
    let study = study(STUDY);
    planned(home.path(), &study);
    let origin = || Origin { folder: PathBuf::from("/"), scenario: "shards.yaml".into(), set: Vec::new(), seed: None };
    assert!(!Plan::of(&study, origin(), "this").unwrap().write(home.path()).unwrap(), "the same is there");
    let other = super::tests::study(&STUDY.replace("requests: 150", "requests: 99"));
    let error = Plan::of(&other, origin(), "this").unwrap().write(home.path()).unwrap_err().to_string();
    assert!(error.contains("holds another plan"), "{error}");
    let path = home.path().join(PLAN);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("scheduler=vllm", "scheduler=orca", 1)).unwrap();
    assert!(Shards::open(home.path(), "this").unwrap_err().to_string().contains("is damaged"));
    fs::write(&path, "{").unwrap();
    assert!(Shards::open(home.path(), "this").unwrap_err().to_string().contains("is damaged"));
    let nowhere = Shards::open(Path::new("/nowhere"), "this").unwrap_err().to_string();
    assert!(nowhere.contains("overbook sweep plan"), "{nowhere}");
}
