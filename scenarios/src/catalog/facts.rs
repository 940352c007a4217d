//! What matters about an entry, in one line.

use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{KvDtype, ModelSpec};
use overbook_sim::hardware::server::{LinkSpec, ServerSpec};

use super::SiteSpec;

pub(super) fn gpu(spec: &GpuSpec) -> String {
    let fp8 = spec.peak_fp8.map_or_else(String::new, |peak| format!(", fp8 {peak}"));
    let kernels = spec.matmul.origin.kind;
    let power = spec.power.as_ref().map_or_else(|| "not known".to_owned(), |power| power.origin.kind.to_string());
    let gib = spec.memory.0 as f64 / f64::from(1 << 30);
    format!(
        "{}, {gib:.1} GiB at {}, bf16 {}{fp8}, {}; kernel times {kernels}; power {power}",
        spec.name, spec.bandwidth, spec.peak_bf16, spec.tdp
    )
}

pub(super) fn model(spec: &ModelSpec) -> String {
    let billions = |weights: u64| weights as f64 / 1e9;
    let active = spec.moe.map_or_else(String::new, |moe| {
        let active = billions(spec.active_parameters());
        format!(" ({active:.2} B active, {} of {} experts)", moe.experts_per_token, moe.experts)
    });
    let kv = u64::from(spec.layers) * spec.stored_per_token(spec.kv_heads) * KvDtype::Bf16.bytes();
    format!(
        "{:.2} B weights{active}, {:.1} KiB of KV per token in bf16, context {}",
        billions(spec.parameters()),
        kv as f64 / 1024.0,
        spec.context
    )
}

pub(super) fn link(spec: &LinkSpec) -> String {
    format!(
        "{}, {} per port and direction, {:.0} % of it and {}us latency ({})",
        spec.name,
        spec.bandwidth,
        spec.efficiency * 100.0,
        spec.latency_us(),
        spec.achieved.kind
    )
}

pub(super) fn server(spec: &ServerSpec) -> String {
    let ports = |ports: u32| if ports == 1 { "1 port".to_owned() } else { format!("{ports} ports") };
    let network = spec.network.as_ref();
    let network = network.map_or_else(String::new, |network| format!(", {} of {}", ports(network.ports), network.link));
    let most = spec.power_max.as_ref().map_or_else(String::new, |power| format!(", at most {}", power.watts));
    let idle = spec.power_idle.as_ref().map_or_else(String::new, |power| format!(", idle {}", power.watts));
    let parts = spec.power.as_ref().map_or_else(String::new, |power| format!(", power {}", power.origin.kind));
    format!("{}, {} {} on {}{network}{most}{idle}{parts}", spec.name, spec.gpus, spec.gpu, spec.inside)
}

pub(super) fn site(spec: &SiteSpec) -> String {
    format!(
        "{}, PUE {}, {} g CO2/kWh, {} USD/kWh",
        spec.name, spec.pue.value, spec.carbon_g_per_kwh.value, spec.price_usd_per_kwh.value
    )
}
