use overbook_sim::cluster::*; use overbook_sim::policy::*; use overbook_sim::replica::Limits; use overbook_sim::summary::Slo; use overbook_sim::rows::Discard;
use overbook_sim::cost::{HostCost, Roofline};
fn main() {
    let rate: f64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let depth: bool = std::env::args().nth(3).as_deref() != Some("1");
    let catalog = overbook_scenarios::Catalog::embedded();
    let gpu = catalog.gpu("h200").unwrap(); let model = catalog.model("llama-3.1-8b").unwrap();
    let layout = overbook_sim::memory::Layout { tensor_parallel: 1, weights: Default::default(), kv: Default::default(), utilization: 0.9, block_tokens: 16, max_batched_tokens: 8192, max_seqs: 256 };
    let plan = overbook_sim::memory::plan(&gpu, &model, &layout).unwrap();
    eprintln!("{plan:?}");
    let mut cost = Roofline::new(&gpu, &model, 1, Default::default(), Default::default(), HostCost::default(), 8192).unwrap();
    let spec: overbook_traces::GenerateSpec = serde_json::from_str(&format!("{{\"arrivals\":{{\"poisson\":{{\"rate\":\"{rate}/s\"}}}},\"lengths\":\"burstgpt\",\"requests\":{n}}}")).unwrap();
    let mut w = spec.generator(0).unwrap();
    let sch = SchedulerSpec::Vllm(VllmSpec { async_scheduling: depth, ..Default::default() });
    let limits = Limits { blocks: plan.blocks, block_tokens: 16, max_model_len: 32768, prefix_caching: true, depth: sch.depth(), order: QueueOrder::Fcfs };
    let c = Cluster::new(ClusterSpec { replicas: 4, limits, scheduler: sch, router: RouterSpec::LeastOutstanding, output_limit: OutputLimit::Context, patience: Patience::default(), clients: None, seed: 0, slo: Slo::default(), jumps: std::env::var("NOJUMP").is_err(), audit: false, failures: vec![], sabotage: None }).unwrap();
    let t = std::time::Instant::now();
    let r = c.run(&mut w, &mut cost, &mut Discard, &mut |_| true).unwrap();
    let s = t.elapsed().as_secs_f64();
    let m = |x: &str| r.summary.metric(x).unwrap_or(f64::NAN);
    println!("{:.0} req/s  {s:.2}s; plans/req {:.2} steps/plan {:.2} unavoid/plans {:.3} ttft p50 {:.3} p99 {:.3} tpot p50 {:.4} running {:.1} waiting {:.1} makespan {:.0} out tok/s {:.0} kv {:.2} steps {}", n as f64 / s, r.effort.plans as f64 / n as f64, r.effort.steps as f64/r.effort.plans as f64, r.effort.unavoidable as f64/r.effort.plans as f64, m("ttft_p50"), m("ttft_p99"), m("tpot_p50"), m("running_mean"), m("waiting_mean"), m("makespan"), m("output_throughput"), m("kv_usage_mean"), r.effort.steps);
}
