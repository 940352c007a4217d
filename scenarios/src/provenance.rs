//! The parts of a point's cost model that are inferred, not measured. Every result names them.

use overbook_sim::calibrate::Profile;
use overbook_sim::hardware::gpu::{Origin, OriginKind};
use overbook_sim::hardware::model::WeightDtype;
use overbook_sim::hardware::parallel::Exchange;
use overbook_sim::hardware::server::LinkSpec;

use crate::point::Point;

impl Point {
    /// The parts of the roofline that this point uses and that were not measured, in words. Host time is always one.
    pub fn inferred_parts(&self) -> Vec<&'static str> {
        let mut parts = Vec::new();
        for part in self.kinds().iter().flat_map(Point::inferred_of_kind) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts
    }

    fn inferred_of_kind(&self) -> Vec<&'static str> {
        let (gpu, model, engine, fleet) = (&self.gpu, &self.model, &self.scenario.engine, &self.scenario.fleet);
        let inferred = |origin: &Origin| origin.kind == OriginKind::Inferred;
        let decode = gpu.decode_fit(engine.kv, model.head_dim).and_then(|fit| fit.origin.as_ref());
        let prefill = gpu.prefill_fit(engine.kv, model.head_dim).and_then(|fit| fit.origin.as_ref());
        let attention =
            [decode.unwrap_or(&gpu.decode_attention.origin), prefill.unwrap_or(&gpu.prefill_attention.origin)];
        let experts = model.moe.is_some()
            && gpu.experts.as_ref().is_some_and(|experts| inferred(experts.origin_of(engine.weights)));
        let exchanges = fleet.expert_parallel.is_some_and(|experts| experts.exchange == Exchange::AllToAll);
        let parts = [
            ("host time", true),
            ("matrix multiplication", inferred(&gpu.matmul.origin)),
            ("attention", model.mla.is_some() || attention.into_iter().any(inferred)),
            ("experts", experts),
            ("all-reduce", fleet.tensor_parallel > 1 && self.all_reduce_origin().is_some_and(inferred)),
            ("all-to-all", exchanges && gpu.all_to_all.as_ref().is_some_and(|spec| inferred(&spec.origin))),
            ("balance of experts over GPUs", fleet.expert_parallel.is_some()),
            ("balance of requests over ranks", fleet.dp_attention > 1),
            ("links between GPUs", self.links_in_use().into_iter().any(|link| inferred(&link.achieved))),
            ("int4 weights", engine.weights == WeightDtype::Int4),
            ("weights in fractions of bits", matches!(engine.weights, WeightDtype::Bits(_))),
        ];
        parts.into_iter().filter_map(|(part, is_inferred)| is_inferred.then_some(part)).collect()
    }

    /// Where the constants of the all-reduce of a group are from: its links, NCCL, or the engine's own.
    fn all_reduce_origin(&self) -> Option<&Origin> {
        let link = self.topology.as_ref().and_then(|topology| topology.inside.collectives.as_ref());
        let nccl = self.gpu.nccl.as_ref().map(|nccl| &nccl.origin);
        let gpu = if self.scenario.engine.disable_custom_all_reduce { nccl } else { Some(&self.gpu.all_reduce.origin) };
        link.map(|link| &link.origin).or(gpu)
    }

    /// What the point may ask of its profile that is outside of the ranges of its tables; nothing without a profile.
    pub fn outside_profile(&self) -> Vec<String> {
        self.kinds().iter().flat_map(Point::outside_of_kind).collect()
    }

    fn outside_of_kind(&self) -> Vec<String> {
        let longest = self.limits().map_or(self.model.context, |(limits, _)| limits.max_model_len);
        let outside = |profile: &Profile| profile.outside(&self.model, &self.scenario.layout(&self.model), longest);
        self.profile.as_ref().map(outside).unwrap_or_default()
    }

    /// Links whose figures the step cost uses: between stages, and between servers.
    fn links_in_use(&self) -> Vec<&LinkSpec> {
        let Some(topology) = &self.topology else { return Vec::new() };
        let fleet = &self.scenario.fleet;
        let inside = (fleet.stages() > 1 && fleet.tensor_parallel < topology.gpus).then_some(&topology.inside);
        let across = topology.network.as_ref().filter(|_| fleet.gpus_per_replica() > topology.gpus);
        inside.into_iter().chain(across.map(|(link, _)| link)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::Source;

    fn parts(gpu: &str, model: &str, engine: &str) -> Vec<&'static str> {
        spread(gpu, model, engine, "{}")
    }

    fn spread(gpu: &str, model: &str, engine: &str, fleet: &str) -> Vec<&'static str> {
        let text = format!(
            "version: 1\nname: x\nworkload: {{ generate: {{ arrivals: {{ poisson: {{ rate: 1/s }} }}, lengths: burstgpt, \
             requests: 1 }} }}\nmodel: {model}\ngpu: {gpu}\nengine: {engine}\nfleet: {fleet}\n"
        );
        Source::from_text("x.yaml", &text).resolve().expect("a valid scenario").points()[0].inferred_parts()
    }

    #[test]
    fn what_nobody_measured_is_named() {
        assert_eq!(parts("h200", "llama-3.1-8b", "{}"), ["host time"]);
        assert_eq!(parts("h200", "llama-3.1-8b", "{ weights: int4 }"), ["host time", "int4 weights"]);
        assert_eq!(parts("h200", "deepseek-v2-lite", "{}"), ["host time", "attention"]);
        assert_eq!(parts("a10g", "qwen3-0.6b", "{}"), ["host time", "matrix multiplication", "attention"]);
        let experts = spread("h200", "qwen3-30b-a3b", "{}", "{ tensor_parallel: 2, expert_parallel: {} }");
        assert_eq!(experts, ["host time", "balance of experts over GPUs"]);
        // The ways inside a DGX H100 were measured, those between two of them were read from unstated adapters.
        let stages = |tensor: u32| {
            let fleet = format!(
                "{{ server: dgx-h100, tensor_parallel: {tensor}, pipeline: {{ stages: 2, steps_in_flight: 1 }} }}"
            );
            spread("h100", "llama-3.1-8b", "{}", &fleet)
        };
        assert_eq!(stages(1), ["host time"]);
        assert_eq!(stages(8), ["host time", "links between GPUs"]);
        // No table of head_dim 64 exists for the A100.
        assert_eq!(parts("a100-80", "llama-3.2-1b", "{}"), ["host time", "attention"]);
    }
}
