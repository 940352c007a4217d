//! Simulation speed on bench A's fleet and traffic, by load: `cargo bench --bench simulate`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use overbook_scenarios::Source;
use overbook_sim::fleet::Cluster;
use overbook_sim::results::rows::Discard;

const REQUESTS: u64 = 20_000;

fn simulate(c: &mut Criterion) {
    let mut group = c.benchmark_group("steady");
    group.throughput(Throughput::Elements(REQUESTS)).sample_size(10);
    for rate in [4, 64, 122, 160] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/bench/steady-1m.yaml");
        let mut source = Source::load(&file).expect("bench A");
        source.set("workload.generate.requests", &REQUESTS.to_string());
        source.set("workload.generate.arrivals.poisson.rate", &format!("{rate}/s"));
        let study = source.resolve().expect("a valid scenario");
        let point = &study.points()[0];
        group.bench_function(BenchmarkId::new("req_per_s", rate), |b| {
            b.iter(|| {
                let cluster = Cluster::new(point.cluster().expect("a fleet")).expect("a fleet");
                let mut workload = point.workload().expect("a workload");
                let mut cost = point.cost().expect("costs");
                black_box(cluster.run(&mut *workload, &mut *cost, &mut Discard, &mut |_| true).expect("a run"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, simulate);
criterion_main!(benches);
